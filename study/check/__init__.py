"""What holds on the machine at hand: `python -m study check`."""

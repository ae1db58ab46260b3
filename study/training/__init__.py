"""The training of a run, and what it is made of."""

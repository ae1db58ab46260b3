"""Counts of things, as they are said everywhere: 1 run, 2,000 runs."""


def counted(number: float, noun: str) -> str:
    """1 run, 2,000 runs."""
    return f"{number:,.0f} {noun}{'' if number == 1 else 's'}"

"""What a column of the results is. Columns are declared where they are computed."""

from typing import NamedTuple


class Column(NamedTuple):
    """A column of results/*.parquet."""

    name: str
    dtype: str
    """pandas' name of its type."""
    meaning: str
    """With unit and range; a line of results/README.md."""
    diverged: float | None = None
    """Its value in the last row of a run that diverged, where it is measured there."""

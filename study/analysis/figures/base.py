"""What a figure says of itself."""

from collections.abc import Callable
from typing import NamedTuple

from matplotlib.figure import Figure


class Plot(NamedTuple):
    """A figure: one file of this folder states it as PLOT; the file's name is the figure's.

    It is drawn where each table of `needs` has rows and, of the first, each of `columns` a value;
    from its tables and the files in the folders of their paths alone: while these, the package and
    what is installed beside it are the same, the figure is not drawn again (`unchanged`).
    """

    draw: Callable[..., Figure]
    """The tables of `needs`, then those of `takes`, in; Figure out."""
    title: str
    """Its heading in the report."""
    place: int
    """Figures follow one another by this number."""
    needs: tuple[str, ...] = ("search",)
    """Names of tables: those of `study.analysis.tables`, or files of results/."""
    takes: tuple[str, ...] = ()
    """Tables that it shows where there are some; else they come without rows."""
    columns: tuple[str, ...] = ()
    """Columns of the first table; the figure holds the data sets in which they have values."""
    each: tuple[str, ...] = ()
    """One figure for each value of these columns of the first table, whose rows alone it gets."""

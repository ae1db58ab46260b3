"""The winners of a search, trained for longer."""

import pandas as pd
from matplotlib.figure import Figure

from study.analysis.figures.base import Plot
from study.analysis.figures.defaults import along_training
from study.errors import StudyError


def draw(longer: pd.DataFrame) -> Figure:
    """Each loss's best setting of the search, number 0, along its longer run."""
    first = longer[longer["number"] == 0]
    if first.empty:
        raise StudyError("no run of a best setting, number 0; train it first")
    return along_training(first, "the winners of the search", "the search's best, with its seed")


PLOT = Plot(
    draw,
    "The winners trained for longer",
    place=75,
    needs=("longer",),
    each=("dataset",),
)

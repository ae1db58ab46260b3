"""What the settings of a search come to."""

import pandas as pd
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis.figures.base import Plot
from study.analysis.figures.boxes import boxes
from study.analysis.figures.parts import STARS
from study.analysis.figures.style import styled


@styled
def distributions(table: pd.DataFrame, *, report: str = "fid") -> Figure:
    """Box plot of a search's scores with every run, defaults as stars, share diverged above."""
    runs = scores.search(table, report)
    return boxes(runs, STARS, stars=True, report=report)


PLOT = Plot(distributions, "What the settings of a search come to", place=20)

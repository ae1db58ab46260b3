"""The paper's statistic: the mean of the least distance."""

import pandas as pd
from matplotlib.figure import Figure

from study.analysis.figures.base import Plot
from study.analysis.figures.budget import budget_curves
from study.analysis.tables import paper


def draw(search: pd.DataFrame) -> Figure:
    """The mean of the least distance, and where the middle 80 % of searches end."""
    return budget_curves(search, curve="mean", band="search", paper=paper("budget_curve"))


PLOT = Plot(draw, "The paper's statistic: the mean of the least distance", place=110)

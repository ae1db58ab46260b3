"""The budget in FLOPs."""

import pandas as pd
from matplotlib.figure import Figure

from study.analysis.figures.base import Plot
from study.analysis.figures.budget import budget_curves


def draw(search: pd.DataFrame) -> Figure:
    """The least distance against the expected cost of so many settings."""
    return budget_curves(search, cost="flops", band="search")


PLOT = Plot(draw, "The budget in FLOPs", place=120)

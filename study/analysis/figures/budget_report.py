"""Selected on some held-out images, reported on others."""

import pandas as pd
from matplotlib.figure import Figure

from study.analysis.figures.base import Plot
from study.analysis.figures.budget import budget_curves


def draw(search: pd.DataFrame) -> Figure:
    """The selected run's distance to images on which nothing was selected."""
    return budget_curves(search, report="fid_report")


PLOT = Plot(
    draw, "Selected on some held-out images, reported on others", place=100, columns=("fid_report",)
)

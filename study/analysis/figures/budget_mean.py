"""The paper's statistic: the mean of the least distance, and where single searches end."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.figures.base import Plot
from study.analysis.figures.budget import finish_budget
from study.analysis.figures.parts import Curve, budgets, small_panels
from study.analysis.figures.style import style_of, styled
from study.analysis.tables import paper


@styled
def budget_means(search: pd.DataFrame) -> Figure:
    """Mean of the least distance after k settings, and the middle 80 % of what searches find.

    Beside the paper's mean where the rows are comparable with it.
    """
    runs = scores.search(search)
    curves = {}
    for loss, own in scores.by_loss(runs):
        k, fid = budgets(len(own)), own["fid"]
        low, high = (st.min_quantile(fid, k, q) for q in (0.1, 0.9))
        curves[loss] = Curve(k, st.Estimate(st.expected_min(fid, k), low, high))
    figure, panels = small_panels(curves)
    text = (
        "Line: mean of the least distance found, where finite. Band: the middle 80 % of what a "
        "search of that budget finds."
    )
    if scores.comparable(runs):
        theirs = paper("budget_curve")
        theirs = theirs[theirs["dataset"] == runs["dataset"].iloc[0]]
        for axes, loss in zip(panels, curves, strict=True):
            _paper(axes, loss, theirs[theirs["loss"] == loss])
        text += " Dotted: the paper's mean, digitised."
    return finish_budget(figure, panels, runs, curves, text)


def _paper(axes: Axes, loss: str, theirs: pd.DataFrame) -> None:
    """The paper's curve, as far as the budgets go."""
    edges = axes.get_xlim()
    axes.plot(theirs["budget"], theirs["mean_min_fid"], ":", color=style_of(loss)["color"])
    axes.set_xlim(edges)


PLOT = Plot(
    budget_means,
    "The paper's statistic: the mean of the least distance",
    place=110,
    each=("dataset",),
)

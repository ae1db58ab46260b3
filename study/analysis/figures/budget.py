"""Least distance against the number of settings tried."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import (
    BAND,
    Curve,
    budget_axis,
    budgets,
    distance_label,
    finish,
    last_judged,
    small_panels,
    span,
)
from study.analysis.figures.style import styled


@styled
def budget_curves(search: pd.DataFrame) -> Figure:
    """Median of the least distance after k settings, k below half of them: a panel a loss."""
    runs = scores.search(search)
    curves = {}
    for loss, own in scores.by_loss(runs):
        k = budgets(len(own))
        curves[loss] = Curve(k, st.min_quantile_interval(own["fid"], k, 0.5))
    figure, panels = small_panels(curves)
    return finish_budget(
        figure, panels, runs, curves, f"Line: median of the least distance found. {BAND}"
    )


def finish_budget(
    figure: Figure, panels: list[Axes], runs: pd.DataFrame, curves: dict[str, Curve], text: str
) -> Figure:
    """Axes, title and caption of curves over budgets."""
    budget_axis(panels[0], max(int(curve.x[-1]) for curve in curves.values()))
    figure.supylabel(distance_label(runs), fontsize=9)
    k = last_judged(runs)
    starts = [curve.estimate.value[0] for curve in curves.values()]
    ends = [curve.estimate.value[curve.x == k][0] for curve in curves.values()]
    message = f"with one setting the losses come to {span(starts)}"
    if k > 1:
        message += f", with the best of {k} to {span(ends)}"
    axis = "For fewer than half of the settings there are. Grey: the other losses."
    return finish(figure, runs, message, f"{axis} {text}")


PLOT = Plot(
    budget_curves,
    "Least distance against the number of settings tried",
    place=10,
    each=("dataset",),
)

"""Least distance against the number of settings tried."""

from typing import Any, Literal

import pandas as pd
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import (
    NARROW,
    STARS,
    banded,
    budget_axis,
    budgets,
    finish,
    log_distance,
    mean_cost,
    panels_of,
    paper_curves,
    star,
)
from study.analysis.figures.style import styled
from study.analysis.tables import paper
from study.errors import StudyError


@styled
def budget_curves(
    table: pd.DataFrame,
    *,
    curve: Literal["median", "mean"] = "median",
    band: Literal["curve", "search"] = "curve",
    cost: str | None = None,
    report: str = "fid",
    paper: pd.DataFrame | None = None,
) -> Figure:
    """Least distance after k settings, a panel a data set, authors' defaults as stars at k = 1.

    `band`: "curve", the 95 % bootstrap interval of the curve over settings; "search", where the
    outcome of 80 % of searches lies. `cost` (a key of COSTS) puts the expected cost of k settings
    on the x axis. `report` (a key of REPORTS): "fid_report" selects as ever and shows the distance
    to images on which nothing was selected, as a median. `paper` (budget_curve.csv) is drawn where
    the rows are comparable with it.
    """
    if report != "fid" and curve == "mean":
        raise StudyError(f"the curve of {report} is a median; leave out curve='mean'")
    runs = scores.search(table, report)
    comparable = cost is None and report == "fid" and scores.comparable(runs)
    shown = paper if paper is not None and comparable else None
    figure, panels = panels_of(runs)
    for name, axes, panel in panels:
        theirs = shown[shown["dataset"] == name] if shown is not None else None
        log_distance(axes, panel, () if theirs is None else theirs["mean_min_fid"])
        for loss, own in scores.by_loss(panel):
            each = 1.0 if cost is None else float(mean_cost(own, cost))
            k = budgets(len(own))
            banded(axes, k * each, loss, _estimate(own, k, curve, band))
            star(axes, each, own)
        if theirs is not None:
            paper_curves(axes, theirs, "mean_min_fid", scores.losses(panel))
        budget_axis(axes, panel["loss"].value_counts().max(), cost)
    bands = {
        "curve": f"95 % bootstrap interval of the curve over the settings; {NARROW}",
        "search": "the middle 80 % of what a search of that budget finds",
    }
    found = "least distance found" if report == "fid" else "selected run's distance"
    text = f"Line: {curve} of the {found}. Band: {bands[band]}. Both where finite."
    text += f" {STARS}"
    text += " Dotted, small: the paper's mean, digitised." if shown is not None else ""
    return finish(figure, runs, text, legend=True, report=report)


def _estimate(own: pd.DataFrame, k: Any, curve: str, band: str) -> st.Estimate:
    selected, fid = own["selected"].to_numpy(), own["fid"].to_numpy()
    if band == "search":
        low, middle, high = (st.quantile_at_min(selected, fid, k, q) for q in (0.1, 0.5, 0.9))
        value = st.expected_min(fid, k) if curve == "mean" else middle
        return st.Estimate(value, low, high)
    if curve == "mean":
        return st.expected_min_interval(fid, k, rng=0)
    if (selected == fid).all():
        return st.min_quantile_interval(fid, k, 0.5)
    return st.quantile_at_min_interval(selected, fid, k, 0.5, rng=0, draws=1000)


def draw(search: pd.DataFrame) -> Figure:
    """The median, beside the paper's mean where the rows are comparable."""
    return budget_curves(search, paper=paper("budget_curve"))


PLOT = Plot(draw, "Least distance against the number of settings tried", place=10)

"""F1, precision and recall on triangles."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import (
    Curve,
    budget_axis,
    budgets,
    finish,
    small_panels,
    span,
)
from study.analysis.figures.style import styled
from study.analysis.tables import paper
from study.errors import StudyError

LINES = {"manifold_precision": ("precision", "--"), "manifold_recall": ("recall", ":")}


@styled
def f1_curves(search: pd.DataFrame) -> Figure:
    """Expected best F1 after k settings, and precision and recall of the run that has it.

    A run's F1 is the best of its evaluations; a diverged run's is 0. A panel a loss; the paper's
    F1 is drawn where the networks have full width.
    """
    scores.require(search, list(scores.F1))
    runs = _f1_runs(search)
    curves = {}
    for loss, own in scores.by_loss(runs):
        k, negative = budgets(len(own)), -own["f1"].to_numpy(dtype=float)
        value, low, high = (0.0 - part for part in st.expected_min_interval(negative, k, rng=0))
        curves[loss] = Curve(k, st.Estimate(value, high, low))
    figure, panels = small_panels(curves, log=False)
    panels[0].set(ylim=(0, 1.02))
    theirs = paper("triangles_f1") if (runs["width"] == 1).all() else None
    for axes, (_, own) in zip(panels, scores.by_loss(runs), strict=True):
        _lines(axes, own, theirs)
    budget_axis(panels[0], max(int(curve.x[-1]) for curve in curves.values()))
    panels[0].legend(fontsize=7, handlelength=1.6, loc="upper left", borderpad=0)
    figure.supylabel("F1, precision, recall", fontsize=9)
    ends = [float(curve.estimate.value[-1]) for curve in curves.values()]
    most = [int(curve.x[-1]) for curve in curves.values()]
    settings = f"{span(most, 4)} setting{'s' * (max(most) > 1)}"
    message = f"with the best of {settings} the losses' F1 is {span(ends)}"
    text = (
        "For fewer than half of the settings there are. Line: mean of the best F1 found (a "
        "diverged run has 0); band: its 95 % bootstrap interval, where it holds, from 2 settings "
        "to an eighth of them; grey: the other losses' F1. Dashed and dotted: precision and "
        "recall of the run that has the best F1."
    )
    none = [scores.title(loss) for loss, own in scores.by_loss(runs) if not own["f1"].any()]
    if none:
        text += f" F1 is 0 in every run of {', '.join(none)}: its dashed and dotted lines are "
        text += "means over all runs."
    text += " Crosses: the paper's F1, digitised." if theirs is not None else ""
    return finish(figure, runs, message, text, measure="F1, precision and recall")


def _f1_runs(table: pd.DataFrame) -> pd.DataFrame:
    """Scores with F1, precision and recall of each run's evaluation of best F1."""
    names = list(scores.F1)
    runs = scores.search(table).drop(columns=names).set_index(scores.RUN)
    best = table.sort_values([*scores.RUN, "f1"], kind="stable", na_position="first")
    best = best.drop_duplicates(scores.RUN, keep="last").set_index(scores.RUN)
    runs = runs.join(best[names]).reset_index()
    runs.loc[runs["status"] == "diverged", names] = 0.0
    if runs[names].isna().any(axis=None):
        raise StudyError("some runs have no f1; give rows of a sweep that measured it (triangles)")
    return runs


def _lines(axes: Axes, own: pd.DataFrame, theirs: pd.DataFrame | None) -> None:
    """Precision and recall at the best F1; the paper's F1."""
    k, negative = budgets(len(own)), -own["f1"].to_numpy(dtype=float)
    for column, (label, line) in LINES.items():
        value = st.expected_at_min(negative, own[column], k)
        axes.plot(k, value, color="#444444", ls=line, lw=1, label=label)
    if theirs is not None:
        rows = theirs[theirs["loss"] == own["loss"].iloc[0]]
        axes.plot(rows["budget"], rows["f1"], "x", color="black", ms=3)


PLOT = Plot(
    f1_curves,
    "F1, precision and recall on triangles",
    place=60,
    columns=("f1",),
    each=("dataset",),
)

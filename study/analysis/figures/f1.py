"""F1, precision and recall on triangles."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import NARROW, banded, budget_axis, budgets, finish, paper_curves
from study.analysis.figures.style import styled
from study.analysis.tables import paper
from study.errors import StudyError


@styled
def f1_curves(table: pd.DataFrame, *, paper: pd.DataFrame | None = None) -> Figure:
    """Expected best F1 after k settings, and precision and recall of the run that has it.

    A run's F1 is the best of its evaluations; a diverged run's is 0. `paper`: triangles_f1.csv,
    drawn where the networks have full width.
    """
    scores.require(table, list(scores.F1))
    runs = _f1_runs(table)
    scores.one(runs, "dataset")
    shown = paper if paper is not None and (runs["width"] == 1).all() else None
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    for axes, (column, label) in zip(
        figure.subplots(1, 3, sharey=True), scores.F1.items(), strict=True
    ):
        for loss, own in scores.by_loss(runs):
            _f1_curve(axes, loss, own, column)
        if shown is not None:
            paper_curves(axes, shown, label.lower(), scores.losses(runs))
        axes.set(title=label, ylim=(0, 1.02))
        budget_axis(axes, runs["loss"].value_counts().max())
    text = (
        "Line: mean of the best F1 found, and of the precision and recall of the run that has it; "
        f"a diverged run has 0. Band of F1: 95 % bootstrap interval over the settings; {NARROW}."
    )
    none = [scores.title(loss) for loss, own in scores.by_loss(runs) if not own["f1"].any()]
    text += f" F1 is 0 in every run of {', '.join(none)}." if none else ""
    text += " Dotted, small: the paper's, digitised." if shown is not None else ""
    return finish(figure, runs, text, legend=True, measure="F1, precision and recall")


def _f1_runs(table: pd.DataFrame) -> pd.DataFrame:
    """`scores` with F1, precision and recall of each run's evaluation of best F1."""
    runs = scores.search(table).drop(columns=list(scores.F1)).set_index(scores.RUN)
    best = table.sort_values([*scores.RUN, "f1"], kind="stable", na_position="first")
    best = best.drop_duplicates(scores.RUN, keep="last").set_index(scores.RUN)
    runs = runs.join(best[list(scores.F1)]).reset_index()
    runs.loc[runs["status"] == "diverged", list(scores.F1)] = 0.0
    if runs[list(scores.F1)].isna().any(axis=None):
        raise StudyError("some runs have no f1; give rows of a sweep that measured it (triangles)")
    return runs


def _f1_curve(axes: Axes, loss: str, own: pd.DataFrame, column: str) -> None:
    k, negative = budgets(len(own)), -own["f1"].to_numpy(dtype=float)
    value = st.expected_at_min(negative, own[column], k)
    ends = (value, value)
    if column == "f1":
        least = st.expected_min_interval(negative, k, rng=0)
        ends = (np.clip(-least.high, 0, 1), np.clip(-least.low, 0, 1))
    banded(axes, k, loss, st.Estimate(value, *ends))


def draw(search: pd.DataFrame) -> Figure:
    """Beside the paper's, where the networks have full width."""
    return f1_curves(search, paper=paper("triangles_f1"))


PLOT = Plot(draw, "F1, precision and recall on triangles", place=60, columns=("f1",))

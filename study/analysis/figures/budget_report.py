"""Selected on some held-out images, reported on others."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import TRIED, budget_axis, budgets, end_labels, finish, one_panel
from study.analysis.figures.style import style_of, styled


@styled
def reported(search: pd.DataFrame, untrained: pd.DataFrame) -> Figure:
    """The selected run's distance on fresh images over the distance that it was selected by."""
    runs = scores.search(search, "fid_report")
    figure, axes = one_panel()
    ends = {}
    for loss, own in scores.by_loss(runs):
        k, selected = budgets(len(own)), own["selected"].to_numpy()
        fresh = st.quantile_at_min(selected, own["fid"].to_numpy(), k, 0.5)
        ratio = _ratio(fresh, st.min_quantile(selected, k, 0.5))
        axes.plot(k, ratio, **style_of(loss) | {"markevery": [0, -1]})
        ends[loss] = float(k[-1]), float(ratio[-1])
    null = scores.untrained_ratio(untrained, runs, "fid_report")
    axes.axhline(null or 1, color="#808080", lw=0.8, ls=":" if null else "-")
    budget_axis(axes, int(max(k for k, _ in ends.values())))
    axes.set(xlabel=TRIED, ylabel="fresh images over those selected by")
    end_labels(axes, ends)
    known = [end for _, end in ends.values() if np.isfinite(end)]
    message = "no run was selected by a finite distance"
    if known:
        message = f"on fresh images the selected runs are {min(known):.2f} to {max(known):.2f} "
        message += "times as far as where they were selected"
    text = (
        "Line: median distance of the selected run to held-out images on which nothing was "
        "selected, over the median of the least distance that it was selected by."
    )
    if null:
        text += f" Dotted: a generator before any training, {null:.3f}; above it is flattery."
    return finish(figure, runs, message, text, report="fid_report")


def _ratio(fresh: Any, selected: Any) -> Any:
    """NaN where one of the two is infinite or 0."""
    ok = np.isfinite(fresh) & np.isfinite(selected) & (fresh > 0) & (selected > 0)
    return np.divide(fresh, selected, where=ok, out=np.full(len(fresh), np.nan))


PLOT = Plot(
    reported,
    "Selected on some held-out images, reported on others",
    place=100,
    takes=("untrained",),
    columns=("fid_report",),
    each=("dataset",),
)

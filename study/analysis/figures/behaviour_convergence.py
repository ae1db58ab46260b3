"""What the descents to the manifold of triangles find."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from study.analysis.figures.base import Plot
from study.analysis.figures.parts import captioned
from study.analysis.figures.style import styled
from study.measures import descents

STARTS = [(0, 8), (1, 0), (2, 0), (4, 0), (4, 1), (8, 8)]  # (neighbours, random), drawn of them all
LOOKS = list(zip("ovs^DP", ("-", "--", "-.", ":", (0, (4, 1, 1, 1)), (0, (1, 2))), strict=True))
"""Marker and line, since some lie upon others."""
COLOURS = ["#CC79A7", "#56B4E9", "#009E73", "#E69F00", "#000000", "#D55E00"]


@styled
def convergence(table: pd.DataFrame) -> Figure:
    """What the descents find by steps: a line a number of starts, a panel a kind of images."""
    found = table[table["measure"] == "distance"]
    kinds = list(dict.fromkeys(found["images"]))
    recall = table[table["measure"] == "recall"]
    panels = len(kinds) + (not recall.empty)
    figure = Figure(figsize=(3.3 * panels + 0.6, 4.6), layout="constrained")
    grid = figure.subplots(1, panels, squeeze=False)[0]
    for axes, kind in zip(grid, kinds, strict=False):
        _descents(axes, found[found["images"] == kind])
        axes.set_title(f"distance: {kind}")
    grid[0].legend(fontsize=8, title="starts")
    grid[0].set_ylabel("mean squared distance above the best found")
    if not recall.empty:
        _recall(grid[-1], recall)
    text = (
        "Descent to the closest triangle (the excess over the best of all starts and steps, on a "
        f"linear axis below 0.001; {int(table['num_images'].iloc[0])} images of each kind; star: "
        f"the study's choice, {descents.NEIGHBOURS} neighbours, "
        f"{descents.RANDOM_STARTS} random, {descents.STEPS} steps) and, where a "
        "generator was given, from the test images to its closest images (share within δ = "
        f"{descents.DELTA}; dotted: the study's {descents.Z_STEPS} steps, from "
        f"{descents.Z_STARTS} start)."
    )
    return captioned(figure, text)


def _descents(axes: Axes, rows: pd.DataFrame) -> None:
    for (neighbours, random), colour, (mark, line) in zip(STARTS, COLOURS, LOOKS, strict=True):
        own = rows[(rows["neighbours"] == neighbours) & (rows["random"] == random)]
        label = f"{neighbours} near, {random} random"
        look: Any = {"marker": mark, "ls": line, "ms": 3.5, "mfc": "none", "color": colour}
        axes.plot(own["steps"], own["mean_excess"], label=label, **look)
    chosen = rows[
        (rows["neighbours"] == descents.NEIGHBOURS)
        & (rows["random"] == descents.RANDOM_STARTS)
        & (rows["steps"] == descents.STEPS)
    ]
    axes.plot(
        chosen["steps"], chosen["mean_excess"], "*", ms=12, color="#000000", zorder=4, clip_on=False
    )
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set(xlabel="steps", ylim=(0, None))


def _recall(axes: Axes, rows: pd.DataFrame) -> None:
    for starts, colour in zip(sorted(set(rows["starts"].astype(int))), COLOURS, strict=False):
        own = rows[rows["starts"] == starts]
        label = f"{starts} start{'s' * (starts > 1)}"
        axes.plot(own["steps"], own["within_delta"], "o-", ms=3, color=colour, label=label)
    axes.set(title="recall", xlabel="steps", ylabel="share within δ", ylim=(0, None))
    axes.axvline(descents.Z_STEPS, color="#808080", ls=":", lw=1)
    axes.legend(fontsize=8)


PLOT = Plot(
    convergence, "The descents to the manifold of triangles", place=220, needs=("convergence",)
)

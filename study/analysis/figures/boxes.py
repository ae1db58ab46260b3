"""Boxes of scores, a row a loss."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis.figures.parts import distance_label, log_distance, offsets, one_panel, write
from study.analysis.figures.style import style_of

BOXES = (
    "Box: quartiles and median over all runs, infinite ones included (a box cut at the edge goes "
    "on); whiskers: least, and largest within 1.5 box lengths; a point a run."
)


def boxes(runs: pd.DataFrame, sweeps: Sequence[str] = ()) -> tuple[Figure, Axes]:
    """A box a loss with every run, or one a sweep side by side, the first hatched."""
    losses = scores.losses(runs)
    figure, axes = one_panel(9, 0.42 * len(losses) * (1.4 if sweeps else 1) + 1.9)
    log_distance(axes.xaxis, runs["fid"])
    sides = list(zip(sweeps, (-0.21, 0.21), ("////", None), strict=True)) if sweeps else []
    for place, (_, own) in enumerate(scores.by_loss(runs)):
        for sweep, shift, hatch in sides or [(own["sweep"].iloc[0], 0, None)]:
            box = own[own["sweep"] == sweep]
            if len(box):
                _box(axes, place + shift, box, 0.36 if sides else 0.62, hatch)
    axes.set_yticks(range(len(losses)), map(scores.title, losses))
    axes.set(ylim=(len(losses) - 0.4, -0.6), xlabel=distance_label(runs))
    axes.grid(visible=False, axis="y")
    return figure, axes


def _box(axes: Axes, place: float, own: pd.DataFrame, width: float, hatch: str | None) -> None:
    """Box and runs at y = place; what is infinite is cut at the edge."""
    fid, color = own["fid"].to_numpy(), style_of(own["loss"].iloc[0])["color"]
    edge = axes.get_xlim()[1]
    # Between two runs the middle of both, infinite where one is: interpolating gives NaN.
    quarters = np.array([0.25, 0.5, 0.75])
    below = np.quantile(fid, quarters, method="inverted_cdf")
    q1, median, q3 = (below - np.quantile(-fid, 1 - quarters, method="inverted_cdf")) / 2
    reach = fid[fid <= q3 + 1.5 * (q3 - q1)].max() if np.isfinite(q3) else q3
    ends = {"q1": q1, "med": median, "q3": q3, "whislo": fid.min(), "whishi": reach}
    line = {"color": color}
    axes.bxp(
        [{key: min(float(end), edge) for key, end in ends.items()}],
        positions=[place],
        widths=width,
        capwidths=width / 2,
        orientation="horizontal",
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": color, "alpha": 0.35, "edgecolor": color, "hatch": hatch},
        medianprops={"color": "black"},
        whiskerprops=line,
        capprops=line,
    )
    shown = fid[np.isfinite(fid)]
    # seaborn's swarm would have ties broken by the processor's sort.
    axes.plot(shown, place + 0.8 * width * offsets(len(shown)), ".", ms=3.5, mec="none", **line)


def column(axes: Axes, at: float, heading: str, shares: Mapping[int, float]) -> None:
    """Percentages to the right of the boxes: heading, and {place: share}."""
    write(axes, heading, (at, 1), "axes fraction", ha="center", va="bottom")
    for place, share in shares.items():
        beside = axes.get_yaxis_transform()
        write(axes, f"{share:.0%}", (at, place), beside, ha="center", va="center")

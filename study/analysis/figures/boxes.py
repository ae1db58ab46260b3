"""Boxes of scores, a panel a data set."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis.figures.parts import finish, log_distance, offsets, panels_of, star
from study.analysis.figures.style import style_of


def boxes(
    runs: pd.DataFrame,
    text: str,
    *,
    sweeps: Sequence[str] = (),
    stars: bool = False,
    unit: str = "setting",
    report: str = "fid",
) -> Figure:
    """A panel a data set, a box a loss, or one a sweep side by side."""
    figure, panels = panels_of(runs, width=6.4)
    sides = list(zip(sweeps, (-0.2, 0.2), ("////", None), strict=True)) if sweeps else []
    for _, axes, panel in panels:
        log_distance(axes, panel)
        for place, (_, own) in enumerate(scores.by_loss(panel)):
            for sweep, shift, hatch in sides or [(own["sweep"].iloc[0], 0, None)]:
                box = own[own["sweep"] == sweep]
                if len(box):
                    _box(axes, place + shift, box, width=0.34 if sides else 0.6, hatch=hatch)
            if stars:
                star(axes, place, own)
        names = [scores.title(loss) for loss in scores.losses(panel)]
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axes.grid(visible=False, axis="x")
    boxes = (
        "Box: quartiles and median over all runs, infinite ones included (a box cut at the top "
        "goes on); whiskers: least, and largest within 1.5 box lengths. Above: share diverged."
    )
    return finish(figure, runs, f"{text} {boxes}", unit=unit, report=report)


def _box(axes: Axes, place: float, own: pd.DataFrame, width: float, hatch: str | None) -> None:
    """Box, runs and the share diverged at x = place; what is infinite is cut at the top."""
    fid, color, top = (
        own["fid"].to_numpy(),
        style_of(own["loss"].iloc[0])["color"],
        axes.get_ylim()[1],
    )
    q1, median, q3 = np.quantile(fid, [0.25, 0.5, 0.75], method="inverted_cdf")
    reach = fid[fid <= q3 + 1.5 * (q3 - q1)].max() if np.isfinite(q3) else q3
    ends = {"q1": q1, "med": median, "q3": q3, "whislo": fid.min(), "whishi": reach}
    line = {"color": color}
    axes.bxp(
        [{key: min(float(end), top) for key, end in ends.items()}],
        positions=[place],
        widths=width,
        capwidths=width / 2,
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": color, "alpha": 0.35, "edgecolor": color, "hatch": hatch},
        medianprops={"color": "black"},
        whiskerprops=line,
        capprops=line,
    )
    spread = place + offsets(len(fid)) * width * 0.8
    axes.plot(spread, np.where(np.isinf(fid), np.nan, fid), ".", **line, alpha=0.55, markersize=3)
    share, above = f"{np.isinf(fid).mean():.0%}", axes.get_xaxis_transform()
    axes.text(place, 1.01, share, transform=above, ha="center", va="bottom", fontsize=7)

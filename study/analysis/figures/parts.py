"""What figures share: panels, axes, bands, labels, titles and captions."""

import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.figures.style import GREY, plain_log, style_of
from study.counts import counted
from study.errors import StudyError
from study.measures.columns import distance_name

TRIED = "settings tried"
STARS = "Star: the authors' defaults."


def stars(axes: Axes, defaults: pd.DataFrame, place: float, color: str) -> None:
    """A star at the distance of each default that did not diverge."""
    fid = defaults.loc[np.isfinite(defaults["fid"]), "fid"]
    if len(fid):
        axes.plot(fid, [place] * len(fid), "*", color=color, ms=12, mec="white", zorder=5)


def with_stars(defaults: pd.DataFrame) -> str:
    """What a star is, for a caption; nothing where there is none."""
    return f" {STARS}" if len(defaults) else ""


BAND = "Band: 95 % interval; where it fades to the edge the settings leave it open."


class Curve(NamedTuple):
    """A loss's line: x (n,), and value, low and high (n,) there; an end may be infinite."""

    x: NDArray[Any]
    estimate: st.Estimate


# Panels


def one_panel(width: float = 7.6, height: float = 4.2) -> tuple[Figure, Axes]:
    """A figure of one panel."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def small_panels(
    curves: Mapping[str, Curve], xlabel: str = TRIED, *, log: bool = True
) -> tuple[Figure, list[Axes]]:
    """A panel a loss with its line and band, all other losses' lines in grey behind."""
    columns = min(4, len(curves))
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(max(2.3 * columns + 0.7, 5), 1.8 * rows + 1.3), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.ravel())
    if log:
        low, high = _range(curves.values())
        panels[0].set(yscale="log", ylim=(low, high))
        plain_log(panels[0].yaxis, (1, 2, 5) if high / low > 3 else (1, 1.2, 1.5, 2, 3, 4, 5, 7))
    for axes, (loss, curve) in zip(panels, curves.items(), strict=False):
        others = [other for name, other in curves.items() if name != loss]
        for other in others:
            axes.plot(other.x, _finite(other.estimate.value), color=GREY, lw=0.8, zorder=1.5)
        banded(axes, loss, curve)
        none = "" if np.isfinite(curve.estimate.value).any() else " (infinite)"
        axes.set_title(scores.title(loss) + none, loc="left", pad=3)
    for spare in panels[len(curves) :]:
        spare.remove()
    for axes in panels[max(0, len(curves) - columns) : len(curves)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel(xlabel)
    return figure, panels[: len(curves)]


def banded(axes: Axes, loss: str, curve: Curve) -> None:
    """A loss's line, and its band: as far as the axes go, and fainter, where one end is open."""
    x, (value, low, high) = curve
    color, edge = style_of(loss)["color"], axes.get_ylim()
    mark = "o" if len(x) == 1 else ""
    axes.plot(x, _finite(value), color=color, lw=2, marker=mark, zorder=3)
    below, above = np.isfinite(low), np.isfinite(high)
    fill = {"color": color, "linewidth": 0, "zorder": 2}
    axes.fill_between(x, low, high, where=below & above, alpha=0.28, **fill)
    if (below ^ above).any():
        ends = np.where(below, low, edge[0]), np.where(above, high, edge[1])
        axes.fill_between(x, *ends, where=_and_next(below ^ above), alpha=0.1, **fill)
        axes.set_ylim(edge)


def _and_next(open_: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where it is open, and the neighbours, so that the two fills meet."""
    around = np.pad(open_, 1)
    return np.asarray(around[:-2] | open_ | around[2:], dtype=bool)


def _finite(value: NDArray[Any]) -> NDArray[Any]:
    return np.where(np.isfinite(value), value, np.nan)


def _range(curves: Iterable[Curve]) -> tuple[float, float]:
    """The least and greatest that the lines and the finite ends come to, with a little room."""
    values = np.concatenate([np.ravel(part) for curve in curves for part in curve.estimate])
    low, high = _ends(values)
    room = max((high / low) ** 0.04, 1.03)
    return low / room, high * room


def _ends(values: NDArray[Any]) -> tuple[float, float]:
    """Least and greatest of the values that a logarithm takes."""
    shown = values[np.isfinite(values) & (values > 0)]
    return (float(shown.min()), float(shown.max())) if shown.size else (1.0, 10.0)


# Axes


def log_distance(axis: XAxis | YAxis, values: Iterable[float]) -> None:
    """A log axis around the values that are finite and above 0."""
    low, high = _ends(np.array(list(values), dtype=float))
    room, name = max((high / low) ** 0.06, 1.1), axis.axis_name
    axis.axes.set(**{f"{name}scale": "log", f"{name}lim": (low / room, high * room)})
    plain_log(axis, (1, 2, 3, 5, 7) if high / low > 3 else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8))


def distance_label(runs: pd.DataFrame) -> str:
    """What the distance of these runs is called."""
    return distance_name(runs["features"].iloc[0])


def budget_axis(axes: Axes, most: int, cost: str | None = None) -> None:
    """A log axis of budgets up to `most`, or of their cost (a key of COSTS)."""
    axes.set_xscale("log")
    plain_log(axes.xaxis, (1, 2, 5))
    if cost is None:
        round_ones = (m * 10**e for e in range(6) for m in (1, 2, 5))
        axes.set_xticks([*(k for k in round_ones if 1.4 * k < most), most])
        axes.set_xlim(0.9, 1.05 * max(2, most))
    else:
        axes.xaxis.set_major_formatter(EngFormatter(places=0))


def budgets(n: int, points: int = 60) -> Any:
    """Budgets below half of n settings, evenly spaced on a log axis.

    From half on the median of the least distance is the least of all. Those that are judged are
    among them.
    """
    spaced = np.geomspace(1, max(1, (n - 1) // 2), points).round().astype(int)
    return np.union1d(spaced, [k for k in st.BUDGETS if st.judged(k, n)])


def last_judged(runs: pd.DataFrame) -> int:
    """The largest budget that is judged with the settings that every loss has; what titles say."""
    fewest = runs.groupby("loss").size().min()
    return max((k for k in st.BUDGETS if st.judged(k, fewest)), default=1)


def decades(axes: Axes) -> None:
    """A log x axis that shows a power of ten, which alone are labelled, however few the points."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = np.log10(axes.get_xlim())
    if np.ceil(low) > np.floor(high):
        axes.set_xlim(10 ** np.floor(low) / 1.2, 10 ** np.ceil(high) * 1.2)


def offsets(n: int) -> Any:
    """Offsets in -1/2 to 1/2 that keep points apart: fractions of the golden ratio, not random."""
    return np.arange(n) * 0.618034 % 1 - 0.5


def mean_cost(own: pd.DataFrame, cost: str) -> Any:
    """What a setting of these runs costs on average, in a column of COSTS."""
    if cost not in scores.COSTS:
        raise StudyError(f"unknown cost {cost!r}; there are {', '.join(scores.COSTS)}")
    scores.require(own, [cost])
    return st.cost_curve(own[cost], own["fid"], 1)[0]


# Labels


def end_labels(
    axes: Axes, ends: Mapping[str, tuple[float, float]], colours: Mapping[str, str] = {}
) -> None:
    """Each loss's name to the right of the axes, led to from the point (x, y) where its line ends.

    To be called when the limits are final; `colours` where they are not the losses' own.
    """
    positive = axes.get_yscale() == "log"  # which has no place for 0
    finite = {
        loss: end
        for loss, end in ends.items()
        if np.isfinite(end[1]) and not (positive and end[1] <= 0)
    }
    scaled = axes.transScale.transform(np.array(list(finite.values())).reshape(-1, 2))
    points = axes.transLimits.transform(scaled)
    places = _apart(points[:, 1], 11 * axes.figure.dpi / (72 * 0.8 * axes.bbox.height))
    for loss, (x, y), place in zip(finite, points, places, strict=True):
        color = colours.get(loss, style_of(loss)["color"])
        lead = {"transform": axes.transAxes, "clip_on": False, "lw": 0.6, "color": color}
        axes.plot([x, 1.01, 1.03], [y, y if x > 0.98 else place, place], **lead)
        write(axes, scores.title(loss), (1.035, place), "axes fraction", va="center", color=color)


def write(
    axes: Axes, text: str, at: tuple[float, float], frame: Any, shift: Any = (0, 0), **look: Any
) -> None:
    """Text at a point of this frame (matplotlib's `xycoords`), shifted by points."""
    look = {"fontsize": 8, "annotation_clip": False} | look
    axes.annotate(text, at, xycoords=frame, xytext=shift, textcoords="offset points", **look)


def _apart(wanted: NDArray[Any], gap: float) -> NDArray[Any]:
    """The nearest places in the same order that keep `gap` between neighbours."""
    order, blocks = np.argsort(wanted, kind="stable"), list[list[float]]()
    for i in order:  # each block: its places, of which the first is where the others follow from
        blocks.append([wanted[i]])
        while len(blocks) > 1 and _first(blocks[-1], gap) < _last(blocks[-2], gap) + gap:
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    apart: NDArray[Any] = np.empty(len(wanted))
    apart[order] = [_first(b, gap) + gap * i for b in blocks for i in range(len(b))]
    lowest = apart.min(initial=1) - gap / 2
    return apart if lowest >= 0 else apart - lowest  # none below the axes


def _first(block: list[float], gap: float) -> float:
    return sum(block) / len(block) - gap * (len(block) - 1) / 2


def _last(block: list[float], gap: float) -> float:
    return _first(block, gap) + gap * (len(block) - 1)


# Titles and captions


def finish(
    figure: Figure,
    runs: pd.DataFrame,
    message: str,
    text: str,
    *,
    unit: str = "setting",
    measure: str = "",
    report: str = "fid",
) -> Figure:
    """Title (data set and message) and caption of runs on one data set.

    The caption: what was measured on how much, how many diverged, then `text`.
    """
    scores.one(runs, "dataset")
    row, diverged = runs.iloc[0], np.isinf(runs["fid"])
    if not measure:
        name, images = distance_name(row["features"]), row["num_images"]
        measure = f"{name} on {images:,} images, lower is better, {scores.REPORTS[report]}"
    dataset = scores.dataset_title(row["dataset"])
    caption = (
        f"{dataset}: {measure}. Networks of width {row['width']:g}{_length(runs)}; "
        f"{' and '.join(dict.fromkeys(runs['sweep']))}: {_count(runs, unit)}; "
        f"{diverged.sum()} of {len(runs):,} runs ({diverged.mean():.1%}) diverged"
        f"{' and count as infinite' * ('F1' not in measure)}. {text}"
    )
    return captioned(titled(figure, f"{dataset}: {message}"), caption)


def _length(runs: pd.DataFrame) -> str:
    """How long they were trained, where the table says it: ", 2,000 D steps"."""
    return f", {runs['d_steps'].max():,.0f} D steps" if "d_steps" in runs else ""


def _count(runs: pd.DataFrame, unit: str) -> str:
    """How many runs a loss has: "4 to 10 settings a loss"."""
    sizes = runs.groupby(["loss", "sweep"]).size()
    fewest = f"{sizes.min()} to " * bool(sizes.min() < sizes.max())
    return f"{fewest}{counted(sizes.max(), unit)} a loss"


def subject(search: pd.DataFrame) -> str:
    """Data set, sweep, how many settings, and the distance of a search, for captions."""
    runs = scores.of_runs(search)
    row, settings = runs.iloc[0], runs.groupby("loss").size()
    return (
        f"{scores.dataset_title(row['dataset'])}, {row['sweep']}, {span(settings, 4)} settings a "
        f"loss, networks of width {row['width']:g}{_length(runs)}. Distance: "
        f"{distance_name(row['features'])} on {row['num_images']:,} images."
    )


def span(values: Iterable[float], digits: int = 2) -> str:
    """The least and the greatest of the values, as words; those that are unknown left out."""
    known = sorted(value + 0.0 for value in values if not np.isnan(value))
    if not known or np.isinf(known[0]):
        return "infinity"
    ends = [f"{end:.{digits}g}".replace("inf", "infinity") for end in (known[0], known[-1])]
    return " to ".join(dict.fromkeys(ends))


def titled(figure: Figure, title: str) -> Figure:
    """The figure with its title, filled to its width."""
    width = int(figure.get_figwidth() * 10.4)
    figure.suptitle(textwrap.fill(title, width), x=0.01, ha="left", fontsize=11, weight="bold")
    return figure


def captioned(figure: Figure, caption: str) -> Figure:
    """The figure with its caption below, filled to its width."""
    width = int(figure.get_figwidth() * 15.5)
    filled = textwrap.fill(caption, width, break_on_hyphens=False)
    figure.supxlabel(filled, x=0.01, ha="left", fontsize=8)
    return figure

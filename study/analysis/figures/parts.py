"""What figures share: panels, axes, bands, captions."""

import textwrap
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    EngFormatter,
    NullFormatter,
)

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.figures.style import plain_log, style_of
from study.errors import StudyError

NARROW = "too narrow where the budget nears the number of settings"
STARS = "Star: the authors' defaults."
_MARKS = (1, 3, 10, 30, 100, 300, 1000)  # where a curve carries its marker, times its first x


def panels_of(
    runs: pd.DataFrame, width: float = 5.6
) -> tuple[Figure, list[tuple[str, Axes, pd.DataFrame]]]:
    """A figure with a titled panel a data set, two in a row."""
    names = scores.dataset_order(runs)
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(width * columns + 1.2, 3.8 * rows + 0.9), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in grid[len(names) :]:
        spare.remove()
    for name, axes in zip(names, grid, strict=False):
        axes.set_title(scores.dataset_title(name), pad=16, fontweight="bold")
    return figure, [(n, a, runs[runs["dataset"] == n]) for n, a in zip(names, grid, strict=False)]


def log_distance(axes: Axes, panel: pd.DataFrame, more: Iterable[float] = ()) -> None:
    """Scale and label the y axis around a panel's finite scores (and some more values)."""
    values = np.concatenate([panel["fid"], list(more)])
    finite = np.maximum(values[np.isfinite(values)], 1e-6)
    low, high = (finite.min(), finite.max()) if finite.size else (1.0, 10.0)
    room = max((high / low) ** 0.06, 1.1)
    axes.set(yscale="log", ylim=(low / room, high * room))
    axes.set_ylabel(scores.distance_name(panel["features"].iloc[0]))
    plain_log(axes.yaxis)


def budget_axis(axes: Axes, most: int, cost: str | None = None) -> None:
    """A log axis of budgets up to `most`, or of their cost (a key of COSTS)."""
    axes.set(
        xscale="log", xlabel=f"cost in {scores.COSTS[cost]}" if cost else "budget (settings tried)"
    )
    plain_log(axes.xaxis, (1, 2, 5))
    if cost is None:
        round_ones = (m * 10**e for e in range(6) for m in (1, 2, 5))
        axes.set_xticks([*(k for k in round_ones if 1.4 * k < most), most])
        axes.set_xlim(0.85, 1.15 * max(2, most))
    else:
        axes.xaxis.set_major_formatter(EngFormatter(places=0))


def budgets(n: int, points: int = 60) -> Any:
    """All budgets up to n, or `points` of them evenly spaced on the log axis."""
    return np.unique(np.geomspace(1, n, points).round().astype(int))


def banded(axes: Axes, x: Any, loss: str, estimate: st.Estimate) -> None:
    """A loss's line, and its band, each where finite."""
    value, low, high = estimate
    finite, style = np.isfinite(value), style_of(loss)
    label = scores.title(loss) if finite.any() else f"{scores.title(loss)} (infinite)"
    marks = [int(np.argmin(abs(np.log(x / x[0] / at)))) for at in _MARKS if at <= x[-1] / x[0]]
    axes.plot(x, np.where(finite, value, np.nan), label=label, markevery=marks, **style)
    axes.fill_between(
        x, low, high, where=np.isfinite(high), color=style["color"], alpha=0.1, linewidth=0
    )


def mean_cost(own: pd.DataFrame, cost: str) -> Any:
    """What a setting of these runs costs on average, in a column of COSTS."""
    if cost not in scores.COSTS:
        raise StudyError(f"unknown cost {cost!r}; there are {', '.join(scores.COSTS)}")
    scores.require(own, [cost])
    return st.cost_curve(own[cost], own["fid"], 1)[0]


def offsets(n: int) -> Any:
    """Offsets in -1/2 to 1/2 that keep points apart: fractions of the golden ratio, not random."""
    return np.arange(n) * 0.618034 % 1 - 0.5


def star(axes: Axes, x: float, own: pd.DataFrame) -> None:
    """The authors' defaults (number 0), unless they diverged."""
    color, default = style_of(own["loss"].iloc[0])["color"], own[own["number"] == 0]
    for fid in default["fid"][np.isfinite(default["fid"])]:
        axes.plot([x], [fid], "*", color=color, ms=12, mec="white", clip_on=False, zorder=4)


def paper_curves(axes: Axes, paper: pd.DataFrame, column: str, names: list[str]) -> None:
    """The paper\'s curves of these losses, dotted and small."""
    for loss in names:
        rows = paper[paper["loss"] == loss]
        axes.plot(
            rows["budget"],
            rows[column],
            color=style_of(loss)["color"],
            linestyle=":",
            marker=style_of(loss)["marker"],
            markersize=3,
            linewidth=0.9,
        )


def decades(axes: Axes) -> None:
    """A log x axis that shows a power of ten, which alone are labelled, however few the points."""
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = np.log10(axes.get_xlim())
    if np.ceil(low) > np.floor(high):
        axes.set_xlim(10 ** np.floor(low) / 1.2, 10 ** np.ceil(high) * 1.2)


def finish(
    figure: Figure,
    runs: pd.DataFrame,
    text: str,
    *,
    legend: bool = False,
    unit: str = "setting",
    measure: str = "",
    report: str = "fid",
) -> Figure:
    """Legend and caption: what was measured on how much, how many diverged, what the band is."""
    if legend:
        shown = [axes.get_legend_handles_labels() for axes in figure.axes]
        entries = {n: line for lines, names in shown for n, line in zip(names, lines, strict=True)}
        figure.legend(entries.values(), entries.keys(), loc="outside right center")
    row, diverged = runs.iloc[0], np.isinf(runs["fid"])
    if not measure:
        name, images = scores.distance_name(row["features"]), row["num_images"]
        measure = f"{name} on {images:,} images, lower is better, {scores.REPORTS[report]}"
    sets = {
        scores.dataset_title(name): _count(runs, name, unit) for name in scores.dataset_order(runs)
    }
    counts = [f"{count} ({name})" for name, count in sets.items()]
    count = ", ".join(counts if len(set(sets.values())) > 1 else list(sets.values())[:1])
    caption = (
        f"{', '.join(sets)}: {measure}. Networks of width {row['width']:g}; "
        f"{' and '.join(dict.fromkeys(runs['sweep']))}: {count}; "
        f"{diverged.sum()} of {len(runs)} runs ({diverged.mean():.1%}) diverged"
        f"{' and count as infinite' * ('F1' not in measure)}. {text}"
    )
    return captioned(figure, caption)


def _count(runs: pd.DataFrame, dataset: str, unit: str) -> str:
    """How many runs a loss has on a data set: "4 to 10 settings a loss"."""
    sizes = runs[runs["dataset"] == dataset].groupby(["loss", "sweep"]).size()
    count = " to ".join(map(str, sorted({sizes.min(), sizes.max()})))
    return f"{count} {unit}{'s' * bool(sizes.max() > 1)} a loss"


def subject(search: pd.DataFrame) -> str:
    """Data set, sweep, how many settings, and the distance of a search, for captions."""
    runs = scores.of_runs(search)
    row, settings = runs.iloc[0], runs.groupby("loss").size()
    return (
        f"{scores.dataset_title(row['dataset'])}, {row['sweep']}, up to {settings.max()} settings "
        f"a loss. Distance: {scores.distance_name(row['features'])} on {row['num_images']:,} "
        "images."
    )


def captioned(figure: Figure, caption: str) -> Figure:
    """The figure with its caption below, filled to its width."""
    width = int(figure.get_figwidth() * 15.5)
    figure.supxlabel(
        textwrap.fill(caption, width, break_on_hyphens=False), x=0.01, ha="left", fontsize=8
    )
    return figure

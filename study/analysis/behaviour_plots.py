"""Figures of how the measures behave: tables of `study.behaviour` in, Figures out.

Captions state what was measured on how much; `plots.save` writes the same bytes for the same table.
"""

import textwrap
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.analysis import plots, scores
from study.measures import behaviour
from study.measures import of_two_sets as score
from study.measures import triangle_manifold as manifold

MEASURED = {"held_out": ("#000000", "-", "o"), "train": ("#D55E00", "--", "s")}
WORDS = {"held_out": "against held-out", "train": "against training"}
SHARES = {"precision": ("#0072B2", "-", "o"), "recall": ("#E69F00", "--", "s")}
EXPERIMENTS = {  # what is varied, and how its axis is drawn
    "classes": ("classes among the images, of 10", {}),
    "noise": ("noise: standard deviation, of 255", {}),
    "blur": ("blur: standard deviation (pixels)", {}),
    "memorised": ("training images repeated", {"xscale": "log"}),
}
STARTS = [(0, 8), (1, 0), (2, 0), (4, 0), (4, 1), (8, 8)]  # (neighbours, random), drawn of them all
COLOURS = ["#CC79A7", "#56B4E9", "#009E73", "#E69F00", "#000000", "#D55E00"]


def figures(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure of a table of `behaviour.measure_all`, by the name of its file."""
    found = {}
    for (dataset, features), own in table.groupby(["dataset", "features"]):
        found[f"bias_{dataset}_{features}"] = bias(own)
        found[f"damage_{dataset}_{features}"] = damage(own)
    return found


# --- Real against real ----------------------------------------------------------------------------


@plots.styled
def bias(table: pd.DataFrame) -> Figure:
    """Real against real by number of images: its mean against 1/n, its spread against n."""
    found, real = behaviour.bias(table), table[table["experiment"] == "real"]
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(1 / real["num_images"], real["distance"], ".", color="#808080", ms=4, label="a draw")
    left.plot(1 / found["num_images"], found["mean"], "o", color="#000000", label="mean")
    _fit(left, table, found)
    _paper(left, found)
    left.set(xlabel="images of each side, n (axis in 1/n)", ylabel=_name(table), ylim=(0, None))
    left.set_xticks([0, *(1 / found["num_images"])], ["∞", *_counts(found["num_images"])])
    left.tick_params(axis="x", rotation=60)
    left.legend()
    right.plot(found["num_images"], found["sd"], "o-", color="#000000")
    right.set(xscale="log", yscale="log", xlabel="images of each side, n")
    right.set_ylabel("standard deviation over draws")
    right.set_xticks(found["num_images"], _counts(found["num_images"]), rotation=60)
    right.minorticks_off()
    text = (
        f"{_title(table)}: held-out against training images, {found['draws'].max()} draws a "
        "number. The distance of two samples of the same distribution is all bias, which falls "
        "as 1/n; the line is fitted to the means of the sizes that exceed the number of features "
        f"({real['dim'].iloc[0]:,}), the bar is its 95 % bootstrap interval over draws. At the "
        "last number the held-out images are all there are: only training images vary."
    )
    return _captioned(figure, text)


def _fit(axes: Axes, table: pd.DataFrame, found: pd.DataFrame) -> None:
    """The fit in 1/n and its value at infinitely many images, where there are sizes for it."""
    fitted = found[found["num_images"] > table["dim"].iloc[0]]
    if len(fitted) < 2:
        return
    limit = behaviour.infinitely_many(table)
    a, b = score.fit_in_inverse_n(fitted["num_images"], fitted["mean"])
    x = np.array([0, 1 / found["num_images"].min()])
    axes.plot(x, a + b * x, "--", color="#0072B2", lw=1, zorder=1, label="fit in 1/n")
    error = [[limit.value - limit.low], [limit.high - limit.value]]
    label = f"n → ∞: {limit.value:.2g}"
    axes.errorbar([0], [limit.value], error, fmt="*", color="#0072B2", ms=9, label=label)


def _paper(axes: Axes, found: pd.DataFrame) -> None:
    known = found.dropna(subset="paper")
    for n, value in zip(known["num_images"], known["paper"], strict=True):
        label = f"paper, as recalled: {value:g}"
        axes.plot([1 / n], [value], "x", color="#D55E00", ms=9, label=label)


# --- Damage ---------------------------------------------------------------------------------------


@plots.styled
def damage(table: pd.DataFrame) -> Figure:
    """Distance, and k-NN precision and recall below it, by what was done to the images."""
    present = [name for name in EXPERIMENTS if (table["experiment"] == name).any()]
    figure = Figure(figsize=(3.1 * len(present) + 0.6, 6.0), layout="constrained")
    grid = figure.subplots(2, len(present), sharex="col", sharey="row", squeeze=False)
    undamaged = table[(table["experiment"] == "noise") & (table["level"] == 0)]["distance"].mean()
    for column, name in enumerate(present):
        own = table[table["experiment"] == name]
        label, scale = EXPERIMENTS[name]
        top, bottom = grid[:, column]
        for split, style in MEASURED.items():
            if (own["real"] == split).any():
                _means(top, own[own["real"] == split], "distance", *style, WORDS[split])
        top.axhline(undamaged, color="#808080", lw=1, ls=":", label="undamaged")
        held_out = own[own["real"] == "held_out"]
        for share, style in SHARES.items():
            _means(bottom, held_out, share, *style, share)
        bottom.set(xlabel=label, ylim=(0, 1.02), **scale)
        top.set(yscale="log")
        plots.plain_log(top.yaxis, (1, 3))
    grid[0, 0].set_ylabel(_name(table))
    grid[1, 0].set_ylabel("k-NN precision and recall")
    for axes in grid[:, -1]:
        axes.legend(fontsize=8)
    text = (
        f"{_title(table)}: {behaviour.NUM_IMAGES:,} training images, changed as the axis says, "
        f"against {behaviour.NUM_IMAGES:,} held-out ones; mean of "
        f"{int(own['draw'].max()) + 1} draws, band: least to largest. Dotted: "
        "the same images unchanged. Precision and recall (k = 3) of "
        f"{behaviour.BESIDE:,} images of each side. Repeated training images are also held "
        "against the training images that they are among: there the distance falls to 0 (no "
        "point on this axis), against held-out ones it ends where honest samples lie. Recall is 0 "
        "by its definition where each of the images comes more than three times."
    )
    return _captioned(figure, text)


def _means(
    axes: Axes, rows: pd.DataFrame, column: str, colour: str, line: str, marker: str, label: str
) -> None:
    """Mean of a column at every level, with the range over draws as a band; zeros are left out."""
    shown = rows[rows[column] > 1e-6] if column == "distance" else rows
    found = shown.groupby("level")[column].agg(["mean", "min", "max"])
    axes.fill_between(found.index, found["min"], found["max"], color=colour, alpha=0.2, lw=0)
    axes.plot(found.index, found["mean"], line, marker=marker, color=colour, label=label)


# --- Two extractors -------------------------------------------------------------------------------


@plots.styled
def agreement(table: pd.DataFrame, first: str, second: str) -> Figure:
    """One extractor's distance against another's, a point a trained generator."""
    agreed = behaviour.agreement(table, first, second)
    figure = Figure(figsize=(6.2, 5.4), layout="constrained")
    axes = figure.subplots()
    for loss in scores.losses(table):
        own = table[table["loss"] == loss]
        style = plots.style_of(loss)
        axes.plot(
            own[first], own[second], style["marker"], color=style["color"], label=scores.title(loss)
        )
    axes.set(xscale="log", yscale="log")
    axes.set(xlabel=scores.distance_name(first), ylabel=scores.distance_name(second))
    for axis in (axes.xaxis, axes.yaxis):
        plots.plain_log(axis, (1, 2, 5))
    axes.legend()
    counts = sorted(set(table["num_images"]))
    text = (
        f"{len(table)} trained generators on {scores.dataset_title(table['dataset'].iloc[0])} "
        f"against {counts[0]:,} held-out images: Spearman's rank correlation "
        f"{agreed.value:.2f} (95 % bootstrap interval over generators {agreed.low:.2f} to "
        f"{agreed.high:.2f})."
    )
    return _captioned(figure, text)


# --- The descent to the manifold ------------------------------------------------------------------


@plots.styled
def convergence(table: pd.DataFrame) -> Figure:
    """What the descents find by steps: a line a number of starts, a panel a kind of images."""
    descents = table[table["measure"] == "distance"]
    kinds = list(dict.fromkeys(descents["images"]))
    recall = table[table["measure"] == "recall"]
    panels = len(kinds) + (not recall.empty)
    figure = Figure(figsize=(3.3 * panels + 0.6, 4.6), layout="constrained")
    grid = figure.subplots(1, panels, squeeze=False)[0]
    for axes, kind in zip(grid, kinds, strict=False):
        _descents(axes, descents[descents["images"] == kind])
        axes.set_title(f"distance: {kind}")
    grid[0].legend(fontsize=8, title="starts")
    grid[0].set_ylabel("mean squared distance above the best found")
    if not recall.empty:
        _recall(grid[-1], recall)
    text = (
        "Descent to the closest triangle (the excess over the best of all starts and steps, on a "
        f"linear axis below 0.001; {int(table['num_images'].iloc[0])} images of each kind; star: "
        "the study's choice, "
        f"{manifold.NEIGHBOURS} neighbours, {manifold.RANDOM_STARTS} random, {manifold.STEPS} "
        "steps) and, where a generator was given, from the test images to its closest images "
        f"(share within δ = {manifold.DELTA}; dotted: the study's {manifold.Z_STEPS} steps, from "
        f"{manifold.Z_STARTS} start)."
    )
    return _captioned(figure, text)


def _descents(axes: Axes, rows: pd.DataFrame) -> None:
    for (neighbours, random), colour in zip(STARTS, COLOURS, strict=True):
        own = rows[(rows["neighbours"] == neighbours) & (rows["random"] == random)]
        label = f"{neighbours} near, {random} random"
        axes.plot(own["steps"], own["mean_excess"], "o-", ms=3, color=colour, label=label)
    chosen = rows[
        (rows["neighbours"] == manifold.NEIGHBOURS)
        & (rows["random"] == manifold.RANDOM_STARTS)
        & (rows["steps"] == manifold.STEPS)
    ]
    axes.plot(
        chosen["steps"], chosen["mean_excess"], "*", ms=12, color="#000000", zorder=4, clip_on=False
    )
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.set(xlabel="steps", ylim=(0, None))


def _recall(axes: Axes, rows: pd.DataFrame) -> None:
    for starts, colour in zip(sorted(set(rows["starts"].astype(int))), COLOURS, strict=False):
        own = rows[rows["starts"] == starts]
        label = f"{starts} start{'s' * (starts > 1)}"
        axes.plot(own["steps"], own["within_delta"], "o-", ms=3, color=colour, label=label)
    axes.set(title="recall", xlabel="steps", ylabel="share within δ", ylim=(0, None))
    axes.axvline(manifold.Z_STEPS, color="#808080", ls=":", lw=1)
    axes.legend(fontsize=8)


# --- Shared ---------------------------------------------------------------------------------------


def _name(table: pd.DataFrame) -> str:
    return scores.distance_name(table["features"].iloc[0])


def _title(table: pd.DataFrame) -> str:
    return scores.dataset_title(table["dataset"].iloc[0])


def _counts(values: pd.Series) -> Iterator[str]:
    return (f"{n:,}" for n in values)


def _captioned(figure: Figure, text: str) -> Figure:
    wrapped = textwrap.fill(text, int(figure.get_figwidth() * 15.5), break_on_hyphens=False)
    figure.supxlabel(wrapped, x=0.01, ha="left", fontsize=8)
    return figure

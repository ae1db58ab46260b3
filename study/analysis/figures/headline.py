"""The study at a glance: where each loss's settings end up, and the best after k of them."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import (
    TRIED,
    budget_axis,
    budgets,
    distance_label,
    end_labels,
    finish,
    log_distance,
    offsets,
    span,
    stars,
    with_stars,
    write,
)
from study.analysis.figures.style import GREY, plain_log, style_of, styled

REFERENCE = "ns"


@styled
def headline(
    search: pd.DataFrame,
    seeds: pd.DataFrame,
    untrained: pd.DataFrame,
    real: pd.DataFrame,
) -> Figure:
    """Left every setting, the default, the best found and its re-runs; right the best after k."""
    runs = scores.search(search)
    scores.one(runs, "dataset")
    again = scores.checked(seeds) if len(seeds) else runs.iloc[:0]
    losses = _order(runs, again)
    figure = Figure(figsize=(10.6, 0.34 * len(losses) + 2.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _settings(left, runs, again, losses)
    level = scores.untrained_distance(untrained, runs)
    _levels(left, level, scores.real_distance(real, runs))
    _curves(right, runs)
    defaults = scores.authors_defaults(runs)
    told = runs[runs["loss"].isin(again["loss"])] if len(again) else runs
    counts = told.groupby("loss").size()
    message = (
        f"the best of {span(counts, 4)} setting{'s' * int(counts.max() > 1)}"
        f"{', trained again,' * bool(len(again))} ends at "
    )
    reached = _reached(runs, again)
    message += span(reached[loss] for loss in counts.index)
    if len(defaults):
        message += f", the authors' defaults at {span(defaults['fid'])}"
    text = f"Dot: a setting.{with_stars(defaults)} Bar: the best found."
    if len(again):
        count = again.groupby("loss").size()
        text += f" Band and ring: range and median of its re-runs with {span(count)} other seeds."
    text += " Right: expected best of k settings, k below half of those there are."
    return finish(figure, runs, message, text)


def _order(runs: pd.DataFrame, again: pd.DataFrame) -> list[str]:
    """Losses from the best to the worst: by the median of the re-runs, those without any last, by
    the best found."""
    reached, there = _reached(runs, again), set(again["loss"])
    return sorted(reached, key=lambda loss: (loss not in there, reached[loss], scores.place(loss)))


def _reached(runs: pd.DataFrame, again: pd.DataFrame) -> dict[str, float]:
    best = runs.groupby("loss")["fid"].min().to_dict()
    return best | again.groupby("loss")["fid"].agg(np.median).to_dict()


def _settings(axes: Axes, runs: pd.DataFrame, again: pd.DataFrame, losses: list[str]) -> None:
    log_distance(axes.xaxis, [*runs["fid"], *again["fid"]])
    edge = axes.get_xlim()[1]
    for place, loss in enumerate(losses):
        own, color = runs[runs["loss"] == loss], style_of(loss)["color"]
        dots = own["fid"].where(np.isfinite(own["fid"]))
        scatter = place + 0.3 * offsets(len(own))
        axes.plot(dots, scatter, ".", color=color, alpha=0.45, ms=4.5, mec="none")
        reruns = again[again["loss"] == loss]["fid"].clip(upper=edge)
        if len(reruns):
            axes.plot([reruns.min(), reruns.max()], [place] * 2, color=color, lw=6, alpha=0.75)
            axes.plot([np.median(reruns)], [place], "o", color="white", mec=color, ms=7, mew=1.8)
        axes.plot([own["fid"].min()], [place], "|", color="black", ms=15, mew=2.2, zorder=4)
        stars(axes, scores.authors_defaults(own), place, color)
        lost = int(np.isinf(own["fid"]).sum())
        if lost:
            write(axes, f"{lost} ∞", (1, place), axes.get_yaxis_transform(), va="center")
    axes.set_yticks(range(len(losses)), map(scores.title, losses))
    axes.set(ylim=(len(losses) - 0.4, -0.6), xlabel=f"{distance_label(runs)}, lower is better")
    axes.set_title("Where the settings of each loss end up", loc="left", pad=14)
    axes.grid(visible=False, axis="y")


def _levels(axes: Axes, untrained: float | None, real: float | None) -> None:
    """An untrained generator's distance as a line; real images' where the axis holds it."""
    low = axes.get_xlim()[0]
    above, up = axes.get_xaxis_transform(), (0, 2)
    if untrained is not None:
        axes.axvline(untrained, color="black", ls=":", lw=1.2, zorder=1)
        write(axes, f"untrained {untrained:.3g}", (untrained, 1), above, up, ha="center")
    if real is not None:
        inside = real > low
        if inside:
            axes.axvline(real, color="#009E73", ls="--", lw=1.2, zorder=1)
        text = f"real images {real:.2g}" if inside else f"← real images {real:.2g}"
        write(axes, text, (max(real, low), 1), above, up)


def _curves(axes: Axes, runs: pd.DataFrame) -> None:
    """Expected best after k settings, the outermost losses and NS in colour."""
    curves = {}
    for loss, own in scores.by_loss(runs):
        k = budgets(len(own))
        curves[loss] = k, st.expected_min(own["fid"], k)
    ends = {loss: float(value[-1]) for loss, (_, value) in curves.items()}
    first = {loss: float(value[0]) for loss, (_, value) in curves.items()}
    shown = {min(ends, key=ends.__getitem__), max(ends, key=ends.__getitem__), REFERENCE}
    shown |= {min(first, key=first.__getitem__)}
    log_distance(axes.yaxis, np.concatenate([value for _, value in curves.values()]))
    plain_log(axes.yaxis, (1, 1.5, 2, 3, 5, 7))
    colours = {loss: style_of(loss)["color"] if loss in shown else "#777777" for loss in curves}
    for loss, (k, value) in curves.items():
        look = {"color": colours[loss], "lw": 2.4} if loss in shown else {"color": GREY, "lw": 1.2}
        mark = "o" if len(k) == 1 else ""
        axes.plot(k, np.where(np.isfinite(value), value, np.nan), marker=mark, **look)
    most = max(int(k[-1]) for k, _ in curves.values())
    budget_axis(axes, most)
    axes.set_xlim(1, max(2, most))
    axes.set(xlabel=TRIED, ylabel=distance_label(runs))
    axes.set_title("Expected best after k settings", loc="left", pad=14)
    points = {loss: (float(k[-1]), float(value[-1])) for loss, (k, value) in curves.items()}
    end_labels(axes, points, colours)


PLOT = Plot(
    headline,
    "The study at a glance",
    place=0,
    takes=("seeds", "untrained", "real"),
    each=("dataset",),
)

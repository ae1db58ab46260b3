"""Effect of each hyperparameter."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from study.analysis import scores
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import (
    decades,
    distance_label,
    finish,
    log_distance,
    offsets,
    with_stars,
)
from study.analysis.figures.style import style_of, styled
from study.errors import StudyError
from study.runs.table import hyperparameters as varied_hyperparameters
from study.settings.hyperparameters import Hyperparameter
from study.settings.space import described

WORDS = {True: "on", False: "off"}


@styled
def hyperparameters(search: pd.DataFrame) -> Figure:
    """Score against each hyperparameter of one loss, one data set; last, lr × β1 together."""
    own = scores.search(search)
    for column in ("dataset", "loss"):
        scores.one(own, column)
    loss = own["loss"].iloc[0]
    if len(own) < 2:
        raise StudyError(f"one setting of {loss}: an effect needs two; train more settings")
    axes_of = axes_of_loss(loss, search)
    names = list(axes_of)
    columns = 3 if len(names) < 6 else 4
    rows = -(-(len(names) + 1) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.2 * rows + 1.0), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=False).ravel()
    for axes, name in zip(grid, names, strict=False):
        _effect(axes, own, axes_of[name])
        axes.set_ylabel(distance_label(own) if axes is grid[0] else "", fontsize=8)
        axes.tick_params(labelleft=axes in grid[::columns])
    _interaction(figure, grid[len(names)], own, axes_of)
    for spare in grid[len(names) + 1 :]:
        spare.remove()
    half = np.median(own["fid"])
    message = f"the best of {len(own)} settings of {scores.title(loss)} comes to "
    message += f"{own['fid'].min():.3g}, half of them end above {half:.3g}"
    stars = with_stars(scores.authors_defaults(own))
    return finish(figure, own, message, f"A dot a setting; cross: a diverged run.{stars}")


def axes_of_loss(loss: str, table: pd.DataFrame) -> dict[str, Hyperparameter]:
    """The hyperparameters of a loss that the table varies, by name; all that it has columns of."""
    varied = varied_hyperparameters(table[table["loss"] == loss])
    return {name: each for name, each in described(loss).items() if name in varied}


def _effect(axes: Axes, own: pd.DataFrame, axis: Hyperparameter) -> None:
    """Score against one hyperparameter; diverged runs as crosses on the top edge."""
    log_distance(axes.yaxis, own["fid"])
    x, (bottom, top) = own[axis.name], axes.get_ylim()
    default = own.index.isin(scores.authors_defaults(own).index)
    fid, color = own["fid"].clip(bottom, top), style_of(own["loss"].iloc[0])["color"]
    if axis.choices:
        is_text = any(isinstance(choice, str) for choice in axis.choices)
        values = sorted(x.unique(), key=axis.choices.index if is_text else None)
        x = x.map(values.index) + offsets(len(x)) / 2 * ~default
        axes.set_xticks(range(len(values)), [_word(value) for value in values])
        axes.set_xlim(-0.6, len(values) - 0.4)
    x = x.astype(float)
    for rows, mark, size, fill, edge in (
        (own["status"] == "ok", ".", 5, color, color),
        (own["status"] == "diverged", "x", 5, color, color),
        (default, "*", 12, "black", "white"),
    ):
        if rows.any():  # what is empty and not clipped breaks the layout
            axes.plot(x[rows], fid[rows], mark, color=fill, ms=size, mec=edge, clip_on=False)
    axes.set_xlabel(axis.label)
    if axis.is_log:
        decades(axes)


def _word(value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return WORDS[bool(value)]
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value)


def _interaction(
    figure: Figure, axes: Axes, own: pd.DataFrame, axes_of: dict[str, Hyperparameter]
) -> None:
    """Learning rate × β1, coloured by the score (dark is good)."""
    ok, bad = own[(own["status"] == "ok") & (own["fid"] > 0)], own[own["status"] == "diverged"]
    if len(ok):
        norm = LogNorm(ok["fid"].min(), max(ok["fid"].max(), 1.001 * ok["fid"].min()))
        points = axes.scatter(ok["lr"], ok["beta1"], c=ok["fid"], norm=norm, cmap="viridis", s=16)
        ticks = LogLocator(subs=(1, 2, 3, 5, 7))
        bar = figure.colorbar(points, ax=axes, ticks=ticks, format="%g", label="distance")
        bar.minorticks_off()
    axes.plot(bad["lr"], bad["beta1"], "x", color="black", markersize=4)
    default = scores.authors_defaults(own)
    axes.plot(default["lr"], default["beta1"], "*", color="black", markersize=12, mec="white")
    axes.set(xlabel=axes_of["lr"].label, ylabel=axes_of["beta1"].label)
    decades(axes)


PLOT = Plot(hyperparameters, "Effect of each hyperparameter", place=160, each=("dataset", "loss"))

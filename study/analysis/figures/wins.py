"""Which loss wins, pair by pair."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import finish
from study.analysis.figures.style import styled
from study.counts import counted
from study.errors import StudyError

COLOURS = "PuOr_r"
BESIDE_EACH_OTHER = 9
"""Losses up to which three budgets' matrices are shown; of more, the row is too wide."""
SAME = " with the same settings and seeds"


@styled
def win_matrix(search: pd.DataFrame, budgets: Sequence[int] = ()) -> Figure:
    """P(best of k of the row's loss is below the column's) at each budget; one data set.

    Without `budgets`: of 1, 2, 5, 10 and 20 the last three that are judged with the settings that
    every loss has, the last alone of ten losses and more; beyond, a few runs decide who wins.
    """
    import seaborn as sns  # noqa: PLC0415 (half a second, which most figures need not pay)

    runs = scores.search(search)
    names = [scores.title(loss) for loss in scores.losses(runs)]
    if len(names) < 2:
        raise StudyError(f"{names[0]} alone: a comparison needs two losses; train another")
    fids = {loss: own.set_index("number")["fid"] for loss, own in scores.by_loss(runs)}
    paired, smallest = scores.share_settings(runs), min(map(len, fids.values()))
    shown = 3 if len(names) <= BESIDE_EACH_OTHER else 1
    judged = [k for k in (1, 2, 5, 10, 20) if st.judged(k, smallest)]
    budgets = budgets or judged[-shown:] or [1]
    size = 0.42 * len(names) + 1.0
    room = (size * len(budgets) + 0.4, size + 1.4)
    figure = Figure(figsize=room, layout="constrained")
    grid = figure.subplots(1, len(budgets), squeeze=False, sharey=True).ravel()
    for axes, k in zip(grid, budgets, strict=True):
        chance = _chances(fids, k, paired)
        matrix, look = pd.DataFrame(chance, names, names), {"square": True, "linewidths": 1}
        sns.heatmap(matrix, ax=axes, vmin=0, vmax=1, cmap=COLOURS, cbar=False, **look)
        for row, column in np.argwhere(np.isfinite(chance)):
            _write(axes, (column + 0.5, row + 0.5), chance[row, column])
        axes.set_title(f"{k} settings each" if k > 1 else "1 setting each")
        axes.tick_params(length=0)
        axes.grid(visible=False)
    most = np.nanmax(chance)  # of many pairs one is far apart by chance: the title names none
    message = f"with {counted(budgets[-1], 'setting')} each the chance to come out below another "
    message += f"loss goes up to {'over 99%' if most >= 0.995 else f'{most:.0%}'}"
    text = (
        f"Chance in % that the row's best is lower than the column's{SAME * paired}, a tie "
        "counting half: an estimate, not a test; `python -m study verdict` tests each loss "
        "against NS GAN (`--reference` for another)."
    )
    finish(figure, runs, message, text)
    figure.draw_without_rendering()  # the layout knows the turned labels from its second look on
    return figure


def _write(axes: Axes, at: tuple[float, float], chance: float) -> None:
    dark = np.dot(colormaps[COLOURS](chance)[:3], (0.30, 0.59, 0.11)) < 0.5
    color = "white" if dark else "black"
    axes.text(*at, f"{100 * chance:.0f}", ha="center", va="center", color=color, fontsize=8)


def _chances(fids: dict[str, "pd.Series[float]"], k: int, paired: bool) -> Any:
    """The chances (losses, losses); NaN on the diagonal."""
    chance, scored = np.full((len(fids),) * 2, np.nan), list(fids.values())
    for i, j in zip(*np.triu_indices(len(fids), 1), strict=True):
        one, other = scored[i], scored[j]
        if paired:
            both = one.index.intersection(other.index)
            one, other = one[both], other[both]
        chance[i, j] = st.win_chance(one, other, k, paired)
        chance[j, i] = 1 - chance[i, j]
    return chance


PLOT = Plot(win_matrix, "Which loss wins, pair by pair", place=50, each=("dataset",))

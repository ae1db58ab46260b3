"""Which loss wins, pair by pair."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import finish
from study.analysis.figures.style import styled
from study.errors import StudyError

_WINS = "PuOr_r"


@styled
def win_matrix(table: pd.DataFrame, budgets: Sequence[int] = ()) -> Figure:
    """P(best of k of the row's loss is below the column's) at each budget; one data set.

    Without `budgets`: the last three of 1, 2, 5 and 10 that are judged with the settings that every
    loss has; near all of them the chances only repeat who has the lowest score.
    """
    runs = scores.search(table)
    scores.one(runs, "dataset")
    names = [scores.title(loss) for loss in scores.losses(runs)]
    if len(names) < 2:
        raise StudyError(f"{names[0]} alone: a comparison needs two losses; train another")
    fids = [own["fid"].to_numpy() for _, own in scores.by_loss(runs)]
    smallest = min(map(len, fids))
    budgets = budgets or [k for k in (1, 2, 5, 10) if st.judged(k, smallest)][-3:] or [1]
    figure = Figure(figsize=(4.6 * len(budgets) + 0.4, 5.2), layout="constrained")
    for axes, k in zip(figure.subplots(1, len(budgets), squeeze=False)[0], budgets, strict=True):
        chance, sure = _wins(fids, k)
        matrix, look = pd.DataFrame(chance, names, names), {"square": True, "linewidths": 1}
        sns.heatmap(matrix, ax=axes, vmin=0, vmax=1, cmap=_WINS, cbar=False, **look)
        for row, column in np.argwhere(np.isfinite(chance)):
            _chance_text(axes, (column + 0.5, row + 0.5), chance[row, column], sure[row, column])
        axes.set_title(f"{k} settings each" if k > 1 else "1 setting each")
        axes.tick_params(length=0)
        axes.grid(visible=False)
    text = (
        "Chance in % that the row's best is lower than the column's, a tie counting half. "
        f"Bold: told apart, where each has {st.SETTINGS_A_BUDGET} times as many settings: a "
        "permutation test with Holm's correction, 5 % for all pairs of a panel together."
    )
    return finish(figure, runs, text)


def _chance_text(axes: Axes, at: tuple[float, float], chance: float, sure: bool) -> None:
    dark = np.dot(colormaps[_WINS](chance)[:3], (0.30, 0.59, 0.11)) < 0.5
    weight, color = "bold" if sure else "normal", "white" if dark else "black"
    axes.text(*at, f"{100 * chance:.0f}", ha="center", va="center", weight=weight, color=color)


def _wins(fids: list[Any], k: int) -> tuple[Any, Any]:
    """(chance, whether the two are told apart), (losses, losses) each; NaN on the diagonal."""
    chance, sure = np.full((len(fids),) * 2, np.nan), np.zeros((len(fids),) * 2, bool)
    pairs = list(zip(*np.triu_indices(len(fids), 1), strict=True))
    found = [st.told_apart(fids[i], fids[j], [k]) for i, j in pairs]
    p_values = st.holm([comparison.p_any for comparison in found])
    for (i, j), comparison, p in zip(pairs, found, p_values, strict=True):
        chance[i, j], chance[j, i] = comparison.chance[0], 1 - comparison.chance[0]
        sure[i, j] = sure[j, i] = p <= 0.05
    return chance, sure


PLOT = Plot(win_matrix, "Which loss wins", place=50, each=("dataset",))

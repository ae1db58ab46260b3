"""Rank of each loss against the budget."""

import pandas as pd
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import (
    Curve,
    budget_axis,
    budgets,
    finish,
    last_judged,
    small_panels,
)
from study.analysis.figures.style import styled
from study.counts import counted
from study.errors import StudyError


@styled
def rank_curves(search: pd.DataFrame) -> Figure:
    """Expected rank (1 is best) of each loss's best of k settings: a panel a loss."""
    runs = scores.search(search)
    losses = scores.losses(runs)
    if len(losses) < 2:
        raise StudyError(f"{scores.title(losses[0])} alone has no rank; train another loss")
    fids = [own["fid"].to_numpy() for _, own in scores.by_loss(runs)]
    k = budgets(min(map(len, fids)), 16)
    ranks = st.rank_interval(fids, k, rng=0, draws=1000)
    curves = {
        loss: Curve(k, st.Estimate(*estimate))
        for loss, *estimate in zip(losses, *ranks, strict=True)
    }
    figure, panels = small_panels(curves, log=False)
    panels[0].set(ylim=(len(losses) + 0.3, 0.7))
    panels[0].set_yticks([1, *range(2, len(losses) + 1, 1 + len(losses) // 9)])
    budget_axis(panels[0], int(k[-1]))
    figure.supylabel("expected rank, 1 is best", fontsize=9)
    most = last_judged(runs)
    then = ranks.value[:, k == most]
    message = f"with {counted(most, 'setting')} each the expected ranks go from {then.min():.1f} "
    message += f"to {then.max():.1f}"
    text = (
        "Rank of a loss's best of so many settings among the losses' bests, each loss's drawn by "
        "themselves; grey: the other losses. Band: 95 % bootstrap interval over the settings."
    )
    return finish(figure, runs, message, text)


PLOT = Plot(rank_curves, "Rank of each loss against the budget", place=40, each=("dataset",))

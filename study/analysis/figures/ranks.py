"""Rank of each loss against the budget."""

import pandas as pd
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import NARROW, banded, budget_axis, budgets, finish, panels_of
from study.analysis.figures.style import styled


@styled
def rank_curves(table: pd.DataFrame) -> Figure:
    """Expected rank (1 is best) of each loss's best of k settings, a panel a data set."""
    runs = scores.search(table)
    figure, panels = panels_of(runs)
    for _, axes, panel in panels:
        fids = [own["fid"].to_numpy() for _, own in scores.by_loss(panel)]
        k = budgets(min(map(len, fids)), 24)
        axes.set(ylabel="expected rank, 1 is best", ylim=(len(fids) + 0.2, 0.8))
        axes.set_yticks(range(1, len(fids) + 1))
        ranks = st.rank_interval(fids, k, rng=0, draws=1000)
        for loss, *estimate in zip(scores.losses(panel), *ranks, strict=True):
            banded(axes, k, loss, st.Estimate(*estimate))
        budget_axis(axes, k[-1])
    text = "Rank of a loss's best of k settings among the losses' bests. Band: 95 % bootstrap "
    return finish(figure, runs, f"{text}interval over the settings; {NARROW}.", legend=True)


PLOT = Plot(rank_curves, "Rank of each loss against the budget", place=40)

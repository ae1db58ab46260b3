"""Share of settings below a distance."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import banded, finish, panels_of
from study.analysis.figures.style import plain_log, styled


@styled
def performance_profiles(table: pd.DataFrame, *, report: str = "fid") -> Figure:
    """Share of a loss's settings whose score is below a distance, a panel a data set.

    Dolan and Moré 2002; the curve ends at the share that did not diverge.
    """
    runs = scores.search(table, report)
    figure, panels = panels_of(runs)
    for _, axes, panel in panels:
        finite = panel["fid"][np.isfinite(panel["fid"])]
        tau = np.geomspace(0.95 * finite.min(), 1.05 * finite.max(), 300)
        for loss, own in scores.by_loss(panel):
            n = len(own)
            count = np.rint(st.performance_profile(own["fid"], tau) * n).astype(int)
            banded(axes, tau, loss, st.share_interval(count, n))
        axes.set(xscale="log", ylim=(-0.02, 1.02), ylabel="share of settings below")
        axes.set_xlabel(scores.distance_name(panel["features"].iloc[0]))
        plain_log(axes.xaxis)
    text = "Band: exact 95 % interval of each share, point by point."
    return finish(figure, runs, text, legend=True, report=report)


PLOT = Plot(performance_profiles, "Share of settings below a distance", place=30)

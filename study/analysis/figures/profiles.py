"""Share of settings below a distance."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import Curve, distance_label, finish, small_panels
from study.analysis.figures.style import plain_log, styled


@styled
def performance_profiles(search: pd.DataFrame) -> Figure:
    """Share of a loss's settings whose score is below a distance: a panel a loss.

    Dolan and Moré 2002; the curve ends at the share that did not diverge.
    """
    runs = scores.search(search)
    finite = runs["fid"][np.isfinite(runs["fid"])]
    tau = np.geomspace(0.95 * max(finite.min(), 1e-6), 1.05 * max(finite.max(), 2e-6), 80)
    curves = {}
    for loss, own in scores.by_loss(runs):
        share = st.performance_profile(own["fid"], tau)
        count = np.rint(share * len(own)).astype(int)
        curves[loss] = Curve(tau, st.share_interval(count, len(own)))
    figure, panels = small_panels(curves, distance_label(runs), log=False)
    panels[0].set(xscale="log", ylim=(-0.02, 1.02), xlim=(tau[0], tau[-1]))
    plain_log(panels[0].xaxis, (1, 2, 5))
    figure.supylabel("share of settings below", fontsize=9)
    half = float(np.quantile(runs["fid"], 0.25, method="inverted_cdf"))
    below = [(own["fid"] <= half).mean() for _, own in scores.by_loss(runs)]
    reached = f"{min(below):.0%}" if len(below) == 1 else f"{min(below):.0%} to {max(below):.0%}"
    message = f"{half:.3g} is reached by {reached} of a loss's settings"
    text = (
        "Line: share of a loss's settings below the distance; grey: the other losses. "
        "Band: exact 95 % interval of each share, point by point."
    )
    return finish(figure, runs, message, text)


PLOT = Plot(performance_profiles, "Share of settings below a distance", place=30, each=("dataset",))

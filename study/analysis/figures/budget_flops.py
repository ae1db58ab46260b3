"""The budget in FLOPs."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import (
    budget_axis,
    budgets,
    distance_label,
    end_labels,
    finish,
    log_distance,
    mean_cost,
    one_panel,
)
from study.analysis.figures.style import style_of, styled


@styled
def budget_costs(search: pd.DataFrame, cost: str = "flops") -> Figure:
    """Median of the least distance against what that many settings cost (a key of COSTS)."""
    runs = scores.search(search)
    figure, axes = one_panel()
    ends, dearest = {}, {}
    drawn: list[float] = []
    for loss, own in scores.by_loss(runs):
        k, each = budgets(len(own)), float(mean_cost(own, cost))
        value = st.min_quantile(own["fid"], k, 0.5)
        look = style_of(loss) | {"markevery": [0, -1]}
        axes.plot(k * each, np.where(np.isfinite(value), value, np.nan), **look)
        drawn.extend(value)
        ends[loss], dearest[loss] = (each * float(k[-1]), float(value[-1])), each
    log_distance(axes.yaxis, drawn)
    budget_axis(axes, 0, cost)
    axes.set(xlabel=f"cost in {scores.COSTS[cost]}", ylabel=distance_label(runs))
    end_labels(axes, ends)
    low, high = (order(dearest, key=dearest.__getitem__) for order in (min, max))
    message = f"a setting of {scores.title(high)} costs {dearest[high] / dearest[low]:.2g} times "
    message += f"one of {scores.title(low)}"
    text = (
        "Line: median of the least distance found, for fewer than half of the settings; each "
        "loss from one setting on."
    )
    return finish(figure, runs, message if high != low else "the budget in FLOPs", text)


PLOT = Plot(budget_costs, "The budget in FLOPs", place=120, each=("dataset",), columns=("flops",))

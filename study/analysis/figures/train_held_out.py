"""Distance to training images against held-out ones."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import distance_label, finish, log_distance, one_panel
from study.analysis.figures.style import style_of, styled
from study.errors import StudyError


@styled
def train_vs_held_out(search: pd.DataFrame, untrained: pd.DataFrame) -> Figure:
    """Distance to training images over that to held-out ones, against the latter; ok runs."""
    scores.require(search, ["fid_train"])
    runs = scores.search(search)
    ok = runs[(runs["status"] == "ok") & (runs["fid"] > 0)]
    if ok["fid_train"].isna().any() or ok.empty:
        raise StudyError("some ok runs have no fid_train; collect the table again")
    figure, axes = one_panel()
    log_distance(axes.xaxis, ok["fid"])
    ratio = ok["fid_train"] / ok["fid"]
    for loss, own in scores.by_loss(ok):
        look = {key: style_of(loss)[key] for key in ("color", "marker")}
        share = ratio[own.index]
        axes.plot(own["fid"], share, label=scores.title(loss), ls="", ms=4, alpha=0.7, **look)
    null = scores.untrained_ratio(untrained, runs, "fid_train")
    axes.axhline(null or 1, color="#808080", lw=1, ls=":" if null else "-", zorder=1)
    axes.set(xlabel=f"{distance_label(runs)}, held out", ylabel="training over held-out distance")
    figure.legend(loc="outside right center", fontsize=8.5)
    low, middle, high = np.quantile(ratio, [0.05, 0.5, 0.95])
    message = f"the distance to training images is {middle:.3f} times that to held-out ones in the "
    message += f"median ({low:.3f} to {high:.3f} for 90 % of the runs)"
    if null:
        text = (
            f"Dotted: a generator before any training, {null:.3f}: so much the two sets of real "
            "images differ. Well below it a run would be nearer to what it was trained on."
        )
    else:
        text = "Below the line a run is nearer to its training images than to held-out ones."
    return finish(figure, runs, message, text)


PLOT = Plot(
    train_vs_held_out,
    "Distance to training images against held-out ones",
    place=130,
    takes=("untrained",),
    columns=("fid_train",),
    each=("dataset",),
)

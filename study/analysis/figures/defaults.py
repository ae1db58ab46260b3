"""The authors' defaults at full width and length."""

import pandas as pd
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import (
    distance_label,
    end_labels,
    finish,
    log_distance,
    one_panel,
    span,
)
from study.analysis.figures.style import style_of, styled
from study.errors import StudyError


@styled
def along_training(
    full: pd.DataFrame,
    what: str = "the authors' defaults",
    which: str = "number 0: the authors' default",
) -> Figure:
    """Distance at every evaluation of one run a loss against D steps."""
    runs = scores.search(full)
    if runs.duplicated(["loss", "dataset"]).any():
        raise StudyError("several settings of one loss; this figure takes one run a loss")
    figure, axes = one_panel()
    log_distance(axes.yaxis, full["fid"].dropna())
    rows, ends = full.sort_values("step"), {}
    for loss, own in scores.by_loss(rows):
        axes.plot(own["step"], own["fid"], clip_on=False, **style_of(loss))
        ends[loss] = float(own["step"].iloc[-1]), float(own["fid"].iloc[-1])
    axes.set(xlabel="D steps", ylabel=distance_label(runs), xlim=(0, full["step"].max()))
    end_labels(axes, ends)
    message = f"after {full['step'].max():,} D steps {what} are at "
    message += span(end for _, end in ends.values())
    text = f"One setting a loss, {which}. Line: the distance along its run."
    images = int(runs["num_images"].iloc[0])
    measure = f"{distance_label(runs)} on {images:,} images, lower is better"
    return finish(figure, runs, message, text, measure=measure)


PLOT = Plot(
    along_training,
    "The authors' defaults at full width and length",
    place=80,
    needs=("full",),
    each=("dataset",),
)

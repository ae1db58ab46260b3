"""The authors' defaults at full width and length."""

import pandas as pd
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import finish, log_distance, panels_of
from study.analysis.figures.style import style_of, styled
from study.errors import StudyError


@styled
def along_training(table: pd.DataFrame) -> Figure:
    """Distance at every evaluation of one run a loss against D steps, a panel a data set."""
    runs = scores.search(table)
    if runs.duplicated(["loss", "dataset"]).any():
        raise StudyError("several settings of one loss; this figure takes one run a loss")
    figure, panels = panels_of(runs)
    for name, axes, panel in panels:
        rows = table[table["dataset"] == name].sort_values("step")
        log_distance(axes, panel, rows["fid"])
        for loss, own in scores.by_loss(rows):
            axes.plot(own["step"], own["fid"], label=scores.title(loss), **style_of(loss))
        axes.set_xlabel("D steps")
    text = "One setting a loss, number 0: the authors' default. Line: the distance along its run."
    return finish(figure, runs, text, legend=True)


PLOT = Plot(
    along_training, "The authors' defaults at full width and length", place=80, needs=("full",)
)

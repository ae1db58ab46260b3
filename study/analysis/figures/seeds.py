"""The same setting trained again."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis.figures.base import Plot
from study.analysis.figures.boxes import BOXES, boxes
from study.analysis.figures.parts import finish
from study.analysis.figures.style import styled
from study.errors import StudyError
from study.runs.table import hyperparameters


@styled
def seeds(again: pd.DataFrame, search: pd.DataFrame) -> Figure:
    """One setting a loss trained with several seeds, and the run of the search that was chosen."""
    runs = scores.checked(again)
    scores.one(runs, "sweep")
    varied = hyperparameters(again)
    if (runs.groupby("loss")[varied].nunique() > 1).any(axis=None):
        raise StudyError("several settings of one loss; a seeds figure takes one setting a loss")
    figure, axes = boxes(runs)
    chosen = scores.search(search).groupby("loss")["fid"].min()
    low, high = axes.get_xlim()
    luckier = 0
    for place, (loss, own) in enumerate(scores.by_loss(runs)):
        value = float(chosen.get(loss, np.nan))
        axes.plot([value], [place], "|", color="black", ms=20, mew=2.2, zorder=5)
        luckier += value < np.median(own["fid"])
        if value > 0:  # a logarithm has no place for 0
            low = min(low, value / 1.03)
    axes.set_xlim(low, high)
    losses = runs["loss"].nunique()
    message = f"for {luckier} of {losses} losses the chosen run was below the median of its re-runs"
    text = f"One setting a loss, trained again. Bar: the searched run that was chosen. {BOXES}"
    return finish(figure, runs, message, text, unit="seed")


PLOT = Plot(
    seeds,
    "The same setting trained again",
    place=70,
    needs=("seeds", "search"),
    each=("dataset",),
)

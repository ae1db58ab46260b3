"""The same setting trained again."""

import pandas as pd
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis.figures.base import Plot
from study.analysis.figures.boxes import boxes
from study.analysis.figures.style import styled
from study.errors import StudyError
from study.runs.table import hyperparameters


@styled
def seeds(table: pd.DataFrame) -> Figure:
    """One setting a loss trained again with several seeds: every run, quartiles, share diverged."""
    runs = scores.checked(table)
    scores.one(runs, "sweep")
    varied = hyperparameters(table)
    if (runs.groupby(["loss", "dataset"])[varied].nunique() > 1).any(axis=None):
        raise StudyError("several settings of one loss; a seeds figure takes one setting a loss")
    return boxes(runs, "One setting a loss, trained again.", unit="seed")


PLOT = Plot(seeds, "The same setting trained again", place=70, needs=("seeds",))

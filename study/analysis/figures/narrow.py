"""Narrow against wide ranges."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis.figures.base import Plot
from study.analysis.figures.boxes import BOXES, boxes
from study.analysis.figures.parts import finish
from study.analysis.figures.style import styled


@styled
def narrow_against_wide(wide: pd.DataFrame, narrow: pd.DataFrame) -> Figure:
    """Two searches beside each other: wide hatched, narrow plain."""
    tables = [scores.search(wide), scores.search(narrow)]
    runs = pd.concat(tables, ignore_index=True)
    scores.alike(runs)
    names = [searched["sweep"].iloc[0] for searched in tables]
    figure, _ = boxes(runs, names)
    medians = [np.quantile(own["fid"], 0.5, method="inverted_cdf") for own in tables]
    message = f"the median setting comes to {medians[0]:.3g} in {names[0]}, to {medians[1]:.3g} in "
    message += names[1]
    text = f"Above, hatched: {names[0]}; below, plain: {names[1]}. {BOXES}"
    return finish(figure, runs, message, text)


PLOT = Plot(
    narrow_against_wide,
    "Narrow against wide ranges",
    place=90,
    needs=("search", "narrow"),
    each=("dataset",),
)

"""Narrow against wide ranges."""

import pandas as pd
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis.figures.base import Plot
from study.analysis.figures.boxes import boxes
from study.analysis.figures.style import styled


@styled
def narrow_against_wide(wide: pd.DataFrame, narrow: pd.DataFrame) -> Figure:
    """Two searches beside each other, a panel a data set: wide hatched, narrow plain."""
    tables = [scores.search(wide), scores.search(narrow)]
    runs = pd.concat(tables, ignore_index=True)
    scores.alike(runs)
    names = [searched["sweep"].iloc[0] for searched in tables]
    return boxes(runs, f"Left, hatched: {names[0]}; right, plain: {names[1]}.", sweeps=names)


PLOT = Plot(narrow_against_wide, "Narrow against wide ranges", place=90, needs=("search", "narrow"))

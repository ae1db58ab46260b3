"""Samples of each loss's best run."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.image import imread

from study.analysis.figures.base import Plot
from study.analysis.figures.parts import captioned, subject
from study.analysis.figures.style import styled
from study.errors import StudyError


@styled
def sample_grids(paths: Mapping[str, Path], caption: str = "") -> Figure:
    """Images side by side, {title: PNG}, four in a row."""
    missing = [path for path in paths.values() if not Path(path).is_file()]
    if missing or not paths:
        raise StudyError(f"no sample grid {missing[0] if missing else ''}; give {{title: PNG}}")
    columns = min(4, len(paths))
    rows = -(-len(paths) // columns)
    figure = Figure(figsize=(2.7 * columns, 2.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, (title, path) in zip(grid, paths.items(), strict=False):
        image = imread(path)
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title)
    return captioned(figure, caption)


def draw(examples: pd.DataFrame, search: pd.DataFrame) -> Figure:
    """The best run of each loss."""
    best = examples[~examples["collapsed"]]
    return sample_grids(dict(zip(best["words"], best["samples"], strict=True)), subject(search))


PLOT = Plot(
    draw,
    "Samples of each loss's best run",
    place=140,
    needs=("examples", "search"),
    each=("dataset",),
)

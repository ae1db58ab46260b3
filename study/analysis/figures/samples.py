"""Samples of each loss's best run, beside real images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.image import imread
from PIL import Image

from study.analysis import scores
from study.analysis.examples import REAL
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import captioned, span, subject, titled
from study.analysis.figures.style import styled
from study.errors import StudyError


@styled
def sample_grids(paths: Mapping[str, Path], title: str = "", caption: str = "") -> Figure:
    """Images side by side, {title: PNG}, three in a row."""
    missing = [path for path in paths.values() if not Path(path).is_file()]
    if missing or not paths:
        raise StudyError(f"no sample grid {missing[0] if missing else ''}; give {{title: PNG}}")
    columns = min(3, len(paths))
    rows = -(-len(paths) // columns)
    figure = Figure(figsize=(2.9 * columns, 3.1 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, (name, path) in zip(grid, paths.items(), strict=False):
        axes.imshow(_read(path), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(name, fontsize=9)
    return captioned(titled(figure, title), caption)


def _read(path: Path) -> Any:
    try:
        return imread(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise StudyError(f"{path} is no sample grid ({error}); collect again") from None


def draw(examples: pd.DataFrame, search: pd.DataFrame) -> Figure:
    """Real images, where they are kept, and the best run of each loss, the least distance first."""
    best = examples[~examples["collapsed"]].sort_values("score", kind="stable")
    grids = dict(zip(best["words"], best["samples"], strict=True))
    real = best["samples"].iloc[0].with_name(REAL)
    if real.is_file():
        grids = {"real images, held out": real} | grids
    dataset = scores.dataset_title(best["dataset"].iloc[0])
    title = f"{dataset}: the best run of each loss, at a distance of {span(best['score'])}"
    text = "64 samples each, of the run's best evaluation; none was picked by eye."
    return sample_grids(grids, title, f"{subject(search)} {text}")


PLOT = Plot(
    draw,
    "Samples of each loss's best run",
    place=140,
    needs=("examples", "search"),
    each=("dataset",),
)

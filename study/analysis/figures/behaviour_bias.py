"""Real images against real ones, by their number."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from study import datasets
from study.analysis import measured, scores
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import captioned
from study.analysis.figures.style import plain_log, styled
from study.errors import StudyError
from study.measures.columns import distance_name
from study.measures.extrapolation import fit_in_inverse_n


@styled
def bias(table: pd.DataFrame) -> Figure:
    """Real against real by number of images: its mean against 1/n, its spread against n."""
    found, real = measured.bias(table), table[table["experiment"] == "real"]
    if real.empty:
        raise StudyError("the table has no row of real images against real ones")
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(1 / real["num_images"], real["distance"], ".", color="#808080", ms=4, label="a draw")
    left.plot(1 / found["num_images"], found["mean"], "o", color="#000000", label="mean")
    is_fitted = _fit(left, table, found)
    _paper(left, found)
    left.set(
        xlabel="images of each side, n (axis in 1/n)",
        ylabel=distance_name(table["features"].iloc[0]),
        ylim=(0, None),
    )
    left.set_xticks([0, *(1 / found["num_images"])], ["∞", *_counts(found["num_images"])])
    left.tick_params(axis="x", rotation=90)
    left.legend()
    right.plot(found["num_images"], found["sd"], "o-", color="#000000")
    right.set(xscale="log", yscale="log", xlabel="images of each side, n")
    right.set_ylabel("standard deviation over draws")
    right.set_xticks(found["num_images"], _counts(found["num_images"]), rotation=60)
    right.xaxis.set_minor_locator(NullLocator())
    plain_log(right.yaxis, (1, 2, 5))
    text = (
        f"{scores.dataset_title(table['dataset'].iloc[0])}: held-out against training images, "
        f"{found['draws'].max()} draws a number. The distance of two samples of the same "
        "distribution is all bias, which falls as 1/n."
    )
    if is_fitted:
        text += (
            " The line is fitted to the means of the sizes that exceed the number of features "
            f"({real['dim'].iloc[0]:,}), the bar is its 95 % bootstrap interval over draws."
        )
    if found["num_images"].max() == _held_out(table["dataset"].iloc[0]):
        text += (
            " At the last number the held-out images are all there are: only training images vary."
        )
    return captioned(figure, text)


def _held_out(dataset: str) -> int | None:
    """How many images the data set holds out, where it is known here."""
    return datasets.sizes(dataset)[1] if dataset in datasets.names() else None


def _fit(axes: Axes, table: pd.DataFrame, found: pd.DataFrame) -> bool:
    """The fit in 1/n and its value at infinitely many images; whether there are sizes for it."""
    fitted = found[found["num_images"] > table["dim"].iloc[0]]
    if len(fitted) < 2:
        return False
    limit = measured.infinitely_many(table)
    a, b = fit_in_inverse_n(fitted["num_images"], fitted["mean"])
    x = np.array([0, 1 / found["num_images"].min()])
    axes.plot(x, a + b * x, "--", color="#0072B2", lw=1, zorder=1, label="fit in 1/n")
    error = [[limit.value - limit.low], [limit.high - limit.value]]
    label = f"n → ∞: {limit.value:.2g}"
    axes.errorbar([0], [limit.value], error, fmt="*", color="#0072B2", ms=9, label=label)
    return True


def _paper(axes: Axes, found: pd.DataFrame) -> None:
    known = found.dropna(subset="paper")
    for n, value in zip(known["num_images"], known["paper"], strict=True):
        label = f"paper, as recalled: {value:g}"
        axes.plot([1 / n], [value], "x", color="#D55E00", ms=9, label=label)


def _counts(values: pd.Series) -> Iterator[str]:
    return (f"{n:,}" for n in values)


PLOT = Plot(
    bias,
    "Real images against real ones",
    place=200,
    needs=("behaviour",),
    each=("dataset", "features"),
)

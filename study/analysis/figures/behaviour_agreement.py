"""Whether two extractors rank trained generators alike."""

import pandas as pd
from matplotlib.figure import Figure

from study.analysis import measured, scores
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import captioned
from study.analysis.figures.style import plain_log, style_of, styled
from study.measures.columns import distance_name

RUN = ("sweep", "loss", "dataset", "number", "num_images")  # the other columns: an extractor each


@styled
def agreement(table: pd.DataFrame, first: str, second: str) -> Figure:
    """One extractor's distance against another's, a point a trained generator."""
    agreed = measured.agreement(table, first, second)
    figure = Figure(figsize=(6.2, 5.4), layout="constrained")
    axes = figure.subplots()
    for loss in scores.losses(table):
        own = table[table["loss"] == loss]
        style = style_of(loss)
        axes.plot(
            own[first], own[second], style["marker"], color=style["color"], label=scores.title(loss)
        )
    axes.set(xscale="log", yscale="log")
    axes.set(xlabel=distance_name(first), ylabel=distance_name(second))
    for axis in (axes.xaxis, axes.yaxis):
        plain_log(axis, (1, 2, 5))
    axes.legend()
    counts = sorted(set(table["num_images"]))
    text = (
        f"{len(table)} trained generators on {scores.dataset_title(table['dataset'].iloc[0])} "
        f"against {counts[0]:,} held-out images: Spearman's rank correlation "
        f"{agreed.value:.2f} (95 % interval over generators {agreed.low:.2f} to "
        f"{agreed.high:.2f})."
    )
    return captioned(figure, text)


def draw(table: pd.DataFrame) -> Figure:
    """Of the two extractors that the table holds."""
    first, second = [name for name in map(str, table) if name not in RUN]
    return agreement(table, first, second)


PLOT = Plot(draw, "Two extractors on the same generators", place=230, needs=("agreement",))

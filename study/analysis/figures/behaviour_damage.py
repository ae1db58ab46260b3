"""What damage to the images does to the measures."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.analysis import measured, scores
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import captioned
from study.analysis.figures.style import plain_log, styled
from study.measures.columns import distance_name

MEASURED = {"held_out": ("#000000", "-", "o"), "train": ("#D55E00", "--", "s")}
WORDS = {"held_out": "against held-out", "train": "against training"}
SHARES = {"precision": ("#0072B2", "-", "o"), "recall": ("#E69F00", "--", "s")}
EXPERIMENTS = {  # what is varied, and how its axis is drawn
    "classes": ("classes among the images", {}),
    "noise": ("noise: standard deviation, of 255", {}),
    "blur": ("blur: standard deviation (pixels)", {}),
    "memorised": ("training images repeated", {"xscale": "log"}),
}


@styled
def damage(table: pd.DataFrame) -> Figure:
    """Distance, and k-NN precision and recall below it, by what was done to the images."""
    present = [name for name in EXPERIMENTS if (table["experiment"] == name).any()]
    figure = Figure(figsize=(3.1 * len(present) + 0.6, 6.0), layout="constrained")
    grid = figure.subplots(2, len(present), sharex="col", sharey="row", squeeze=False)
    undamaged = table[(table["experiment"] == "noise") & (table["level"] == 0)]["distance"].mean()
    for column, name in enumerate(present):
        own = table[table["experiment"] == name]
        label, scale = EXPERIMENTS[name]
        top, bottom = grid[:, column]
        for split, style in MEASURED.items():
            if (own["real"] == split).any():
                _means(top, own[own["real"] == split], "distance", *style, WORDS[split])
        top.axhline(undamaged, color="#808080", lw=1, ls=":", label="undamaged")
        held_out = own[own["real"] == "held_out"]
        for share, style in SHARES.items():
            _means(bottom, held_out, share, *style, share)
        bottom.set(xlabel=label, ylim=(0, 1.02), **scale)
        top.set(yscale="log")
        if scale:
            plain_log(bottom.xaxis, (1, 3))
        plain_log(top.yaxis, (1, 3))
    grid[0, 0].set_ylabel(distance_name(table["features"].iloc[0]))
    grid[1, 0].set_ylabel("k-NN precision and recall")
    for axes in grid[:, -1]:
        axes.legend(fontsize=8)
    counts = table[table["experiment"].isin(present)]["num_images"]
    text = (
        f"{scores.dataset_title(table['dataset'].iloc[0])}: {_range(counts)} training images, "
        f"changed as the axis says, against as many held-out ones; mean of "
        f"{int(own['draw'].max()) + 1} draws, band: least to largest. Dotted: "
        "the same images unchanged. Precision and recall (k = 3) of "
        f"{_range(counts.clip(upper=measured.BESIDE))} images of each side. Repeated "
        "training images are also held against the training images that they are among: there the "
        "distance falls to 0 (no point on this axis), against held-out ones it ends where honest "
        "samples lie. Recall is 0 by its definition where each of the images comes more than three "
        "times."
    )
    return captioned(figure, text)


def _range(counts: "pd.Series[int]") -> str:
    return " to ".join(dict.fromkeys(f"{end:,}" for end in (counts.min(), counts.max())))


def _means(
    axes: Axes, rows: pd.DataFrame, column: str, colour: str, line: str, marker: str, label: str
) -> None:
    """Mean of a column at every level, with the range over draws as a band; zeros are left out."""
    shown = rows[rows[column] > 1e-6] if column == "distance" else rows
    found = shown.groupby("level")[column].agg(["mean", "min", "max"])
    axes.fill_between(found.index, found["min"], found["max"], color=colour, alpha=0.2, lw=0)
    axes.plot(found.index, found["mean"], line, marker=marker, color=colour, label=label)


PLOT = Plot(
    damage,
    "What damage does to the measures",
    place=210,
    needs=("behaviour",),
    each=("dataset", "features"),
)

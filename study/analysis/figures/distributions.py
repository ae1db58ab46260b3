"""What the settings of a search come to."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis.figures.base import Plot
from study.analysis.figures.boxes import BOXES, boxes, column
from study.analysis.figures.parts import finish, stars, with_stars, write
from study.analysis.figures.style import style_of, styled


@styled
def distributions(search: pd.DataFrame, untrained: pd.DataFrame) -> Figure:
    """Boxes of a search's scores with every run, defaults as stars, and what came to nothing."""
    runs = scores.search(search)
    figure, axes = boxes(runs)
    own = dict(enumerate(rows for _, rows in scores.by_loss(runs)))
    edge = axes.get_xlim()[1]
    for place, rows in own.items():
        color = style_of(rows["loss"].iloc[0])["color"]
        stars(axes, scores.authors_defaults(rows), place, color)
    lost = {place: float(np.isinf(rows["fid"]).mean()) for place, rows in own.items()}
    column(axes, 1.05, "diverged", lost)
    text = f"{with_stars(scores.authors_defaults(runs))} {BOXES}".strip()
    level = scores.untrained_distance(untrained, runs)
    if level is None:
        half = float(np.quantile(runs["fid"], 0.5, method="inverted_cdf"))
        return finish(figure, runs, f"half of the settings end above {half:.3g}", text)
    idle = {place: float((rows["fid"] >= level).mean()) for place, rows in own.items()}
    column(axes, 1.17, "no better than\nuntrained", idle)
    if level < edge:
        axes.axvline(level, color="black", ls=":", lw=1.2, zorder=1)
        above = axes.get_xaxis_transform()
        write(axes, f"untrained {level:.3g}", (level, 1), above, (0, 2), ha="center")
    share = float((runs["fid"] >= level).mean())
    message = f"{share:.0%} of the settings end no better than an untrained generator ({level:.3g})"
    return finish(figure, runs, message, text)


PLOT = Plot(
    distributions,
    "What the settings of a search come to",
    place=20,
    takes=("untrained",),
    each=("dataset",),
)

"""Distance to training images against held-out ones."""

import pandas as pd
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import finish, panels_of
from study.analysis.figures.style import plain_log, style_of, styled
from study.errors import StudyError


@styled
def train_vs_held_out(table: pd.DataFrame) -> Figure:
    """Distance to train images against distance to held-out ones, the runs that are ok."""
    scores.require(table, ["fid_train"])
    runs = scores.search(table)
    name = scores.distance_name(runs["features"].iloc[0])
    figure, panels = panels_of(runs, width=5.2)
    for _, axes, panel in panels:
        ok = panel[panel["status"] == "ok"]
        if ok["fid_train"].isna().any():
            raise StudyError("some ok runs have no fid_train; collect the table again")
        for loss, own in scores.by_loss(ok):
            mark = {key: style_of(loss)[key] for key in ("color", "marker")}
            axes.plot(own["fid"], own["fid_train"], label=scores.title(loss), ls="", ms=4, **mark)
        both = ok[["fid", "fid_train"]].to_numpy()
        ends = [both.min(), both.max()]
        axes.plot(ends, ends, color="#999999", linewidth=0.8, zorder=0)
        axes.set(xscale="log", yscale="log", aspect="equal")
        axes.set(xlabel=f"{name}, held out", ylabel=f"{name}, train")
        for axis in (axes.xaxis, axes.yaxis):
            plain_log(axis)
    text = "Line: equal; below it a run is nearer to its training images than to the held-out ones."
    return finish(figure, runs, text, legend=True)


PLOT = Plot(
    train_vs_held_out,
    "Distance to training images against held-out ones",
    place=130,
    columns=("fid_train",),
)

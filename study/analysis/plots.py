"""The study's figures and tables: one function a figure, table in, Figure or DataFrame out.

A table holds one row an evaluation (results/README.md); every figure starts at
`scores.of_runs`. Each loss has one place, colour, line and marker in all figures. Every figure's
caption states what was measured and what its band is. `save` writes the same bytes for the same
table.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.ticker import (
    EngFormatter,
    LogLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)
from PIL import Image

from study.analysis import scores
from study.analysis import statistics as st
from study.errors import StudyError

# Okabe and Ito's colours, without yellow; the baseline is grey. Lines and markers differ too.
_LOSSES: dict[str, tuple[str, str, Any, str]] = {
    "mm": ("MM GAN", "#E69F00", (0, (4, 1)), "v"),
    "ns": ("NS GAN", "#000000", "-", "o"),
    "ls": ("LS GAN", "#56B4E9", (0, (1, 1)), "s"),
    "wgan": ("WGAN", "#D55E00", "-", "^"),
    "wgan_gp": ("WGAN GP", "#CC79A7", (0, (4, 1, 1, 1)), "D"),
    "dragan": ("DRAGAN", "#009E73", (0, (6, 2)), "P"),
    "began": ("BEGAN", "#0072B2", (0, (3, 1, 1, 1, 1, 1)), "X"),
    "vae": ("VAE", "#808080", (0, (1, 2)), "d"),
}
_NEW_COLOURS = ["#882255", "#999933", "#332288", "#44AA99", "#AA4499", "#661100"]
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
    "legend.frameon": False,
    "axes.unicode_minus": True,
    "svg.hashsalt": "study",
    "svg.fonttype": "path",
    "savefig.dpi": 150,
}
styled = matplotlib.rc_context(_STYLE)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write stem.svg and stem.png, byte-identical for the same figure."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(stem.name + suffix) for suffix in (".svg", ".png")]
    with matplotlib.rc_context(_STYLE):
        figure.savefig(paths[0], metadata={"Date": None})
    paths[1].write_bytes(png(figure))
    return paths


def png(figure: Figure) -> bytes:
    """The figure as a PNG's bytes, in its 256 main colours, which is less than half the size."""
    with matplotlib.rc_context(_STYLE), BytesIO() as drawn, BytesIO() as file:
        figure.savefig(drawn, format="png")
        image = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        image.save(file, "png", optimize=True)
        return file.getvalue()


# Budget


@styled
def budget_curves(
    table: pd.DataFrame,
    *,
    curve: Literal["median", "mean"] = "median",
    band: Literal["curve", "search"] = "curve",
    cost: str | None = None,
    report: str = "fid",
    paper: pd.DataFrame | None = None,
) -> Figure:
    """Least distance after k settings, a panel a data set, authors' defaults as stars at k = 1.

    `band`: "curve", the 95 % bootstrap interval of the curve over settings; "search", where the
    outcome of 80 % of searches lies. `cost` (a key of COSTS) puts the expected cost of k settings
    on the x axis. `report` (a key of REPORTS): "fid_report" selects as ever and shows the distance
    to images on which nothing was selected, as a median. `paper` (budget_curve.csv) is drawn where
    the rows are comparable with it.
    """
    if report != "fid" and curve == "mean":
        raise StudyError(f"the curve of {report} is a median; leave out curve='mean'")
    runs = scores.search(table, report)
    comparable = cost is None and report == "fid" and scores.comparable(runs)
    shown = paper if paper is not None and comparable else None
    figure, panels = _panels(runs)
    for name, axes, panel in panels:
        theirs = shown[shown["dataset"] == name] if shown is not None else None
        _log_distance(axes, panel, () if theirs is None else theirs["mean_min_fid"])
        for loss, own in scores.by_loss(panel):
            each = 1.0 if cost is None else float(_mean_cost(own, cost))
            k = _budgets(len(own))
            _banded(axes, k * each, loss, _estimate(own, k, curve, band))
            _star(axes, each, own)
        if theirs is not None:
            _paper_curves(axes, theirs, "mean_min_fid", scores.losses(panel))
        _budget_axis(axes, panel["loss"].value_counts().max(), cost)
    bands = {
        "curve": f"95 % bootstrap interval of the curve over the settings; {_NARROW}",
        "search": "the middle 80 % of what a search of that budget finds",
    }
    found = "least distance found" if report == "fid" else "selected run's distance"
    text = f"Line: {curve} of the {found}. Band: {bands[band]}. Both where finite."
    text += f" {_STARS}"
    text += " Dotted, small: the paper's mean, digitised." if shown is not None else ""
    return _finish(figure, runs, text, legend=True, report=report)


_NARROW = "too narrow where the budget nears the number of settings"
_STARS = "Star: the authors' defaults."


def _estimate(own: pd.DataFrame, k: Any, curve: str, band: str) -> st.Estimate:
    selected, fid = own["selected"].to_numpy(), own["fid"].to_numpy()
    if band == "search":
        low, middle, high = (st.quantile_at_min(selected, fid, k, q) for q in (0.1, 0.5, 0.9))
        value = st.expected_min(fid, k) if curve == "mean" else middle
        return st.Estimate(value, low, high)
    if curve == "mean":
        return st.expected_min_interval(fid, k, rng=0)
    if (selected == fid).all():
        return st.min_quantile_interval(fid, k, 0.5)
    return st.quantile_at_min_interval(selected, fid, k, 0.5, rng=0, draws=1000)


def _banded(axes: Axes, x: Any, loss: str, estimate: st.Estimate) -> None:
    """A loss's line, and its band, each where finite."""
    value, low, high = estimate
    finite, style = np.isfinite(value), style_of(loss)
    label = scores.title(loss) if finite.any() else f"{scores.title(loss)} (infinite)"
    marks = [int(np.argmin(abs(np.log(x / x[0] / at)))) for at in _MARKS if at <= x[-1] / x[0]]
    axes.plot(x, np.where(finite, value, np.nan), label=label, markevery=marks, **style)
    axes.fill_between(
        x, low, high, where=np.isfinite(high), color=style["color"], alpha=0.1, linewidth=0
    )


_MARKS = (1, 3, 10, 30, 100, 300, 1000)  # where a curve carries its marker, times its first x


@styled
def rank_curves(table: pd.DataFrame) -> Figure:
    """Expected rank (1 is best) of each loss's best of k settings, a panel a data set."""
    runs = scores.search(table)
    figure, panels = _panels(runs)
    for _, axes, panel in panels:
        fids = [own["fid"].to_numpy() for _, own in scores.by_loss(panel)]
        k = _budgets(min(map(len, fids)), 24)
        axes.set(ylabel="expected rank, 1 is best", ylim=(len(fids) + 0.2, 0.8))
        axes.set_yticks(range(1, len(fids) + 1))
        ranks = st.rank_interval(fids, k, rng=0, draws=1000)
        for loss, *estimate in zip(scores.losses(panel), *ranks, strict=True):
            _banded(axes, k, loss, st.Estimate(*estimate))
        _budget_axis(axes, k[-1])
    text = "Rank of a loss's best of k settings among the losses' bests. Band: 95 % bootstrap "
    return _finish(figure, runs, f"{text}interval over the settings; {_NARROW}.", legend=True)


@styled
def win_matrix(table: pd.DataFrame, budgets: Sequence[int] = ()) -> Figure:
    """P(best of k of the row's loss is below the column's) at each budget; one data set.

    Without `budgets`: the last three of 1, 5, 10, 25 and 50 up to half of the settings that every
    loss has; near all of them the chances only repeat who has the lowest score.
    """
    runs = scores.search(table)
    scores.one(runs, "dataset")
    names = [scores.title(loss) for loss in scores.losses(runs)]
    if len(names) < 2:
        raise StudyError(f"{names[0]} alone: a comparison needs two losses; train another")
    fids = [own["fid"].to_numpy() for _, own in scores.by_loss(runs)]
    smallest = min(map(len, fids))
    budgets = budgets or [k for k in (1, 5, 10, 25, 50) if k <= max(1, smallest // 2)][-3:]
    figure = Figure(figsize=(4.6 * len(budgets) + 0.4, 5.2), layout="constrained")
    for axes, k in zip(figure.subplots(1, len(budgets), squeeze=False)[0], budgets, strict=True):
        chance, sure = _wins(fids, k)
        matrix, look = pd.DataFrame(chance, names, names), {"square": True, "linewidths": 1}
        sns.heatmap(matrix, ax=axes, vmin=0, vmax=1, cmap=_WINS, cbar=False, **look)
        for row, column in np.argwhere(np.isfinite(chance)):
            _chance_text(axes, (column + 0.5, row + 0.5), chance[row, column], sure[row, column])
        axes.set_title(f"{k} settings each" if k > 1 else "1 setting each")
        axes.tick_params(length=0)
        axes.grid(visible=False)
    text = (
        "Chance in % that the row's best is lower than the column's, a tie counting half. "
        f"Bold: the 95 % bootstrap interval over {st.ENOUGH} settings or more excludes 50 %."
    )
    return _finish(figure, runs, text)


_WINS = "PuOr_r"


def _chance_text(axes: Axes, at: tuple[float, float], chance: float, sure: bool) -> None:
    dark = np.dot(colormaps[_WINS](chance)[:3], (0.30, 0.59, 0.11)) < 0.5
    weight, color = "bold" if sure else "normal", "white" if dark else "black"
    axes.text(*at, f"{100 * chance:.0f}", ha="center", va="center", weight=weight, color=color)


def _wins(fids: list[Any], k: int) -> tuple[Any, Any]:
    """(chance, whether its interval excludes 1/2), (losses, losses) each; NaN on the diagonal."""
    chance, sure = np.full((len(fids),) * 2, np.nan), np.zeros((len(fids),) * 2, bool)
    for i, j in zip(*np.triu_indices(len(fids), 1), strict=True):
        win = st.win_interval(fids[i], fids[j], k, rng=0, draws=1000)
        chance[i, j], chance[j, i] = win.value, 1 - win.value
        enough = min(len(fids[i]), len(fids[j])) >= st.ENOUGH
        sure[i, j] = sure[j, i] = enough and (win.low > 0.5 or win.high < 0.5)
    return chance, sure


@styled
def f1_curves(table: pd.DataFrame, *, paper: pd.DataFrame | None = None) -> Figure:
    """Expected best F1 after k settings, and precision and recall of the run that has it.

    A run's F1 is the best of its evaluations; a diverged run's is 0. `paper`: triangles_f1.csv,
    drawn where the networks have full width.
    """
    scores.require(table, list(scores.F1))
    runs = _f1_runs(table)
    scores.one(runs, "dataset")
    shown = paper if paper is not None and (runs["width"] == 1).all() else None
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    for axes, (column, label) in zip(
        figure.subplots(1, 3, sharey=True), scores.F1.items(), strict=True
    ):
        for loss, own in scores.by_loss(runs):
            _f1_curve(axes, loss, own, column)
        if shown is not None:
            _paper_curves(axes, shown, label.lower(), scores.losses(runs))
        axes.set(title=label, ylim=(0, 1.02))
        _budget_axis(axes, runs["loss"].value_counts().max())
    text = (
        "Line: mean of the best F1 found, and of the precision and recall of the run that has it; "
        f"a diverged run has 0. Band of F1: 95 % bootstrap interval over the settings; {_NARROW}."
    )
    none = [scores.title(loss) for loss, own in scores.by_loss(runs) if not own["f1"].any()]
    text += f" F1 is 0 in every run of {', '.join(none)}." if none else ""
    text += " Dotted, small: the paper's, digitised." if shown is not None else ""
    return _finish(figure, runs, text, legend=True, measure="F1, precision and recall")


def _f1_runs(table: pd.DataFrame) -> pd.DataFrame:
    """`scores` with F1, precision and recall of each run's evaluation of best F1."""
    runs = scores.search(table).drop(columns=list(scores.F1)).set_index(scores.RUN)
    best = table.sort_values([*scores.RUN, "f1"], kind="stable", na_position="first")
    best = best.drop_duplicates(scores.RUN, keep="last").set_index(scores.RUN)
    runs = runs.join(best[list(scores.F1)]).reset_index()
    runs.loc[runs["status"] == "diverged", list(scores.F1)] = 0.0
    if runs[list(scores.F1)].isna().any(axis=None):
        raise StudyError("some runs have no f1; give rows of a sweep that measured it (triangles)")
    return runs


def _f1_curve(axes: Axes, loss: str, own: pd.DataFrame, column: str) -> None:
    k, negative = _budgets(len(own)), -own["f1"].to_numpy(dtype=float)
    value = st.expected_at_min(negative, own[column], k)
    ends = (value, value)
    if column == "f1":
        least = st.expected_min_interval(negative, k, rng=0)
        ends = (np.clip(-least.high, 0, 1), np.clip(-least.low, 0, 1))
    _banded(axes, k, loss, st.Estimate(value, *ends))


# Settings


@styled
def distributions(table: pd.DataFrame, *, report: str = "fid") -> Figure:
    """Box plot of a search's scores with every run, defaults as stars, share diverged above."""
    runs = scores.search(table, report)
    return _boxes(runs, _STARS, stars=True, report=report)


@styled
def performance_profiles(table: pd.DataFrame, *, report: str = "fid") -> Figure:
    """Share of a loss's settings whose score is below a distance, a panel a data set.

    Dolan and Moré 2002; the curve ends at the share that did not diverge.
    """
    runs = scores.search(table, report)
    figure, panels = _panels(runs)
    for _, axes, panel in panels:
        finite = panel["fid"][np.isfinite(panel["fid"])]
        tau = np.geomspace(0.95 * finite.min(), 1.05 * finite.max(), 300)
        for loss, own in scores.by_loss(panel):
            n = len(own)
            count = np.rint(st.performance_profile(own["fid"], tau) * n).astype(int)
            _banded(axes, tau, loss, st.share_interval(count, n))
        axes.set(xscale="log", ylim=(-0.02, 1.02), ylabel="share of settings below")
        axes.set_xlabel(scores.distance_name(panel["features"].iloc[0]))
        plain_log(axes.xaxis)
    text = "Band: Wilson's 95 % interval of each share, point by point."
    return _finish(figure, runs, text, legend=True, report=report)


@styled
def narrow_against_wide(wide: pd.DataFrame, narrow: pd.DataFrame) -> Figure:
    """Two searches beside each other, a panel a data set: wide hatched, narrow plain."""
    tables = [scores.search(wide), scores.search(narrow)]
    runs = pd.concat(tables, ignore_index=True)
    scores.alike(runs)
    names = [searched["sweep"].iloc[0] for searched in tables]
    return _boxes(runs, f"Left, hatched: {names[0]}; right, plain: {names[1]}.", sweeps=names)


@styled
def seeds(table: pd.DataFrame) -> Figure:
    """One setting a loss trained again with several seeds: every run, quartiles, share diverged."""
    runs = scores.checked(table)
    scores.one(runs, "sweep")
    varied = [name for name in scores.HYPERPARAMETERS if name in runs]
    if (runs.groupby(["loss", "dataset"])[varied].nunique() > 1).any(axis=None):
        raise StudyError("several settings of one loss; a seeds figure takes one setting a loss")
    return _boxes(runs, "One setting a loss, trained again.", unit="seed")


@styled
def along_training(table: pd.DataFrame) -> Figure:
    """Distance at every evaluation of one run a loss against D steps, a panel a data set."""
    runs = scores.search(table)
    if runs.duplicated(["loss", "dataset"]).any():
        raise StudyError("several settings of one loss; this figure takes one run a loss")
    figure, panels = _panels(runs)
    for name, axes, panel in panels:
        rows = table[table["dataset"] == name].sort_values("step")
        _log_distance(axes, panel, rows["fid"])
        for loss, own in scores.by_loss(rows):
            axes.plot(own["step"], own["fid"], label=scores.title(loss), **style_of(loss))
        axes.set_xlabel("D steps")
    text = "One setting a loss, number 0: the authors' default. Line: the distance along its run."
    return _finish(figure, runs, text, legend=True)


def _boxes(
    runs: pd.DataFrame,
    text: str,
    *,
    sweeps: Sequence[str] = (),
    stars: bool = False,
    unit: str = "setting",
    report: str = "fid",
) -> Figure:
    """A panel a data set, a box a loss, or one a sweep side by side."""
    figure, panels = _panels(runs, width=6.4)
    sides = list(zip(sweeps, (-0.2, 0.2), ("////", None), strict=True)) if sweeps else []
    for _, axes, panel in panels:
        _log_distance(axes, panel)
        for place, (_, own) in enumerate(scores.by_loss(panel)):
            for sweep, shift, hatch in sides or [(own["sweep"].iloc[0], 0, None)]:
                box = own[own["sweep"] == sweep]
                if len(box):
                    _box(axes, place + shift, box, width=0.34 if sides else 0.6, hatch=hatch)
            if stars:
                _star(axes, place, own)
        names = [scores.title(loss) for loss in scores.losses(panel)]
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axes.grid(visible=False, axis="x")
    boxes = (
        "Box: quartiles and median over all runs, infinite ones included (a box cut at the top "
        "goes on); whiskers: least, and largest within 1.5 box lengths. Above: share diverged."
    )
    return _finish(figure, runs, f"{text} {boxes}", unit=unit, report=report)


def _box(axes: Axes, place: float, own: pd.DataFrame, width: float, hatch: str | None) -> None:
    """Box, runs and the share diverged at x = place; what is infinite is cut at the top."""
    fid, color, top = (
        own["fid"].to_numpy(),
        style_of(own["loss"].iloc[0])["color"],
        axes.get_ylim()[1],
    )
    q1, median, q3 = np.quantile(fid, [0.25, 0.5, 0.75], method="inverted_cdf")
    reach = fid[fid <= q3 + 1.5 * (q3 - q1)].max() if np.isfinite(q3) else q3
    ends = {"q1": q1, "med": median, "q3": q3, "whislo": fid.min(), "whishi": reach}
    line = {"color": color}
    axes.bxp(
        [{key: min(float(end), top) for key, end in ends.items()}],
        positions=[place],
        widths=width,
        capwidths=width / 2,
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": color, "alpha": 0.35, "edgecolor": color, "hatch": hatch},
        medianprops={"color": "black"},
        whiskerprops=line,
        capprops=line,
    )
    spread = place + _spread(len(fid)) * width * 0.8
    axes.plot(spread, np.where(np.isinf(fid), np.nan, fid), ".", **line, alpha=0.55, markersize=3)
    share, above = f"{np.isinf(fid).mean():.0%}", axes.get_xaxis_transform()
    axes.text(place, 1.01, share, transform=above, ha="center", va="bottom", fontsize=7)


@styled
def hyperparameters(table: pd.DataFrame, loss: str) -> Figure:
    """Score against each hyperparameter of one loss, one data set; last, lr × β1 together."""
    runs = scores.search(table)
    scores.one(runs, "dataset")
    own = runs[runs["loss"] == loss]
    if own.empty:
        raise StudyError(f"no rows of {loss!r}; the table has {', '.join(scores.losses(runs))}")
    if np.isinf(own["fid"]).all():
        raise StudyError(f"all {len(own)} runs of {loss} diverged: there is no distance to show")
    if len(own) < 2:
        raise StudyError(
            f"one setting of {loss}: an effect needs at least two; train more settings"
        )
    names = [name for name in scores.HYPERPARAMETERS if name in own and own[name].notna().all()]
    columns = 3 if len(names) < 6 else 4
    rows = -(-(len(names) + 1) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.8 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns).ravel()
    for axes, name in zip(grid, names, strict=False):
        _effect(axes, own, name)
        if axes not in grid[::columns]:
            axes.set_ylabel("")
    _interaction(figure, grid[len(names)], own)
    for spare in grid[len(names) + 1 :]:
        spare.remove()
    figure.suptitle(scores.title(loss), fontweight="bold")
    text = f"Cross: a diverged run. {_STARS}"
    return _finish(figure, own, text)


def _effect(axes: Axes, own: pd.DataFrame, name: str) -> None:
    """Score against one hyperparameter; diverged runs as crosses on the top edge."""
    _log_distance(axes, own)
    x, top = own[name].astype(float), axes.get_ylim()[1]
    fid, color = own["fid"].clip(upper=top), style_of(own["loss"].iloc[0])["color"]
    if name in scores.CHOICES:
        values = sorted(x.unique())
        x = x.map(values.index) + _spread(len(x)) / 2 * (own["number"] != 0)
        words = {0: "off", 1: "on"} if name == "batch_norm" else {}
        axes.set_xticks(range(len(values)), [words.get(v, f"{v:g}") for v in values])
        axes.set_xlim(-0.6, len(values) - 0.4)
    for rows, mark, size in (
        (own["status"] == "ok", ".", 5),
        (own["status"] == "diverged", "x", 5),
        (own["number"] == 0, "*", 12),
    ):
        edge = "white" if mark == "*" else color
        if rows.any():  # what is empty and not clipped breaks the layout
            axes.plot(x[rows], fid[rows], mark, color=color, ms=size, mec=edge, clip_on=False)
    axes.set_xlabel(scores.HYPERPARAMETERS[name])
    if name in scores.LOGARITHMIC:
        _decades(axes)


def _decades(axes: Axes) -> None:
    """A log x axis that shows a power of ten, which alone are labelled, however few the points."""
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = np.log10(axes.get_xlim())
    if np.ceil(low) > np.floor(high):
        axes.set_xlim(10 ** np.floor(low) / 1.2, 10 ** np.ceil(high) * 1.2)


def _interaction(figure: Figure, axes: Axes, own: pd.DataFrame) -> None:
    """Learning rate × β1, coloured by the score (dark is good)."""
    ok, bad = own[own["status"] == "ok"], own[own["status"] == "diverged"]
    norm = LogNorm(ok["fid"].min(), ok["fid"].max())
    points = axes.scatter(ok["lr"], ok["beta1"], c=ok["fid"], norm=norm, cmap="viridis", s=22)
    axes.plot(bad["lr"], bad["beta1"], "x", color="black", markersize=4)
    default = own[own["number"] == 0]
    axes.plot(default["lr"], default["beta1"], "*", color="black", markersize=12, mec="white")
    axes.set(xlabel=scores.HYPERPARAMETERS["lr"], ylabel=scores.HYPERPARAMETERS["beta1"])
    _decades(axes)
    ticks = LogLocator(subs=(1, 2, 3, 5, 7))
    figure.colorbar(points, ax=axes, ticks=ticks, format="%g").minorticks_off()


@styled
def train_vs_held_out(table: pd.DataFrame) -> Figure:
    """Distance to train images against distance to held-out ones, the runs that are ok."""
    scores.require(table, ["fid_train"])
    runs = scores.search(table)
    name = scores.distance_name(runs["features"].iloc[0])
    figure, panels = _panels(runs, width=5.2)
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
    return _finish(figure, runs, text, legend=True)


# Single runs


_CURVES = {
    "losses": {
        "d_loss_real": "D, real",
        "d_loss_fake": "D, fake",
        "d_loss": "D",
        "g_loss": "G",
        "loss_sum": "D + G",
        "loss": "loss",
        "reconstruction": "reconstruction",
        "kl": "KL",
    },
    "D's accuracy": {"accuracy_real": "real", "accuracy_fake": "fake"},
    "penalty, k, M": {"penalty": "penalty", "k": "k", "M": "M"},
}


@styled
def training_curves(runs: Mapping[str, pd.DataFrame], caption: str = "") -> Figure:
    """Curves of chosen runs, a row a run {title: curves.parquet}: losses, D's accuracy, the rest.

    Kinds of curves that no run has are left out; a penalty of 0 throughout is none (nor has BEGAN's
    D, which rebuilds images, an accuracy).
    """
    if not runs:
        raise StudyError("no runs to draw; give {title: curves} of at least one")
    for title, curves in runs.items():
        scores.require(curves, ["step"])
        if curves.empty:
            raise StudyError(f"the curves of {title} have no rows; has it been trained?")
    kinds = {
        kind: lines
        for kind, lines in _CURVES.items()
        if any(_recorded(curves, name) for curves in runs.values() for name in lines)
    }
    figure = Figure(figsize=(3.8 * len(kinds), 2.6 * len(runs) + 0.4), layout="constrained")
    grid = figure.subplots(len(runs), len(kinds), squeeze=False)
    for row, (title, curves) in zip(grid, runs.items(), strict=True):
        for axes, (kind, lines) in zip(row, kinds.items(), strict=True):
            _curve_panel(axes, curves, lines)
            axes.set_xlabel("D steps")
            axes.set_title(f"{title}: {kind}", fontsize=8.5)
    text = "Single runs, as recorded during training; a gap is a value that is not finite."
    return _captioned(figure, f"{caption} {text}".strip())


def _recorded(curves: pd.DataFrame, name: str) -> bool:
    return name in curves and bool(curves[name].fillna(0).ne(0).any())


def _curve_panel(axes: Axes, curves: pd.DataFrame, lines: Mapping[str, str]) -> None:
    names = [name for name in lines if _recorded(curves, name)]
    styles = [_LOSSES[loss][1:3] for loss in ("began", "wgan", "ns", "dragan", "vae")]
    for name, (color, line) in zip(names, styles, strict=False):
        values = curves[name].where(np.isfinite(curves[name]))
        axes.plot(curves["step"], values, color=color, ls=line, lw=1.2, label=lines[name])
    if names:
        axes.legend(fontsize=7, frameon=True, framealpha=0.8, edgecolor="none")
    else:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "this loss has none", transform=axes.transAxes, ha="center")


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
    return _captioned(figure, caption)


# What the figures share


def style_of(loss: str) -> dict[str, Any]:
    """Colour, line and marker of a loss; a new loss's depend on its name alone."""
    if loss in _LOSSES:
        _, color, line, marker = _LOSSES[loss]
    else:
        code = crc32(loss.encode())
        color, line, marker = _NEW_COLOURS[code % 6], (0, (8, 1, 1, 1)), "<>ph*8"[code // 6 % 6]
    return {"color": color, "linestyle": line, "marker": marker}


def _panels(
    runs: pd.DataFrame, width: float = 5.6
) -> tuple[Figure, list[tuple[str, Axes, pd.DataFrame]]]:
    """A figure with a titled panel a data set, two in a row."""
    names = scores.dataset_order(runs)
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(width * columns + 1.2, 3.8 * rows + 0.9), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in grid[len(names) :]:
        spare.remove()
    for name, axes in zip(names, grid, strict=False):
        axes.set_title(scores.dataset_title(name), pad=16, fontweight="bold")
    return figure, [(n, a, runs[runs["dataset"] == n]) for n, a in zip(names, grid, strict=False)]


def _log_distance(axes: Axes, panel: pd.DataFrame, more: Iterable[float] = ()) -> None:
    """Scale and label the y axis around a panel's finite scores (and some more values)."""
    values = np.concatenate([panel["fid"], list(more)])
    finite = np.maximum(values[np.isfinite(values)], 1e-6)
    low, high = (finite.min(), finite.max()) if finite.size else (1.0, 10.0)
    room = max((high / low) ** 0.06, 1.1)
    axes.set(yscale="log", ylim=(low / room, high * room))
    axes.set_ylabel(scores.distance_name(panel["features"].iloc[0]))
    plain_log(axes.yaxis)


def plain_log(axis: Axis, ticks: Sequence[int] = (1, 2, 3, 5, 7)) -> None:
    """Ticks at these times a power of ten, written as plain numbers."""
    axis.set_major_locator(LogLocator(subs=ticks))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _budget_axis(axes: Axes, most: int, cost: str | None = None) -> None:
    axes.set(
        xscale="log", xlabel=f"cost in {scores.COSTS[cost]}" if cost else "budget (settings tried)"
    )
    plain_log(axes.xaxis, (1, 2, 5))
    if cost is None:
        round_ones = (m * 10**e for e in range(6) for m in (1, 2, 5))
        axes.set_xticks([*(k for k in round_ones if 1.4 * k < most), most])
        axes.set_xlim(0.85, 1.15 * max(2, most))
    else:
        axes.xaxis.set_major_formatter(EngFormatter(places=0))


def _budgets(n: int, points: int = 60) -> Any:
    """All budgets up to n, or `points` of them evenly spaced on the log axis."""
    return np.unique(np.geomspace(1, n, points).round().astype(int))


def _mean_cost(own: pd.DataFrame, cost: str) -> Any:
    if cost not in scores.COSTS:
        raise StudyError(f"unknown cost {cost!r}; there are {', '.join(scores.COSTS)}")
    scores.require(own, [cost])
    return st.cost_curve(own[cost], own["fid"], 1)[0]


def _spread(n: int) -> Any:
    """Offsets in -1/2 to 1/2 that keep points apart: fractions of the golden ratio, not random."""
    return np.arange(n) * 0.618034 % 1 - 0.5


def _star(axes: Axes, x: float, own: pd.DataFrame) -> None:
    """The authors' defaults (number 0), unless they diverged."""
    color, default = style_of(own["loss"].iloc[0])["color"], own[own["number"] == 0]
    for fid in default["fid"][np.isfinite(default["fid"])]:
        axes.plot([x], [fid], "*", color=color, ms=12, mec="white", clip_on=False, zorder=4)


def _paper_curves(axes: Axes, paper: pd.DataFrame, column: str, names: list[str]) -> None:
    for loss in names:
        rows = paper[paper["loss"] == loss]
        axes.plot(
            rows["budget"],
            rows[column],
            color=style_of(loss)["color"],
            linestyle=":",
            marker=style_of(loss)["marker"],
            markersize=3,
            linewidth=0.9,
        )


def _finish(
    figure: Figure,
    runs: pd.DataFrame,
    text: str,
    *,
    legend: bool = False,
    unit: str = "setting",
    measure: str = "",
    report: str = "fid",
) -> Figure:
    """Legend and caption: what was measured on how much, how many diverged, what the band is."""
    if legend:
        shown = [axes.get_legend_handles_labels() for axes in figure.axes]
        entries = {n: line for lines, names in shown for n, line in zip(names, lines, strict=True)}
        figure.legend(entries.values(), entries.keys(), loc="outside right center")
    row, diverged = runs.iloc[0], np.isinf(runs["fid"])
    if not measure:
        name, images = scores.distance_name(row["features"]), row["num_images"]
        measure = f"{name} on {images:,} images, lower is better, {scores.REPORTS[report]}"
    sets = {
        scores.dataset_title(name): _count(runs, name, unit) for name in scores.dataset_order(runs)
    }
    counts = [f"{count} ({name})" for name, count in sets.items()]
    count = ", ".join(counts if len(set(sets.values())) > 1 else list(sets.values())[:1])
    caption = (
        f"{', '.join(sets)}: {measure}. Networks of width {row['width']:g}; "
        f"{' and '.join(dict.fromkeys(runs['sweep']))}: {count}; "
        f"{diverged.sum()} of {len(runs)} runs ({diverged.mean():.1%}) diverged"
        f"{' and count as infinite' * ('F1' not in measure)}. {text}"
    )
    return _captioned(figure, caption)


def _count(runs: pd.DataFrame, dataset: str, unit: str) -> str:
    """How many runs a loss has on a data set: "4 to 10 settings a loss"."""
    sizes = runs[runs["dataset"] == dataset].groupby(["loss", "sweep"]).size()
    count = " to ".join(map(str, sorted({sizes.min(), sizes.max()})))
    return f"{count} {unit}{'s' * bool(sizes.max() > 1)} a loss"


def _captioned(figure: Figure, caption: str) -> Figure:
    width = int(figure.get_figwidth() * 15.5)
    figure.supxlabel(
        textwrap.fill(caption, width, break_on_hyphens=False), x=0.01, ha="left", fontsize=8
    )
    return figure

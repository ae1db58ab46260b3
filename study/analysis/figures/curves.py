"""Training curves of the best run and of the worst."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from study.analysis import scores
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import captioned, subject, titled
from study.analysis.figures.style import styled
from study.errors import StudyError

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


_LOOKS: list[tuple[str, Any]] = [
    ("#0072B2", "-"),
    ("#D55E00", "--"),
    ("#000000", ":"),
    ("#009E73", "-."),
    ("#808080", (0, (3, 1, 1, 1, 1, 1))),
]
"""Told apart without colours, too."""


@styled
def training_curves(runs: Mapping[str, pd.DataFrame], title: str = "", caption: str = "") -> Figure:
    """Curves of chosen runs, a row a run {words: curves.parquet}: losses, D's accuracy, the rest.

    Kinds of curves that no run has are left out; a penalty of 0 throughout is none (nor has BEGAN's
    D, which rebuilds images, an accuracy).
    """
    if not runs:
        raise StudyError("no runs to draw; give {title: curves} of at least one")
    for words, curves in runs.items():
        scores.require(curves, ["step"])
        if curves.empty:
            raise StudyError(f"the curves of {words} have no rows; has it been trained?")
    kinds = {
        kind: lines
        for kind, lines in _CURVES.items()
        if any(_recorded(curves, name) for curves in runs.values() for name in lines)
    }
    figure = Figure(figsize=(3.8 * len(kinds), 2.6 * len(runs) + 0.4), layout="constrained")
    grid = figure.subplots(len(runs), len(kinds), squeeze=False)
    for row, (words, curves) in zip(grid, runs.items(), strict=True):
        for axes, (kind, lines) in zip(row, kinds.items(), strict=True):
            _curve_panel(axes, curves, lines)
            axes.set_xlabel("D steps")
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.set_ylabel(kind)
        row[0].set_title(words, fontsize=9.5, pad=20, loc="left")
    text = "Single runs, as recorded during training; a gap is a value that is not finite."
    return captioned(titled(figure, title), f"{caption} {text}".strip())


def _recorded(curves: pd.DataFrame, name: str) -> bool:
    return name in curves and bool(curves[name].fillna(0).ne(0).any())


def _curve_panel(axes: Axes, curves: pd.DataFrame, lines: Mapping[str, str]) -> None:
    names = [name for name in lines if _recorded(curves, name)]
    for name, (color, line) in zip(names, _LOOKS, strict=False):
        values = curves[name].where(np.isfinite(curves[name]))
        axes.plot(curves["step"], values, color=color, ls=line, lw=1.2, label=lines[name])
    if names:
        axes.legend(fontsize=7, ncols=len(names), loc="lower left", bbox_to_anchor=(0, 0.98))
    else:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "this loss has none", transform=axes.transAxes, ha="center")


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} holds no curves ({error}); collect again") from None


def draw(examples: pd.DataFrame, search: pd.DataFrame) -> Figure:
    """The best GAN's run (the VAE's only where it is alone), and the collapsed one."""
    best = examples[~examples["collapsed"]].sort_values("score", kind="stable")
    gans = best[best["loss"] != "vae"]
    worst = examples[examples["collapsed"]].iloc[0]
    if best.empty or not len(gans if len(gans) else best):
        raise StudyError("all runs diverged: there is no stable one to show")
    shown = {"Best": (gans if len(gans) else best).iloc[0], "Worst": worst}
    for run in shown.values():
        if not run["curves"].exists():
            raise StudyError(
                f"{run['curves']} is not there; collect on the machine that has the run"
            )
    curves = {f"{word}: {run['words']}": _read(run["curves"]) for word, run in shown.items()}
    dataset = scores.dataset_title(worst["dataset"])
    title = f"{dataset}: training of the best run and of the worst"
    return training_curves(curves, title, subject(search))


PLOT = Plot(
    draw,
    "Training curves of the best run and of the worst",
    place=150,
    needs=("examples", "search"),
    each=("dataset",),
)

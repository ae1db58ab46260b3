"""Training curves of a stable and of a collapsed run."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis.figures.base import Plot
from study.analysis.figures.parts import captioned, subject
from study.analysis.figures.style import LOSSES, styled
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
    return captioned(figure, f"{caption} {text}".strip())


def _recorded(curves: pd.DataFrame, name: str) -> bool:
    return name in curves and bool(curves[name].fillna(0).ne(0).any())


def _curve_panel(axes: Axes, curves: pd.DataFrame, lines: Mapping[str, str]) -> None:
    names = [name for name in lines if _recorded(curves, name)]
    styles = [LOSSES[loss][:2] for loss in ("began", "wgan", "ns", "dragan", "vae")]
    for name, (color, line) in zip(names, styles, strict=False):
        values = curves[name].where(np.isfinite(curves[name]))
        axes.plot(curves["step"], values, color=color, ls=line, lw=1.2, label=lines[name])
    if names:
        axes.legend(fontsize=7, frameon=True, framealpha=0.8, edgecolor="none")
    else:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "this loss has none", transform=axes.transAxes, ha="center")


def draw(examples: pd.DataFrame, search: pd.DataFrame) -> Figure:
    """The best GAN's run, which is stable, and the collapsed one."""
    stable = examples[~examples["collapsed"] & (examples["loss"] != "vae")].nsmallest(1, "score")
    shown = {"Best": stable.iloc[0], "Worst": examples[examples["collapsed"]].iloc[0]}
    for run in shown.values():
        if not run["curves"].exists():
            raise StudyError(
                f"{run['curves']} is not there; collect on the machine that has the run"
            )
    curves = {
        f"{word}: {run['words']}": pd.read_parquet(run["curves"]) for word, run in shown.items()
    }
    return training_curves(curves, subject(search))


PLOT = Plot(
    draw,
    "Training curves of a stable and of a collapsed run",
    place=150,
    needs=("examples", "search"),
    each=("dataset",),
)

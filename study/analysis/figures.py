"""Every figure of a sweep that its tables allow: `python -m study figures`, and the report's."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from study.analysis import examples, plots, scores
from study.analysis.tables import Tables, paper
from study.errors import StudyError

Draw = Callable[[], Figure]


def figures(tables: Tables) -> dict[str, Draw]:
    """The figures of a sweep by file name, each drawn when called."""
    search, datasets = tables.search, scores.dataset_order(tables.search)
    drawn: dict[str, Draw] = {
        "budget": partial(plots.budget_curves, search, paper=paper("budget_curve")),
        "budget_mean": partial(
            plots.budget_curves, search, curve="mean", band="search", paper=paper("budget_curve")
        ),
        "budget_flops": partial(plots.budget_curves, search, cost="flops", band="search"),
        "distributions": partial(plots.distributions, search),
        "profiles": partial(plots.performance_profiles, search),
        "ranks": partial(plots.rank_curves, search),
        "train_held_out": partial(plots.train_vs_held_out, search),
    }
    if "fid_report" in search and search["fid_report"].notna().any():
        reported = search[search.groupby("dataset")["fid_report"].transform("count") > 0]
        drawn["budget_report"] = partial(plots.budget_curves, reported, report="fid_report")
    for dataset in datasets:
        drawn |= _of_dataset(tables, dataset)
    if "triangles" in datasets and "f1" in search:
        triangles = search[search["dataset"] == "triangles"]
        drawn["f1"] = partial(plots.f1_curves, triangles, paper=paper("triangles_f1"))
    if len(tables.seeds):
        drawn["seeds"] = partial(plots.seeds, tables.seeds)
    if len(tables.full):
        drawn["defaults"] = partial(plots.along_training, tables.full)
    if len(tables.narrow):
        drawn["narrow"] = partial(plots.narrow_against_wide, search, tables.narrow)
    return drawn


def draw(tables: Tables, folder: Path) -> tuple[list[Path], list[str]]:
    """Write every figure as SVG and PNG; returns the files, and a line a figure that cannot be.

    A figure is written whole or not at all, and one that cannot be drawn is not left from before.
    """
    written, refused = [], []
    for name, make in figures(tables).items():
        stem = folder / name
        try:
            written += plots.save(make(), stem)
        except StudyError as error:
            refused.append(f"{name}: {error}")
            for suffix in (".svg", ".png"):
                stem.with_suffix(suffix).unlink(missing_ok=True)
    return written, refused


def training_curves(tables: Tables, dataset: str) -> Figure:
    """Curves of the best GAN's run, which is stable, and of a collapsed one."""
    best = examples.best(tables.results, tables.sweep, dataset)
    stable = min((run for run in best if run.loss != "vae"), key=lambda run: run.score)
    runs = [stable, examples.collapsed(tables.results, tables.sweep, dataset)]
    for run in runs:
        if not run.curves.exists():
            raise StudyError(f"{run.curves} is not there; collect on the machine that has the run")
    words = ("Best", "Worst")
    curves = {
        f"{word}: {run.words}": pd.read_parquet(run.curves)
        for word, run in zip(words, runs, strict=True)
    }
    return plots.training_curves(curves, _about(tables, dataset))


def sample_grids(tables: Tables, dataset: str) -> Figure:
    """Samples of the best run of each loss."""
    best = examples.best(tables.results, tables.sweep, dataset)
    return plots.sample_grids({run.words: run.samples for run in best}, _about(tables, dataset))


def _about(tables: Tables, dataset: str) -> str:
    runs = scores.of_runs(tables.search)
    own = runs[runs["dataset"] == dataset]
    row, settings = own.iloc[0], own.groupby("loss").size()
    return (
        f"{scores.dataset_title(dataset)}, {tables.sweep}, up to {settings.max()} settings a loss. "
        f"Distance: {scores.distance_name(row['features'])} on {row['num_images']:,} images."
    )


def _of_dataset(tables: Tables, dataset: str) -> dict[str, Draw]:
    rows = tables.search[tables.search["dataset"] == dataset]
    drawn: dict[str, Draw] = {f"wins_{dataset}": partial(plots.win_matrix, rows)}
    for loss in scores.losses(rows):
        drawn[f"settings_{dataset}_{loss}"] = partial(plots.hyperparameters, rows, loss)
    if examples.folder(tables.results, tables.sweep, dataset).exists():
        drawn[f"samples_{dataset}"] = partial(sample_grids, tables, dataset)
        drawn[f"curves_{dataset}"] = partial(training_curves, tables, dataset)
    return drawn

"""Every figure of a sweep that its tables allow: `python -m study figures`, and the report's."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from study.analysis import plots
from study.errors import StudyError
from study.runs import examples
from study.runs.table import HYPERPARAMETERS, read_table, table_path, winners
from study.settings import shipped
from study.settings.config import SweepConfig, load_sweep, sweep_names

PAPER = shipped.PAPER_RESULTS

Draw = Callable[[], Figure]


class Tables(NamedTuple):
    """A sweep's table, and those of the sweeps that belong to it (empty where there is none)."""

    results: Path
    sweep: str
    search: pd.DataFrame
    seeds: pd.DataFrame
    narrow: pd.DataFrame
    full: pd.DataFrame
    """The authors' defaults at full width and length."""


def read_tables(results: Path, sweep: str) -> Tables:
    """The tables of a search and of the sweeps that belong to it; StudyError where it has none."""
    config = load_sweep(sweep)
    if config.ranges is None:
        raise StudyError(f"{sweep} is no search; draw {config.best_of}, which it belongs to")
    if not is_search(config):
        searches = [name for name in sweep_names() if is_search(load_sweep(name))]
        raise StudyError(f"{sweep} is one setting, no search; searches are {', '.join(searches)}")
    search = read_table(results, sweep)
    if search.empty:
        path = table_path(results, sweep)
        raise StudyError(f"no rows in {path}; `make sweep SWEEP={sweep}` trains and collects it")
    others = [load_sweep(name) for name in sweep_names() if name != sweep]
    again = [other.name for other in others if other.best_of == sweep]
    sisters = [other.name for other in others if _is_narrow_sister(other, config)]
    wider = [other.name for other in others if _is_defaults_alone(other, config)]
    seeds, narrow, full = (_first_table(results, names) for names in (again, sisters, wider))
    return Tables(results, sweep, search, of_the_winners(seeds, search), narrow, full)


def is_search(config: SweepConfig) -> bool:
    """Whether a sweep tries more than one setting."""
    return config.ranges is not None and config.trials > 1


def of_the_winners(seeds: pd.DataFrame, search: pd.DataFrame) -> pd.DataFrame:
    """The re-runs of what is now the search's best setting; others are named on stderr.

    A search that has gone on since may have found a better setting than the one trained again.
    """
    if seeds.empty:
        return seeds
    hyperparameters = [name for name in HYPERPARAMETERS if name in seeds and name in search]
    which = ["dataset", "loss"]
    kept = seeds.merge(winners(search)[which + hyperparameters])
    trained, left = (pd.MultiIndex.from_frame(rows[which]) for rows in (seeds, kept))
    stale = trained.unique().difference(left)
    if len(stale):
        names = ", ".join(f"{loss} on {dataset}" for dataset, loss in stale)
        sweep = seeds["sweep"].iloc[0]
        print(
            f"{sweep}: {names} left out: the search has found a better setting since; `python -m "
            f"study collect --sweep {sweep} --winners` takes the old re-runs out of the table, "
            f"`make sweep SWEEP={sweep}` then trains the new winner",
            file=sys.stderr,
        )
    return kept


def searches(results: Path) -> list[str]:
    """The searches that have a table, sorted; StudyError where none has."""
    there = [name for name in sweep_names() if table_path(results, name).exists()]
    found = [name for name in there if is_search(load_sweep(name))]
    if not found:
        raise StudyError(f"no table of a search in {results}; `make sweep` trains and collects one")
    return found


def paper(name: str) -> pd.DataFrame:
    """One of the paper's tables in results/paper."""
    return pd.read_csv(PAPER / f"{name}.csv")


def figures(tables: Tables) -> dict[str, Draw]:
    """The figures of a sweep by file name, each drawn when called."""
    search, datasets = tables.search, plots.dataset_order(tables.search)
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
    runs = plots.scores(tables.search)
    own = runs[runs["dataset"] == dataset]
    row, settings = own.iloc[0], own.groupby("loss").size()
    return (
        f"{plots.dataset_title(dataset)}, {tables.sweep}, up to {settings.max()} settings a loss. "
        f"Distance: {plots.distance_name(row['features'])} on {row['num_images']:,} images."
    )


def _of_dataset(tables: Tables, dataset: str) -> dict[str, Draw]:
    rows = tables.search[tables.search["dataset"] == dataset]
    drawn: dict[str, Draw] = {f"wins_{dataset}": partial(plots.win_matrix, rows)}
    for loss in plots.losses(rows):
        drawn[f"settings_{dataset}_{loss}"] = partial(plots.hyperparameters, rows, loss)
    if examples.folder(tables.results, tables.sweep, dataset).exists():
        drawn[f"samples_{dataset}"] = partial(sample_grids, tables, dataset)
        drawn[f"curves_{dataset}"] = partial(training_curves, tables, dataset)
    return drawn


def _is_narrow_sister(other: SweepConfig, config: SweepConfig) -> bool:
    """Whether `other` searches the narrow ranges with otherwise the same recipe."""
    same = {"width", "bn_decay", "features", "num_images", "precision", "datasets"}
    return (config.ranges, other.ranges) == ("wide", "narrow") and (
        other.model_dump(include=same) == config.model_dump(include=same)
    )


def _is_defaults_alone(other: SweepConfig, config: SweepConfig) -> bool:
    """Whether `other` trains the authors' defaults alone, with wider networks than the search."""
    alone = (other.ranges, other.trials) == (config.ranges, 1)
    return alone and other.features == config.features and other.width > config.width


def _first_table(results: Path, names: list[str]) -> pd.DataFrame:
    tables = (read_table(results, name) for name in names)
    return next((table for table in tables if len(table)), pd.DataFrame())

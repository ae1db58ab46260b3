"""A search's table, and those of the sweeps that belong to it: what figures and report show."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from study.analysis import examples, scores
from study.errors import StudyError
from study.runs.folder import is_paired, results_folder
from study.runs.table import hyperparameters, read_table, table_path, winners
from study.settings import shipped
from study.settings.config import SweepConfig, load_sweep, load_sweeps, say_once

PAPER = shipped.PAPER_RESULTS


UNTRAINED = ["dataset", "loss", "fid"]

OF_NO_SWEEP = {
    "untrained": [*UNTRAINED, "width", "features", "num_images", "fid_train", "fid_report"],
    "behaviour": [
        *("dataset", "features", "experiment", "real", "level", "draw", "num_images", "dim"),
        *("distance", "kid", "precision", "recall"),
    ],
    "agreement": ["sweep", "loss", "dataset", "number", "num_images"],
    "convergence": [
        *("measure", "images", "neighbours", "random", "steps", "starts"),
        *("mean_distance", "within_delta", "mean_excess"),
    ],
}
"""The tables of results/ that are no sweep's, and the columns without which they say nothing."""


class Tables(NamedTuple):
    """A sweep's table, and those of the sweeps that belong to it (empty where there is none)."""

    results: Path
    sweep: str
    search: pd.DataFrame
    seeds: pd.DataFrame
    narrow: pd.DataFrame
    full: pd.DataFrame
    """The authors' defaults at full width and length."""
    examples: pd.DataFrame
    """Runs whose samples and curves are kept: `study.analysis.examples.table`."""
    untrained: pd.DataFrame = pd.DataFrame(columns=UNTRAINED)
    """Distances of generators before any training."""
    real: pd.DataFrame = pd.DataFrame()
    """Distances of training images to held-out ones, from results/behaviour.parquet."""
    longer: pd.DataFrame = pd.DataFrame()
    """The search's best settings, trained for longer."""

    def frames(self) -> dict[str, pd.DataFrame]:
        """The tables by name, as figures ask for them."""
        named = self._asdict()
        return {name: named[name] for name in named if isinstance(named[name], pd.DataFrame)}


def read_tables(results: Path, sweep: str) -> Tables:
    """The tables of a search and of the sweeps that belong to it; StudyError where it has none."""
    config = load_sweep(sweep)
    if config.ranges is None:
        raise StudyError(f"{sweep} is no search; draw {config.search}, which it belongs to")
    if not is_search(config):
        searches = [each.name for each in load_sweeps() if is_search(each)]
        raise StudyError(f"{sweep} is one setting, no search; searches are {', '.join(searches)}")
    search = read_table(results, sweep)
    if search.empty:
        path = table_path(results, sweep)
        raise StudyError(f"no rows in {path}; `make sweep SWEEP={sweep}` trains and collects it")
    others = [each for each in load_sweeps() if each.name != sweep]
    again = [other.name for other in others if other.best_of == sweep]
    on = [other.name for other in others if other.longer_of == sweep]
    sisters = [other.name for other in others if _is_narrow_sister(other, config)]
    wider = [other.name for other in others if _is_defaults_alone(other, config)]
    there = set(search["dataset"])
    seeds, narrow, full, longer = (
        _first_table(results, names, there) for names in (again, sisters, wider, on)
    )
    seeds = of_the_winners(seeds, search)
    kept, untrained = examples.table(results, sweep), untrained_generators(results)
    behaviour = measured(results, "behaviour")
    real = behaviour[behaviour["experiment"] == "real"] if len(behaviour) else behaviour
    return Tables(results, sweep, search, seeds, narrow, full, kept, untrained, real, longer)


def measured(results: Path, name: str) -> pd.DataFrame:
    """A table of `OF_NO_SWEEP`; empty where there is none."""
    path = table_path(results, name)
    if not path.exists():
        return pd.DataFrame()
    try:
        table = pd.read_parquet(path)
    except Exception as error:  # whatever a file from other hands makes the readers raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StudyError(f"{path} cannot be read: {reason[:200]}; move it away") from error
    lacking = [column for column in OF_NO_SWEEP[name] if column not in table]
    if lacking:
        raise StudyError(f"{path} has no column {', '.join(lacking)}; move it away")
    return table


def untrained_generators(results: Path) -> pd.DataFrame:
    """Distances of generators that were not trained, a row a seed; empty where there are none."""
    table = measured(results, "untrained")
    return table.dropna(subset=UNTRAINED) if len(table) else pd.DataFrame(columns=UNTRAINED)


def read_measured(results: Path) -> dict[str, pd.DataFrame]:
    """The tables of how the measures behave that there are, as figures ask for them."""
    tables = {name: measured(results, name) for name in OF_NO_SWEEP if name != "untrained"}
    return {name: table for name, table in tables.items() if len(table)}


def nearest_results() -> Path:
    """STUDY_RESULTS, results/ here, or that of the nearest folder above: notebooks lie in one."""
    here = results_folder()
    if os.environ.get("STUDY_RESULTS") or here.is_dir():
        return here
    above = (folder / "results" for folder in Path.cwd().parents)
    return next((results for results in above if results.is_dir()), here)


def is_search(config: SweepConfig) -> bool:
    """Whether a sweep tries more than one setting."""
    return config.ranges is not None and config.trials > 1


def of_the_winners(seeds: pd.DataFrame, search: pd.DataFrame) -> pd.DataFrame:
    """The re-runs of what is now the search's best setting; others are named on stderr.

    A search that has gone on since may have found a better setting than the one trained again.
    """
    if seeds.empty:
        return seeds
    varied = [name for name in hyperparameters(search) if name in seeds]
    which = ["dataset", "loss"]
    kept = seeds.merge(winners(search)[which + varied])
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
    """The searches to be shown where none is named, sorted; StudyError where there is none.

    Those that have a table. A paired one, which is judged once, is left out until it is complete,
    with a word on stderr: nobody should see who is ahead by chance.
    """
    there = [each for each in load_sweeps() if table_path(results, each.name).exists()]
    found = []
    for each in filter(is_search, there):
        if is_paired(each) and scores.complete(each, read_table(results, each.name)).empty:
            print(
                f"{each.name}: not all of its {each.trials} settings are there; it is shown when "
                "they are",
                file=sys.stderr,
            )
        else:
            found.append(each.name)
    if not found:
        raise StudyError(f"no table of a search in {results}; `make sweep` trains and collects one")
    return found


def finished(tables: Tables) -> Tables:
    """The tables as figures and pages may show them: of a paired search its complete data sets.

    StudyError where none is: it is judged once, and nobody should see who is ahead by chance.
    """
    return tables._replace(search=shown(load_sweep(tables.sweep), tables.search))


def shown(config: SweepConfig, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a sweep's table that may be shown; see `finished` and `scores.complete`."""
    if not is_paired(config):
        return rows
    whole = scores.complete(config, rows)
    if whole.empty:
        needed = ", ".join(f"{name}: {config.settings(name)}" for name in rows["dataset"].unique())
        raise StudyError(
            f"{config.name} is judged once, and shown when all settings of each loss are there "
            f"({needed}); until then `make status SWEEP={config.name}` counts its runs, and "
            "`verdict --interim` says what holds at any look"
        )
    return whole


def other_searches(tables: Tables) -> dict[str, pd.DataFrame]:
    """Scores of the other searches in the same features, by name; of what is complete.

    One that is refused (its settings were stopped early, its rows are unlike) is named on stderr.
    """
    features, found = load_sweep(tables.sweep).features, {}
    for config in load_sweeps():
        name = config.name
        if name == tables.sweep or not table_path(tables.results, name).exists():
            continue
        if is_search(config) and config.features == features:
            try:
                whole = scores.complete(config, read_table(tables.results, name))
                found[name] = scores.search(whole) if len(whole) else whole
            except StudyError as error:
                say_once(f"{name} is not compared with: {error}")
    return {name: table for name, table in found.items() if len(table)}


def paper(name: str) -> pd.DataFrame:
    """One of the paper's tables in results/paper."""
    return pd.read_csv(PAPER / f"{name}.csv")


def _is_narrow_sister(other: SweepConfig, config: SweepConfig) -> bool:
    """Whether `other` searches the narrow ranges with otherwise the same recipe: on one data set at
    least that both have, and on each such."""
    both = config.datasets.keys() & other.datasets.keys()
    same = {"width", "bn_decay", "features", "num_images", "precision"}
    recipes = [
        (
            each.model_dump(include=same),
            [each.datasets[name].model_dump(exclude={"trials"}) for name in sorted(both)],
        )
        for each in (config, other)
    ]
    of_both = (config.ranges, other.ranges) == ("wide", "narrow") and recipes[0] == recipes[1]
    return bool(both) and of_both


def _is_defaults_alone(other: SweepConfig, config: SweepConfig) -> bool:
    """Whether `other` trains the authors' defaults alone, with wider networks than the search."""
    alone = (other.ranges, other.trials) == (config.ranges, 1)
    return alone and other.features == config.features and other.width > config.width


def _first_table(results: Path, names: list[str], datasets: set[str]) -> pd.DataFrame:
    """The first of these tables that has rows on the data sets; those rows."""
    tables = (read_table(results, name) for name in names)
    tables = (table[table["dataset"].isin(datasets)] for table in tables)
    return next((table for table in tables if len(table)), pd.DataFrame())

"""How far a sweep is, from the files alone. Imports no torch: it answers at once."""

import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from study import files
from study.errors import StudyError
from study.runs import table as store
from study.runs.claim import forgive, last_claim
from study.runs.folder import (
    DONE,
    State,
    folder_of,
    is_open,
    planned_runs,
    read_result,
    state_of,
    sweeps_with_runs,
)
from study.settings.config import MACHINE, RunConfig

OVERTAKEN = (
    "(of re-runs whose search has found a better setting: `python -m study collect --winners`)"
)
STATES: tuple[State, ...] = ("to do", "running", "ok", "diverged", "failed", "lost")


class Progress(NamedTuple):
    """The state of every run of a plan, and where its folder lies."""

    configs: list[RunConfig]
    folders: list[Path]
    states: list[State]

    def open(self, retries: int) -> list[Path]:
        """Runs that a worker may take: to do, or failed or lost and to be tried once more."""
        return [
            folder
            for folder, state in zip(self.folders, self.states, strict=True)
            if state in ("to do", "lost", "failed") and is_open(folder, retries)
        ]

    def now(self) -> "Progress":
        """The same, looked at again; what is done stays so."""
        states = [
            state if state in DONE else state_of(folder)
            for folder, state in zip(self.folders, self.states, strict=True)
        ]
        return self._replace(states=states)

    def counts(self) -> Counter[State]:
        """How many runs are in each state."""
        return Counter(self.states)

    def left(self) -> Counter[State]:
        """How many runs are in each state that is no end: a full disk leaves them lost or to do."""
        return Counter(state for state in self.states if state not in DONE)


def progress(configs: list[RunConfig], results: Path) -> Progress:
    """Look at every run's files; one that the table holds with the same configuration is done."""
    recorded: dict[str, State] = {}
    for name in {config.sweep for config in configs}:
        table = store.read_table(results, name)
        recorded |= dict(zip(table["config"], table["status"], strict=True))
    folders = [folder_of(results, config) for config in configs]
    states = [
        recorded.get(config.hash) or state_of(folder)
        for config, folder in zip(configs, folders, strict=True)
    ]
    return Progress(configs, folders, states)


def prepare(configs: list[RunConfig], results: Path) -> Progress:
    """Write every run's configuration before anything trains; refuse a sweep that has changed.

    A run keeps the MACHINE fields it was first planned with. Failed runs get another chance.
    """
    files.require_writable(results)
    status = progress(configs, results)
    for name in {config.sweep for config in configs}:
        refuse_other_rows(configs, store.read_table(results, name), store.table_path(results, name))
    for config, folder, state in zip(*status, strict=True):
        # A run that only the table holds needs no folder; a torn file is mended in any state.
        if not is_planned(folder, config) and (state not in DONE or folder.exists()):
            files.write_json(folder / "config.json", config.model_dump())
        if state in ("failed", "lost"):
            forgive(folder)
    return status.now()


def is_planned(folder: Path, config: RunConfig) -> bool:
    """Whether the run's config.json is there; StudyError where it says something else.

    One that cannot be read is named on stderr. Fields of MACHINE may differ.
    """
    path = folder / "config.json"
    if not path.exists():
        return False
    content = files.read_json(path)
    if content is None:
        print(f"{path} cannot be read; it is written again", file=sys.stderr)
        return False
    # What an older configuration does not say yet has its default.
    now, planned = config.model_dump(), RunConfig.in_todays_words(content)
    for name in now.keys() - MACHINE:
        if planned.get(name) != now[name]:
            raise StudyError(
                f"{folder} was planned with {name} {planned.get(name)}, the sweep now says "
                f"{now[name]}: copy the sweep under a new name, or delete the old runs {OVERTAKEN}"
            )
    return True


def refuse_other_rows(configs: list[RunConfig], table: pd.DataFrame, path: Path) -> None:
    """StudyError where the table holds a planned run with another configuration."""
    keys = zip(table["loss"], table["dataset"], table["number"], strict=True)
    recorded = dict(zip(keys, table["config"], strict=True))
    for config in configs:
        if recorded.get((config.loss, config.dataset, config.number), config.hash) != config.hash:
            raise StudyError(
                f"{path} holds {config.path} with another configuration than the sweep now says: "
                f"copy the sweep under a new name, or move the table away {OVERTAKEN}"
            )


def set_overtaken_aside(
    results: Path, sweep: str, best: dict[tuple[str, str], dict[str, object]]
) -> None:
    """Move the re-runs of what is no longer a search's best setting out of the new best's way.

    `best` has those settings now, by loss and data set.
    They go to results/runs/<sweep>/<loss>/<data set>/overtaken/, where nothing reads them; one that
    is being trained stays.
    """
    for folder, config in zip(*planned_runs(sweep, results), strict=True):
        values = config.hyperparameters()
        if best.get((config.loss, config.dataset), values) == values:
            continue
        if state_of(folder) != "running":
            aside = folder.parent / "overtaken" / f"{folder.name}.{config.hash}"
            aside.parent.mkdir(exist_ok=True)
            shutil.rmtree(aside, ignore_errors=True)  # the same configuration, overtaken before
            folder.rename(aside)


class Cost(NamedTuple):
    """What a finished run came to."""

    fid: float
    wall_s: float


def finished(status: str, distances: Iterable[float], wall_s: float) -> Cost:
    """The cost of a run that is done: its smallest distance, infinity where it diverged."""
    return Cost(min(distances) if status == "ok" else float("inf"), wall_s)


class Overview:
    """Loss x data set: how many runs are in each state, the best distance, time spent and left.

    Finished runs are read once and remembered.
    """

    def __init__(self, results: Path, workers: int) -> None:
        self.results, self.workers = results, max(workers, 1)
        self.finished: dict[str, Cost] = {}
        self.tables: set[str] = set()

    def cost(self, config: RunConfig, folder: Path) -> Cost | None:
        """What a finished run came to, from its sweep's table or from its folder."""
        if config.sweep not in self.tables:
            self.tables.add(config.sweep)
            for hash_, rows in store.read_table(self.results, config.sweep).groupby("config"):
                status, wall_s = rows["status"].iloc[0], rows["wall_s"].max()
                self.finished[str(hash_)] = finished(status, rows["fid"], wall_s)
        identity = config.hash
        if identity not in self.finished:
            result = read_result(folder)
            if result is not None:
                rows = result["evaluations"]
                distances = [row["fid"] for row in rows]
                self.finished[identity] = finished(result["status"], distances, rows[-1]["wall_s"])
        return self.finished.get(identity)

    def groups(
        self, configs: list[RunConfig], folders: list[Path], states: list[State]
    ) -> list[dict[str, Any]]:
        """One entry a loss and data set."""
        groups: dict[tuple[str, str, str], dict[str, Any]] = {}
        for config, folder, state in zip(configs, folders, states, strict=True):
            key = (config.sweep, config.loss, config.dataset)
            empty = {"best": None, "spent_s": 0.0, "runs": 0} | dict.fromkeys(STATES, 0)
            group = groups.setdefault(key, empty)
            group[state] += 1
            group["runs"] += 1
            cost = self.cost(config, folder) if state in DONE else None
            if cost is not None:
                group["spent_s"] += cost.wall_s
                if cost.fid < (group["best"] or float("inf")):
                    group["best"] = cost.fid
        for group in groups.values():
            done = group["ok"] + group["diverged"]
            left = group["runs"] - done
            group["left_s"] = group["spent_s"] / done * left / self.workers if done else None
        names = ("sweep", "loss", "dataset")
        return [dict(zip(names, key, strict=True)) | group for key, group in groups.items()]


def status(
    results: Path, sweeps: list[str] | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Groups (loss x data set) and failures of every planned run, from the files alone."""
    groups, failures = [], []
    for name in sweeps or sweeps_with_runs(results):
        folders, configs = planned_runs(name, results)
        states = [state_of(folder) for folder in folders]
        groups += Overview(results, 1).groups(configs, folders, states)
        for folder, state in zip(folders, states, strict=True):
            last = last_claim(folder) if state == "failed" else None
            if last is not None:
                error = (files.read_json(last.path) or {}).get("error")
                log = str(folder / "log.txt")
                failures.append({"run": str(folder), "error": error, "log": log})
    return groups, failures

"""Where every sweep stands, by its files and tables. Imports no torch: it answers at once."""

import contextlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pandas as pd

from study import files
from study.errors import StudyError, unknown
from study.runs import orders
from study.runs.claim import claims, last_claim
from study.runs.folder import (
    DONE,
    State,
    is_judged_once,
    planned_runs,
    read_result,
    sweeps_with_runs,
)
from study.runs.progress import Progress
from study.runs.steps import reached
from study.runs.table import read_table, recorded_state
from study.settings.config import RunConfig, load_sweep, sweep_names

STATES: tuple[State, ...] = get_args(State)
RESTLESS = 3
"""Attempts, each left before its first step was done, of which the status tells."""


class Status(NamedTuple):
    """What is true of some sweeps."""

    groups: list[dict[str, Any]]
    """One a sweep, loss and data set."""
    failures: list[dict[str, Any]]
    """Runs that have failed, with the error."""
    running: list["AtWork"]
    """Runs in training, with how far they are."""
    kept: list["AtWork"]
    """Runs that were stopped and checkpointed, with the step at which they go on."""
    warnings: list[str]
    """What is odd, a line each."""


class AtWork(NamedTuple):
    """A run in training, by its own files."""

    run: str
    step: int
    steps: int
    rate: float | None
    """Steps a second."""
    best: float | None
    """The smallest distance so far; None before the first, and in a search judged once."""
    left_s: float | None


def at_work(config: RunConfig, folder: Path) -> AtWork:
    """How far a run in training is."""
    step, rate = reached(folder)
    left_s = (config.d_steps - step) / rate if rate else None
    best = None if is_judged_once(config.sweep) else best_so_far(folder)
    return AtWork(str(config.path), step, config.d_steps, rate, best, left_s)


def is_kept(folder: Path, state: State) -> bool:
    """Whether a run was stopped with a checkpoint, from which it goes on."""
    last = last_claim(folder) if state == "to do" and reached(folder).step else None
    return last is not None and last.read().state == "released"


def best_so_far(folder: Path) -> float | None:
    """The smallest distance among a run's evaluations; None before the first."""
    try:
        lines = files.read_bytes(folder / "metrics.jsonl").splitlines()
        distances = [json.loads(line)["fid"] for line in lines]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return min((fid for fid in distances if isinstance(fid, float)), default=None)


class Cost(NamedTuple):
    """What a finished run came to."""

    fid: float
    wall_s: float


def cost_of(status: str, distances: Iterable[float], wall_s: float) -> Cost:
    """The cost of a run that is done: its smallest distance, infinity where it diverged."""
    return Cost(min(distances) if status != "diverged" else float("inf"), wall_s)


def cost_of_result(result: dict[str, Any]) -> Cost:
    """The cost that a run's result tells."""
    rows = result["evaluations"]
    return cost_of(result["status"], [row["fid"] for row in rows], rows[-1]["wall_s"])


OF_A_RUN = ["sweep", "loss", "dataset", "status", "features"]


class Costs:
    """What finished runs came to, from their sweep's table or their folders; each is read once."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.known: dict[str, Cost] = {}
        self.tables: dict[str, pd.DataFrame] = {}

    def table(self, sweep: str) -> pd.DataFrame:
        """The first row of each of the runs that a sweep's table holds, by hash; costs noted."""
        if sweep not in self.tables:
            rows = read_table(self.results, sweep)
            by_run = rows.groupby("config", sort=False)
            first = by_run[OF_A_RUN].first()
            numbers = zip(first["status"], by_run["fid"].min(), by_run["wall_s"].max(), strict=True)
            costs = [cost_of(status, [fid], wall_s) for status, fid, wall_s in numbers]
            self.known |= dict(zip(map(str, first.index), costs, strict=True))
            self.tables[sweep] = first
        return self.tables[sweep]

    def of(self, sweep: str, config: str, folder: Path) -> Cost | None:
        """What the run of that hash came to; None where nobody knows, or none can read it now."""
        self.table(sweep)
        if config not in self.known:
            with contextlib.suppress(OSError):
                result = read_result(folder, config)
                if result is not None:
                    self.known[config] = cost_of_result(result)
        return self.known.get(config)


class Groups:
    """Loss x data set: how many runs are in each state, the best distance, time spent and left."""

    def __init__(self, workers: int) -> None:
        self.workers = max(workers, 1)
        self.groups: dict[tuple[str, str, str], dict[str, Any]] = {}

    def add(
        self, key: tuple[str, str, str], features: str, state: State, cost: Cost | None
    ) -> None:
        """Count a run of (sweep, loss, data set)."""
        empty = {"best": None, "spent_s": 0.0, "runs": 0, "features": features}
        group = self.groups.setdefault(key, empty | dict.fromkeys(STATES, 0))
        group[state] += 1
        group["runs"] += 1
        if cost is not None:
            group["spent_s"] += cost.wall_s
            if cost.fid < (group["best"] or float("inf")):
                group["best"] = cost.fid

    def entries(self) -> list[dict[str, Any]]:
        """One entry a group."""
        for group in self.groups.values():
            done = sum(group[state] for state in DONE)
            left = group["runs"] - done
            group["left_s"] = group["spent_s"] / done * left / self.workers if done else None
        hidden = {of for of in {key[::2] for key in self.groups} if self._is_only_counted(*of)}
        names = ("sweep", "loss", "dataset")
        return [
            dict(zip(names, key, strict=True))
            | group
            | ({"best": None} if key[::2] in hidden else {})
            for key, group in self.groups.items()
        ]

    def _is_only_counted(self, sweep: str, dataset: str) -> bool:
        """Whether a search is judged once, and not all of it is there."""
        if not is_judged_once(sweep):
            return False
        config = load_sweep(sweep)
        there = {
            key[1]: group for key, group in self.groups.items() if key[::2] == (sweep, dataset)
        }
        done = {loss: sum(group[state] for state in DONE) for loss, group in there.items()}
        wanted = config.settings(dataset)
        return any(done.get(loss, 0) < wanted for loss in config.losses or there)


def groups_of(costs: Costs, workers: int, progress: Progress) -> list[dict[str, Any]]:
    """The groups of some runs, which so many workers train."""
    groups = Groups(workers)
    for (config, folder, state), hash_ in zip(progress.runs(), progress.hashes, strict=True):
        cost = costs.of(config.sweep, hash_, folder) if state in DONE else None
        groups.add((config.sweep, config.loss, config.dataset), config.features, state, cost)
    return groups.entries()


def sweeps_there(results: Path) -> list[str]:
    """The sweeps that have run folders or a table."""
    tables = {path.stem for path in results.glob("*.parquet")} & set(sweep_names())
    return sorted({*sweeps_with_runs(results), *tables})


def require_sweep(name: str, results: Path) -> None:
    """StudyError where nothing has such a name: no file of sweeps/, no run, no table."""
    known = sorted({*sweep_names(), *sweeps_there(results)})
    if name not in known:
        raise unknown("sweep", name, known, "there are")


def status(results: Path, sweeps: list[str] | None = None) -> Status:
    """What is true of the sweeps: of every planned run, and of those that only a table holds.

    What cannot be read is named on stderr, and the rest is told.
    """
    found = Status([], [], [], [], [])
    for name in sweeps or sweeps_there(results):
        try:
            add_sweep(found, results, name)
        except (StudyError, OSError) as error:
            print(error, file=sys.stderr)
    return found


def add_sweep(found: Status, results: Path, sweep: str) -> None:
    """Add what is true of one sweep."""
    costs, groups = Costs(results), Groups(1)
    try:
        table = costs.table(sweep)
    except StudyError as error:  # what the folders tell is told all the same
        print(error, file=sys.stderr)
        table = costs.tables[sweep] = pd.DataFrame(columns=OF_A_RUN)
    recorded = dict(zip(table.index, table["status"], strict=True))
    seen = set()
    for folder, config in zip(*planned_runs(sweep, results), strict=True):
        try:
            hash_ = config.hash
            state = recorded_state(recorded, hash_, folder)
            cost = costs.of(sweep, hash_, folder) if state in DONE else None
            seen.add(hash_)
            groups.add((sweep, config.loss, config.dataset), config.features, state, cost)
            if state == "running":
                found.running.append(at_work(config, folder))
            elif is_kept(folder, state):
                found.kept.append(at_work(config, folder))
            add_run(found, folder, state)
        except OSError as error:
            print(f"{folder}: {error}", file=sys.stderr)
    for config_hash, row in table[~table.index.isin(seen)].iterrows():
        key = (sweep, row["loss"], row["dataset"])
        groups.add(key, row["features"], row["status"], costs.known[str(config_hash)])
    found.groups.extend(groups.entries())
    found.warnings.extend(orders.warnings(orders.jobs_folder(results, sweep)))


def add_run(found: Status, folder: Path, state: State) -> None:
    """Add what is to be told of one run: why it failed, or that it never gets anywhere."""
    if state in DONE:
        return
    attempts = claims(folder)
    if state == "failed":
        error, log = attempts[-1].read().error, str(folder / "log.txt")
        found.failures.append({"run": str(folder), "error": error, "log": log})
    elif len(attempts) > RESTLESS and reached(folder).step == 0:
        left = sum(each.read().state == "released" for each in attempts)
        if left >= RESTLESS:
            found.warnings.append(
                f"{folder}: {left} attempts ended before a step was done; is a job's warning "
                "(slurm_signal_delay_s) longer than its life?"
            )

"""How far the runs of a plan are, and the plan written down."""

import math
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from study import datasets as data
from study import files
from study.errors import StudyError
from study.files import STALE_AFTER_S
from study.runs.claim import claims, forgive
from study.runs.folder import (
    DONE,
    State,
    folder_of,
    is_open,
    planned_runs,
    read_result,
    state_of,
)
from study.runs.table import read_table, recorded_state, table_path
from study.settings.config import MACHINE, PAUSE, RESULT, WAITING, Halving, RunConfig

OVERTAKEN = (
    "(of re-runs whose search has found a better setting: `python -m study collect --winners`)"
)

LAST_DIGITS = 1e-14
"""Relative: draws of one setting are this near, and no two settings are."""


class Progress(NamedTuple):
    """The state of every run of a plan, and where its folder lies."""

    configs: list[RunConfig]
    folders: list[Path]
    states: list[State]
    hashes: list[str]
    """Of the configurations: computing one takes as long as reading a file."""
    unread: dict[Path, float] = {}
    """Folders that could not be read at the last look, with the (monotonic) time of the first."""

    def open(self, retries: int) -> list[Path]:
        """Runs that a worker may take: to do, or failed or lost and to be tried once more."""
        return [
            folder
            for hash_, (_, folder, state) in zip(self.hashes, self.runs(), strict=True)
            if state in ("to do", "lost", "failed")
            and folder not in self.unread
            and may_be_taken(folder, retries, hash_)
        ]

    def now(self) -> "Progress":
        """The same, looked at again; what is done stays so.

        What cannot be read keeps the state last seen; StudyError where that lasts.
        """
        states: list[State] = []
        unread: dict[Path, float] = {}
        for hash_, (_, folder, last) in zip(self.hashes, self.runs(), strict=True):
            try:
                states.append(last if last in DONE else state_of(folder, hash_))
            except OSError as error:
                states.append(last)
                unread[folder] = self.unread.get(folder, time.monotonic())
                if time.monotonic() - unread[folder] > STALE_AFTER_S:
                    raise StudyError(f"{folder} cannot be read: {error}") from error
        return self._replace(states=states, unread=unread)

    def runs(self) -> list[tuple[RunConfig, Path, State]]:
        """Configuration, folder and state of each."""
        return list(zip(self.configs, self.folders, self.states, strict=True))

    def counts(self) -> Counter[State]:
        """How many runs are in each state."""
        return Counter(self.states)

    def left(self) -> Counter[State]:
        """How many runs are in each state that is no end: a full disk leaves them lost or to do."""
        return Counter(state for state in self.states if state not in DONE)


def may_be_taken(folder: Path, retries: int, config: str) -> bool:
    """`is_open`; a run that cannot be read at this look is not taken at this look."""
    try:
        return is_open(folder, retries, config)
    except OSError:
        return False


def progress(configs: list[RunConfig], results: Path) -> Progress:
    """Look at every run's files; one that the table holds with the same configuration is done.

    The configurations have the digits with which they were drawn before, if they were.
    """
    if results.exists() and not results.is_dir():
        raise StudyError(f"cannot write to the results folder {results}: it is no folder")
    tables = {name: read_table(results, name) for name in {config.sweep for config in configs}}
    recorded: dict[str, State] = {}
    for table in tables.values():
        recorded |= dict(zip(table["config"], table["status"], strict=True))
    folders = [folder_of(results, config) for config in configs]
    configs = in_former_digits(configs, folders, tables)
    hashes = [config.hash for config in configs]
    states: list[State] = []
    for hash_, folder in zip(hashes, folders, strict=True):
        try:
            states.append(recorded_state(recorded, hash_, folder))
        except OSError as error:
            raise StudyError(f"{folder} cannot be read: {error}") from error
    return Progress(configs, folders, states, hashes)


def in_former_digits(
    configs: list[RunConfig], folders: list[Path], tables: Mapping[str, pd.DataFrame]
) -> list[RunConfig]:
    """The configurations with the draws' last digits that their rows or folders have.

    Until November 2026 a processor's instruction set had a part in them, by some units in the last
    place: what was drawn so is the same setting, and a run goes on with what it was begun with.
    """
    names = {name for config in configs for name in config.hyperparameters()}
    drawn: dict[Path, Mapping[Any, Any]] = {}
    for sweep, table in tables.items():
        rows = table.drop_duplicates(["loss", "dataset", "number"])
        keys = zip(rows["loss"], rows["dataset"], rows["number"], strict=True)
        values = rows[[name for name in rows if name in names]].to_dict("records")
        paths = (Path(sweep, loss, dataset, f"{number:03d}") for loss, dataset, number in keys)
        drawn |= dict(zip(paths, values, strict=True))
    return [
        with_digits_of(config, drawn.get(config.path) or said_in(folder))
        for config, folder in zip(configs, folders, strict=True)
    ]


def said_in(folder: Path) -> dict[str, Any]:
    """What a run's config.json says, its own hyperparameters beside the rest; empty without one."""
    try:
        content = files.read_json(folder / "config.json") or {}
    except OSError as error:
        raise StudyError(f"{folder} cannot be read: {error}") from error
    own = content.get("own")
    return content | own if isinstance(own, dict) else content


def with_digits_of(config: RunConfig, row: Mapping[str, Any]) -> RunConfig:
    """The configuration with those hyperparameters of a row that rounding alone sets apart."""
    near = {
        name: float(row[name])
        for name, value in config.hyperparameters().items()
        if isinstance(value, float)
        and isinstance(row.get(name), float)
        and row[name] != value
        and math.isclose(row[name], value, rel_tol=LAST_DIGITS)
    }
    shared = {name: value for name, value in near.items() if name not in config.own}
    own = config.own | {name: value for name, value in near.items() if name in config.own}
    return config.model_copy(update=shared | {"own": own}) if near else config


def prepare(configs: list[RunConfig], results: Path, halving: Halving | None = None) -> Progress:
    """Write every run's configuration before anything trains; refuse a sweep that has changed.

    Nothing is written before all has been looked at. A plan of which nothing was trained gives way
    to the new one, and a run that is not done takes the MACHINE fields of the new one. Failed runs
    get another chance.
    """
    found = progress(configs, results)
    configs = found.configs
    last_steps: dict[str, int] = {}
    for name in {config.sweep for config in configs}:
        table = read_table(results, name)
        refuse_other_rows(configs, table, table_path(results, name))
        refuse_other_images(configs, table, table_path(results, name))
        last = table.groupby("config")["step"].max()
        last_steps |= dict(zip(map(str, last.index), map(int, last), strict=True))
    refuse_other_rungs(found, halving, last_steps)
    written = [is_written(folder, config, state) for config, folder, state in found.runs()]
    files.require_writable(results)
    for (config, folder, state), is_there in zip(found.runs(), written, strict=True):
        path = folder / "config.json"
        # A run that only the table holds needs no folder; a torn file is mended in any state.
        if state not in DONE and not was_begun(folder):
            if halving is not None:
                files.write_json(folder / PAUSE, {"step": halving.steps(config.d_steps)[0]})
            elif (folder / PAUSE).exists():
                (folder / PAUSE).unlink()
        if not is_there and (state not in DONE or folder.exists()):
            if path.exists() and files.read_json(path) is None:
                aside = files.set_aside(path)
                print(f"{path} cannot be read; it is kept as {aside.name}", file=sys.stderr)
            files.write_json(path, config.model_dump(), synced=False)  # of thousands
        if state in ("failed", "lost"):
            forgive(folder)
    return found.now()


def is_written(folder: Path, config: RunConfig, state: State) -> bool:
    """Whether the run's config.json says what it must.

    StudyError where a run that was begun has another configuration. Of a run that is done or at
    work the fields of MACHINE may differ.
    """
    path = folder / "config.json"
    try:
        planned = files.read_json(path)
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error}") from error
    if planned is None:
        return False
    now = config.model_dump()
    strange = sorted(planned.keys() - config.model_dump().keys())
    if strange and was_begun(folder):
        raise StudyError(
            f"{path}: unknown key '{strange[0]}': a run that was begun keeps its configuration; "
            "take the code that planned it, or delete the run's folder"
        )
    if strange:
        return False
    planned = RunConfig.in_todays_words(planned)  # what an older one does not say has its default
    for name in sorted(now.keys() - MACHINE):
        if planned.get(name) != now[name]:
            if not was_begun(folder):
                return False
            raise StudyError(
                f"{folder} was planned with {name} {planned.get(name)}, the sweep now says "
                f"{now[name]}: copy the sweep under a new name, or delete the old runs {OVERTAKEN}"
            )
    same = all(planned.get(name) == now[name] for name in MACHINE)
    return same or state in (*DONE, "running")


def was_begun(folder: Path) -> bool:
    """Whether there has been an attempt at a run, or anything has come of one."""
    return bool(claims(folder)) or any(
        (folder / name).exists() for name in ("result.json", "checkpoint.pt", "metrics.jsonl")
    )


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


def refuse_other_images(configs: list[RunConfig], table: pd.DataFrame, path: Path) -> None:
    """StudyError where the table's rows are of other images than their data set has now.

    The user's own sets alone can change so: the others are verified by the hashes of their files.
    """
    if "data_digest" not in table:
        return
    for dataset in sorted({config.dataset for config in configs} - data.SETS.keys()):
        recorded = set(table.loc[table["dataset"] == dataset, "data_digest"].dropna())
        if recorded - {data.digest(dataset)}:
            raise StudyError(
                f"{path} has runs on other images than {dataset} holds now (digest "
                f"{', '.join(sorted(recorded))}, now {data.digest(dataset)}): add these under a "
                f"name of their own, or move the table and the runs on {dataset} away"
            )


def refuse_other_rungs(
    found: Progress, halving: Halving | None, last_steps: Mapping[str, int]
) -> None:
    """StudyError where a run waits, is to wait or was stopped at what is no rung today.

    It would wait for ever, or count as done where others are trained on. `last_steps`: of the runs
    that the table holds, by hash.
    """
    for (config, folder, state), hash_ in zip(found.runs(), found.hashes, strict=True):
        rungs = halving.steps(config.d_steps) if halving is not None else []
        try:
            step = last_steps.get(hash_) if state == "stopped" else None
            step = held_at(folder, state, hash_) if step is None else step
        except OSError as error:
            raise StudyError(f"{folder} cannot be read: {error}") from error
        if step is not None and step not in rungs:
            does = {"waiting": "waits", "stopped": "was stopped"}.get(state, "is to wait")
            raise StudyError(
                f"{folder} {does} at step {step}, which is no rung that sweeps/{config.sweep}.toml "
                "states today: put its [halving] back as it was, delete the sweep's old runs and "
                "table, or copy the sweep under a new name"
            )


def held_at(folder: Path, state: State, config: str) -> int | None:
    """The step at which a run that was begun waits, is to wait or was stopped, if any."""
    if state in ("waiting", "stopped"):
        content = read_result(folder, config, WAITING if state == "waiting" else RESULT)
        return None if content is None else int(content["evaluations"][-1]["step"])
    pause = files.read_json(folder / PAUSE) if state not in DONE else None
    step = (pause or {}).get("step")
    return step if isinstance(step, int) and was_begun(folder) else None


def set_overtaken_aside(
    results: Path, sweep: str, best: dict[tuple[str, str], dict[str, Any]]
) -> None:
    """Move the re-runs of what is no longer a search's best setting out of the new best's way.

    `best` has those settings now, by loss and data set.
    They go to results/runs/<sweep>/<loss>/<data set>/overtaken/, where nothing reads them; one that
    is being trained stays.
    """
    for folder, config in zip(*planned_runs(sweep, results), strict=True):
        values = config.hyperparameters()
        wanted = best.get((config.loss, config.dataset), {})
        if all(values.get(name) == value for name, value in wanted.items()):
            continue
        if state_of(folder) != "running":
            aside = folder.parent / "overtaken" / f"{folder.name}.{config.hash}"
            aside.parent.mkdir(exist_ok=True)
            if aside.exists():  # the same configuration, overtaken before
                files.set_aside(aside)
            folder.rename(aside)

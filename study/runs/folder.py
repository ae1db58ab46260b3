"""A run's folder: what lies in it, what state it is in, and how a worker takes it.

config.json       resolved configuration, written before any training
claim.N.json      the N-th attempt: who, where, when; its modification time is the heartbeat
checkpoint.pt     everything needed to go on bit for bit
pause.json        with halving: the D step at which the run waits for the others
waiting.json      written there: result.json as it would be, should the run stop here
best.pt           the generator at the best evaluation
metrics.jsonl     a line an evaluation
curves.parquet    the training curves;  events/ the same for TensorBoard
samples/          a grid of 8x8 images an evaluation
log.txt           what the attempts had to say
result.json       written last: the run is done
"""

import glob
import math
import os
import sys
from pathlib import Path
from typing import Any, Literal

from study import files
from study.errors import StudyError
from study.runs.claim import (
    Claim,
    create,
    failures,
    is_former_start,
    is_later_start,
    last_claim,
)
from study.settings.config import (
    RESULT,
    WAITING,
    RunConfig,
    SweepConfig,
    load_sweep,
    read_config,
    sweep_names,
)

State = Literal["to do", "running", "waiting", "ok", "stopped", "diverged", "failed", "lost"]
DONE: tuple[State, ...] = ("ok", "stopped", "diverged")


def is_paired(config: SweepConfig) -> bool:
    """Whether a number of a sweep means one setting and one seed for all losses."""
    return config.draws == "shared" and config.seed == "number"


def is_judged_once(sweep: str) -> bool:
    """Whether a sweep is a paired one of sweeps/: nobody should see early who is ahead in it."""
    return sweep in sweep_names() and is_paired(load_sweep(sweep))


def read_result(
    folder: Path, config: str | None = None, name: str = RESULT
) -> dict[str, Any] | None:
    """A finished run's result.json; None where there is none, or none that says what it must.

    `name`: the same of another file, waiting.json.

    With the hash of its configuration, a result of another one is none. Its numbers that JSON has
    not, a diverged run's distances, are infinite.
    """
    result = files.read_json(folder / name)
    if result is None:
        return None
    if result.get("status") == "diverged" and isinstance(result.get("evaluations"), list):
        result["evaluations"] = [with_infinities(row) for row in result["evaluations"]]
    return result if is_result(result) and config in (None, result["config"]) else None


def with_infinities(row: Any) -> Any:
    """An evaluation of a diverged run as it was measured: null stands for infinity.

    (Until version 0.2 the files said Infinity, which only Python reads.)
    """
    if not isinstance(row, dict):
        return row
    return {name: math.inf if value is None else value for name, value in row.items()}


def is_result(content: dict[str, Any]) -> bool:
    """Whether a result says how the run ended and, one by one, what its evaluations found."""
    evaluations = content.get("evaluations")
    return (
        content.get("status") in DONE
        and isinstance(content.get("config"), str)
        and isinstance(content.get("provenance"), dict)
        and isinstance(evaluations, list)
        and len(evaluations) > 0
        and all(is_evaluation(row) for row in evaluations)
    )


def is_evaluation(row: object) -> bool:
    """Whether a row has the numbers that every evaluation has."""
    return isinstance(row, dict) and all(
        type(row.get(name)) in (int, float) for name in ("step", "fid", "wall_s")
    )


def state_of(folder: Path, config: str | None = None) -> State:
    """What is true of a run, judged by its files alone.

    With the hash of its configuration, a result of another one is none.
    """
    result = read_result(folder, config)
    return state_without_result(folder, config) if result is None else result["status"]


def state_without_result(folder: Path, config: str | None = None) -> State:
    """What is true of a run that is not done, by its claims and whether it waits at a rung."""
    if read_result(folder, config, WAITING) is not None:
        return "waiting"
    last = last_claim(folder)
    if last is None:
        return "to do"
    end = last.read().state
    if end == "running":
        return "running" if last.is_alive() else "lost"
    return "failed" if end == "failed" else "to do"


def is_open(folder: Path, retries: int = 0, config: str | None = None) -> bool:
    """Whether a worker may take the run: it waits, or failed or died at most `retries` times."""
    state = state_of(folder, config)
    return state == "to do" or (state in ("failed", "lost") and failures(folder) <= retries)


def take(folder: Path, retries: int = 0) -> Claim | None:
    """Take a run that is open; None where another has it.

    What earlier attempts left behind and nobody can use is put aside: temporary files are removed,
    a result that cannot be read, or is another configuration's, is renamed (the log names it).
    A folder with links in it is not worked in: the attempt fails.
    """
    last = last_claim(folder)
    before = last.read() if last is not None else None
    if before is not None and is_later_start(before):
        return None
    if last and before and before.state == "running" and is_former_start(before):
        last.end("released")  # this very job was put back into the queue: not the run's fault
    config = planned_hash(folder)
    if not is_open(folder, retries, config):
        return None
    mine = create(folder, last.number + 1 if last else 1)
    if mine is not None:
        links = files.links_in(folder)
        if links:
            mine.end("failed", f"{links[0]} is a link: nothing is written through it; remove it")
            return None
        clear(folder, last, config)
    return mine


def clear(folder: Path, last: Claim | None, config: str | None) -> None:
    """Remove what no attempt can use, and put aside what could not be read, by name."""
    files.remove_temporaries(folder)
    if last is not None and files.read_json(last.path) is None:
        files.log(folder, f"{last.path.name} cannot be read; taken for an attempt that died")
    path = folder / "result.json"
    if os.path.lexists(path):
        result = read_result(folder)
        if result is None:
            aside = files.set_aside(path)
            files.log(folder, f"result.json cannot be read; it is kept as {aside.name}")
        elif config not in (None, result["config"]):
            aside = files.set_aside(path)
            files.log(folder, f"result.json is another configuration's; it is kept as {aside.name}")


def planned_hash(folder: Path) -> str | None:
    """The hash of a run's configuration; None where it has none that can be read."""
    try:
        return read_config(folder / "config.json").hash
    except StudyError:
        return None


def results_folder() -> Path:
    """STUDY_RESULTS, or results/ here."""
    return Path(os.environ.get("STUDY_RESULTS") or "results")


def folder_of(results: Path, config: RunConfig) -> Path:
    """Where a run lies."""
    return results / "runs" / config.path


def folders_of(sweep: str, results: Path) -> list[Path]:
    """Every run folder of a sweep that exists, sorted."""
    paths = glob.glob(f"{glob.escape(str(results / 'runs' / sweep))}/*/*/*/config.json")
    return [Path(path).parent for path in sorted(paths)]


def planned_runs(sweep: str, results: Path) -> tuple[list[Path], list[RunConfig]]:
    """A sweep's run folders and configurations; one that cannot be read is named on stderr."""
    folders, configs = [], []
    for folder in folders_of(sweep, results):
        try:
            configs.append(read_config(folder / "config.json"))
            folders.append(folder)
        except StudyError as error:
            print(f"{error}; `make sweep` writes it again", file=sys.stderr)
    return folders, configs


def sweeps_with_runs(results: Path) -> list[str]:
    """Names of the sweeps that have run folders."""
    runs = results / "runs"
    return sorted(path.name for path in runs.iterdir() if path.is_dir()) if runs.exists() else []

"""A run's folder: what lies in it, what state it is in, and how a worker takes it.

config.json       resolved configuration, written before any training
claim.N.json      the N-th attempt: who, where, when; its modification time is the heartbeat
checkpoint.pt     everything needed to go on bit for bit
best.pt           the generator at the best evaluation
metrics.jsonl     a line an evaluation
curves.parquet    the training curves;  events/ the same for TensorBoard
samples/          a grid of 8x8 images an evaluation
log.txt           what the attempts had to say
result.json       written last: the run is done
"""

import glob
import os
import sys
from pathlib import Path
from typing import Any, Literal

from study.errors import StudyError
from study.files import log, read_json, remove_temporaries
from study.runs.claim import Claim, create, failures, is_alive, is_former_start, last_claim
from study.settings.config import RunConfig, read_config

State = Literal["to do", "running", "ok", "diverged", "failed", "lost"]
DONE: tuple[State, ...] = ("ok", "diverged")


def read_result(folder: Path) -> dict[str, Any] | None:
    """A finished run's result.json; None where there is none, or none that can be read."""
    result = read_json(folder / "result.json")
    return result if result is not None and result.get("status") in DONE else None


def state_of(folder: Path) -> State:
    """What is true of a run, judged by its files alone."""
    result = read_result(folder)
    if result is not None:
        state: State = result["status"]
        return state
    last = last_claim(folder) if folder.is_dir() else None
    if last is None:
        return "to do"
    content = read_json(last.path) or {}
    end = content.get("state", "running")
    if end == "running":
        return "running" if is_alive(last.path, content) else "lost"
    return "failed" if end == "failed" else "to do"


def is_open(folder: Path, retries: int = 0) -> bool:
    """Whether a worker may take the run: it waits, or failed or died at most `retries` times."""
    state = state_of(folder)
    return state == "to do" or (state in ("failed", "lost") and failures(folder) <= retries)


def take(folder: Path, retries: int = 0) -> Claim | None:
    """Take a run that is open; None where another has it.

    What earlier attempts left behind and nobody can use is cleared away: temporary files, and a
    result that cannot be read (the log names it).
    """
    last = last_claim(folder)
    before = (last and read_json(last.path)) or {}
    if last is not None and before.get("state") == "running" and is_former_start(before):
        last.end("released")  # this very job was put back into the queue: not the run's fault
    if not is_open(folder, retries):
        return None
    mine = create(folder, last.number + 1 if last else 1)
    if mine is not None:
        clear(folder, last)
    return mine


def clear(folder: Path, last: Claim | None) -> None:
    """Remove what no attempt can use, and name what could not be read."""
    remove_temporaries(folder)
    if last is not None and read_json(last.path) is None:
        log(folder, f"{last.path.name} cannot be read; taken for an attempt that died")
    if (folder / "result.json").exists() and read_result(folder) is None:
        log(folder, "result.json cannot be read; it is made again")
        (folder / "result.json").unlink()


def results_folder() -> Path:
    """STUDY_RESULTS, or results/ here."""
    return Path(os.environ.get("STUDY_RESULTS", "results"))


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

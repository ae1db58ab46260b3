"""A run's folder: what lies in it, how it is written, who works on it, and what state it is in.

    config.json       resolved configuration, written before any training
    claim.N.json      the N-th attempt: who, where, when; its modification time is the heartbeat
    checkpoint.pt     everything needed to go on bit for bit
    best.pt           the generator at the best evaluation
    metrics.jsonl     a line an evaluation
    curves.parquet    the training curves;  events/ the same for TensorBoard
    samples/          a grid of 8x8 images an evaluation
    log.txt           what the attempts had to say
    result.json       written last: the run is done

Files are written under another name and put in place, so that a reader never sees half of one.
Claims are numbered and never taken away: attempt N + 1 is created exclusively once attempt N is
seen to be dead, so two workers cannot both hold it, and an attempt that finds a later one steps
back.
"""

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from study.errors import StudyError

State = Literal["to do", "running", "ok", "diverged", "failed", "lost"]
DONE: tuple[State, ...] = ("ok", "diverged")

HEARTBEAT_S = 10.0
LOST_AFTER_S = 120.0


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically; a diverged run's distance is written Infinity, as Python reads it."""
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))


def read_json(path: Path) -> dict[str, Any] | None:
    """The content of a JSON object's file; None where it is missing, empty or torn."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None


class Claim(NamedTuple):
    """One attempt at a run."""

    folder: Path
    number: int

    @property
    def path(self) -> Path:
        """The claim's file."""
        return self.folder / f"claim.{self.number}.json"

    def is_held(self) -> bool:
        """Whether no later attempt has taken over."""
        return not Claim(self.folder, self.number + 1).path.exists()

    def end(self, state: Literal["released", "failed"], error: str | None = None) -> None:
        """Say that this attempt is over without a result."""
        content = read_json(self.path) or {}
        write_json(self.path, content | {"state": state, "error": error})


def last_claim(folder: Path) -> Claim | None:
    """The latest attempt at a run, if there is any."""
    numbers = [
        int(name.split(".")[1])
        for name in os.listdir(folder)
        if name.startswith("claim.") and name.endswith(".json")
    ]
    return Claim(folder, max(numbers)) if numbers else None


def claim(folder: Path, again: bool = False) -> Claim | None:
    """Take a run that is to do or lost (or failed, with `again`); None where another has it."""
    state = state_of(folder)
    if state in DONE or state == "running" or (state == "failed" and not again):
        return None
    last = last_claim(folder)
    mine = Claim(folder, last.number + 1 if last else 1)
    content = {
        "state": "running",
        "host": socket.gethostname(),
        "machine": machine(),
        "pid": os.getpid(),
        "started": process_start(os.getpid()),
        "job": job_id(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".claim.") as file:
        json.dump(content, file)
        file.flush()
        try:
            os.link(file.name, mine.path)  # atomic and exclusive, on shared file systems too
        except FileExistsError:
            return None
    return mine


@contextlib.contextmanager
def heartbeat(mine: Claim) -> Iterator[None]:
    """Touch the claim's file every few seconds while the block runs."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT_S):
            with contextlib.suppress(OSError):
                os.utime(mine.path)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def state_of(folder: Path) -> State:
    """What is true of a run, judged by its files alone."""
    result = read_json(folder / "result.json")
    if result is not None:
        state: State = result["status"]
        return state
    last = last_claim(folder) if folder.is_dir() else None
    if last is None:
        return "to do"
    content = read_json(last.path) or {}
    if content.get("state") == "failed":
        return "failed"
    if content.get("state") == "released":
        return "to do"
    return "running" if is_alive(last.path, content) else "lost"


def is_alive(path: Path, content: dict[str, Any]) -> bool:
    """Whether the process behind a claim still works: its process here, its heartbeat elsewhere."""
    if content.get("machine") == machine() and content["started"]:
        return bool(process_start(content["pid"]) == content["started"])
    age_s = file_system_time(path.parents[3]) - path.stat().st_mtime
    return abs(age_s) < LOST_AFTER_S  # far in the future is as dead: the clock was set back


def file_system_time(folder: Path) -> float:
    """Now, by the clock that stamps heartbeats (a file server's, where there is one); seconds."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".now.") as file:
            return os.fstat(file.fileno()).st_mtime
    except PermissionError:  # a reader of somebody else's results
        return time.time()


@cache
def machine() -> str:
    """This machine since its last start, as far as processes can be told apart by number."""
    boot, namespace = "", ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(os.stat("/proc/self/ns/pid").st_ino)
    return f"{socket.gethostname()}/{boot}/{namespace}"


def process_start(pid: int) -> str | None:
    """When a process of this machine started, in clock ticks; None if it is gone (or no /proc)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = stat.rsplit(")", 1)[1].split()
    return None if state == "Z" else fields[18]


@cache
def commit() -> str | None:
    """The commit of the code, with + where study/ differs from it; None outside a git checkout."""
    package = Path(__file__).parent
    answers = []
    for command in ("rev-parse --short=12 HEAD", "status --porcelain -- ."):
        process = subprocess.run(
            ["git", "-C", str(package), *command.split()],
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode != 0:
            return None
        answers.append(process.stdout.strip())
    return answers[0] + ("+" if answers[1] else "")


def job_id() -> str | None:
    """The SLURM job that this process belongs to."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def log(folder: Path, message: str) -> None:
    """Append a line to the run's log, with the time."""
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    with (folder / "log.txt").open("a") as file:
        file.write(f"{stamp} {message}\n")


def require_writable(folder: Path) -> None:
    """StudyError unless files can be made in `folder`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StudyError(
            f"cannot write to the results folder {folder}: {error.strerror}; "
            "set STUDY_RESULTS to a folder that you may write to"
        ) from error


def seconds_since(start: float) -> float:
    """Seconds since a reading of the monotonic clock, to the millisecond."""
    return round(time.monotonic() - start, 3)

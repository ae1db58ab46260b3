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
back. What became of an attempt stands in its claim:

    running     at work, or dead without having said so: its process or its heartbeat tells
    finished    result.json is there
    released    asked to stop; a later attempt goes on from the checkpoint
    failed      ended by an exception or by its process's death
    forgiven    failed or died, and no longer counted: a new `make sweep` gives another chance
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from study.errors import StudyError

State = Literal["to do", "running", "ok", "diverged", "failed", "lost"]
DONE: tuple[State, ...] = ("ok", "diverged")
End = Literal["finished", "released", "failed", "forgiven"]

HEARTBEAT_S = 10.0
LOST_AFTER_S = 120.0
CLOCK_CHECK_S = 5.0


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(path) as temporary:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """An empty file that says whose it is: .NAME.PROCESS@MACHINE.xxxx; gone after the block."""
    prefix = f".{path.name}.{os.getpid()}@{machine_key()}."
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files that processes left behind which are gone."""
    for entry in os.scandir(folder):
        owner = re.match(r"\..+\.(\d+)@(\w+)\.\w+$", entry.name)
        if owner is None:
            continue
        with contextlib.suppress(FileNotFoundError):  # its writer was quicker
            if owner[2] == machine_key():
                gone = process_start(int(owner[1])) is None
            else:
                gone = abs(file_system_time(folder) - entry.stat().st_mtime) > LOST_AFTER_S
            if gone:
                os.unlink(entry)


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


def read_result(folder: Path) -> dict[str, Any] | None:
    """A finished run's result.json; None where there is none, or none that can be read."""
    result = read_json(folder / "result.json")
    return result if result is not None and result.get("status") in DONE else None


class TakenOver(Exception):  # noqa: N818 (nothing has gone wrong)
    """Another attempt has this run now: write nothing more."""


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

    def require_held(self) -> None:
        """TakenOver where a later attempt has the run."""
        if not self.is_held():
            raise TakenOver(f"attempt {self.number} has been taken over")

    def end(self, state: End, error: str | None = None) -> None:
        """Say what this attempt has come to."""
        content = read_json(self.path) or {}
        error = error or content.get("error")
        write_json(self.path, content | {"state": state, "error": error})


def claims(folder: Path) -> list[Claim]:
    """Every attempt at a run, the latest last."""
    found = (re.fullmatch(r"claim\.(\d+)\.json", name) for name in os.listdir(folder))
    return [Claim(folder, number) for number in sorted(int(match[1]) for match in found if match)]


def last_claim(folder: Path) -> Claim | None:
    """The latest attempt at a run, if there is any."""
    return next(reversed(claims(folder)), None)


def claim(folder: Path, retries: int = 0) -> Claim | None:
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
    mine = Claim(folder, last.number + 1 if last else 1)
    content = {
        "state": "running",
        "host": socket.gethostname(),
        "machine": machine(),
        "pid": os.getpid(),
        "started": process_start(os.getpid()),
        "job": job_id(),
        "job_start": job_start(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with temporary_beside(mine.path) as temporary:
        temporary.write_text(json.dumps(content))
        try:
            os.link(temporary, mine.path)  # atomic and exclusive, on shared file systems too
        except FileExistsError:
            return None
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


def is_open(folder: Path, retries: int = 0) -> bool:
    """Whether a worker may take the run: it waits, or failed or died at most `retries` times."""
    state = state_of(folder)
    return state == "to do" or (state in ("failed", "lost") and failures(folder) <= retries)


def failures(folder: Path) -> int:
    """How many attempts at a run that nobody holds have failed or died, and are not forgiven."""
    contents = [read_json(each.path) or {} for each in claims(folder)]
    return sum(content.get("state", "running") in ("running", "failed") for content in contents)


def forgive(folder: Path) -> None:
    """Give a run that has failed or was lost all its chances again."""
    for each in claims(folder):
        if (read_json(each.path) or {}).get("state", "running") in ("running", "failed"):
            each.end("forgiven")


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


def is_alive(path: Path, content: dict[str, Any]) -> bool:
    """Whether the process behind a claim still works: its process here, its heartbeat elsewhere."""
    if is_former_start(content):
        return False
    if content.get("machine") == machine() and content["started"]:
        return bool(process_start(content["pid"]) == content["started"])
    age_s = file_system_time(path.parents[3]) - path.stat().st_mtime
    return abs(age_s) < LOST_AFTER_S  # far in the future is as dead: the clock was set back


def is_former_start(content: dict[str, Any]) -> bool:
    """Whether a claim is of this very SLURM job before it was put back into the queue.

    Its heartbeat may be fresh, and its process alive where only the node's daemon has died.
    """
    return job_id() is not None and (
        content.get("job") == job_id() and content.get("job_start") != job_start()
    )


def file_system_time(folder: Path) -> float:
    """Now, by the clock that stamps heartbeats (a file server's, where there is one); seconds."""
    return time.monotonic() + clock_offset(folder, int(time.monotonic() // CLOCK_CHECK_S))


@lru_cache(maxsize=8)
def clock_offset(folder: Path, check: int) -> float:
    """The file system's clock minus the monotonic one; looked at anew for every `check`."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime - time.monotonic()
    except OSError:  # a reader of somebody else's results, or a full disk
        return time.time() - time.monotonic()


@cache
def machine() -> str:
    """This machine since its last start, as far as processes can be told apart by number."""
    boot, namespace = "", ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(os.stat("/proc/self/ns/pid").st_ino)
    return f"{socket.gethostname()}/{boot}/{namespace}"


@cache
def machine_key() -> str:
    """The machine in eight characters, for the names of temporary files."""
    return hashlib.sha256(machine().encode()).hexdigest()[:8]


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
    package = Path(__file__).parent.parent
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


def job_start() -> str:
    """How often SLURM had put this process's job back into the queue when it was started."""
    return os.environ.get("SLURM_RESTART_COUNT", "0")


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes out of the same block on the same folder; a dead one's hold is gone."""
    with (folder / ".lock").open("a") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


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

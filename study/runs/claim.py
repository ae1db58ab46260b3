"""Who works on a run: its numbered claims, and whether the process behind one still lives.

Claims are never taken away: attempt N + 1 is created exclusively once attempt N is seen to be dead,
so two workers cannot both hold a run, and an attempt that finds a later one steps back. What became
of an attempt stands in its claim:

    running     at work, or dead without having said so: its process or its heartbeat tells
    finished    result.json is there
    released    asked to stop; a later attempt goes on from the checkpoint
    failed      ended by an exception or by its process's death
    forgiven    failed or died, and no longer counted: a new `make sweep` gives another chance
"""

import contextlib
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from study import files
from study.files import STALE_AFTER_S, file_system_time, machine, process_start, read_json

End = Literal["finished", "released", "failed", "forgiven"]

HEARTBEAT_S = 10.0

# What a scheduler's job says of itself to the processes it starts: which job they belong to, and
# how often that had been put back into the queue when they were started.
JOB, JOB_START = "STUDY_JOB", "STUDY_JOB_START"


class TakenOver(Exception):  # noqa: N818 (nothing has gone wrong)
    """Another attempt has this run now: write nothing more."""


class Record(NamedTuple):
    """What a claim's file says; what cannot be told from a torn one stands for a live claim."""

    state: str = "running"
    error: str | None = None
    host: str = "?"
    machine: str | None = None
    pid: int = 0
    started: str | None = None
    job: str | None = None
    job_start: int = 0


class Claim(NamedTuple):
    """One attempt at a run."""

    folder: Path
    number: int

    @property
    def path(self) -> Path:
        """The claim's file."""
        return self.folder / f"claim.{self.number}.json"

    def read(self) -> Record:
        """What it says; OSError where it cannot be read at all."""
        return record_of(read_json(self.path) or {})

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
        files.write_json(self.path, content | {"state": state, "error": error})

    def is_alive(self) -> bool:
        """Whether its process still works: told by the process here, by its heartbeat elsewhere."""
        record = self.read()
        if record.state != "running" or is_former_start(record):
            return False
        if record.machine == machine() and record.started:
            return process_start(record.pid) == record.started
        above = self.folder.parents  # the sweep's folder, whose time is asked for once for all runs
        near = above[2] if len(above) > 3 else self.folder
        age_s = file_system_time(near) - self.path.lstat().st_mtime
        return abs(age_s) < STALE_AFTER_S  # far in the future is as dead: the clock was set back


def record_of(content: dict[str, Any]) -> Record:
    """A claim's content with every field of its type, whoever has written it."""
    state, pid, start = content.get("state"), content.get("pid"), str(content.get("job_start"))
    texts = {
        name: str(content[name])
        for name in ("error", "host", "machine", "started", "job")
        if content.get(name) is not None
    }
    return Record(
        state=str(state) if state in get_args(End) else "running",
        pid=pid if isinstance(pid, int) else 0,
        job_start=int(start) if start.isdecimal() else 0,
        **texts,
    )


def claims(folder: Path) -> list[Claim]:
    """Every attempt at a run, the latest last; none where there is no such folder."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    found = (re.fullmatch(r"claim\.(\d{1,9})\.json", name) for name in names)
    return [Claim(folder, number) for number in sorted(int(match[1]) for match in found if match)]


def last_claim(folder: Path) -> Claim | None:
    """The latest attempt at a run, if there is any."""
    return next(reversed(claims(folder)), None)


def latest(folder: Path) -> int:
    """The number of a run's latest attempt; 0 before the first."""
    last = last_claim(folder)
    return last.number if last is not None else 0


def create(folder: Path, number: int) -> Claim | None:
    """Attempt `number` at a run, by this process; None where another was quicker."""
    mine = Claim(folder, number)
    job, start = job_of_this_process()
    content = {
        "state": "running",
        "host": socket.gethostname(),
        "machine": machine(),
        "pid": os.getpid(),
        "started": process_start(os.getpid()),
        "job": job,
        "job_start": str(start),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return mine if files.create(mine.path, json.dumps(content)) else None


def failures(folder: Path) -> int:
    """How many attempts at a run that nobody holds have failed or died, and are not forgiven."""
    return sum(each.read().state in ("running", "failed") for each in claims(folder))


def forgive(folder: Path) -> None:
    """Give a run that has failed or was lost all its chances again; a live claim stays."""
    for each in claims(folder):
        state = each.read().state
        if state == "failed" or (state == "running" and not (each.is_held() and each.is_alive())):
            each.end("forgiven")


@contextlib.contextmanager
def heartbeat(mine: Claim) -> Iterator[None]:
    """Touch the claim's file every few seconds while the block runs."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT_S):
            with contextlib.suppress(OSError):
                os.utime(mine.path, follow_symlinks=False)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def job_of_this_process() -> tuple[str | None, int]:
    """The job that this process belongs to, and how often it had gone back into the queue."""
    start = os.environ.get(JOB_START, "0")
    return os.environ.get(JOB), int(start) if start.isdecimal() else 0


def is_former_start(record: Record) -> bool:
    """Whether a claim is of this very job before it was put back into the queue.

    Its heartbeat may be fresh, and its process alive where only the node's daemon has died. The
    run goes to the later start, and never back.
    """
    job, start = job_of_this_process()
    return job is not None and record.job == job and record.job_start < start


def is_later_start(record: Record) -> bool:
    """Whether a claim is of this very job, started again since: this process has been given up."""
    job, start = job_of_this_process()
    return job is not None and record.job == job and record.job_start > start

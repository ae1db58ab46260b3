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
from typing import Any, Literal, NamedTuple

from study.files import (
    STALE_AFTER_S,
    file_system_time,
    machine,
    process_start,
    read_json,
    temporary_beside,
    write_json,
)

End = Literal["finished", "released", "failed", "forgiven"]

HEARTBEAT_S = 10.0


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


def create(folder: Path, number: int) -> Claim | None:
    """Attempt `number` at a run, by this process; None where another was quicker."""
    mine = Claim(folder, number)
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
    return mine


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


def is_alive(path: Path, content: dict[str, Any]) -> bool:
    """Whether the process behind a claim still works: its process here, its heartbeat elsewhere."""
    if is_former_start(content):
        return False
    if content.get("machine") == machine() and content["started"]:
        return bool(process_start(content["pid"]) == content["started"])
    age_s = file_system_time(path.parents[3]) - path.stat().st_mtime
    return abs(age_s) < STALE_AFTER_S  # far in the future is as dead: the clock was set back


def is_former_start(content: dict[str, Any]) -> bool:
    """Whether a claim is of this very SLURM job before it was put back into the queue.

    Its heartbeat may be fresh, and its process alive where only the node's daemon has died.
    """
    return job_id() is not None and (
        content.get("job") == job_id() and content.get("job_start") != job_start()
    )


def job_id() -> str | None:
    """The SLURM job that this process belongs to."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def job_start() -> str:
    """How often SLURM had put this process's job back into the queue when it was started."""
    return os.environ.get("SLURM_RESTART_COUNT", "0")

"""Orders: what the jobs of a sweep carry, written down before a cluster is asked to run them.

An order is a folder of results/runs/<sweep>/jobs/ that has its jobs' name and holds their logs.
"""

import contextlib
import socket
from pathlib import Path
from typing import NamedTuple

from study import files
from study.counts import counted
from study.errors import StudyError
from study.runs.claim import latest
from study.runs.folder import DONE, state_of


class Order(NamedTuple):
    """What the jobs of an array carry."""

    jobs: list[list[Path]]
    attempts: dict[Path, int]
    """The number of each run's latest attempt when the order was made."""
    sent: bool = True
    """Whether SLURM has taken it, as far as the driver has lived to tell."""
    warning: str | None = None


def read_order(folder: Path) -> Order:
    """An order; StudyError where this machine cannot see or read it."""
    try:
        content = files.read_json(folder / "order.json") or {}
        jobs = [[Path(name) for name in job] for job in content["jobs"]]
        attempts = {Path(name): int(n) for name, n in (content.get("attempts") or {}).items()}
        return Order(jobs, attempts, content.get("sent", True) is True, content.get("warning"))
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise StudyError(
            f"{folder}/order.json cannot be read on {socket.gethostname()}: the results folder "
            "must lie on a disk that the nodes share, under one path; STUDY_RESULTS names it"
        ) from error


def write_order(folder: Path, order: Order) -> None:
    """Write an order down; StudyError or OSError where that cannot be done."""
    content = {
        "jobs": [[str(each) for each in job] for job in order.jobs],
        "attempts": {str(each): number for each, number in order.attempts.items()},
        "sent": order.sent,
        "warning": order.warning,
    }
    files.write_json(folder / "order.json", content)


def jobs_folder(results: Path, sweep: str) -> Path:
    """Where the orders and logs of a sweep's SLURM jobs lie."""
    return (results / "runs" / sweep / "jobs").absolute()


def was_taken(folder: Path, before: int) -> bool:
    """Whether a run is done, or there has been an attempt at it since."""
    with contextlib.suppress(OSError):
        return latest(folder) > before or state_of(folder) in DONE
    return True


def last_words(order: Path) -> str:
    """How the latest log of an order's jobs ends."""
    for kind in ("*_log.err", "*_log.out"):
        for path in sorted(order.glob(kind), key=lambda path: path.stat().st_mtime, reverse=True):
            lines = path.read_text(errors="replace").split("\n")
            said = [line.strip() for line in lines if line.strip()]
            if said:
                return f"{said[-1]} ({path})"
    return f"its jobs said nothing ({order})"


def cancellations(jobs: Path) -> str:
    """A text that changes whenever somebody cancels the sweep."""
    with contextlib.suppress(OSError):
        return files.read_bytes(jobs / "cancelled").decode(errors="replace")
    return ""


def warnings(jobs: Path) -> list[str]:
    """What is wrong with the jobs that were submitted and not yet seen to have ended."""
    found = []
    for path in jobs.glob("study-*/order.json"):
        with contextlib.suppress(StudyError):
            found.append(read_order(path.parent).warning)
    return sorted({each for each in found if each})


def silence(count: int, jobs: Path) -> str:
    """What it means that so many jobs have ended without a word."""
    return (
        f"{counted(count, 'job')} left the queue without a log: cancelled while waiting, "
        f"or the nodes do not see {jobs}; results must lie on a disk that the nodes share "
        "(STUDY_RESULTS names the folder); the same command submits them again"
    )

"""The driver: has every run of a plan brought to its end, by whatever trains them.

A scheduler is where runs are trained: workers on this machine (local.py), or the queue of a cluster
(slurm.py). Another one is one more file with these methods.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from study.errors import StudyError
from study.files import STALE_AFTER_S
from study.runs.claim import latest
from study.runs.halving import judge
from study.runs.progress import Progress
from study.runs.workers import stop_if_broken
from study.settings.config import Halving

Show = Callable[[Progress], None]

LONGEST_PAUSE_S = 300.0


class Scheduler(Protocol):
    """Where runs are trained."""

    look_s: float
    """Seconds between two looks at how it goes."""

    def submit(self, folders: Sequence[Path]) -> None:
        """Have these runs trained; StudyError where that is refused."""

    def queued(self) -> Mapping[Path, str]:
        """Absolute run folder -> the job that has it to do; NotNow where that cannot be told."""

    def cancel(self) -> int:
        """Take back what waits, and stop what runs; how many jobs there were."""

    def describe(self, count: int) -> Iterator[str]:
        """What submitting so many runs would mean, line by line."""

    def pause(self, seconds: float) -> None:
        """Let so much time pass; KeyboardInterrupt where the user wants to stop."""

    def last_words(self) -> str:
        """What the jobs said of which none took a run."""


class NotNow(StudyError):  # noqa: N818 (nothing has gone wrong)
    """The scheduler does not answer: whoever waits asks again, and others are told."""


def drive(
    found: Progress,
    scheduler: Scheduler,
    show: Show,
    retries: int,
    max_failures: int,
    halving: Halving | None = None,
) -> None:
    """Have what is open trained, and stay until every run has come to an end.

    Runs that others have at work are waited for, and trained here should they be lost. A scheduler
    that does not answer is asked again, after growing pauses. StudyError once `max_failures` runs
    have failed, or after a round of jobs none of which took a run.
    """
    round_ = Round(scheduler)
    pause_s = scheduler.look_s
    while True:
        started = time.monotonic()
        found = look(found, halving)
        show(found)
        try:
            stop_if_broken(found.states, max_failures)
        except StudyError:
            scheduler.cancel()
            raise
        try:
            if not round_.go_on(found, retries):
                return
        except NotNow as silence:
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            print(f"{silence}; asking again in {pause_s:.0f} s", file=sys.stderr)
        else:
            pause_s = scheduler.look_s
        took_s = time.monotonic() - started
        scheduler.pause(max(pause_s, 20 * took_s))  # looking costs 5 % of a core at most


def look(found: Progress, halving: Halving | None) -> Progress:
    """The states of the runs now, those that wait at a rung judged.

    Where the disk does not let them be judged at this look they count as unread, so that there is
    another; StudyError where that lasts.
    """
    now = found.now()
    try:
        return judge(now, halving)
    except OSError as error:
        waiting = [folder for _, folder, state in now.runs() if state == "waiting"]
        since = found.unread.get(waiting[0], time.monotonic())
        if time.monotonic() - since > STALE_AFTER_S:
            raise StudyError(
                f"{waiting[0]} and what waits with it cannot be judged: {error}"
            ) from error
        return now._replace(unread=dict.fromkeys(waiting, since) | now.unread)


class Round:
    """What was submitted since all was last at rest, and which attempt each run was at then."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.attempts: dict[Path, int] = {}

    def go_on(self, found: Progress, retries: int) -> bool:
        """Submit what is open and not yet queued; False where there is nothing more to wait for."""
        there = self.scheduler.queued()
        untouched = {each for each, n in self.attempts.items() if attempt_at(each) == n}
        missing = [each for each in found.open(retries) if each.absolute() not in there]
        if not there and "running" not in found.states:
            if not missing:
                return bool(found.unread)
            if self.attempts and len(untouched) == len(self.attempts):
                raise StudyError(f"no run was taken: {self.scheduler.last_words()}")
            self.attempts, untouched = {}, set()
        # One that came back untouched has its next chance when all others have had theirs.
        missing = [each for each in missing if each not in untouched]
        if missing:
            attempts = {each: attempt_at(each) for each in missing}
            self.scheduler.submit(missing)
            self.attempts |= attempts
        return True


def attempt_at(folder: Path) -> int:
    """The number of a run's latest attempt; NotNow where it cannot be read at this look."""
    try:
        return latest(folder)
    except OSError as error:
        raise NotNow(f"{error.filename}: {error.strerror}") from error

"""How far a run in training is: progress.json in its folder, written every few seconds.

The training loop asks after every step whether it is to stop; whoever answers can count the steps.
A run that goes on from a checkpoint says there from which step.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from study import files

WRITE_EVERY_S = 2.0
NAME = "progress.json"


class Reached(NamedTuple):
    """The step that a run has come to, and its steps a second (None before that is known)."""

    step: int
    rate: float | None


class Steps:
    """Counts the steps of an attempt, and writes them down now and then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first: int | None = None
        self.count = 0
        self.started = self.written = time.monotonic()
        note(folder, 0)

    def counting(self, interrupted: Callable[[], bool]) -> Callable[[], bool]:
        """`interrupted`, asked once a step, with the steps counted."""

        def ask() -> bool:
            if self.first is None:  # only now has the checkpoint been read
                self.first, self.started = reached(self.folder).step, time.monotonic()
            self.count += 1
            if time.monotonic() - self.written > WRITE_EVERY_S:
                self.write()
            return interrupted()

        return ask

    def write(self) -> None:
        """Write down where the run is."""
        self.written = time.monotonic()
        seconds = self.written - self.started
        rate = (self.count - 1) / seconds if self.count > 1 and seconds > 0 else None
        note(self.folder, (self.first or 0) + self.count, rate)

    def forget(self) -> None:
        """The run is done: its result says the rest."""
        (self.folder / NAME).unlink(missing_ok=True)


def note(folder: Path, step: int, rate: float | None = None) -> None:
    """Write down that a run has come to `step`, at `rate` steps a second."""
    with contextlib.suppress(OSError):  # a full disk is the checkpoint's to notice
        files.write_json(folder / NAME, {"step": step, "rate": rate}, synced=False)


def reached(folder: Path) -> Reached:
    """Where a run is, by its own word; step 0 where it has said nothing."""
    try:
        content = files.read_json(folder / NAME) or {}
    except OSError:
        content = {}
    step, rate = content.get("step"), content.get("rate")
    return Reached(
        step if isinstance(step, int) else 0, rate if isinstance(rate, float | int) else None
    )

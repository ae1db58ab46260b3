"""Figures drawn by several processes: what is drawn is the same whatever their number."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import starmap
from typing import Any, TypeVar

from study.errors import StudyError

T = TypeVar("T")

FEWEST = 6
"""Figures that are worth a process's start."""


def together(
    draw: Callable[..., T], jobs: Sequence[tuple[Any, ...]], processes: int
) -> Iterator[T]:
    """What `draw` returns for each job, by at most so many processes: as many as are worth it."""
    processes = min(processes, len(jobs) // FEWEST)
    if processes < 2:
        yield from starmap(draw, jobs)
        return
    spawn = multiprocessing.get_context("spawn")  # the same everywhere, whatever threads there are
    try:
        with ProcessPoolExecutor(processes, spawn, _leave_interrupts) as pool:
            yield from pool.map(draw, *zip(*jobs, strict=True))
    except BrokenProcessPool as error:
        raise StudyError("a process that drew figures was killed; is there memory?") from error


def _leave_interrupts() -> None:
    """Ctrl-C is for the process that waits."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

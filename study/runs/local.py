"""Training with workers on this machine."""

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from study.runs import workers as launch
from study.runs.progress import Progress
from study.settings.config import ENVIRONMENT


def run_here(
    status: Progress,
    train: launch.Train,
    show: Callable[[Progress], None],
    workers: int,
    gpus: Sequence[str],
    retries: int,
    max_failures: int,
) -> None:
    """Train what is open with workers on this machine, showing how it goes.

    Runs that another process has at work are waited for, and trained here should they be lost.
    """
    with launch.Notice(signal.SIGINT, signal.SIGTERM) as notice:

        def watch() -> None:
            nonlocal status
            status = status.now()
            show(status)
            launch.stop_if_broken(status.states, max_failures)

        environment = ENVIRONMENT[status.configs[0].arithmetic]
        tried: list[Path] = []
        while not notice.given:
            watch()
            missing = status.open(retries)
            if missing and missing != tried:
                tried = missing
                dispatcher = launch.Dispatcher(
                    missing, train, notice, workers, retries, gpus, environment
                )
                dispatcher.carry(watch)
            elif "running" in status.states:
                time.sleep(launch.LOOK_S)
            else:
                return
    raise KeyboardInterrupt

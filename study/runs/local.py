"""Training with workers on this machine: a scheduler whose jobs are processes."""

import contextlib
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from study.runs.workers import LOOK_S, Dispatcher, Notice, Train


class Workers:
    """A `driver.Scheduler`: so many workers, which share the GPUs given.

    To be used within `here`, which waits for them.
    """

    look_s = LOOK_S

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher

    def submit(self, folders: Sequence[Path]) -> None:
        """Have these runs trained when a worker is free."""
        self.dispatcher.add(folders)

    def queued(self) -> Mapping[Path, str]:
        """The runs that wait or are at work."""
        folders = (*self.dispatcher.waiting, *self.dispatcher.at_work.values())
        return dict.fromkeys((folder.absolute() for folder in folders), "here")

    def cancel(self) -> int:
        """Nothing more begins; leaving `here` ends what is at work."""
        count = len(self.dispatcher.waiting)
        self.dispatcher.waiting.clear()
        return count

    def describe(self, count: int) -> Iterator[str]:
        """How many workers there would be."""
        yield f"workers: {min(self.dispatcher.at_once, count)} on this machine"

    def pause(self, seconds: float) -> None:
        """See to the workers meanwhile; KeyboardInterrupt after Ctrl-C, once they have left."""
        self.dispatcher.serve(seconds)
        if self.dispatcher.notice.given:
            while self.dispatcher.is_busy():
                self.dispatcher.serve(LOOK_S)
            raise KeyboardInterrupt

    def last_words(self) -> str:
        """Why no worker could take a run stands above, in its own words."""
        return "the lines above say why"


@contextlib.contextmanager
def here(
    train: Train,
    at_once: int,
    retries: int,
    gpus: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Workers]:
    """Workers on this machine; whatever ends the block, they checkpoint, leave, and are awaited.

    `environment` is what theirs says beside this process's.
    """
    with Notice(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as notice:
        dispatcher = Dispatcher(train, notice, at_once, retries, gpus, environment or {})
        with dispatcher.closing():
            yield Workers(dispatcher)

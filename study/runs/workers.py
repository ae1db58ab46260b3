"""Worker processes, and the dispatcher that hands them runs: the same here and in a SLURM job.

A run's claim decides who trains it, so dispatchers, jobs and machines need not know of each other.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import NamedTuple, Self

from study import files
from study.errors import StudyError
from study.runs.claim import TakenOver, heartbeat, last_claim
from study.runs.folder import State, is_open, take

SPAWN = multiprocessing.get_context("spawn")  # a fork after torch has started threads hangs
SIGNALS = (signal.SIGUSR2, signal.SIGINT, signal.SIGTERM)
LOOK_S = 0.5

Train = Callable[[Path, Callable[[], bool], Callable[[], None]], str]
"""study.training.loop.train: given, since it takes seconds to import."""


class Notice:
    """Within its block, signals only raise a flag that is read between two steps.

    submitit's own handler checkpoints and requeues from inside whatever line it interrupts. It is
    put aside here, and called by `pass_on` when the runs have been left in order.
    """

    def __init__(self, *signals: signal.Signals) -> None:
        self.signals = signals
        self.given = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """Raise the flag."""
        self.given = True

    def __enter__(self) -> Self:
        self.former = {number: signal.signal(number, self.note) for number in self.signals}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.former.items():
            signal.signal(number, handler)

    def pass_on(self, number: signal.Signals) -> None:
        """Do what would have been done when the signal came."""
        former = self.former[number]
        if callable(former):
            former(number, None)


def work(orders: Connection, train: Train, parent: int, retries: int, gpu: str | None) -> None:
    """One worker: train the runs that the dispatcher names, one after another, until it says None.

    A worker whose dispatcher has died leaves at its next step, as if it had been told to. One whose
    run has failed makes room for a new process: an error may leave a GPU unusable for its own.
    """
    with Notice(signal.SIGUSR2, signal.SIGINT) as notice:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the dispatcher's to judge
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        files.commit()  # of the code that has just been loaded: it may change while a run trains

        def interrupted() -> bool:
            return notice.given or os.getppid() != parent

        with contextlib.suppress(EOFError, ConnectionError):  # the dispatcher is gone
            orders.send(None)
            while not interrupted() and (folder := orders.recv()) is not None:
                if not attempt(folder, train, interrupted, retries):
                    return
                orders.send(None)


def attempt(folder: Path, train: Train, interrupted: Callable[[], bool], retries: int) -> bool:
    """Claim a run, unless another has it, and train it; an exception is that run's alone.

    What is printed meanwhile, warnings included, goes to the run's log. Returns whether nothing
    failed.
    """
    try:
        mine = take(folder, retries)
        if mine is None:
            return True
        with heartbeat(mine), log_of(folder):
            files.log(folder, f"attempt {mine.number} starts, process {os.getpid()}")
            try:
                outcome = train(folder, interrupted, mine.require_held)
            except TakenOver as notice:
                files.log(folder, f"{notice}; it writes nothing more")
                return True
            except Exception as error:
                mine.end("failed", f"{type(error).__name__}: {error}".splitlines()[0])
                files.log(folder, f"attempt {mine.number} failed\n{traceback.format_exc()}")
                return False
            mine.end("released" if outcome == "interrupted" else "finished")
            files.log(folder, f"attempt {mine.number} ends: {outcome}")
        return True
    except OSError as error:  # a full disk, say, must not take the next run with it
        with contextlib.suppress(OSError):
            print(f"{folder}: {error}", file=sys.stderr)
        return False


@contextlib.contextmanager
def log_of(folder: Path) -> Iterator[None]:
    """Send what Python prints to the run's log."""
    with (
        (folder / "log.txt").open("a", buffering=1) as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield


class Worker(NamedTuple):
    """A worker process, as its dispatcher knows it."""

    place: int
    process: BaseProcess


@dataclass
class Dispatcher:
    """Hands runs to workers. One that dies takes only its run with it, and is replaced.

    A run that failed or whose worker died is handed out again, `retries` times at most.
    """

    folders: Sequence[Path]
    train: Train
    notice: Notice
    at_once: int
    retries: int
    gpus: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the workers' environment says beside ours: read when they load torch."""
    workers: dict[Connection, Worker] = field(default_factory=dict)
    at_work: dict[Connection, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.waiting = deque(self.folders)
        self.handed: Counter[Path] = Counter()

    def carry(self, watch: Callable[[], None]) -> None:
        """Train the runs; `watch` is called now and then, and stops everything by an exception.

        After a notice nothing new begins, and the workers leave at their next step.
        """
        due = 0.0
        try:
            while self.workers or (self.waiting and not self.notice.given):
                if self.notice.given:
                    self.send_away()
                while not self.notice.given and self.lacks_workers():
                    self.start_worker()
                for line in wait(list(self.workers), timeout=LOOK_S):
                    assert isinstance(line, Connection)
                    self.serve(line)
                if (started := time.monotonic()) >= due:
                    watch()
                    due = started + LOOK_S + 20 * (time.monotonic() - started)  # 5 % of a core
        finally:
            self.send_away()
            for worker in self.workers.values():
                worker.process.join()

    def lacks_workers(self) -> bool:
        """Whether there is work for one worker more."""
        idle = len(self.workers) - len(self.at_work)
        return len(self.workers) < self.at_once and idle < len(self.waiting)

    def start_worker(self) -> None:
        """Start a worker in the first free place; places share the GPUs by turns."""
        taken = {worker.place for worker in self.workers.values()}
        place = next(place for place in range(self.at_once) if place not in taken)
        gpu = self.gpus[place % len(self.gpus)] if self.gpus else None
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(
            target=work, args=(theirs, self.train, os.getpid(), self.retries, gpu)
        )
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until it can heed them
        with files.environment(self.environment):
            process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        theirs.close()  # so that its death ends the line
        self.workers[ours] = Worker(place, process)

    def serve(self, line: Connection) -> None:
        """A worker asks for its next run, or has ended."""
        folder = self.at_work.pop(line, None)
        try:
            line.recv()
        except (EOFError, ConnectionError):
            process = self.workers.pop(line).process
            process.join()
            if folder is not None and process.exitcode:
                note_death(folder, process)
            asks = False
        else:
            asks = True
        if folder is not None and self.goes_again(folder):
            self.waiting.append(folder)
        if asks:
            self.hand_out(line)

    def goes_again(self, folder: Path) -> bool:
        """Whether a run that came back is to be handed out once more."""
        return self.handed[folder] <= self.retries and is_open(folder, self.retries)

    def hand_out(self, line: Connection) -> None:
        """Give a worker its next run, or nothing more."""
        folder = self.waiting.popleft() if self.waiting and not self.notice.given else None
        if folder is not None:
            self.handed[folder] += 1
            self.at_work[line] = folder
        with contextlib.suppress(ConnectionError):  # it has just died: the next look sees it
            line.send(folder)

    def send_away(self) -> None:
        """Ask every worker to checkpoint and leave."""
        for worker in self.workers.values():
            if worker.process.is_alive():
                os.kill(worker.process.pid or 0, signal.SIGUSR2)


def note_death(folder: Path, process: BaseProcess) -> None:
    """Say in a run's claim how the process that trained it has died."""
    last = last_claim(folder)
    content = (last and files.read_json(last.path)) or {}
    if last is None or content.get("pid") != process.pid or content.get("state") != "running":
        return
    code = process.exitcode or 0
    end = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
    error = f"its process ended {end}" + (" (out of memory?)" if code == -signal.SIGKILL else "")
    with contextlib.suppress(OSError):
        last.end("failed", error)
        files.log(folder, f"attempt {last.number} failed: {error}")


def stop_if_broken(states: Iterable[State], max_failures: int) -> None:
    """StudyError once so many runs have failed."""
    failed = sum(state == "failed" for state in states)
    if failed >= max_failures:
        raise StudyError(
            f"{failed} runs failed, the sweep stops: `make status` says why; --max-failures says "
            "how many may fail"
        )


def visible_gpus() -> list[str]:
    """The GPUs that CUDA_VISIBLE_DEVICES names; none where it says nothing."""
    return [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]

"""Worker processes, and the dispatcher that hands them runs: the same here and in a cluster's job.

A run's claim decides who trains it, so dispatchers, jobs and machines need not know of each other.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import IO, Self

from study import files
from study.counts import counted
from study.errors import StudyError
from study.runs.claim import TakenOver, heartbeat, last_claim
from study.runs.folder import State, is_open, take
from study.runs.steps import Steps

SPAWN = multiprocessing.get_context("spawn")  # a fork after torch has started threads hangs
SIGNALS = (signal.SIGUSR2, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_S = 0.5
STILLBORN = 3
"""Workers that may end one after another without having taken a run."""

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
        ignored = [n for n in self.signals if signal.getsignal(n) is signal.SIG_IGN]  # by nohup, &
        self.former = {n: signal.signal(n, self.note) for n in self.signals if n not in ignored}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.former.items():
            signal.signal(number, handler)

    def pass_on(self, number: signal.Signals) -> None:
        """Do what would have been done when the signal came."""
        former = self.former.get(number)
        if callable(former):
            former(number, None)


def work(orders: Connection, train: Train, parent: int, retries: int, gpu: str | None) -> None:
    """One worker: train the runs that the dispatcher names, one after another, until it says None.

    A worker whose dispatcher has died leaves at its next step, as if it had been told to. One whose
    run has failed makes room for a new process: an error may leave a GPU unusable for its own.
    """
    with Notice(signal.SIGUSR2, signal.SIGINT, signal.SIGHUP) as notice:
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
        steps = Steps(folder)
        with heartbeat(mine), log_of(folder):
            files.log(folder, f"attempt {mine.number} starts, process {os.getpid()}")
            try:
                outcome = train(folder, steps.counting(interrupted), mine.require_held)
            except TakenOver as notice:
                files.log(folder, f"{notice}; it writes nothing more")
                return True
            except Exception as error:
                mine.end("failed", f"{type(error).__name__}: {error}".splitlines()[0])
                files.log(folder, f"attempt {mine.number} failed\n{traceback.format_exc()}")
                return False
            goes_on = outcome in ("interrupted", "waiting")
            if goes_on:
                steps.write()
            else:
                steps.forget()
            mine.end("released" if goes_on else "finished")
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
        files.open_log(folder) as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield


@dataclass
class Worker:
    """A worker process, as its dispatcher knows it."""

    place: int
    process: BaseProcess
    words: IO[bytes]
    """What it says outside of a run's log: why it could not start, or could not claim."""
    heard: int = 0

    def said(self) -> str:
        """What it has said since the last time."""
        words = os.pread(self.words.fileno(), 2**20, self.heard)  # the offset is the worker's
        self.heard += len(words)
        return words.decode(errors="replace").strip()


@dataclass
class Dispatcher:
    """Hands runs to workers. One that dies takes only its run with it, and is replaced.

    A run that failed or whose worker died is handed out again, `retries` times at most.
    """

    train: Train
    notice: Notice
    at_once: int
    retries: int
    gpus: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the workers' environment says beside ours: read when they load torch."""
    waiting: deque[Path] = field(default_factory=deque)
    workers: dict[Connection, Worker] = field(default_factory=dict)
    at_work: dict[Connection, Path] = field(default_factory=dict)
    handed: Counter[Path] = field(default_factory=Counter)
    stillborn: int = 0

    def add(self, folders: Iterable[Path]) -> None:
        """Have these runs trained, after those that wait already."""
        for folder in folders:
            self.waiting.append(folder)
            self.handed[folder] = 0

    def is_busy(self) -> bool:
        """Whether anything is at work, or waits and may still begin."""
        return bool(self.workers or (self.waiting and not self.notice.given))

    def carry(self, folders: Sequence[Path], watch: Callable[[], None]) -> None:
        """Train the runs; `watch` is called now and then, and stops everything by an exception.

        After a notice nothing new begins, and the workers leave at their next step.
        """
        due = 0.0
        self.add(folders)
        with self.closing():
            while self.is_busy():
                self.serve(LOOK_S)
                if (started := time.monotonic()) >= due:
                    watch()
                    due = started + LOOK_S + 20 * (time.monotonic() - started)  # 5 % of a core

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Whatever ends the block: the workers checkpoint, leave, and are waited for."""
        try:
            yield
        finally:
            for line in self.workers:
                line.close()  # ends the wait of those that are at no run
            self.send_away()
            for worker in self.workers.values():
                worker.process.join()
                pass_on(worker.said())

    def serve(self, seconds: float) -> None:
        """See to the workers for about so long: start them, hand them runs, note their ends."""
        end = time.monotonic() + seconds
        while True:
            if self.notice.given:
                self.send_away()
            while not self.notice.given and self.lacks_workers():
                self.start_worker()
            left = end - time.monotonic()
            if self.workers:
                for line in wait(list(self.workers), timeout=max(min(left, LOOK_S), 0)):
                    assert isinstance(line, Connection)
                    self.heed(line)
            elif left > 0 and not self.notice.given:
                time.sleep(min(left, LOOK_S))
            if time.monotonic() >= end or not self.is_busy():
                return

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
        words = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed with its worker)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # a hangup would end the tracker
        resource_tracker.ensure_running()  # which unblocks some, as it would the worker's
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the worker can heed them
        with standard_error_to(words), files.environment(self.environment):
            process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        theirs.close()  # so that its death ends the line
        self.workers[ours] = Worker(place, process, words)

    def heed(self, line: Connection) -> None:
        """A worker asks for its next run, or has ended."""
        folder = self.at_work.pop(line, None)
        worker = self.workers[line]
        try:
            line.recv()
        except (EOFError, ConnectionError):
            del self.workers[line]
            worker.process.join()
            if folder is not None and worker.process.exitcode:
                note_death(folder, worker.process)
            asks = False
        else:
            self.stillborn = 0
            asks = True
        said = worker.said()
        if not asks and folder is None and worker.process.exitcode:
            self.note_stillbirth(worker.process, said)
        else:
            pass_on(said)
        if folder is not None and self.goes_again(folder):
            self.waiting.append(folder)
        if asks:
            self.hand_out(line)

    def note_stillbirth(self, process: BaseProcess, said: str) -> None:
        """StudyError once several workers in a row have ended before they could take a run."""
        self.stillborn += 1
        if self.stillborn >= STILLBORN and not self.notice.given:
            last = said.splitlines()[-1] if said else "it said nothing"
            raise StudyError(
                f"{self.stillborn} workers ended {manner(process)} before they took a run: {last}"
            )

    def goes_again(self, folder: Path) -> bool:
        """Whether a run that came back is to be handed out once more."""
        if self.handed[folder] > self.retries:
            return False
        try:
            return is_open(folder, self.retries)
        except OSError:  # of this one look: the worker that gets it looks again
            return True

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


@contextlib.contextmanager
def standard_error_to(file: IO[bytes]) -> Iterator[None]:
    """Processes that are started in the block write their standard error there."""
    sys.stderr.flush()
    former = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(former, 2)
        os.close(former)


def pass_on(words: str) -> None:
    """Say what a worker has said."""
    if words:
        with contextlib.suppress(OSError):
            print(words, file=sys.stderr)


def note_death(folder: Path, process: BaseProcess) -> None:
    """Say in a run's claim how the process that trained it has died."""
    with contextlib.suppress(OSError):
        last = last_claim(folder)
        record = last and last.read()
        if not last or not record or record.pid != process.pid or record.state != "running":
            return
        error = f"its process ended {manner(process)}"
        error += " (out of memory?)" if process.exitcode == -signal.SIGKILL else ""
        last.end("failed", error)
        files.log(folder, f"attempt {last.number} failed: {error}")


def manner(process: BaseProcess) -> str:
    """How a process has ended."""
    code = process.exitcode or 0
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"


def stop_if_broken(states: Iterable[State], max_failures: int) -> None:
    """StudyError once so many runs have failed."""
    failed = sum(state == "failed" for state in states)
    if failed >= max_failures:
        raise StudyError(
            f"{counted(failed, 'run')} failed, the sweep stops: `make status` says why; "
            "--max-failures says how many may fail"
        )


def visible_gpus() -> list[str]:
    """The GPUs that CUDA_VISIBLE_DEVICES names; none where it says nothing."""
    return [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]

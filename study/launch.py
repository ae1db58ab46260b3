"""Where runs are trained: by workers on this machine, or by jobs that submitit hands to SLURM.

A worker takes a list of run folders and trains what it can claim, one after another: the folders'
claims are the queue, so workers, jobs and drivers need not know of each other.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from study import run
from study.train import train

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def work(folders: Sequence[Path], retries: int = 1) -> bool:
    """Train every run of `folders` that can be claimed; False where a signal cut the work short.

    On SIGINT or SIGTERM, or when the process that started this one is gone, the run at hand is
    checkpointed and released. An exception is that run's alone: it is written into its claim and
    log, and the run is tried again `retries` times before the next one starts.
    """
    stop = threading.Event()
    parent = os.getppid()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in SIGNALS:
        signal.signal(number, on_signal)

    def interrupted() -> bool:
        return stop.is_set() or os.getppid() != parent

    for folder in folders:
        for _ in range(1 + retries):
            if interrupted():
                return False
            if attempt(folder, interrupted):
                break
    return not interrupted()


def attempt(folder: Path, interrupted: Callable[[], bool]) -> bool:
    """Claim and train one run; False where it failed and may be tried again."""
    mine = run.claim(folder)
    if mine is None:
        return run.state_of(folder) != "failed"
    run.log(folder, f"attempt {mine.number} starts, process {os.getpid()}")
    with run.heartbeat(mine):
        try:
            outcome = train(folder, lambda: interrupted() or not mine.is_held())
        except Exception as error:
            with contextlib.suppress(OSError):  # a full disk must not take the next run with it
                run.log(folder, f"attempt {mine.number} failed\n{traceback.format_exc()}")
                mine.end("failed", f"{type(error).__name__}: {error}".splitlines()[0])
            return False
    if outcome == "interrupted":
        run.log(folder, f"attempt {mine.number} interrupted; a later one goes on")
        mine.end("released")
    return True


class Pool:
    """Worker processes on this machine; one that dies is replaced while there is work.

    Each worker gets one of `gpus` (by turns; none on a CPU) and the whole list of runs.
    """

    def __init__(self, folders: Sequence[Path], workers: int, gpus: int, log: Path) -> None:
        self.folders = [str(folder.absolute()) for folder in folders]
        self.gpus = gpus
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self.processes = [self.start(index) for index in range(min(workers, len(folders)))]

    def start(self, index: int) -> subprocess.Popen[str]:
        """Start the worker of a place in the pool."""
        environment = dict(os.environ)
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = str(index % self.gpus)
        # In its own session: Ctrl-C reaches the driver alone, which then asks the workers to stop.
        with self.log.open("a") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "study", "work"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                text=True,
                env=environment,
                start_new_session=True,
            )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            json.dump(self.folders, process.stdin)
            process.stdin.close()
        return process

    def is_working(self, open_runs: int) -> bool:
        """Whether a worker is alive, after those that died with runs still open were replaced."""
        for index, process in enumerate(self.processes):
            if process.poll() not in (None, 0) and open_runs > 0:
                self.processes[index] = self.start(index)
        return any(process.poll() is None for process in self.processes)

    def stop(self) -> None:
        """Ask every worker to checkpoint and leave, and wait until they have."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait()

"""Send signals and tear files at random while a sweep of tiny runs goes on, then look at it.

    python tests/faults.py --kills 1000

Workers, drivers and collectors get SIGKILL and every milder signal, and are stopped and let go on;
one driver takes itself for another machine's, and is stopped for longer than a claim lives. Drivers
find no hard links, no git, few files to open, workers that die at birth, or give up by themselves.
Results, claims, configurations, checkpoints, the table and Optuna's journal are cut off or emptied.
Then a table that cannot be read, and one that is newer than a run's folder, have to be kept.
Afterwards the sweep must be complete, equal to an undisturbed one in every number, trained once,
and without leftovers.
Processes are forked from this one, so that a kill costs no new import of torch.
"""

import argparse
import contextlib
import errno
import multiprocessing
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pandas as pd
import tiny

from study import files
from study.analysis import dashboard
from study.errors import StudyError
from study.runs import claim, local, progress, workers
from study.runs.claim import claims
from study.runs.driver import drive
from study.runs.folder import folders_of
from study.runs.plan import plan
from study.runs.table import collect as collect_runs
from study.runs.table import read_table, table_path, write_table
from study.settings import config

FORK = multiprocessing.get_context("fork")
PAUSE_S = 0.4  # between two faults, on average
STALE_AFTER_S, HEARTBEAT_S = 4.0, 0.5  # for all that takes itself for another machine
SIGNALS = {
    "worker": {"KILL": 6, "USR2": 1, "INT": 1, "TERM": 1, "HUP": 1, "STOP": 1},
    "driver": {"KILL": 3, "INT": 1, "TERM": 1, "HUP": 1, "STOP": 1},
    "collector": {"KILL": 1},
}
MORE_TRIALS = 4


class Sweep:
    """A tiny sweep in a folder of its own, and the processes at work on it."""

    def __init__(self, root: Path, trials: int) -> None:
        self.results, self.trials, self.log = root / "results", trials, root / "log.txt"
        self.processes: list[tuple[str, BaseProcess]] = []
        self.troubles: list[Callable[[], None]] = []
        self.stopped: list[tuple[float, int]] = []

    def start(self, kind: str, target: Callable[[], None]) -> BaseProcess:
        """Fork a process that writes to the log, in a process group of its own."""

        def main() -> None:
            os.setpgid(0, 0)
            output = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.dup2(output, 1)
            os.dup2(output, 2)
            try:
                target()
            except (StudyError, OSError, KeyboardInterrupt) as error:  # as the command line does
                print(f"{kind}: {error!r}", file=sys.stderr)
                sys.exit(2)

        process = FORK.Process(target=main)
        process.start()
        self.processes.append((kind, process))
        return process

    def plan(self) -> list[config.RunConfig]:
        """The sweep's runs."""
        return plan(config.load_sweep("tiny"), trials=self.trials)

    def drive(self, train: Callable[..., str] = tiny.train, max_failures: int = 10_000) -> None:
        """What `make sweep` does."""
        status = progress.prepare(self.plan(), self.results)
        # A worker's death is a failure of its run, and a slow machine's runs die many times.
        with local.here(train, 2, 10_000) as scheduler:
            drive(status, scheduler, lambda _: None, 10_000, max_failures)
        self.collect()

    def drive_in_trouble(self, rng: random.Random) -> Callable[[], None]:
        """A driver on a machine that lacks something, or that gives up by itself."""

        def no_hard_links() -> None:
            def refuse(*_: object) -> None:
                raise OSError(errno.EPERM, "Operation not permitted")

            os.link = refuse  # type: ignore[assignment]
            self.drive()

        def no_git() -> None:
            os.environ["PATH"] = "/nowhere"
            files.commit.cache_clear()
            self.drive()

        def few_files() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            self.drive()

        def gives_up() -> None:
            self.drive(max_failures=1)

        def dies_at_birth() -> None:
            workers.work = die  # type: ignore[assignment]
            self.drive()

        def elsewhere() -> None:
            files.machine = lambda: "elsewhere"  # type: ignore[assignment]
            claim.machine = files.machine  # type: ignore[attr-defined]
            files.machine_key.cache_clear()
            self.drive()

        kinds = [no_hard_links, no_git, few_files, gives_up, dies_at_birth, elsewhere, elsewhere]
        self.troubles.append(rng.choice(kinds))
        return self.troubles[-1]

    def collect(self) -> None:
        """What `make collect` does, and the driver in the end."""
        table = collect_runs(self.results, "tiny")
        dashboard.record(self.results, config.load_sweep("tiny"), table)

    def collect_for_ever(self) -> None:
        """A victim that is always at it."""
        while True:
            self.collect()

    def mend(self) -> None:
        """What the user does with a table that is said to be unreadable: move it away."""
        try:
            self.table()
        except StudyError:
            table_path(self.results, "tiny").rename(self.results / "tiny.parquet.torn")

    def refuse_a_torn_table(self) -> None:
        """A driver that finds one says so and leaves it as it is."""
        path = table_path(self.results, "tiny")
        path.write_bytes(b"PAR1 torn")
        driver = self.start("driver", self.drive)
        driver.join()
        if driver.exitcode == 0 or path.read_bytes() != b"PAR1 torn":
            raise SystemExit("a torn table was not refused, or not kept")
        self.mend()

    def keep_newer_rows(self) -> None:
        """Collecting leaves a row of a newer definition than its run's folder as it is."""
        path = table_path(self.results, "tiny")
        whole, newer = path.read_bytes(), read_table(self.results, "tiny")
        stale = newer["config"] == newer["config"].iloc[0]
        for name, value in {"definition": 2, "config": "f" * 16, "fid": 0.5}.items():
            newer[name] = newer[name].mask(stale, value)
        write_table(self.results, "tiny", newer)
        collector = self.start("collector", self.collect)
        collector.join()
        if collector.exitcode != 0 or not read_table(self.results, "tiny").equals(newer):
            raise SystemExit("a stale folder has taken the place of newer rows")
        path.write_bytes(whole)

    def finish(self) -> None:
        """Drive once more: whatever the faults have left open, one driver brings to its end."""
        self.start("driver", self.drive).join()

    def complete(self) -> bool:
        """Whether nothing is missing, as a driver sees it: a row of the table is a run done."""
        return not progress.progress(self.plan(), self.results).left()

    def folders(self) -> list[Path]:
        """Every run's folder."""
        return folders_of("tiny", self.results)

    def table(self) -> pd.DataFrame:
        """The table, without the time it took and the commit, which may change meanwhile."""
        return read_table(self.results, "tiny").drop(columns=["wall_s", "commit"])


def die(*_: object) -> None:
    """A worker that cannot even be imported."""
    raise ImportError("libcudart.so: cannot open shared object file")


def signal_one(victim: Sweep, rng: random.Random) -> str | None:
    """Send a random worker, driver or collector a signal; its name, or None where none is alive.

    What is stopped goes on later: a driver with its workers after more than a claim lives.
    """
    living: dict[str, list[int]] = {"worker": [], "driver": [], "collector": []}
    for kind, process in victim.processes:
        if process.is_alive() and process.pid:
            living[kind].append(process.pid)
    living["worker"] = [pid for driver in living["driver"] for pid in children(driver)]
    [kind] = rng.choices(list(living), [6, 1, 1])
    if not living[kind]:
        return None
    pid = rng.choice(living[kind])
    [name] = rng.choices(list(SIGNALS[kind]), list(SIGNALS[kind].values()))
    number = signal.Signals[f"SIG{name}"]
    with contextlib.suppress(ProcessLookupError):
        if number == signal.SIGSTOP:
            group = kind == "driver"
            os.killpg(pid, number) if group else os.kill(pid, number)
            seconds = 1.5 * STALE_AFTER_S if group else rng.random() * 2
            victim.stopped.append((time.monotonic() + seconds, -pid if group else pid))
        else:
            os.kill(pid, number)
    return f"{kind} {name}"


def go_on(victim: Sweep) -> None:
    """Let go on what has been stopped for long enough."""
    due = [each for each in victim.stopped if each[0] < time.monotonic()]
    victim.stopped = [each for each in victim.stopped if each not in due]
    for _, pid in due:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(-pid, signal.SIGCONT) if pid < 0 else os.kill(pid, signal.SIGCONT)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    with contextlib.suppress(OSError):
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def tear_one(victim: Sweep, rng: random.Random) -> str | None:
    """Cut a random file off, or empty it; its kind."""
    top = victim.results
    patterns = {
        "result.json": "runs/tiny/*/*/*/result.json",
        "claim.json": "runs/tiny/*/*/*/claim.*.json",
        "config.json": "runs/tiny/*/*/*/config.json",
        "checkpoint.pt": "runs/tiny/*/*/*/checkpoint.pt",
        "table": "tiny.parquet",
        "optuna": "optuna/tiny.log",
    }
    kind = rng.choice(list(patterns))
    paths = sorted(top.glob(patterns[kind]))
    if not paths:
        return None
    path = rng.choice(paths)
    with contextlib.suppress(FileNotFoundError):
        os.truncate(path, rng.choice([0, path.stat().st_size // 2]))
        os.utime(path, (0, 0))  # as if long ago
    return kind


def disturb(victim: Sweep, kills: int, rng: random.Random) -> tuple[Counter[str], Counter[str]]:
    """Let the sweep run, with so many signals; what was sent and torn."""
    killed: Counter[str] = Counter()
    torn: Counter[str] = Counter()
    while killed.total() < kills:
        alive = Counter(kind for kind, process in victim.processes if process.is_alive())
        victim.mend()
        if victim.complete():
            victim.trials += MORE_TRIALS
        go_on(victim)
        if alive["driver"] < 1 + (rng.random() < 0.3) + len(victim.stopped):
            in_trouble = rng.random() < 0.6
            victim.start("driver", victim.drive_in_trouble(rng) if in_trouble else victim.drive)
        if alive["collector"] < 1:
            victim.start("collector", victim.collect_for_ever)
        time.sleep(rng.expovariate(1 / PAUSE_S))
        killed.update(filter(None, [signal_one(victim, rng)]))
        if rng.random() < 0.2:
            torn.update(filter(None, [tear_one(victim, rng)]))
    for _, process in victim.processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
    time.sleep(STALE_AFTER_S)  # until nothing from elsewhere counts as alive
    return killed, torn


def problems(victim: Sweep, undisturbed: Sweep, torn: Counter[str]) -> list[str]:
    """What is not as it should be after all the faults."""
    found = [] if victim.complete() else ["the last driver left runs that are not done"]
    ends = Counter(
        len(re.findall(r"ends: (?:ok|diverged)", (folder / "log.txt").read_text()))
        for folder in victim.folders()
    )
    again = sum((times - 1) * runs for times, runs in ends.items() if times > 1)
    if again > torn["result.json"]:
        found.append(f"{again} runs were trained twice to the end")
    left = [path for path in victim.results.rglob(".*") if "@" in path.name]
    found += [f"left behind: {path}" for path in left]
    try:
        pd.testing.assert_frame_equal(victim.table(), undisturbed.table())
    except AssertionError as error:
        found.append(f"the tables differ: {error}")
    messages = victim.log.read_text()
    if "tiny.parquet cannot be read" not in messages:
        found.append("a torn table was not named")
    return found


def main() -> None:
    """Disturb a sweep, finish it and an undisturbed one, and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ.update(tiny.environment(Path(folder), options.trials, steps=40, every=10))
        config.SWEEPS_FOLDER = Path(os.environ["STUDY_SWEEPS"])
        workers.SPAWN = FORK  # type: ignore[assignment]
        tiny.shrink_data()
        files.STALE_AFTER_S = claim.STALE_AFTER_S = STALE_AFTER_S  # type: ignore[attr-defined]
        claim.HEARTBEAT_S = HEARTBEAT_S
        victim = Sweep(Path(folder) / "disturbed", options.trials)
        victim.results.mkdir(parents=True)
        killed, torn = disturb(victim, options.kills, random.Random(options.seed))
        troubles = Counter(each.__name__ for each in victim.troubles)
        print(f"{killed.total()} signals: {dict(sorted(killed.items()))}", flush=True)
        print(f"torn {dict(torn)}; drivers in trouble {dict(troubles)}", flush=True)
        victim.refuse_a_torn_table()
        victim.finish()
        victim.keep_newer_rows()
        undisturbed = Sweep(Path(folder) / "undisturbed", victim.trials)
        undisturbed.results.mkdir(parents=True)
        undisturbed.finish()
        found = problems(victim, undisturbed, torn)
        attempts = sum(len(claims(path)) for path in victim.folders())
        print(f"{victim.trials} runs, {attempts} attempts, {time.monotonic() - started:.0f} s")
        if found:
            print(victim.log.read_text()[-3000:], *found, sep="\n", file=sys.stderr)
            sys.exit(1)
    print("all complete, none trained twice, every number equal, nothing left behind")


if __name__ == "__main__":
    import faults  # so that the processes know this module by its name

    faults.main()

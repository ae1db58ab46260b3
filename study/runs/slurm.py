"""SLURM: a scheduler whose jobs carry runs, go out as arrays, and are handed to sbatch by submitit.

Progress is judged by the runs' files and by squeue alone: clusters without accounting are served,
and a job that was killed from outside is noticed. What each job carries lies in an order, a folder
of the sweep's jobs/ that has the jobs' name: whoever finds them in the queue can look it up.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import submitit
from submitit.core.utils import FailedJobError
from submitit.helpers import DelayedSubmission

from study import files
from study.counts import counted
from study.errors import StudyError
from study.runs.claim import JOB, JOB_START, is_later_start, last_claim, latest
from study.runs.driver import NotNow
from study.runs.folder import state_of
from study.runs.orders import (
    Order,
    cancellations,
    last_words,
    read_order,
    silence,
    was_taken,
    write_order,
)
from study.runs.resources import Resources
from study.runs.workers import Dispatcher, Notice, Train, stop_if_broken, visible_gpus

TIMEOUT_S = 60
LOOK_S = 5.0
NO_ANSWER = r"timed? ?out|unable to contact|connect|communication|transport|temporar|try again|busy"
"""What SLURM's commands say when asking again may help."""


# ---- in the job ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """What submitit pickles: one line of an order, which says what the jobs of an array carry."""

    order: Path
    index: int
    train: Train
    at_once: int
    retries: int
    max_failures: int
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the workers' environment says beside the job's."""

    def __call__(self) -> None:
        """Train the job's runs; after a warning leave them in order and go back into the queue."""
        os.environ.update(identity())
        order = read_order(self.order).jobs
        mine = order[self.index]

        def watch() -> None:
            with contextlib.suppress(OSError):  # of this one look
                if any(is_given_up(folder) for folder in mine):
                    raise StudyError("this job has been started again elsewhere: it gives way")
                if any(state_of(folder) == "failed" for folder in mine):
                    states = (state_of(folder) for job in order for folder in job)
                    stop_if_broken(states, self.max_failures)

        with Notice(signal.SIGUSR2) as notice:
            gpus = visible_gpus()
            Dispatcher(
                self.train, notice, self.at_once, self.retries, gpus, self.environment
            ).carry(mine, watch)
            if notice.given:
                notice.pass_on(signal.SIGUSR2)  # requeues this job and exits

    def checkpoint(self) -> DelayedSubmission:
        """submitit requeues only what has this method; the runs have checkpointed themselves."""
        return DelayedSubmission(self)


def identity() -> dict[str, str]:
    """What a claim says of this job: its number, and how often it had gone back into the queue."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    number = f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")
    return {JOB: number, JOB_START: os.environ.get("SLURM_RESTART_COUNT", "0")}


def is_given_up(folder: Path) -> bool:
    """Whether a later start of this job has the run."""
    last = last_claim(folder)
    return last is not None and is_later_start(last.read())


# ---- SLURM's commands ----------------------------------------------------------------------------


def ask(*command: str) -> str:
    """What one of SLURM's commands prints; StudyError with its own message where it fails.

    NotNow where SLURM did not answer, and asking again may help.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )
    except FileNotFoundError as error:
        raise StudyError(
            f"no '{command[0]}' on this machine's PATH: work where SLURM is, or use CLUSTER=local"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise NotNow(
            f"'{' '.join(command)}' said nothing for {TIMEOUT_S} s: is SLURM up? "
            "`scontrol ping` tells"
        ) from error
    except subprocess.CalledProcessError as error:
        message = one_line(error.stderr)
        kind = NotNow if re.search(NO_ANSWER, message, re.I) else StudyError
        raise kind(f"'{' '.join(command)}' failed: {message}") from error
    return done.stdout


def one_line(message: str) -> str:
    """SLURM's messages in one line, without its prefixes."""
    lines = [line.split("error: ", 1)[-1].strip() for line in message.strip().splitlines()]
    return "; ".join(dict.fromkeys(line for line in lines if line))


def require() -> None:
    """StudyError unless SLURM can be asked and given jobs from here."""
    for command in ("sbatch", "srun", "scancel"):
        if shutil.which(command) is None:
            raise StudyError(
                f"no '{command}' on this machine's PATH: work where SLURM is, or use CLUSTER=local"
            )
    queue()


def array_limit() -> int:
    """How many jobs one array may have; 1 where the cluster has no arrays."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.M)
    return max(min(int(found[1]), 1000), 1) if found else 1000


class Queued(NamedTuple):
    """A job in the queue."""

    number: str
    state: str
    reason: str

    @property
    def task(self) -> int:
        """Its place in its array."""
        return int(self.number.split("_")[1]) if "_" in self.number else 0


def queue() -> dict[str, list[Queued]]:
    """Name -> this user's jobs of that name that wait or run; needs no accounting."""
    text = ask("squeue", "--me", "--noheader", "--array", "--format=%j|%i|%T|%r")
    found: dict[str, list[Queued]] = {}
    for line in text.splitlines():
        name, *fields = line.strip().rsplit("|", 3)
        if len(fields) == len(Queued._fields):
            found.setdefault(name, []).append(Queued(*fields))
    return found


# ---- into the queue, and out of it ---------------------------------------------------------------


class Jobs:
    """A `driver.Scheduler`: the jobs of one sweep, whose orders lie in the folder `jobs`."""

    look_s = LOOK_S

    def __init__(
        self,
        jobs: Path,
        resources: Resources,
        train: Train,
        retries: int,
        max_failures: int,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.jobs, self.resources, self.train = jobs, resources, train
        self.retries, self.max_failures = retries, max_failures
        self.environment = environment or {}
        self.orders: dict[str, Order] = {}
        self.mark = cancellations(jobs)
        self.held: Counter[str] = Counter()
        self.words = "its jobs said nothing"

    def submit(self, folders: Sequence[Path]) -> None:
        """Put what is not yet in the queue into it, in jobs and arrays, and say how many."""
        files.require_writable(self.jobs)
        with files.alone(self.jobs):  # two drivers at once submit nothing twice
            there = self.carried()
            missing = [path for path in (each.absolute() for each in folders) if path not in there]
            numbers = self.send(missing)
        sent = f"{counted(len(missing), 'run')} submitted in {counted(len(numbers), 'job')}"
        print(f"{sent}; in the queue before: {len(there)}")

    def send(self, folders: Sequence[Path]) -> list[str]:
        """Hand runs to sbatch in arrays under the cluster's limit; the jobs' numbers."""
        size = array_limit() * self.resources.runs_per_job
        numbers: list[str] = []
        for part in in_parts(folders, size):
            folder = self.jobs / f"study-{uuid.uuid4().hex[:8]}"
            folder.mkdir(mode=0o700)  # what lies there is unpickled by the job
            carried = [list(each) for each in in_parts(part, self.resources.runs_per_job)]
            attempts = {each: latest(each) for each in part}
            order = Order(carried, attempts, sent=False, warning=self.resources.warning)
            try:
                write_order(folder, order)
                array = executor(folder, self.resources, numbers[-1] if numbers else None)
                made = array.submit_array([self.job(folder, each) for each in range(len(carried))])
            except (FailedJobError, RuntimeError) as error:
                message = one_line(str(error))
                if re.search(NO_ANSWER, message, re.I):  # it may have been taken all the same
                    raise NotNow(f"sbatch: {message}") from error
                shutil.rmtree(folder)
                raise StudyError(f"sbatch refused: {message}") from error
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            write_order(folder, order._replace(sent=True))
            numbers += [each.job_id for each in made]
        return numbers

    def job(self, order: Path, index: int) -> Job:
        """One job of an order."""
        at_once, limits = self.resources.runs_at_once, (self.retries, self.max_failures)
        return Job(order, index, self.train, at_once, *limits, self.environment)

    def queued(self) -> Mapping[Path, str]:
        """Run folder -> the number of the job in the queue that carries it.

        NotNow where SLURM does not answer; StudyError where somebody has cancelled the sweep, or
        jobs have ended without a word.
        """
        if cancellations(self.jobs) != self.mark:
            raise StudyError("the sweep was cancelled; `make sweep` goes on from here")
        self.jobs.mkdir(parents=True, exist_ok=True)
        with files.alone(self.jobs):
            there = queue_now()
            silent = self.settle(there)
            if silent:
                raise StudyError(silence(silent, self.jobs))
            self.say_what_is_held(there)
            return self.carried(there)

    def carried(self, there: dict[str, list[Queued]] | None = None) -> dict[Path, str]:
        """Run folder -> the number of the job in the queue that carries it."""
        carried: dict[Path, str] = {}
        for name, found in (queue() if there is None else there).items():
            order = self.order(name)
            for each in found if order else ():
                if order and each.task < len(order.jobs):
                    carried |= dict.fromkeys(order.jobs[each.task], each.number)
        return carried

    def order(self, name: str) -> Order | None:
        """The order of the jobs of that name; None where they are others' jobs. Read once."""
        if name not in self.orders:
            if not (self.jobs / name / "order.json").exists():
                return None
            self.orders[name] = read_order(self.jobs / name)
        return self.orders[name]

    def settle(self, there: dict[str, list[Queued]]) -> int:
        """Close the orders whose jobs have all left the queue, and hear what these had to say.

        Returns how many jobs have left without even a log: SLURM opens it in the folder of the
        order, and where that cannot be seen on the node the job ends without a word.
        """
        count = 0
        for path in self.jobs.glob("study-*/order.json"):
            name = path.parent.name
            order = None if name in there else self.order(name)
            if order is not None:
                logs = list(path.parent.glob("*_log.out"))
                if order.sent:
                    count += max(len(order.jobs) - len(logs), 0)
                if logs and not any(was_taken(each, n) for each, n in order.attempts.items()):
                    self.words = last_words(path.parent)
                path.unlink()
        return count

    def report_former(self) -> None:
        """Say on stderr what has become of jobs that ended while nobody waited."""
        if not self.jobs.is_dir():
            return
        files.require_writable(self.jobs)
        before = self.words
        with files.alone(self.jobs):
            silent = self.settle(queue())
        if silent:
            print(f"last time {silence(silent, self.jobs)}", file=sys.stderr)
        if self.words != before:
            print(f"last time no run of some jobs was taken: {self.words}", file=sys.stderr)

    def say_what_is_held(self, there: dict[str, list[Queued]]) -> None:
        """Say on stderr which jobs wait for somebody, whenever their number changes."""
        ours = [each for name, found in there.items() if self.order(name) for each in found]
        held = Counter(each.reason for each in ours if re.search("held", each.reason, re.I))
        if held != self.held and held:
            reasons = ", ".join(f"{count} {reason}" for reason, count in held.items())
            print(f"held jobs wait until `scontrol release`: {reasons}", file=sys.stderr)
        self.held = held

    def cancel(self, mark: str | None = None) -> int:
        """Take this sweep's jobs out of the queue; how many there were. `mark`: ends drivers."""
        there = queue()
        numbers = sorted(set(self.carried(there).values()))
        if mark is not None:  # not where SLURM says nothing: the jobs would stay without a driver
            files.write_json(self.jobs / "cancelled", mark)
        for start in range(0, len(numbers), 500):
            ask("scancel", *numbers[start : start + 500])
        for name in there:
            order = self.order(name)
            if order is not None:  # that its jobs leave without a word is as it should be
                write_order(self.jobs / name, order._replace(sent=False))
        return len(numbers)

    def describe(self, count: int) -> Iterator[str]:
        """How many jobs and arrays there would be, and what sbatch would be given."""
        if count:
            jobs = -(-count // self.resources.runs_per_job)
            limit = array_limit()
            yield f"jobs: {jobs}, in {-(-jobs // limit)} arrays of {limit} at most"
            yield sbatch_text(self.resources, self.jobs, min(jobs, limit))

    def pause(self, seconds: float) -> None:
        """Let so much time pass."""
        time.sleep(seconds)

    def last_words(self) -> str:
        """How the log of a job ends that took no run."""
        return self.words


def queue_now() -> dict[str, list[Queued]]:
    """The queue; NotNow where SLURM does not answer."""
    try:
        return queue()
    except StudyError as error:
        if shutil.which("squeue") is None:
            raise
        raise NotNow(str(error)) from error


def cancel(jobs: Path) -> int:
    """Take a sweep's jobs out of the queue, and stop drivers that wait for them; how many jobs."""
    if not jobs.is_dir():
        return 0
    files.require_writable(jobs)
    with files.alone(jobs):
        nothing = Resources(1, 1, 1, {}, {})
        return Jobs(jobs, nothing, lambda *_: "", 0, 0).cancel(uuid.uuid4().hex)


def in_parts(folders: Sequence[Path], size: int) -> list[Sequence[Path]]:
    """Cut a list into parts of `size`."""
    return [folders[start : start + size] for start in range(0, len(folders), size)]


def executor(folder: Path, resources: Resources, after: str | None = None) -> submitit.AutoExecutor:
    """submitit's, for jobs that have the name of the folder where their logs go.

    `max_jobs` holds for all arrays together, so one array runs after the other.
    """
    made = submitit.AutoExecutor(folder, cluster="slurm", **resources.constructor)
    dependency = {"slurm_dependency": f"afterany:{after.split('_')[0]}"} if after else {}
    made.update_parameters(
        name=folder.name,
        slurm_array_parallelism=resources.max_jobs,
        **(dependency | resources.parameters),
    )
    return made


def sbatch_text(resources: Resources, jobs: Path, count: int) -> str:
    """What sbatch would be given for an array of `count` jobs."""
    slurm: Any = executor(jobs / "study-NAME", resources)._executor
    if count > 1:
        slurm.parameters["map_count"] = count
    return str(slurm._make_submission_file_text(slurm._submitit_command_str, "NAME"))

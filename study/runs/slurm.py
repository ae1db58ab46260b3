"""SLURM's side: runs become jobs, jobs become arrays, and submitit hands them to sbatch.

Progress is judged by the runs' files and by squeue alone: clusters without accounting are served,
and a job that was killed from outside is noticed.
"""

import difflib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import submitit
from submitit.core.utils import FailedJobError
from submitit.helpers import DelayedSubmission

from study import files
from study.errors import StudyError
from study.runs import workers as launch
from study.runs.folder import state_of
from study.runs.progress import Progress
from study.settings import shipped
from study.settings.config import ENVIRONMENT

TIMEOUT_S = 60
LOOK_S = 5.0
RESOURCES_FOLDER = shipped.SLURM


@dataclass(frozen=True)
class Job:
    """What submitit pickles: one line of an order, which says what the jobs of an array carry."""

    order: Path
    index: int
    train: launch.Train
    at_once: int
    retries: int
    max_failures: int
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(self) -> None:
        """Train the job's runs; after a warning leave them in order and go back into the queue."""
        order = read_order(self.order)

        def watch() -> None:
            if any(state_of(folder) == "failed" for folder in order[self.index]):
                states = (state_of(folder) for job in order for folder in job)
                launch.stop_if_broken(states, self.max_failures)

        with launch.Notice(signal.SIGUSR2) as notice:
            launch.Dispatcher(
                order[self.index],
                self.train,
                notice,
                self.at_once,
                self.retries,
                launch.visible_gpus(),
                self.environment,
            ).carry(watch)
            if notice.given:
                notice.pass_on(signal.SIGUSR2)  # requeues this job and exits

    def checkpoint(self) -> DelayedSubmission:
        """submitit requeues only what has this method; the runs have checkpointed themselves."""
        return DelayedSubmission(self)


def read_order(folder: Path) -> list[list[Path]]:
    """The runs of each job of an array; StudyError where this machine cannot see them."""
    order = files.read_json(folder / "order.json")
    if order is None:
        raise StudyError(
            f"{folder}/order.json cannot be read on {socket.gethostname()}: the results folder "
            "must lie on a disk that the nodes share, under one path; STUDY_RESULTS names it"
        )
    return [[Path(name) for name in job] for job in order["jobs"]]


# ---- resources -----------------------------------------------------------------------------------


class Resources(NamedTuple):
    """What slurm/<cluster>.toml says."""

    runs_per_job: int
    runs_at_once: int
    max_jobs: int
    constructor: dict[str, Any]
    """AutoExecutor's own arguments."""
    parameters: dict[str, Any]
    """What AutoExecutor.update_parameters takes."""

    @property
    def runs_together(self) -> int:
        """Runs at one time, where the cluster has room for every job."""
        return self.max_jobs * self.runs_at_once

    @property
    def device(self) -> str:
        """Where runs train in such a job: "cuda" where it asks for a GPU."""
        asked = [f"{key}={value}" for key, value in self.parameters.items() if value]
        gpu = any(re.match(r"(slurm_)?gpus|slurm_gres=gpu", each) for each in asked)
        return "cuda" if gpu else "cpu"


OURS = {"runs_per_job": 1, "runs_at_once": 1, "max_jobs": 100}
CONSTRUCTOR = ("slurm_python", "slurm_max_num_timeout")


def read_resources(path: Path) -> Resources:
    """Read a file of slurm/; StudyError on an unknown file, key or value."""
    try:
        given = tomllib.loads(path.read_text())
    except OSError as error:
        there = ", ".join(sorted(each.name for each in RESOURCES_FOLDER.glob("*.toml")))
        raise StudyError(f"{path}: {error.strerror}; slurm/ has: {there}") from error
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{path}: not valid TOML: {error}") from error
    known = sorted({*OURS, *CONSTRUCTOR, *executor_keys()})
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"allowed: {', '.join(known)}"
            raise StudyError(f"{path}: unknown key '{key}'; {hint}")
    numbers = {key: given.pop(key, default) for key, default in OURS.items()}
    for key, value in numbers.items():
        if type(value) is not int or value < 1:
            raise StudyError(f"{path}: {key} = {value!r}: must be a whole number, 1 or more")
    constructor = {key: given.pop(key) for key in CONSTRUCTOR if key in given}
    return Resources(**numbers, constructor=constructor, parameters=given)


def executor_keys() -> set[str]:
    """What submitit's AutoExecutor takes for SLURM, as the installed submitit says."""
    slurm = {f"slurm_{key}" for key in submitit.SlurmExecutor._valid_parameters()}
    ours = {"name", "slurm_job_name", "slurm_array_parallelism"}
    return {*submitit.AutoExecutor._valid_parameters(), *slurm} - ours


# ---- SLURM's commands ----------------------------------------------------------------------------


def ask(*command: str) -> str:
    """What one of SLURM's commands prints; StudyError with its own message where it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )
    except FileNotFoundError as error:
        raise StudyError(
            f"no '{command[0]}' on this machine's PATH: work where SLURM is, or use CLUSTER=local"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise StudyError(
            f"'{' '.join(command)}' said nothing for {TIMEOUT_S} s: is SLURM up? "
            "`scontrol ping` tells"
        ) from error
    except subprocess.CalledProcessError as error:
        raise StudyError(f"'{' '.join(command)}' failed: {one_line(error.stderr)}") from error
    return done.stdout


def one_line(message: str) -> str:
    """SLURM's messages in one line, without its prefixes."""
    lines = [line.split("error: ", 1)[-1].strip() for line in message.strip().splitlines()]
    return "; ".join(dict.fromkeys(line for line in lines if line))


def array_limit() -> int:
    """How many jobs one array may have."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.M)
    return min(int(found[1]), 1000) if found else 1000


def queue() -> dict[str, list[str]]:
    """Name -> numbers of this user's jobs that wait or run; needs no accounting."""
    text = ask("squeue", "--me", "--noheader", "--array", "--format=%j|%i")
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, number = line.strip().rsplit("|", 1)
        found.setdefault(name, []).append(number)
    return found


# ---- into the queue, and out of it ---------------------------------------------------------------


def submit(
    folders: Sequence[Path], resources: Resources, jobs: Path, job: Callable[[Path, int], Job]
) -> list[str]:
    """Put runs into the queue, in arrays under the cluster's limit; returns the jobs' numbers.

    What each job carries is written down before SLURM is asked, in a folder of `jobs` that has the
    jobs' name: whoever finds them in the queue can look it up, should this process die.
    """
    size = array_limit() * resources.runs_per_job
    numbers: list[str] = []
    for part in in_parts(folders, size):
        folder = jobs / f"study-{uuid.uuid4().hex[:8]}"
        carried = in_parts(part, resources.runs_per_job)
        order = {"jobs": [[str(each) for each in one] for one in carried]}
        files.write_json(folder / "order.json", order)
        try:
            array = executor(folder, resources, after=numbers[-1] if numbers else None)
            submitted = array.submit_array([job(folder, index) for index in range(len(carried))])
        except (FailedJobError, RuntimeError) as error:
            shutil.rmtree(folder)
            raise StudyError(f"sbatch refused: {one_line(str(error))}") from error
        numbers += [each.job_id for each in submitted]
    return numbers


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


def queued(jobs: Path) -> dict[Path, str]:
    """Run folder -> the number of the job in the queue that carries it."""
    carried: dict[Path, str] = {}
    for name, numbers in queue().items():
        order = files.read_json(jobs / name / "order.json")
        for number in numbers if order else ():
            task = int(number.split("_")[1]) if "_" in number else 0
            carried |= dict.fromkeys(read_order(jobs / name)[task], number)
    return carried


def cancel(jobs: Path) -> int:
    """Take the jobs whose orders lie in `jobs` out of the queue; how many there were."""
    numbers = sorted(set(queued(jobs).values()))
    for start in range(0, len(numbers), 500):
        ask("scancel", *numbers[start : start + 500])
    return len(numbers)


def silent(jobs: Path) -> int:
    """How many jobs have left the queue without even a log; each is told once.

    SLURM opens a job's log in the folder of its order: where that cannot be seen on the node, the
    job ends without a word.
    """
    there, count = queue(), 0
    for order in jobs.glob("study-*/order.json"):
        if order.parent.name not in there:
            logs = list(order.parent.glob("*_log.out"))
            count += max(len(read_order(order.parent)) - len(logs), 0)
            order.unlink()
    return count


# ---- a sweep's jobs ------------------------------------------------------------------------------


def jobs_folder(results: Path, sweep: str) -> Path:
    """Where the orders and logs of a sweep's SLURM jobs lie."""
    return (results / "runs" / sweep / "jobs").absolute()


def run_on_slurm(
    status: Progress,
    train: launch.Train,
    show: Callable[[Progress], None],
    results: Path,
    resources: Resources,
    retries: int,
    max_failures: int,
    wait: bool,
) -> None:
    """Submit what is missing; with `wait`, stay until every run has come to an end."""
    jobs = jobs_folder(results, status.configs[0].sweep)
    count = silent(jobs)
    if count:
        print(f"last time {silence(count, results)}", file=sys.stderr)
    send(status, train, jobs, resources, retries, max_failures)
    if wait:
        follow(status, train, show, results, resources, retries, max_failures)
    else:
        print("`make status` tells how it goes; `python -m study cancel` takes the jobs back")


def send(
    status: Progress,
    train: launch.Train,
    jobs: Path,
    resources: Resources,
    retries: int,
    max_failures: int,
) -> int:
    """Submit what is open and not yet in the queue; returns how many jobs that makes."""
    files.require_writable(jobs)
    with files.alone(jobs):  # two drivers at once submit nothing twice
        there = queued(jobs)
        missing = [path.absolute() for path in status.open(retries)]
        missing = [path for path in missing if path not in there]

        environment = ENVIRONMENT[status.configs[0].arithmetic]

        def job(order: Path, index: int) -> Job:
            at_once = resources.runs_at_once
            return Job(order, index, train, at_once, retries, max_failures, environment)

        numbers = submit(missing, resources, jobs, job)
    print(f"{len(missing)} runs submitted in {len(numbers)} jobs; {len(there)} were in the queue")
    return len(numbers)


def follow(
    status: Progress,
    train: launch.Train,
    show: Callable[[Progress], None],
    results: Path,
    resources: Resources,
    retries: int,
    max_failures: int,
) -> None:
    """Wait until the jobs have ended, and submit again what they leave open."""
    jobs = jobs_folder(results, status.configs[0].sweep)
    while True:
        status = status.now()
        show(status)
        try:
            launch.stop_if_broken(status.states, max_failures)
        except StudyError:
            cancel(jobs)
            raise
        count = silent(jobs)
        if count:
            raise StudyError(silence(count, results))
        if not queued(jobs) and "running" not in status.states:
            status = status.now()
            if not status.open(retries):
                return
            send(status, train, jobs, resources, retries, max_failures)
        time.sleep(LOOK_S)


def silence(count: int, results: Path) -> str:
    """What it means that so many jobs have ended without a word."""
    return (
        f"{count} jobs left the queue without a log: cancelled while they waited, or the nodes do "
        f"not see {results.absolute()}; results must lie on a disk that the nodes share "
        "(STUDY_RESULTS names the folder); the same command submits them again"
    )

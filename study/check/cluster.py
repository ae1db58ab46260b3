"""SLURM, as the runs of a sweep meet it: an array, a warning, what its commands answer."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from study.check.disk import scratch
from study.check.rows import Check, Machine, NotTried, Off
from study.check.training import config, planned, require_equal
from study.errors import StudyError
from study.runs import slurm
from study.runs.claim import claims
from study.runs.folder import DONE, state_of
from study.runs.resources import Resources
from study.settings.config import RunConfig
from study.training.loop import train

START_S = 300.0
"""Seconds that a job may wait in the queue before the check goes on without it."""
RUN_S = 180.0
"""Seconds that its run may take: one of a minute at most."""
LOOK_S = 0.5
BEFORE_START_S = 2.5
"""SLURM fails a requeued job that is started sooner."""


class Sent(NamedTuple):
    """Runs in the queue, each a job of one array."""

    folders: list[Path]
    jobs: list[str]


def resources_of(machine: Machine) -> Resources:
    """What a job may use; NotTried where no cluster is named."""
    if machine.resources is None:
        raise NotTried("no cluster named; CLUSTER=slurm RESOURCES=slurm/mine.toml looks at one")
    return machine.resources


def answers(machine: Machine) -> str:
    """squeue lists this user's jobs, scontrol tells its limits."""
    resources_of(machine)
    version = slurm.ask("squeue", "--version").strip()
    return f"{version}; {len(slurm.queue())} jobs of yours, {slurm.array_limit()} jobs an array"


@contextmanager
def sent(machine: Machine, wanted: list[RunConfig]) -> Iterator[Sent]:
    """Runs on the results disk, one job each, sent to the queue; taken back afterwards."""
    resources = resources_of(machine)._replace(runs_per_job=1, runs_at_once=1)
    with scratch(machine.results) as root:
        folders = [
            planned((root / "runs" / each.path.parent / f"{number:03d}").absolute(), each)
            for number, each in enumerate(wanted)
        ]
        (root / "jobs").mkdir()
        jobs = slurm.Jobs((root / "jobs").absolute(), resources, train, retries=0, max_failures=1)
        numbers = jobs.send(folders)
        try:
            yield Sent(folders, numbers)
        finally:
            with suppress(StudyError):
                jobs.cancel()
                until(lambda: not jobs.carried(), RUN_S, "the jobs did not leave the queue")


def until(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Wait for a condition; Off with the reason where it does not come about."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Off(f"{otherwise} within {seconds:.0f} s")
        time.sleep(LOOK_S)


def until_started(job: Sent) -> None:
    """Wait until all runs have been claimed; NotTried where the queue is long."""
    try:
        until(lambda: all(map(claims, job.folders)), START_S, "")
    except Off:
        there = {each.number for found in slurm.queue().values() for each in found}
        if there & {*job.jobs}:
            raise NotTried(f"the jobs still wait in the queue after {START_S:.0f} s") from None
        raise Off(f"no run was taken up within {START_S:.0f} s; the nodes may not see the folder "
                  "or have no such Python") from None  # fmt: skip


def until_done(job: Sent) -> None:
    """Wait for every run's result."""
    until(lambda: all(state_of(folder) in DONE for folder in job.folders), RUN_S, "no result")


def array(machine: Machine) -> str:
    """An array of two jobs with one run each, the same: both are done, with the same numbers."""
    wanted = config("ns", resources_of(machine).device)
    with sent(machine, [wanted, wanted]) as job:
        until_started(job)
        until_done(job)
        one, other = job.folders
        return require_equal(one, other, f"two jobs ({', '.join(job.jobs)})")


def warned(machine: Machine) -> str:
    """A job that is warned leaves its run in order, goes back into the queue and finishes it."""
    wanted = config("ns", resources_of(machine).device, d_steps=1000)
    with sent(machine, [wanted]) as job:
        (folder,), (number,) = job.folders, job.jobs
        until_started(job)
        until((folder / "metrics.jsonl").exists, RUN_S, "no evaluation")
        with subprocess.Popen(["scancel", f"--signal={signal.SIGUSR2.name[3:]}", number]) as asking:
            until(lambda: state_of(folder) != "running", RUN_S, "the warned run did not stop")
            asking.kill()  # for one task of an array it repeats itself for a minute
        if state_of(folder) in DONE:
            raise NotTried("the run was done before the warning came")
        until(lambda: waits(number), RUN_S, "the warned job did not come back into the queue")
        time.sleep(BEFORE_START_S)
        with suppress(StudyError):  # some sites keep it for themselves: then it takes two minutes
            slurm.ask("scontrol", "update", f"jobid={number}", "StartTime=now")
        until_done(job)
        attempts = len(claims(folder))
        if attempts < 2:
            raise Off("the run was done by one attempt: the warning did not reach it")
        return f"job {number} went back into the queue and finished its run in {attempts} attempts"


def waits(number: str) -> bool:
    """Whether a job waits in the queue."""
    listed = slurm.ask("squeue", "--me", "--noheader", "--array", f"--jobs={number}", "-o", "%T")
    return listed.strip() == "PENDING"


CHECKS = [
    Check("cluster", "squeue and scontrol", answers),
    Check("cluster", "an array of two", array),
    Check("cluster", "a warned job", warned),
]

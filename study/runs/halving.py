"""Successive halving: at each rung of a search a loss's best settings go on, the others stop.

Jamieson and Talwalkar 2016, arXiv 1502.07943, with rungs and shares that the sweep states. A run
that comes to a rung waits there (waiting.json), and the driver judges when all of its loss and data
set have come: by the least distance so far, the lower number first where two are equal. What is
decided depends on the evaluations up to the rung alone, not on who trained when, so that a driver
which dies in the middle decides the same again. A run that goes on is the run that it would have
been without rungs, bit for bit.
"""

import contextlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from study import files
from study.errors import StudyError
from study.runs.folder import DONE, read_result
from study.runs.progress import Progress
from study.runs.table import read_table, results_in
from study.settings.config import PAUSE, RESULT, WAITING, Halving, SweepConfig


@dataclass(frozen=True, eq=False)
class Member:
    """A run among those that are judged together."""

    number: int
    folder: Path
    hash: str
    result: Mapping[str, Any] | None = None
    """What it is known to have come to; nothing is done to such a run."""


def require_all(sweep: SweepConfig, trials: int | None) -> None:
    """StudyError where another number of settings is asked for than what a rung judges."""
    stated = {sweep.settings(dataset) for dataset in sweep.datasets}
    if sweep.halving is not None and trials is not None and stated != {trials}:
        raise StudyError(
            f"sweep {sweep.name} stops the worse of its {max(stated)} settings, all of which it "
            f"has to see: leave TRIALS={trials} out, or change trials in sweeps/{sweep.name}.toml"
        )


def judge(found: Progress, halving: Halving | None) -> Progress:
    """Where all runs of a loss have come to a rung, let the best go on and stop the others.

    OSError where the disk does not let it be told, or done, at this look.
    """
    if halving is None or "waiting" not in found.states:
        return found
    known = results_of_done(found)
    groups: dict[tuple[str, str, int], list[Member]] = {}
    for (config, folder, _), hash_ in zip(found.runs(), found.hashes, strict=True):
        key = (config.loss, config.dataset, config.d_steps)
        groups.setdefault(key, []).append(Member(config.number, folder, hash_, known.get(hash_)))
    for (*_, d_steps), members in groups.items():
        judge_group(halving, d_steps, members)
    return found.now()


def results_of_done(found: Progress) -> dict[str, Mapping[str, Any]]:
    """What the runs that are done came to, by hash: as their folders say, or else the table.

    A clone, or whoever has cleaned up, has some runs in the table alone, which is read only then.
    """
    known: dict[str, Mapping[str, Any]] = {}
    gone: dict[tuple[Path, str], list[str]] = {}
    for (config, folder, state), hash_ in zip(found.runs(), found.hashes, strict=True):
        if state in DONE:
            result = None
            with contextlib.suppress(OSError):  # the table may tell
                result = read_result(folder, hash_)
            if result is not None:
                known[hash_] = result
            else:
                results = folder.parents[len(config.path.parts)]
                gone.setdefault((results, config.sweep), []).append(hash_)
    for (results, sweep), hashes in gone.items():
        known |= results_in(read_table(results, sweep), hashes)
    return known


def judge_group(halving: Halving, d_steps: int, members: Sequence[Member]) -> None:
    """Decide at every rung to which all that came so far have come."""
    steps = halving.steps(d_steps)
    for step, following, share in zip(steps, [*steps[1:], None], halving.keep, strict=True):
        reached = {member: least_by(member, step) for member in members}
        scores = {member: fid for member, fid in reached.items() if fid is not None}
        if len(scores) < len(reached):
            return
        ranked = sorted(scores, key=lambda member: (scores[member], member.number))
        best = ranked[: math.ceil(Fraction(str(share)) * len(ranked))]
        for member in ranked:
            waits = None
            if member.result is None:
                waits = read_result(member.folder, member.hash, WAITING)
            if waits is None or waits["evaluations"][-1]["step"] != step:
                continue
            if member in best:
                let_go_on(member.folder, following)
            else:
                stop(member.folder)
        members = best


def least_by(member: Member, step: int) -> float | None:
    """A run's least distance up to a step; None before that step.

    Infinite where it diverged, or has ended before the step: it never comes there.
    """
    ended = member.result or read_result(member.folder, member.hash)
    if ended is not None and ended["status"] == "diverged":
        return math.inf
    so_far = ended or read_result(member.folder, member.hash, WAITING)
    rows = so_far["evaluations"] if so_far is not None else evaluations(member.folder)
    if not any(row["step"] >= step for row in rows):
        return None if ended is None else math.inf
    return min((float(row["fid"]) for row in rows if row["step"] <= step), default=math.inf)


def evaluations(folder: Path) -> list[dict[str, float]]:
    """What a run that goes on has measured so far; OSError where that cannot be read."""
    try:
        lines = files.read_bytes(folder / "metrics.jsonl").splitlines()
        rows = [json.loads(line) for line in lines]
        return [row for row in rows if row["step"] > 0 and row["fid"] is not None]
    except (FileNotFoundError, ValueError, TypeError, KeyError, RecursionError):
        return []


def stop(folder: Path) -> None:
    """Have a run end at the rung where it waits."""
    with contextlib.suppress(FileNotFoundError):  # another driver was quicker
        os.rename(folder / WAITING, folder / RESULT)
        os.unlink(folder / "checkpoint.pt")


def let_go_on(folder: Path, step: int | None) -> None:
    """Have a run train on, to its next rung or to the end."""
    if step is None:
        (folder / PAUSE).unlink(missing_ok=True)
    else:
        files.write_json(folder / PAUSE, {"step": step})
    (folder / WAITING).unlink(missing_ok=True)

"""Successive halving: at each rung of a search a loss's best settings go on, the others stop.

Jamieson and Talwalkar 2016, arXiv 1502.07943, with rungs and shares that the sweep states. A run
that comes to a rung waits there (waiting.json), and the driver judges when all of its loss and data
set have come: by the least distance so far, the lower number first where two are equal. What is
decided depends on the evaluations up to the rung alone, not on who trained when, so that a driver
which dies in the middle decides the same again. A run that goes on is the run that it would have
been without rungs, bit for bit.
"""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from study import files
from study.errors import StudyError
from study.runs.folder import read_result
from study.runs.progress import Progress
from study.settings.config import PAUSE, RESULT, WAITING, Halving, SweepConfig


class Member(NamedTuple):
    """A run among those that are judged together."""

    number: int
    folder: Path
    hash: str


def require_all(sweep: SweepConfig, trials: int | None) -> None:
    """StudyError where another number of settings is asked for than what a rung judges."""
    if sweep.halving is not None and trials not in (None, sweep.trials):
        raise StudyError(
            f"sweep {sweep.name} stops the worse of its {sweep.trials} settings, all of which it "
            f"has to see: leave TRIALS={trials} out, or change trials in sweeps/{sweep.name}.toml"
        )


def judge(found: Progress, halving: Halving | None) -> Progress:
    """Where all runs of a loss have come to a rung, let the best go on and stop the others."""
    if halving is None or "waiting" not in found.states:
        return found
    groups: dict[tuple[str, str, int], list[Member]] = {}
    for (config, folder, _), hash_ in zip(found.runs(), found.hashes, strict=True):
        key = (config.loss, config.dataset, config.d_steps)
        groups.setdefault(key, []).append(Member(config.number, folder, hash_))
    for (*_, d_steps), members in groups.items():
        judge_group(halving, d_steps, members)
    return found.now()


def judge_group(halving: Halving, d_steps: int, members: Sequence[Member]) -> None:
    """Decide at every rung to which all that came so far have come."""
    steps = halving.steps(d_steps)
    for step, following, share in zip(steps, [*steps[1:], None], halving.keep, strict=True):
        reached = {member: least_by(member, step) for member in members}
        scores = {member: fid for member, fid in reached.items() if fid is not None}
        if len(scores) < len(reached):
            return
        ranked = sorted(scores, key=lambda member: (scores[member], member.number))
        best = ranked[: math.ceil(share * len(ranked))]
        for member in ranked:
            waits = read_result(member.folder, member.hash, WAITING)
            if waits is None or waits["evaluations"][-1]["step"] != step:
                continue
            if member in best:
                let_go_on(member.folder, following)
            else:
                os.rename(member.folder / WAITING, member.folder / RESULT)
                (member.folder / "checkpoint.pt").unlink(missing_ok=True)
        members = best


def least_by(member: Member, step: int) -> float | None:
    """A run's least distance up to a step, infinite where it diverged; None before that step."""
    result = read_result(member.folder, member.hash)
    if result is not None and result["status"] == "diverged":
        return math.inf
    rows = (result or {}).get("evaluations") or evaluations(member.folder)
    if not any(row["step"] >= step for row in rows):
        return None
    return min(float(row["fid"]) for row in rows if row["step"] <= step)


def evaluations(folder: Path) -> list[dict[str, float]]:
    """What a run that goes on has measured so far."""
    try:
        lines = files.read_bytes(folder / "metrics.jsonl").splitlines()
        rows = [json.loads(line) for line in lines]
        return [row for row in rows if row["step"] > 0 and row["fid"] is not None]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return []


def let_go_on(folder: Path, step: int | None) -> None:
    """Have a run train on, to its next rung or to the end."""
    if step is None:
        (folder / PAUSE).unlink(missing_ok=True)
    else:
        files.write_json(folder / PAUSE, {"step": step})
    (folder / WAITING).unlink(missing_ok=True)

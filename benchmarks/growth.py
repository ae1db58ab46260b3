"""How plan, status, collect and figures grow with the number of runs, and what a run's start costs.

Every action is a fresh process over made-up finished runs of the sweep `mini` (one data set, all
losses), in a folder of its own; seconds of process time, start and imports included, and peak
memory of that process.

Run it by `make bench`, or `python benchmarks/growth.py [runs ...]`.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common

from study import files, losses
from study.analysis import figures
from study.analysis.tables import read_tables
from study.runs import progress, status
from study.runs import table as store
from study.runs.folder import folder_of
from study.runs.plan import plan as plan_of
from study.settings.config import RunConfig, load_sweep

ACTIONS = ("import", "plan", "status", "collect", "collect again", "figures")


def configs(count: int) -> list[RunConfig]:
    """The first `count` runs of `mini` on Fashion-MNIST, with as many settings as that needs."""
    trials = math.ceil(count / len(losses.names()))
    return plan_of(load_sweep("mini"), (), ["fashion_mnist"], trials)[:count]


def finish(results: Path, count: int) -> None:
    """Give every planned run a made-up result of two evaluations."""
    for config in configs(count):
        rows = [
            {"step": step, "d_steps": step, "g_steps": step, "images": 64 * step, "flops": step}
            | {"wall_s": step / 25, "fid": 30.0 + config.number % 97 + 1e3 / step}
            | {"fid_train": 30.0 + config.number % 97, "fid_report": 31.0 + config.number % 97}
            for step in (1000, 2000)
        ]
        made_by = {"commit": None, "processor": None, "torch": None}
        content = {"status": "ok", "reason": None, "config": config.hash, "evaluations": rows}
        folder = folder_of(results, config)
        files.write_json(folder / "result.json", content | {"provenance": made_by})


def act(action: str, results: Path, count: int) -> None:
    """One action, in the process that is measured."""
    if action == "plan":
        progress.prepare(configs(count), results)
    elif action == "status":
        status.status(results)
    elif action.startswith("collect"):
        store.collect(results, "mini")
    elif action == "figures":
        figures.draw(read_tables(results, "mini").frames(), results / "figures")


def cost_of(command: list[str], results: Path) -> tuple[float, float]:
    """Process time in seconds and peak memory in MiB of a command."""
    environment = os.environ | {"STUDY_RESULTS": str(results)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def growth(counts: list[int]) -> common.Rows:
    """Time and memory of every action at every number of runs."""
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder)
            for action in ACTIONS:
                command = [sys.executable, __file__, "--act", action, str(results), str(count)]
                seconds, mib = cost_of(command, results)
                rows.append({"runs": count, "action": action, "s": seconds, "MiB": mib})
                if action == "plan":
                    finish(results, count)
    return rows


def start_up() -> common.Rows:
    """A run of one step and one evaluation of 250 images, by the command line."""
    (config,) = configs(1)
    short = {"d_steps": 1, "evaluate_every": 1, "num_images": 250}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for attempt in ("first, real statistics computed", "second", "third"):
            run_dir = Path(folder, attempt[:5])
            files.write_json(run_dir / "config.json", config.model_dump() | short)
            started = time.monotonic()
            command = [sys.executable, "-m", "study", "train", str(run_dir)]
            seconds, mib = cost_of(command, Path(folder))
            wall = time.monotonic() - started
            inside = json.loads((run_dir / "result.json").read_text())["evaluations"][-1]["wall_s"]
            rows.append({"run": attempt, "process s": seconds, "wall s": wall, "MiB": mib})
            rows[-1]["of which training and evaluation, wall s"] = inside
    return rows


def main() -> None:
    if sys.argv[1:2] == ["--act"]:
        act(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
        return
    common.store("start-up", start_up())
    common.store("growth", growth([int(count) for count in sys.argv[1:]] or [100, 1_000, 10_000]))


if __name__ == "__main__":
    main()

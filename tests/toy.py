"""A training that takes no time to import: a number that depends on every step before it.

python toy.py RESULTS WORKERS      a driver: trains every run below RESULTS with workers here
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from study import files
from study.runs.workers import Dispatcher, Notice


def plan(results: Path, **configs: dict[str, Any]) -> list[Path]:
    """Make a run folder for each name, with the configuration given."""
    folders = []
    for name, config in configs.items():
        folder = results / "runs/sweep/loss/data" / name
        files.write_json(folder / "config.json", {"steps": 20, "step_s": 0.01} | config)
        folders.append(folder)
    return folders


def train(folder: Path, interrupted: Callable[[], bool], require_held: Callable[[], None]) -> str:
    """Iterate the logistic map, a checkpoint a step; fail or die where the configuration says."""
    config = json.loads((folder / "config.json").read_text())
    state = files.read_json(folder / "checkpoint.json") or {"step": 0, "x": 0.5}
    files.log(folder, f"from step {state['step']} on GPU {os.environ.get('CUDA_VISIBLE_DEVICES')}")
    if config.get("raises"):
        raise ValueError(config["raises"])
    if config.get("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    while state["step"] < config["steps"]:
        time.sleep(config["step_s"])
        state = {"step": state["step"] + 1, "x": 3.7 * state["x"] * (1 - state["x"])}
        require_held()
        files.write_json(folder / "checkpoint.json", state)
        while state["step"] == config.get("waits_at") and not (folder / "go").exists():
            time.sleep(0.05)
        if interrupted():
            return "interrupted"
    require_held()
    files.write_json(folder / "result.json", result(state["x"], state["step"]))
    return "ok"


def result(x: float, step: int = 20, **changes: object) -> dict[str, Any]:
    """What result.json of a finished run says."""
    evaluation = {"step": step, "fid": x, "wall_s": 1.0}
    content = {"status": "ok", "config": "toy", "evaluations": [evaluation], "provenance": {}}
    return content | {"x": x} | changes


def expected(steps: int = 20) -> float:
    """What an undisturbed run comes to."""
    x = 0.5
    for _ in range(steps):
        x = 3.7 * x * (1 - x)
    return x


def drive(
    folders: list[Path], workers: int = 2, retries: int = 1, gpus: Sequence[str] = ()
) -> bool:
    """Train with workers on this machine; whether nothing interrupted it."""
    with Notice(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as notice:
        dispatcher = Dispatcher(train, notice, workers, retries, gpus)
        dispatcher.carry(folders, lambda: None)
    return not notice.given


def main() -> None:
    """Train every run, and say whether nothing interrupted it."""
    results, workers = Path(sys.argv[1]), int(sys.argv[2])
    folders = sorted(path.parent for path in results.glob("runs/*/*/*/*/config.json"))
    sys.exit(0 if drive(folders, workers) else 130)


if __name__ == "__main__":
    import toy  # so that workers know this module by its name

    toy.main()

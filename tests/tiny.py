"""Sweeps that take a second: the real training loop on a few random images, with no download.

`python tiny.py ...` is the command line of `python -m study ...` with this in place; workers and
jobs import it by its name, so this folder must be on their path.
"""

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from study.training.loop import train as loop_train
from study.training.records import Outcome

SWEEP = """
title = "tiny"
ranges = "wide"
trials = {trials}
losses = ["ns"]
width = 0.03125
bn_decay = 0.9
features = "random"
num_images = 128
[datasets.mnist]
d_steps = {steps}
evaluate_every = {every}
"""


def environment(root: Path, trials: int, steps: int, every: int) -> dict[str, str]:
    """What the processes of a tiny sweep need; its folders are made below `root`."""
    (root / "sweeps").mkdir(parents=True, exist_ok=True)
    text = SWEEP.format(trials=trials, steps=steps, every=every)
    (root / "sweeps/tiny.toml").write_text(text)
    folders = {"STUDY_SWEEPS": "sweeps", "STUDY_RESULTS": "results", "STUDY_DATA": "data"}
    here = Path(__file__).parent
    return {
        **os.environ,
        **{name: str(root / folder) for name, folder in folders.items()},
        "PYTHONPATH": f"{here}:{here.parent}",
        "OMP_NUM_THREADS": "1",
    }


def shrink_data() -> None:
    """Put a few hundred random images in MNIST's place."""
    from study import datasets as data

    def read(split: str, folder: Path) -> tuple[np.ndarray, Path]:
        generator = np.random.default_rng(split == "train")
        return generator.integers(0, 256, (256, 1, 28, 28), np.uint8), folder

    sizes = {"train": 256, "held_out": 256}
    data.SETS["mnist"] = replace(data.SETS["mnist"], sizes=sizes, read=read)


def train(
    folder: Path, interrupted: Callable[[], bool], require_held: Callable[[], None]
) -> Outcome:
    """The study's own loop, on tiny data."""
    shrink_data()
    return loop_train(folder, interrupted, require_held)


def main() -> None:
    """The study's command line, on tiny data; where FORK is set, workers need not load it again."""
    from study import cli as commands
    from study.runs import workers
    from study.training import loop

    if "FORK" in os.environ:
        workers.SPAWN = multiprocessing.get_context("fork")  # type: ignore[assignment]
    shrink_data()
    loop.train = train  # type: ignore[assignment]
    commands.main()


if __name__ == "__main__":
    import tiny  # so that workers know this module by its name

    tiny.main()

"""Steps a second and runs a GPU-hour on one GPU, shared by 1 to 16 runs, and the paper's cost.

Each once with the step as it is and once replayed as a CUDA graph; the cost is the faster one's.
A run is the paper's: full width, its data set's number of D steps; evaluations are not timed. Every
process trains for the same seconds at the same time as the others.

Run it by `make bench DEVICE=cuda`; three minutes of an H200 saw the first table.
"""

import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from typing import Any, NamedTuple

import common
import torch
from step import ours

from study.datasets import image_shape
from study.settings.config import BATCH_SIZE, load_sweep
from study.training.loop import set_arithmetic
from study.training.networks import ImageShape

SECONDS = 2.0
WARM_UP = 20
"""Steps before the clock starts; a CUDA graph is recorded in them."""
PATIENCE_S = 120.0
TOGETHER = (1, 2, 4, 8, 16)
PAPER = ("wide", "narrow", "seeds")


class Work(NamedTuple):
    """What a process trains for some seconds."""

    loss: str
    shape: ImageShape
    graph: bool


def train(works: Sequence[Work], barrier: Barrier, rates: Any) -> None:
    """Put each work's D steps a second (G's turn every step) of one process into `rates`."""
    set_arithmetic("fp32")
    for number, work in enumerate(works):
        step = ours(work.loss, work.shape, 1.0, "cuda", work.graph)
        x = torch.rand(BATCH_SIZE, *work.shape, device="cuda")
        for _ in range(WARM_UP):
            step(x)
        torch.cuda.synchronize()
        barrier.wait(PATIENCE_S)
        started, steps = time.monotonic(), 0
        while time.monotonic() - started < SECONDS:
            for _ in range(10):
                step(x)
            torch.cuda.synchronize()
            steps += 10
        rates.put((number, steps / (time.monotonic() - started)))


def steps_per_second(works: Sequence[Work], together: int) -> list[float]:
    """D steps a second of `together` processes on one GPU, in all, of one work after the other."""
    context = multiprocessing.get_context("spawn")
    barrier, rates = context.Barrier(together), context.Queue()
    processes = [
        context.Process(target=train, args=(works, barrier, rates)) for _ in range(together)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError(f"processes ended with {[process.exitcode for process in processes]}")
    totals = [0.0] * len(works)
    for _ in range(together * len(works)):
        number, rate = rates.get(timeout=PATIENCE_S)
        totals[number] += rate
    return totals


def main() -> None:
    gpu: dict[str, Any] = {"GPU": torch.cuda.get_device_name()}
    shared: common.Rows = []
    d_steps = load_sweep("wide").datasets["fashion_mnist"].d_steps
    for together in TOGETHER:
        works = [Work("ns", image_shape("fashion_mnist"), graph) for graph in (False, True)]
        for work, rate in zip(works, steps_per_second(works, together), strict=True):
            row: dict[str, Any] = {
                "runs together": together,
                "CUDA graph": work.graph,
                "steps/s": rate,
            }
            shared.append(gpu | row | {"runs/GPU-hour": 3600 * rate / d_steps})
    common.store("GPU shared", shared)

    fastest = max(shared, key=lambda row: row["steps/s"])
    sweeps = [load_sweep(name) for name in PAPER]
    datasets = sweeps[0].datasets
    works = [
        Work(loss, shape, fastest["CUDA graph"])
        for shape in dict.fromkeys(image_shape(dataset) for dataset in datasets)
        for loss in sweeps[0].losses
    ]
    rates = dict(zip(works, steps_per_second(works, fastest["runs together"]), strict=True))
    rows: common.Rows = []
    hours, runs = 0.0, 0
    for dataset, schedule in datasets.items():
        trials = sum(sweep.trials for sweep in sweeps if dataset in sweep.datasets)
        for loss in sweeps[0].losses:
            rate = rates[Work(loss, image_shape(dataset), fastest["CUDA graph"])]
            cost = trials * schedule.d_steps / rate / 3600
            hours, runs = hours + cost, runs + trials
            row = {"data": dataset, "loss": loss, "steps/s": rate, "runs": trials}
            rows.append(gpu | row | {"GPU-hours": cost})
    rows.append(gpu | {"data": "all", "runs": runs, "GPU-hours": hours})
    common.store("GPU cost of the paper", rows)


if __name__ == "__main__":
    main()

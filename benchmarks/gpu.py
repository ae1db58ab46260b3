"""Steps a second and runs a GPU-hour on one GPU, shared by 1 to 16 runs, and the paper's cost.

Each once with the step as it is and once replayed as a CUDA graph; the cost is the faster one's.
A run is the paper's: full width, its data set's number of D steps; evaluations are not timed. Every
process trains for the same seconds at the same time as the others.

Run it by `make bench DEVICE=cuda`.
"""

import itertools
import multiprocessing
import time
from multiprocessing.synchronize import Barrier
from typing import Any

import common
import torch
from step import ours

from study import losses
from study.datasets import image_shape
from study.settings.config import BATCH_SIZE, load_sweep
from study.training.loop import set_arithmetic
from study.training.networks import ImageShape

SECONDS = 10.0
PATIENCE_S = 120.0
TOGETHER = (1, 2, 4, 8, 16)
PAPER = ("wide", "narrow", "seeds")


def train(loss: str, shape: ImageShape, graph: bool, barrier: Barrier, rates: Any) -> None:
    """Put the D steps a second (G's turn every step) of one process into `rates`."""
    set_arithmetic("fp32")
    step = ours(loss, shape, 1.0, "cuda", graph)
    x = torch.rand(BATCH_SIZE, *shape, device="cuda")
    for _ in range(20):
        step(x)
    torch.cuda.synchronize()
    barrier.wait(PATIENCE_S)
    started, steps = time.monotonic(), 0
    while time.monotonic() - started < SECONDS:
        for _ in range(10):
            step(x)
        torch.cuda.synchronize()
        steps += 10
    rates.put(steps / (time.monotonic() - started))


def steps_per_second(loss: str, shape: ImageShape, together: int, graph: bool) -> float:
    """D steps a second of `together` processes on one GPU, in all."""
    context = multiprocessing.get_context("spawn")
    barrier, rates = context.Barrier(together), context.Queue()
    processes = [
        context.Process(target=train, args=(loss, shape, graph, barrier, rates))
        for _ in range(together)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError(f"processes ended with {[process.exitcode for process in processes]}")
    return float(sum(rates.get(timeout=PATIENCE_S) for _ in processes))


def main() -> None:
    gpu: dict[str, Any] = {"GPU": torch.cuda.get_device_name()}
    shared: common.Rows = []
    d_steps = load_sweep("wide").datasets["fashion_mnist"].d_steps
    for together, graph in itertools.product(TOGETHER, (False, True)):
        rate = steps_per_second("ns", image_shape("fashion_mnist"), together, graph)
        row: dict[str, Any] = {"runs together": together, "CUDA graph": graph, "steps/s": rate}
        shared.append(gpu | row | {"runs/GPU-hour": 3600 * rate / d_steps})
    common.store("GPU shared", shared)

    fastest = max(shared, key=lambda row: row["steps/s"])
    how = fastest["runs together"], fastest["CUDA graph"]
    rows: common.Rows = []
    hours, runs = 0.0, 0
    for dataset, schedule in load_sweep("wide").datasets.items():
        sweeps = [load_sweep(name) for name in PAPER]
        trials = sum(sweep.trials for sweep in sweeps if dataset in sweep.datasets)
        for loss in losses.names():
            rate = steps_per_second(loss, image_shape(dataset), *how)
            cost = trials * schedule.d_steps / rate / 3600
            hours, runs = hours + cost, runs + trials
            row = {"data": dataset, "loss": loss, "steps/s": rate, "runs": trials}
            rows.append(gpu | row | {"GPU-hours": cost})
    rows.append(gpu | {"data": "all", "runs": runs, "GPU-hours": hours})
    common.store("GPU cost of the paper", rows)


if __name__ == "__main__":
    main()

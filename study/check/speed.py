"""How fast this machine trains: steps a second, runs an hour, memory, the cost of `wide`."""

import multiprocessing
import os
import resource
import time
from functools import cache, partial
from multiprocessing.synchronize import Barrier
from typing import Any, NamedTuple

import torch

from study import datasets as data
from study.check.rows import Check, Machine, NotTried
from study.runs.forecast import predicted_flops
from study.runs.plan import plan
from study.settings.config import BATCH_SIZE, RunConfig, load_sweep
from study.training.cuda_graph import GraphStep
from study.training.flops import count_flops
from study.training.loop import select_device, set_arithmetic
from study.training.players import build

SECONDS = 4.0
WARM_UP = 4
TOGETHER = (1, 2, 4, 8, 16)
PATIENCE_S = 120.0


class Speed(NamedTuple):
    """What some processes did together, each with one run of the paper's NS GAN."""

    steps_a_second: float
    memory_gib: float
    """Of one process: on the GPU, or its own where there is none."""


def paper_run(device: str, cuda_graph: bool) -> RunConfig:
    """A run of `wide`: NS GAN at its authors' default, full width, Fashion-MNIST."""
    (wanted,) = plan(load_sweep("wide"), ["ns"], ["fashion_mnist"], 1, device)
    return wanted.model_copy(update={"cuda_graph": cuda_graph})


def measure(wanted: RunConfig, barrier: Barrier, found: Any) -> None:
    """Train with the others for some seconds, and tell steps a second and the memory at its peak.

    D learns at every step and G on its turns; batches are noise, since images make no difference.
    """
    torch.set_num_threads(wanted.threads)
    torch.set_flush_denormal(True)
    set_arithmetic(wanted.precision)
    device = select_device(wanted.device)
    loss, players = build(wanted, data.image_shape(wanted.dataset), device)
    step = GraphStep(loss, players) if wanted.cuda_graph else partial(loss.step, players)
    x = torch.rand(BATCH_SIZE, *data.image_shape(wanted.dataset), device=device)
    z = torch.rand(BATCH_SIZE, 64, device=device)

    def wait_for_it() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    for _ in range(WARM_UP):
        step(x, z, g_turn=True)
    wait_for_it()
    barrier.wait(PATIENCE_S)
    started, steps = time.monotonic(), 0
    while time.monotonic() - started < SECONDS:
        step(x, z, g_turn=True)
        steps += 1
        if steps % 10 == 0:
            wait_for_it()
    wait_for_it()
    rate = steps / (time.monotonic() - started)
    if device.type == "cuda":
        memory = torch.cuda.max_memory_reserved() / 2**30
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB, on Linux
    found.put((rate, memory))


@cache
def speed(device: str, together: int, cuda_graph: bool) -> Speed:
    """What `together` processes do on one device."""
    context = multiprocessing.get_context("spawn")
    barrier, found = context.Barrier(together), context.Queue()
    wanted = paper_run(device, cuda_graph)
    processes = [
        context.Process(target=measure, args=(wanted, barrier, found)) for _ in range(together)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError(f"processes ended with {[process.exitcode for process in processes]}")
    told = [found.get(timeout=PATIENCE_S) for _ in processes]
    return Speed(sum(rate for rate, _ in told), max(memory for _, memory in told))


def fits(device: str, together: int) -> bool:
    """Whether so many runs are worth trying at once."""
    return device != "cpu" or together <= len(os.sched_getaffinity(0))


def ways(device: str) -> tuple[bool, ...]:
    """With and without a CUDA graph, where there are such."""
    return (False, True) if device.startswith("cuda") else (False,)


def at_once(together: int, machine: Machine) -> str:
    """Steps a second and runs an hour of so many at once."""
    if not fits(machine.device, together):
        raise NotTried(f"{len(os.sched_getaffinity(0))} cores here")
    said = []
    for cuda_graph in ways(machine.device):
        found = speed(machine.device, together, cuda_graph)
        runs = 3600 * found.steps_a_second / paper_run(machine.device, False).d_steps
        how = "as a CUDA graph" if cuda_graph else "plain"
        said.append(
            f"{how}: {found.steps_a_second:.3g} steps/s in all, {runs:.2g} runs an hour, "
            f"{found.memory_gib:.2g} GiB each"
        )
    return "; ".join(said)


def cost(machine: Machine) -> str:
    """Hours for the whole of `wide` on one such device, evaluations left out."""
    rates = [
        speed(machine.device, together, cuda_graph).steps_a_second
        for together in TOGETHER
        if fits(machine.device, together)
        for cuda_graph in ways(machine.device)
    ]
    example = paper_run(machine.device, False)
    d_flops, g_flops = count_flops(example, data.image_shape(example.dataset))
    flops_per_s = max(rates) * (d_flops + g_flops)
    runs = plan(load_sweep("wide"))
    days = predicted_flops(runs) / flops_per_s / 86_400
    return (
        f"{len(runs)} runs: {days:.3g} days of training on this {kind(machine.device)} at NS GAN's "
        f"{flops_per_s / 1e9:.3g} GFLOP/s"
    )


def kind(device: str) -> str:
    """What a device is called in a sentence."""
    return "machine" if device == "cpu" else "GPU"


CHECKS = [
    *(Check("speed", f"{count} at once", partial(at_once, count)) for count in TOGETHER),
    Check("speed", "the whole of `wide`", cost),
]

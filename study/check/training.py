"""Training on this machine: the same numbers twice, interrupted or not, side by side or alone."""

import json
import multiprocessing
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from study import datasets as data
from study import losses
from study.check.disk import scratch
from study.check.rows import Check, Machine, Off, require_gpu, require_within
from study.files import write_json
from study.runs.plan import plan
from study.settings.config import Normalisation, RunConfig, Schedule, SweepConfig
from study.training.cuda_graph import GraphStep
from study.training.loop import batch, precision, select_device, set_arithmetic, train
from study.training.networks import draw_z, stream
from study.training.optimizer import adam
from study.training.players import build

SWEEP = SweepConfig(
    name="check",
    title="A narrow network on noise",
    ranges="wide",
    trials=1,
    width=1 / 16,
    bn_decay=0.9,
    features="random",
    num_images=256,
    datasets={"noise": Schedule(d_steps=40, evaluate_every=20)},
)
STEPS = 20
NORMALISATIONS: tuple[Normalisation, ...] = get_args(Normalisation)

# How far the curves of twenty steps may lie from those of the plain step in float32, as a share of
# a curve's largest value. Seen on a CPU: bf16 0.0006 (BEGAN) to 0.0045 (LS). TF32 has three bits
# more than bf16.
ARITHMETIC = {"bf16": 0.02, "tf32": 0.005}
ADAM = 1e-5
"""The same for twenty updates on given gradients: a network between them amplifies rounding."""


def config(loss: str, device: str, **changes: Any) -> RunConfig:
    """The check's run of a loss, at its authors' default setting but for the changes."""
    (planned,) = plan(SWEEP, [loss], device=device)
    fields = planned.model_dump() | changes
    if "normalisation" in changes:
        del fields["batch_norm"]  # which says the same in the paper's words
    return RunConfig(**fields)


# ---- whole runs ----------------------------------------------------------------------------------


def outcome(folder: Path) -> dict[str, Any]:
    """Everything of a finished run but seconds and places."""
    result = json.loads((folder / "result.json").read_text())
    rows = [{k: v for k, v in row.items() if k != "wall_s"} for row in result["evaluations"]]
    curves = pd.read_parquet(folder / "curves.parquet")
    best = torch.load(folder / "best.pt", weights_only=True, map_location="cpu")
    return {
        "evaluations": rows,
        "curves": curves.to_dict("list"),
        "weights": {name: value.flatten().tolist() for name, value in best.items()},
    }


def require_equal(one: Path, other: Path, what: str) -> str:
    """Off where two runs' numbers differ in any digit."""
    a, b = outcome(one), outcome(other)
    differing = [part for part in a if json.dumps(a[part]) != json.dumps(b[part])]
    if differing:
        found = [rows["evaluations"][-1]["fid"] for rows in (a, b)]
        raise Off(f"{what} differ in {', '.join(differing)}: last distance {found[0]}, {found[1]}")
    return f"{what}: equal to the last digit"


def planned(folder: Path, wanted: RunConfig) -> Path:
    """A run's folder with its configuration."""
    write_json(folder / "config.json", wanted.model_dump())
    return folder


def stop_after(steps: int) -> Callable[[], bool]:
    """An `interrupted` that turns true at the so-manieth step."""
    asked = iter(range(steps))
    return lambda: next(asked, None) is None


def twice(machine: Machine) -> str:
    """The same configuration, the same numbers."""
    with scratch(machine.results) as folder:
        one, other = (planned(folder / name, config("ns", machine.device)) for name in ("a", "b"))
        train(one)
        train(other)
        return require_equal(one, other, "two runs")


def resumed(machine: Machine, cuda_graph: bool = False) -> str:
    """A run that was interrupted twice, at a curve's point and beside one, ends as a whole one.

    As a CUDA graph, which is recorded anew at every start, too.
    """
    if cuda_graph:
        require_gpu(machine)
    with scratch(machine.results) as folder:
        wanted = config("dragan", machine.device, cuda_graph=cuda_graph)
        whole, parts = (planned(folder / name, wanted) for name in ("whole", "parts"))
        train(whole)
        for steps in (13, 18):
            if train(parts, stop_after(steps)) != "interrupted":
                raise Off("a run that was asked to stop went on")
        train(parts)
        return require_equal(whole, parts, "a whole run and a resumed one")


def side_by_side(machine: Machine) -> str:
    """Two processes that train at once on one device come to what one alone comes to."""
    with scratch(machine.results) as folder:
        wanted = config("ns", machine.device)
        folders = [planned(folder / name, wanted) for name in ("alone", "left", "right")]
        train(folders[0])
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=train, args=(each,)) for each in folders[1:]]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise Off(f"a process beside another ended with {[p.exitcode for p in processes]}")
        for one, other in pairwise(folders):
            said = require_equal(one, other, "runs that share the device")
        return said


# ---- steps ---------------------------------------------------------------------------------------


def curves(wanted: RunConfig, replayed: bool = True) -> dict[str, Tensor]:
    """What twenty training steps record, by name; on the CPU.

    Not `replayed`: a CUDA graph's steps as they are, with the optimiser that it needs.
    """
    set_arithmetic(wanted.precision)
    device = select_device(wanted.device)
    loss, players = build(wanted, data.image_shape(wanted.dataset), device)
    step: Callable[..., dict[str, Tensor]] = partial(loss.step, players)
    if wanted.cuda_graph and replayed:
        step = GraphStep(loss, players)
    images = data.load(wanted.dataset, "train").to(device)
    z_stream, penalty_stream = stream(0, "z"), stream(0, "penalty")
    points: list[dict[str, Tensor]] = []
    for number in range(STEPS):
        x = batch(images, number, wanted.batch_size)
        z = draw_z(len(x), loss.prior, z_stream).to(device)
        z_g = draw_z(len(x), loss.prior, z_stream).to(device) if loss.fresh_z else None
        g_turn, draws = loss.g_turn(number, wanted.disc_iters), loss.draws(x, penalty_stream)
        with precision(wanted):
            points.append(step(x, z, g_turn=g_turn, z_g=z_g, draws=draws))
    names = dict.fromkeys(name for point in points for name in point)
    return {
        name: torch.stack([point[name] for point in points if name in point]).double().cpu()
        for name in names
    }


def deviation(found: dict[str, Tensor], plain: dict[str, Tensor]) -> float:
    """The greatest distance of two runs' curves, as a share of a curve's largest value.

    Shares of images (accuracies) are left out: they jump. NaN where there is one, in either:
    NumPy's max keeps it, Python's drops it.
    """
    shares = [
        share(found[name] - values, values)
        for name, values in plain.items()
        if not name.startswith("accuracy")
    ]
    return float(np.max(shares))


def share(difference: Tensor, values: Tensor) -> float:
    """The greatest of a difference over the largest value; 0 where there is none, even of 0."""
    return float(difference.abs().max() / values.abs().max()) if difference.any() else 0.0


def arithmetic(name: str, machine: Machine) -> str:
    """Steps in a coarser arithmetic lie beside those in float32."""
    if name == "tf32":
        require_gpu(machine)
    found = curves(config("ns", machine.device, precision=name))
    plain = curves(config("ns", machine.device))
    return require_within("curves within", deviation(found, plain), ARITHMETIC[name])


def graph(name: str, machine: Machine) -> str:
    """Steps replayed as a CUDA graph are the steps themselves."""
    require_gpu(machine)
    wanted = config(name, machine.device, cuda_graph=True)
    found, plain = curves(wanted), curves(wanted, replayed=False)
    differing = [curve for curve, values in plain.items() if not torch.equal(values, found[curve])]
    if differing:
        raise Off(f"{', '.join(differing)} within {deviation(found, plain):.2g}, not equal")
    return f"{STEPS} steps, equal to the last digit"


def optimisers(machine: Machine) -> str:
    """The optimiser that a CUDA graph can move on makes the plain one's updates, but for rounding.

    On gradients of both signs and of all sizes from 1e-9, under Adam's epsilon, to 1.
    """
    draws = torch.Generator().manual_seed(0)
    gradients = torch.randn(STEPS, 1000, generator=draws) * torch.logspace(-9, 0, 1000)
    ends = []
    for cuda_graph in (False, True):
        weights = nn.Parameter(torch.zeros(1000, device=machine.device))
        optimiser = adam([weights], 1e-3, 0.5, cuda_graph)
        for gradient in gradients.to(machine.device):
            weights.grad = gradient
            optimiser.step()
        ends.append(weights.detach().cpu())
    plain, found = ends
    return require_within(f"{STEPS} updates within", share(found - plain, plain), ADAM)


def finite(name: str, machine: Machine) -> str:
    """A loss trains for twenty steps with every normalisation of D: numbers, and weights moved."""
    for normalisation in NORMALISATIONS:
        wanted = config(name, machine.device, normalisation=normalisation)
        for curve, values in curves(wanted).items():
            if not values.isfinite().all():
                raise Off(f"{curve} is not finite with normalisation {normalisation}")
            if curve.endswith("loss") and values.aminmax()[0] == values.aminmax()[1]:
                raise Off(f"{curve} does not move with normalisation {normalisation}")
    return f"{STEPS} steps with {', '.join(NORMALISATIONS)}"


CHECKS = [
    Check("runs", "the same run twice", twice),
    Check("runs", "a run resumed", resumed),
    Check("runs", "a CUDA graph's run resumed", partial(resumed, cuda_graph=True)),
    Check("runs", "two runs on one device", side_by_side),
    Check("steps", "bf16", partial(arithmetic, "bf16")),
    Check("steps", "TF32", partial(arithmetic, "tf32")),
    Check("steps", "a CUDA graph's Adam", optimisers),
    *(Check("steps", f"CUDA graph, {name}", partial(graph, name)) for name in losses.names()),
    *(Check("losses", name, partial(finite, name)) for name in losses.names()),
]

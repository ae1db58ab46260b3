"""One D update with its G update: milliseconds, beside two peers, and share of the matrix rate.

Every loss with its authors' defaults (G's turn every step), batch 64, random images in memory, one
thread. The peers are timed twice: with the same networks in torch's own layers and torch's Adam as
their documentation has it ("peer"), and with the study's layers and the fused Adam given to them
("given ours"), which leaves the steps alone to compare.

Run it by `make bench`, or `python benchmarks/step.py [repeats]`.
"""

import sys
from functools import partial
from typing import Any

import common
import peers
import torch
from torch import Tensor

from study import losses
from study.losses.base import Players
from study.settings.config import BATCH_SIZE
from study.training.cuda_graph import GraphStep
from study.training.flops import FlopCounter
from study.training.networks import ImageShape, draw_z, initialise, place
from study.training.optimizer import adam

WIDTHS = (0.25, 1.0)
SHAPES = ((1, 28, 28), (3, 32, 32))
SHARED = ("lr", "beta1", "disc_iters", "batch_norm")


def networks(loss: str, shape: ImageShape, width: float) -> tuple[Any, Any, Any]:
    """The loss with its defaults and its two networks, with initial weights."""
    Loss = losses.load(loss)
    own = {name: value for name, value in Loss.defaults.items() if name not in SHARED}
    chosen = Loss(**own)
    G = chosen.generator(shape, width, 0.999)
    D = chosen.discriminator(shape, Loss.defaults["batch_norm"], width)
    for network in (G, D):
        initialise(network, torch.Generator().manual_seed(0))
    return chosen, G, D


def ours(
    loss: str, shape: ImageShape, width: float, device: str = "cpu", graph: bool = False
) -> peers.Step:
    """The study's step, with the draws that it needs; `graph`: replayed as a CUDA graph."""
    chosen, G, D = networks(loss, shape, width)
    for network in (G, D):
        place(network, torch.device(device), width)
    chosen.to(device)
    players = Players(G, D, *(adam(part.parameters(), 1e-4, 0.5, graph) for part in (G, D)))
    train_step = GraphStep(chosen, players) if graph else partial(chosen.step, players)
    rng = torch.Generator().manual_seed(1)

    def step(x: Tensor) -> None:
        z = draw_z(len(x), chosen.prior, rng).to(device)
        z_g = draw_z(len(x), chosen.prior, rng).to(device) if chosen.fresh_z else None
        train_step(x, z, z_g=z_g, draws=chosen.draws(x, rng))

    return step


def contestants(loss: str, shape: ImageShape, width: float, x: Tensor) -> dict[str, Any]:
    """The study's step and those of the peers that have the loss, each twice."""
    calls = {"study": partial(ours(loss, shape, width), x)}
    for name, make in peers.peers_of(loss, shape).items():
        _, G, D = networks(loss, shape, width)
        plain = partial(torch.optim.Adam, lr=1e-4, betas=(0.5, 0.999))
        step = make(loss, peers.in_torch_layers(G), peers.in_torch_layers(D), plain)
        calls[name] = partial(step, x)
        _, G, D = networks(loss, shape, width)
        calls[f"{name} given ours"] = partial(make(loss, G, D, partial(plain, fused=True)), x)
    return calls


def matrix_rate() -> float:
    """The rate of the fastest float32 product that this machine has, GFLOP/s.

    torch's own (MKL's) and oneDNN's, of two sizes: on AMD processors oneDNN's is the faster one,
    and torch does not call it.
    """
    rates = []
    for n in (1024, 2048):
        a = torch.randn(n, n)
        products = {
            "mkl": partial(torch.mm, a, a),
            "onednn": partial(torch.ops.mkldnn._linear_pointwise, a, a, None, "none", [], ""),
        }
        times = common.side_by_side(products, 15)
        rates += [2 * n**3 / ms / 1e6 for ms, _ in times.values()]
    return max(rates)


def measure(
    loss: str, shape: ImageShape, width: float, repeats: int, rate: float
) -> dict[str, Any]:
    """One row of the table."""
    x = torch.rand(BATCH_SIZE, *shape)
    calls = contestants(loss, shape, width, x)
    with FlopCounter() as counter:  # type: ignore[no-untyped-call]
        calls["study"]()
    times = common.side_by_side(calls, repeats)
    study, median = times.pop("study")
    fastest = min(
        ((t, name) for name, (t, _) in times.items() if "given" not in name), default=None
    )
    row: dict[str, Any] = {"loss": loss, "image": "x".join(map(str, shape[1:] + shape[:1]))}
    row |= {"width": width, "study ms": study, "median": median}
    for name in ("torchgan", "torchgan given ours", "torch-mimicry", "torch-mimicry given ours"):
        row[f"{name} ms"] = times[name][0] if name in times else None
    row["study / fastest peer"] = study / fastest[0] if fastest else None
    row["GFLOP"] = counter.flops / 1e9
    row["share of matrix rate"] = counter.flops / 1e6 / study / rate
    return row


def main() -> None:
    common.one_thread()
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    rate = matrix_rate()
    print(f"fastest float32 product: {rate:.0f} GFLOP/s", file=sys.stderr)
    rows = [
        measure(loss, shape, width, repeats if width < 1 else max(5, repeats // 3), rate)
        for width in WIDTHS
        for shape in SHAPES
        for loss in losses.names()
    ]
    common.store("step", rows)


if __name__ == "__main__":
    main()

"""The cost of each loss's step beside NS GAN's, with every normalisation of D.

One D update with its G update, batch 64 of 28x28 images in memory, one thread; ratios of the least
process time to that of NS GAN with batch norm, all measured in turns in one run.

Run it by `make bench`, or `python benchmarks/losses.py [repeats]`.
"""

import sys
from collections.abc import Callable
from functools import partial

import common
import torch

from study import losses
from study.settings.config import BATCH_SIZE, Normalisation, RunConfig
from study.training.networks import draw_z, stream
from study.training.players import build

SHARED = ("lr", "beta1", "disc_iters", "batch_norm")
NORMALISATIONS: tuple[Normalisation, ...] = ("none", "batch", "spectral")
REFERENCE = ("ns", "batch")


def step_of(name: str, normalisation: Normalisation, width: float) -> Callable[[], object]:
    """One step of a loss with its defaults."""
    own = {n: v for n, v in losses.load(name).defaults.items() if n not in SHARED}
    config = RunConfig(
        sweep="bench", loss=name, dataset="none", number=0, seed=0, lr=1e-4, beta1=0.5,
        disc_iters=1, normalisation=normalisation, batch_norm=normalisation == "batch", own=own,
        d_steps=1, evaluate_every=1, width=width, bn_decay=0.99, features="random", num_images=2,
    )  # fmt: skip
    loss, players = build(config, (1, 28, 28), torch.device("cpu"))
    draws = stream(0, "bench")
    x, z = torch.rand(BATCH_SIZE, 1, 28, 28, generator=draws), draw_z(BATCH_SIZE, "uniform", draws)
    z_g = z if loss.fresh_z else None
    return partial(loss.step, players, x, z, z_g=z_g, draws=loss.draws(x, draws))


def main(repeats: int) -> None:
    """Measure, print, keep."""
    common.one_thread()
    rows = []
    for width in (0.25, 1.0):
        cases = [(name, kind) for name in losses.names() for kind in NORMALISATIONS]
        contestants = {f"{name} {kind}": step_of(name, kind, width) for name, kind in cases}
        times = common.side_by_side(contestants, repeats if width < 1 else max(3, repeats // 4))
        reference = times[" ".join(REFERENCE)][0]
        for name in losses.names():
            row = {"width": width, "loss": name}
            for kind in NORMALISATIONS:
                least = times[f"{name} {kind}"][0]
                row |= {f"{kind} ms": round(least, 1), f"{kind} / ns": round(least / reference, 2)}
            rows.append(row)
    common.store("losses", rows)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)

"""FLOPs of a training step, by torch's own formulas."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from study.settings.config import RunConfig
from study.training.networks import (
    Z_DIM,
    ImageShape,
)
from study.training.players import build

NARROW = (1, 2, 4)
"""Of 64ths of the paper's width."""


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts FLOPs by torch's own formulas.

    torch's FlopCounterMode hooks every module to tell them apart, which a gradient penalty's
    double backward does not bear; the sum needs no modules.
    """

    flops = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to mark a mode as not to be compiled, torch loads its compiler: 2 s

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.flops += int(formula(*args, **(kwargs or {}), out_val=out))
        return out


def count_flops(config: RunConfig, shape: ImageShape) -> tuple[int, int]:
    """FLOPs of one D step (penalty included) and what one G step adds, by torch's formulas.

    All of them are proportional to the batch, so that two images tell. Hidden widths are multiplied
    with each other at most once, so that the count is a polynomial of degree two in `width`: where
    64 x `width` is whole, so are all hidden widths, and three narrow networks tell.
    """
    of_64 = 64 * config.width
    if of_64 <= max(NARROW) or of_64 != int(of_64):
        return counted(config, shape)
    narrow = [counted(config.model_copy(update={"width": n / 64}), shape) for n in NARROW]
    d_step, g_step = (extrapolated(counts, int(of_64)) for counts in zip(*narrow, strict=True))
    return d_step, g_step


def extrapolated(counts: tuple[int, ...], n: int) -> int:
    """At n of the polynomial of degree two that takes `counts` at NARROW (Lagrange's form)."""
    a, b, c = counts
    return (2 * a * (n - 2) * (n - 4) - 3 * b * (n - 1) * (n - 4) + c * (n - 1) * (n - 2)) // 6


def counted(config: RunConfig, shape: ImageShape) -> tuple[int, int]:
    """The same, by taking a step of either kind on two images."""
    loss, players = build(config, shape, torch.device("cpu"))
    x, z = torch.zeros(2, *shape), torch.zeros(2, Z_DIM)
    counts = []
    for g_turn in (False, True):
        with FlopCounter() as counter:  # type: ignore[no-untyped-call]
            loss.step(players, x, z, g_turn=g_turn, z_g=z if loss.fresh_z and g_turn else None)
        counts.append(counter.flops * config.batch_size // 2)
    return counts[0], counts[1] - counts[0]

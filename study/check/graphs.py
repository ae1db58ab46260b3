"""The released graphs on this machine: in float64, and in float32 beside the CPU's."""

from functools import cache, partial

import torch

from study.check import replay
from study.check.rows import Check, Machine, Off, require_within

CURVE, PIXEL = 1e-6, 1e-5
"""In float64: relative deviation of a curve, deviation of a pixel in [0, 1]."""
PIXEL_FLOAT32 = 0.02
"""Twelve steps amplify float32's rounding: on a CPU to 0.0021 of a pixel's range (NS), against
float64."""


def float64(name: str, machine: Machine) -> str:
    """Every loss of twelve steps is the released graph's."""
    curve, pixel = replay.deviation(replay.replay(name, machine.device), replay.recorded(name))
    said = f"losses within {curve:.2g} (at most {CURVE:.0g})"
    said += f", pixels within {pixel:.2g} (at most {PIXEL:.0g})"
    if not (curve <= CURVE and pixel <= PIXEL):
        raise Off(said)
    return said


def float32(name: str, machine: Machine) -> str:
    """The images after twelve steps in float32 are those of the CPU (there: of the recording)."""
    found = replay.replay(name, machine.device, torch.float32)
    on_cpu = machine.device == "cpu"
    wanted = replay.recorded(name) if on_cpu else on_the_cpu(name)
    beside = "the recording" if on_cpu else "the CPU's float32"
    _, pixel = replay.deviation(found, wanted)
    return require_within(f"pixels beside {beside}: within", pixel, PIXEL_FLOAT32)


@cache
def on_the_cpu(name: str) -> replay.Replay:
    """A replay in float32 on the CPU."""
    return replay.replay(name, "cpu", torch.float32)


CHECKS = [
    *(Check("graphs", f"{name} in float64", partial(float64, name)) for name in replay.CASES),
    *(Check("graphs", f"{name} in float32", partial(float32, name)) for name in replay.CASES),
]

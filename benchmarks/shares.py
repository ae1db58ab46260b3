"""Where a step's time goes: shares of its operations by torch's profiler, NS and BEGAN, 28x28x1."""

import re

import common
import torch
from step import ours
from torch.profiler import ProfilerActivity, profile

STEPS = 20
KINDS = {
    "convolutions": "conv",
    "matrix products": "aten::(add)?mm$",
    "additions": "aten::add$",  # of the real and the fake batch's gradients, above all
    "batch norm": "batch_norm",
    "leaky ReLU": "leaky_relu",
    "Adam": "adam",
}


def shares(loss: str, width: float) -> dict[str, object]:
    """One row: percent of the profiled time in each kind of operation."""
    x, step = torch.rand(64, 1, 28, 28), ours(loss, (1, 28, 28), width)
    for _ in range(3):
        step(x)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(STEPS):
            step(x)
    events = profiler.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    row: dict[str, object] = {"loss": loss, "width": width}
    for kind, pattern in KINDS.items():
        spent = sum(e.self_cpu_time_total for e in events if re.search(pattern, e.key))
        row[f"{kind} %"] = round(100 * spent / total)
    return row


if __name__ == "__main__":
    common.one_thread()
    rows = [shares(loss, width) for loss in ("ns", "began") for width in (0.25, 1.0)]
    common.store("shares", rows)

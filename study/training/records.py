"""What a run leaves behind: its records along the way, its result, and what made the numbers."""

import contextlib
import math
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from study import datasets as data
from study import files
from study.losses import load
from study.measures import at_best
from study.measures import of_a_generator as measure
from study.measures.of_a_generator import best_generator
from study.settings.arithmetic import ROUNDING
from study.settings.config import RESULT, WAITING, RunConfig
from study.training.networks import (
    draw_z,
    stream,
)
from study.training.players import build

Outcome = Literal["ok", "diverged", "interrupted", "waiting"]


def write_records(
    folder: Path, evaluations: list[dict[str, Any]], curves: list[dict[str, float]]
) -> None:
    """Put metrics.jsonl and curves.parquet in place, each whole, and append TensorBoard events."""
    lines = "".join(files.strict_json(with_status(row)) + "\n" for row in evaluations)
    files.write_atomically(folder / "metrics.jsonl", lambda path: path.write_text(lines))
    names = dict.fromkeys(name for point in curves for name in point)
    table = pa.table({name: [point.get(name) for point in curves] for name in names})
    if "g_loss" in names:
        table = table.append_column("loss_sum", pc.add(table["d_loss"], table["g_loss"]))
    files.write_atomically(folder / "curves.parquet", lambda path: pq.write_table(table, path))
    with SummaryWriter(str(folder / "events")) as events:
        before = evaluations[-2]["step"] if len(evaluations) > 1 else 0
        points = [point for point in curves if point["step"] > before] + evaluations[-1:]
        for point in points:
            for name in sorted(point.keys() - {"step"}):
                events.add_scalar(name, point[name], int(point["step"]))
        samples = folder / f"samples/{evaluations[-1]['step']:06d}.png"
        if samples.exists():
            with Image.open(samples) as image:
                grid = np.atleast_3d(np.asarray(image))
            events.add_image("samples", grid, evaluations[-1]["step"], dataformats="HWC")


def record_setting(folder: Path, config: RunConfig, fid: float) -> None:
    """The setting and what it came to, for TensorBoard's table of hyperparameters."""
    with SummaryWriter(str(folder / "events")) as events:
        summaries = hparams(config.hyperparameters(), {"fid": fid})  # type: ignore[no-untyped-call]
        for summary in summaries:
            events.file_writer.add_summary(summary)


def with_status(row: dict[str, Any]) -> dict[str, Any]:
    """An evaluation for metrics.jsonl: where a distance is infinite, and so null, it says why."""
    infinite = any(isinstance(value, float) and math.isinf(value) for value in row.values())
    return row | ({"status": "diverged"} if infinite else {})


def finish(
    folder: Path,
    config: RunConfig,
    status: Literal["ok", "diverged"],
    reason: str | None,
    costs: dict[str, float],
    state: dict[str, Any],
    made_by: dict[str, Any],
    require_held: Callable[[], None],
) -> Outcome:
    """Write what the run has come to: the last records and, last of all, result.json."""
    evaluations, curves = state["evaluations"], state["curves"]
    if status == "diverged":
        diverged = {"step": state["step"]} | costs | measure.diverged(config)
        evaluations.append(diverged)
        write_records(folder, evaluations, curves)
        files.log(folder, f"diverged at step {state['step']}: {reason}")
    elif at_best.wanted(config):
        best = min(evaluations, key=lambda row: row["fid"])
        generator = best_generator(folder, config)
        best |= at_best.measure(at_best.Best(config, generator, evaluation_z(config)))
        require_held()
        write_records(folder, evaluations, curves)
    require_held()
    # Infinite where the run diverged, whatever its checkpoints had reached.
    score = math.inf if status == "diverged" else min(row["fid"] for row in evaluations)
    record_setting(folder, config, score)
    content = result(config, status, reason, evaluations, made_by)
    files.write_json(folder / RESULT, content)
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return status


def wait(
    folder: Path,
    config: RunConfig,
    evaluations: list[dict[str, Any]],
    made_by: dict[str, Any],
    require_held: Callable[[], None],
) -> Outcome:
    """Write down what the run has come to should it stop here, at a rung of its search."""
    require_held()
    content = result(config, "stopped", None, evaluations, made_by)
    files.write_json(folder / WAITING, content)
    return "waiting"


def result(
    config: RunConfig,
    status: Literal["ok", "diverged", "stopped"],
    reason: str | None,
    evaluations: list[dict[str, Any]],
    made_by: dict[str, Any],
) -> dict[str, Any]:
    """What result.json says."""
    return {
        "status": status,
        "reason": reason,
        "config": config.hash,
        "evaluations": evaluations,
        "provenance": made_by,
        # Once a sweep, loss and data set: what a run has to be better than.
        **({"untrained": untrained(config)} if config.number == 0 else {}),
    }


def untrained(config: RunConfig) -> dict[str, Any]:
    """The distances of the run's generator before its first step, and what they depend on.

    What a loss has to be better than to have learnt anything: one row of results/untrained.parquet.
    """
    generator = build(config, data.image_shape(config.dataset), torch.device(config.device))[1]
    evaluate = measure.evaluator(config.dataset, config.features, config.num_images, config.device)
    found = evaluate(generator.generator, evaluation_z(config)) or measure.diverged(config)
    of = ("sweep", "loss", "dataset", "seed", "width", "features", "num_images")
    return {name: getattr(config, name) for name in of} | found | provenance(config)


def evaluation_z(config: RunConfig) -> Tensor:
    """The z (num_images, 64) of every evaluation: one draw for all runs of a prior."""
    z = draw_z(config.num_images, load(config.loss).prior, stream(0, "evaluation"))
    return z.to(config.device)


def provenance(config: RunConfig) -> dict[str, Any]:
    """What made the numbers: commit of the code, versions, machine.

    With torch's instruction set: another one rounds otherwise, and a GAN amplifies it. Beside a
    GPU, too, which leaves the distances' linear algebra to the CPU.
    """
    processor = f"{device_name(config.device)}, {torch.backends.cpu.get_cpu_capability()}"
    return {
        "commit": files.commit(),
        "torch": str(torch.__version__),  # a plain word, as a checkpoint may hold it
        "python": platform.python_version(),
        "host": platform.node(),
        "processor": processor,
        "rounding": ROUNDING,
        **measure.digests(config),
    }


def device_name(device: str) -> str:
    """The name of the GPU, or of the CPU where it can be told."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()

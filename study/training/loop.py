"""The training of one run: one flat loop, read top to bottom.

A run is a pure function of its configuration. Every random number comes from a named stream that
is seeded by the run's seed and saved with the checkpoint; the order of the data depends on the
data set alone, so every loss and every seed sees the same batches (the study's own rule).
"""

import ctypes
import math
import os
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from threadpoolctl import threadpool_info, threadpool_limits
from torch import Tensor

from study import datasets as data
from study import files
from study.errors import StudyError
from study.losses.base import Players
from study.measures import of_a_generator as measure
from study.settings.arithmetic import ENVIRONMENT, require_avx2
from study.settings.config import DEFINITION, PAUSE, Precision, RunConfig, read_config
from study.training.checkpoint import checkpoint, restore
from study.training.cuda_graph import GraphStep
from study.training.flops import count_flops
from study.training.networks import (
    draw_z,
    stream,
)
from study.training.players import build
from study.training.records import Outcome, evaluation_z, finish, provenance, wait, write_records

CURVE_EVERY = 10
"""D steps whose means make one point of the training curves."""
CHECKPOINT_EVERY_S = 60.0
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def train(
    folder: Path,
    interrupted: Callable[[], bool] = lambda: False,
    require_held: Callable[[], None] = lambda: None,
) -> Outcome:
    """Train the run that `folder`/config.json describes, from its checkpoint where there is one.

    Writes only into `folder`; result.json comes last. `interrupted` is asked after every step:
    once it is true the run is checkpointed and left, to be gone on with later. `require_held` is
    called before every write, and raises where another process has taken the run over.
    """
    config = read_config(folder / "config.json")
    require_numerics(config)
    torch.set_num_threads(config.threads)
    threadpool_limits(config.threads)  # NumPy's too: they wait for each other by spinning
    torch.set_flush_denormal(True)  # gradients that vanish would slow a CPU tenfold
    keep_freed_memory()
    set_arithmetic(config.precision)
    device = select_device(config.device)
    images = training_images(config.dataset, config.device)
    shape = data.image_shape(config.dataset)

    loss, players = build(config, shape, device)
    train_step = GraphStep(loss, players) if config.cuda_graph else partial(loss.step, players)
    d_flops, g_flops = count_flops(config, shape)
    evaluate = measure.evaluator(config.dataset, config.features, config.num_images, config.device)
    z_evaluation = evaluation_z(config)
    state = restore(folder, config, provenance(config), loss, players)
    made_by = state["made_by"]
    pause = (files.read_json(folder / PAUSE) or {}).get("step")  # with halving
    streams: dict[str, torch.Generator] = state["streams"]
    evaluations: list[dict[str, Any]] = state["evaluations"]
    curves: list[dict[str, float]] = state["curves"]
    recent: list[dict[str, Tensor]] = []
    started = saved = time.monotonic()

    def costs() -> dict[str, float]:
        g_steps: int = state["g_steps"]
        return {
            "d_steps": state["step"],
            "g_steps": g_steps,
            "images": state["step"] * config.batch_size,
            "flops": state["step"] * d_flops + g_steps * g_flops,
            "wall_s": round(state["wall_s"] + time.monotonic() - started, 3),
        }

    def save_generator(path: Path) -> None:
        torch.save(players.generator.state_dict(), path)

    def save() -> None:
        require_held()
        elapsed = {"wall_s": costs()["wall_s"]}
        content = checkpoint(state | elapsed, config, made_by, loss, players)
        files.write_atomically(folder / "checkpoint.pt", lambda path: torch.save(content, path))

    def end(status: Literal["ok", "diverged"], reason: str | None) -> Outcome:
        require_held()
        return finish(folder, config, status, reason, costs(), state, made_by, require_held)

    while state["step"] < config.d_steps:
        if state["step"] == pause:
            return wait(folder, config, evaluations, made_by, require_held)

        # One D step, and G's where it is its turn.
        x_real = batch(images, state["step"], config.batch_size)
        g_turn = loss.g_turn(state["step"], config.disc_iters)
        z = draw_z(config.batch_size, loss.prior, streams["z"]).to(device)
        z_g = (
            draw_z(config.batch_size, loss.prior, streams["z"]).to(device) if loss.fresh_z else None
        )
        draws = loss.draws(x_real, streams["penalty"])
        with precision(config):
            recent.append(train_step(x_real, z, g_turn=g_turn, z_g=z_g, draws=draws))
        state["step"] += 1
        state["g_steps"] += g_turn

        # Every few steps the curves grow by a point, and non-finite losses end the run.
        at_evaluation = (
            state["step"] % config.evaluate_every == 0 or state["step"] == config.d_steps
        )
        if len(recent) == CURVE_EVERY or at_evaluation:
            curves.append({"step": state["step"]} | means(recent))
            recent.clear()
            if not all(map(math.isfinite, curves[-1].values())):
                return end("diverged", "non-finite loss")

        # An evaluation: distances, samples, the best generator kept.
        if at_evaluation:
            if not weights_are_finite(players):
                return end("diverged", "non-finite weights")
            measures = evaluate(players.generator, z_evaluation)
            if measures is None:
                return end("diverged", "non-finite images")
            require_held()
            step: int = state["step"]
            evaluations.append({"step": step} | costs() | measures)
            measure.save_samples(
                players.generator, z_evaluation[:64], folder / f"samples/{step:06d}.png"
            )
            if measures["fid"] == min(row["fid"] for row in evaluations):
                files.write_atomically(folder / "best.pt", save_generator)
            write_records(folder, evaluations, curves)

        # A checkpoint, by the clock; between curve points nothing is pending.
        stop = interrupted()
        if not recent and (
            stop or at_evaluation or files.seconds_since(saved) > CHECKPOINT_EVERY_S
        ):
            save()
            saved = time.monotonic()
            if stop:
                return "interrupted"

    return end("ok", None)


def require_numerics(config: RunConfig) -> None:
    """StudyError unless the code, and the libraries as they were loaded, are what the run is of."""
    if config.definition != DEFINITION:
        raise StudyError(
            f"config.json: definition = {config.definition}; this code trains definition "
            f"{DEFINITION}: take the code that planned the run, or plan it again"
        )
    if config.arithmetic == "native":
        return
    require_avx2("config.json")
    wanted = ENVIRONMENT[config.arithmetic]
    lacking = {name: value for name, value in wanted.items() if os.environ.get(name) != value}
    kernels = {each.get("architecture") for each in threadpool_info()} - {None, "Haswell"}
    if lacking or kernels or torch.backends.cpu.get_cpu_capability() != "AVX2":
        words = " ".join(f"{name}={value}" for name, value in wanted.items())
        raise StudyError(
            f'arithmetic = "{config.arithmetic}" has to be set before torch is loaded: start '
            f"Python with {words}, or train by `python -m study`"
        )


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next step, and not hand it back to the system.

    Else the larger activations are mapped anew, and zeroed page by page, at every step.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, n_bytes in ((M_MMAP_THRESHOLD, 32 << 20), (M_TRIM_THRESHOLD, 1 << 30)):
            mallopt(parameter, n_bytes)


@lru_cache(maxsize=1)
def training_images(dataset: str, device: str) -> Tensor:
    """The training images, uint8 (N, C, H, W), on the device; kept for a worker's next run."""
    return data.load(dataset, "train").to(device)


@lru_cache(maxsize=2)
def epoch_order(epoch: int, n: int) -> Tensor:
    """The order of n images in an epoch: the same for every loss and seed."""
    return torch.randperm(n, generator=stream(epoch, "data order"))


def batch(images: Tensor, step: int, size: int) -> Tensor:
    """The batch of a step, float32 (size, C, H, W) in [0, 1]; epochs follow on without a gap."""
    epoch, start = divmod(step * size, len(images))
    indices = epoch_order(epoch, len(images))[start : start + size]
    if len(indices) < size:
        rest = epoch_order(epoch + 1, len(images))[: size - len(indices)]
        indices = torch.cat([indices, rest])
    return images[indices.to(images.device)].float() / 255


def set_arithmetic(precision: Precision) -> None:
    """On a GPU: the same numbers every time, and TF32 only where it is asked for."""
    torch.backends.cudnn.deterministic = True
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at CUDA's start
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def select_device(device: str) -> torch.device:
    """The device; of several GPUs it is made CUDA's current one, where streams and graphs begin."""
    found = torch.device(device)
    if found.type == "cuda" and found.index is not None:
        torch.cuda.set_device(found)
    return found


def precision(config: RunConfig) -> AbstractContextManager[Any]:
    """Autocast where the run asks for bf16; another numerics, recorded in every row.

    Without its cache, which would show G the weights of D from before D's update.
    """
    if config.precision == "bf16":
        device_type = torch.device(config.device).type
        return torch.autocast(device_type, torch.bfloat16, cache_enabled=False)
    return nullcontext()


def means(recent: list[dict[str, Tensor]]) -> dict[str, float]:
    """The mean of every curve over some steps, with one transfer from the device.

    g_loss is there on G's turns only, and its mean is over those.
    """
    names = sorted({name for step in recent for name in step})
    columns = [torch.stack([step[name] for step in recent if name in step]) for name in names]
    values = torch.stack([column.float().mean() for column in columns]).tolist()
    return dict(zip(names, values, strict=True))


def weights_are_finite(players: Players) -> bool:
    """Whether every weight and moving average of the generator is finite."""
    values = players.generator.state_dict().values()
    return bool(torch.stack([value.isfinite().all() for value in values]).all())

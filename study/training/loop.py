"""The training of one run: one flat loop, read top to bottom.

A run is a pure function of its configuration. Every random number comes from a named stream that
is seeded by the run's seed and saved with the checkpoint; the order of the data depends on the
data set alone, so every loss and every seed sees the same batches (the study's own rule).
"""

import contextlib
import ctypes
import hashlib
import math
import os
import platform
import time
import zipfile
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torch.utils.tensorboard import SummaryWriter

from study import datasets as data
from study import files as run
from study.errors import StudyError
from study.losses import load
from study.losses.base import GANLoss, Players
from study.measures import of_a_generator as measure
from study.settings.config import BATCH_SIZE, ENVIRONMENT, RunConfig, read_config, require_avx2
from study.training.cuda_graph import GraphStep
from study.training.networks import (
    Z_DIM,
    Generator,
    ImageShape,
    draw_z,
    initialise,
    normalise_spectrally,
)
from study.training.optimizer import adam

CURVE_EVERY = 10
"""D steps whose means make one point of the training curves."""
CHECKPOINT_EVERY_S = 60.0
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h

Outcome = Literal["ok", "diverged", "interrupted"]


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
    require_arithmetic(config)
    made_by = provenance(config)
    torch.set_num_threads(config.threads)
    threadpool_limits(config.threads)  # NumPy's too: they wait for each other by spinning
    torch.set_flush_denormal(True)  # gradients that vanish would slow a CPU tenfold
    keep_freed_memory()
    torch.backends.cudnn.deterministic = True  # on a GPU the same numbers too
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # likewise; read at CUDA's start
    torch.backends.cuda.matmul.allow_tf32 = config.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = config.precision == "tf32"
    device = torch.device(config.device)
    images = training_images(config.dataset, config.device)
    shape = data.image_shape(config.dataset)

    loss, players = build(config, shape, device)
    train_step = GraphStep(loss, players) if config.cuda_graph else partial(loss.step, players)
    flops = count_flops(config, shape)
    evaluate = measure.evaluator(config.dataset, config.features, config.num_images, config.device)
    z_evaluation = evaluation_z(config)
    state = restore(folder, config, loss, players)
    streams: dict[str, torch.Generator] = state["streams"]
    evaluations: list[dict[str, Any]] = state["evaluations"]
    curves: list[dict[str, float]] = state["curves"]
    recent: list[dict[str, Tensor]] = []
    started = saved = time.monotonic()

    def costs() -> dict[str, float]:
        g_steps: int = state["g_steps"]
        d_flops, g_flops = flops
        return {
            "d_steps": state["step"],
            "g_steps": g_steps,
            "images": state["step"] * BATCH_SIZE,
            "flops": state["step"] * d_flops + g_steps * g_flops,
            "wall_s": round(state["wall_s"] + time.monotonic() - started, 3),
        }

    def save_generator(path: Path) -> None:
        torch.save(players.generator.state_dict(), path)

    def save() -> None:
        require_held()
        elapsed = {"wall_s": costs()["wall_s"]}
        content = checkpoint(state | elapsed, config, loss, players)
        run.write_atomically(folder / "checkpoint.pt", lambda path: torch.save(content, path))

    def end(status: Literal["ok", "diverged"], reason: str | None) -> Outcome:
        require_held()
        return finish(folder, config, status, reason, costs(), state, made_by, require_held)

    while state["step"] < config.d_steps:
        # One D step, and G's where it is its turn.
        x_real = batch(images, state["step"])
        g_turn = loss.g_turn(state["step"], config.disc_iters)
        z = draw_z(BATCH_SIZE, loss.prior, streams["z"]).to(device)
        z_g = draw_z(BATCH_SIZE, loss.prior, streams["z"]).to(device) if loss.fresh_z else None
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
                run.write_atomically(folder / "best.pt", save_generator)
            write_records(folder, evaluations, curves)

        # A checkpoint, by the clock; between curve points nothing is pending.
        stop = interrupted()
        if not recent and (stop or at_evaluation or run.seconds_since(saved) > CHECKPOINT_EVERY_S):
            save()
            saved = time.monotonic()
            if stop:
                return "interrupted"

    return end("ok", None)


def require_arithmetic(config: RunConfig) -> None:
    """StudyError unless torch was loaded with the instruction set that the run asks for."""
    if config.arithmetic == "native":
        return
    require_avx2("config.json")
    wanted = ENVIRONMENT[config.arithmetic]
    lacking = {name: value for name, value in wanted.items() if os.environ.get(name) != value}
    if lacking or torch.backends.cpu.get_cpu_capability() != "AVX2":
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


def build(config: RunConfig, shape: ImageShape, device: torch.device) -> tuple[GANLoss, Players]:
    """The run's loss, networks with their initial weights, and optimisers."""
    loss = load(config.loss)(**config.own)
    generator = loss.generator(shape, config.width, config.bn_decay)
    discriminator = loss.discriminator(shape, config.batch_norm, config.width)
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        initialise(network, stream(config.seed, name))
    if config.normalisation == "spectral":
        normalise_spectrally(discriminator, stream(config.seed, "spectral"))
    for network in (generator, discriminator):
        network.to(device)
    g_lr = config.lr * loss.g_lr_ratio
    return loss.to(device), Players(
        generator,
        discriminator,
        adam(generator.parameters(), g_lr, config.beta1, config.cuda_graph),
        adam(discriminator.parameters(), config.lr, config.beta1, config.cuda_graph),
    )


def stream(seed: int, name: str) -> torch.Generator:
    """A generator on the CPU (so that every device gets the same numbers), by seed and purpose."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4]))


def evaluation_z(config: RunConfig) -> Tensor:
    """The z (num_images, 64) of every evaluation: one draw for all runs of a prior."""
    z = draw_z(config.num_images, load(config.loss).prior, stream(0, "evaluation"))
    return z.to(config.device)


@lru_cache(maxsize=1)
def training_images(dataset: str, device: str) -> Tensor:
    """The training images, uint8 (N, C, H, W), on the device; kept for a worker's next run."""
    return data.load(dataset, "train").to(device)


@lru_cache(maxsize=2)
def epoch_order(epoch: int, n: int) -> Tensor:
    """The order of n images in an epoch: the same for every loss and seed."""
    return torch.randperm(n, generator=stream(epoch, "data order"))


def batch(images: Tensor, step: int) -> Tensor:
    """The batch of a step, float32 (64, C, H, W) in [0, 1]; epochs follow on without a gap."""
    epoch, start = divmod(step * BATCH_SIZE, len(images))
    indices = epoch_order(epoch, len(images))[start : start + BATCH_SIZE]
    if len(indices) < BATCH_SIZE:
        rest = epoch_order(epoch + 1, len(images))[: BATCH_SIZE - len(indices)]
        indices = torch.cat([indices, rest])
    return images[indices.to(images.device)].float() / 255


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

    All of them are proportional to the batch, so that two images tell.
    """
    loss, players = build(config, shape, torch.device("cpu"))
    x, z = torch.zeros(2, *shape), torch.zeros(2, Z_DIM)
    counts = []
    for g_turn in (False, True):
        with FlopCounter() as counter:  # type: ignore[no-untyped-call]
            loss.step(players, x, z, g_turn=g_turn, z_g=z if loss.fresh_z and g_turn else None)
        counts.append(counter.flops * BATCH_SIZE // 2)
    return counts[0], counts[1] - counts[0]


def checkpoint(
    state: dict[str, Any], config: RunConfig, loss: GANLoss, players: Players
) -> dict[str, Any]:
    """Everything that the rest of the run depends on."""
    return state | {
        "config": config.hash,
        "streams": {name: g.get_state() for name, g in state["streams"].items()},
        "loss": loss.state_dict(),
        "generator": players.generator.state_dict(),
        "discriminator": players.discriminator.state_dict(),
        "g_optimizer": players.g_optimizer.state_dict(),
        "d_optimizer": players.d_optimizer.state_dict(),
    }


def restore(folder: Path, config: RunConfig, loss: GANLoss, players: Players) -> dict[str, Any]:
    """The state to go on from: the checkpoint's, or the beginning where there is none.

    A file that is no whole checkpoint is kept under another name, and the log tells. Whatever else
    keeps one from being read (the disk, the memory) is raised: it may be whole.
    """
    streams = {name: stream(config.seed, name) for name in ("z", "penalty")}
    state: dict[str, Any] = {
        "step": 0,
        "g_steps": 0,
        "wall_s": 0.0,
        "evaluations": [],
        "curves": [],
        "streams": streams,
    }
    path = folder / "checkpoint.pt"
    if not path.exists():
        return state
    try:
        saved = torch.load(path, weights_only=True, map_location=config.device)
    except Exception as error:
        if isinstance(error, OSError | MemoryError) or is_whole_archive(path):
            raise
        aside = run.set_aside(path)
        run.log(folder, f"{path.name} is no checkpoint ({error!r}); it is kept as {aside.name}")
        return state
    if not isinstance(saved, dict) or saved.get("config") != config.hash:
        raise StudyError(f"{path} belongs to another configuration; delete it to start anew")
    loss.load_state_dict(saved["loss"])
    players.generator.load_state_dict(saved["generator"])
    players.discriminator.load_state_dict(saved["discriminator"])
    players.g_optimizer.load_state_dict(saved["g_optimizer"])
    players.d_optimizer.load_state_dict(saved["d_optimizer"])
    for name, generator in streams.items():
        generator.set_state(saved["streams"][name].cpu())
    run.log(folder, f"goes on at step {saved['step']}")
    run.write_json(folder / "progress.json", {"step": saved["step"]})  # whoever counts begins there
    return {name: saved[name] for name in state} | {"streams": streams}


def is_whole_archive(path: Path) -> bool:
    """Whether a file that torch.save has written has all its bytes, by their checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError):
        return False


def write_records(
    folder: Path, evaluations: list[dict[str, Any]], curves: list[dict[str, float]]
) -> None:
    """Put metrics.jsonl and curves.parquet in place, each whole, and append TensorBoard events."""
    lines = "".join(run.strict_json(with_status(row)) + "\n" for row in evaluations)
    run.write_atomically(folder / "metrics.jsonl", lambda path: path.write_text(lines))
    names = dict.fromkeys(name for point in curves for name in point)
    table = pa.table({name: [point.get(name) for point in curves] for name in names})
    if "g_loss" in names:
        table = table.append_column("loss_sum", pc.add(table["d_loss"], table["g_loss"]))
    run.write_atomically(folder / "curves.parquet", lambda path: pq.write_table(table, path))
    with SummaryWriter(str(folder / "events")) as events:
        before = evaluations[-2]["step"] if len(evaluations) > 1 else 0
        points = [point for point in curves if point["step"] > before] + evaluations[-1:]
        for point in points:
            for name in point.keys() - {"step"}:
                events.add_scalar(name, point[name], int(point["step"]))


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
    made_by: dict[str, str | None],
    require_held: Callable[[], None],
) -> Outcome:
    """Write what the run has come to: the last records and, last of all, result.json."""
    evaluations, curves = state["evaluations"], state["curves"]
    if status == "diverged":
        diverged = {"step": state["step"]} | costs | measure.diverged(config)
        evaluations.append(diverged)
        write_records(folder, evaluations, curves)
        run.log(folder, f"diverged at step {state['step']}: {reason}")
    elif config.dataset == "triangles" or config.second_features:
        best = min(evaluations, key=lambda row: row["fid"])
        best |= measure.at_best(best_generator(folder, config), config, evaluation_z(config))
        require_held()
        write_records(folder, evaluations, curves)
    require_held()
    run.write_json(
        folder / "result.json",
        {
            "status": status,
            "reason": reason,
            "config": config.hash,
            "evaluations": evaluations,
            "provenance": made_by,
            # Once a sweep, loss and data set: what a run has to be better than.
            **({"untrained": untrained(config)} if config.number == 0 else {}),
        },
    )
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return status


def untrained(config: RunConfig) -> dict[str, Any]:
    """The distances of the run's generator before its first step, and what they depend on.

    What a loss has to be better than to have learnt anything: one row of results/untrained.parquet.
    """
    generator = build(config, data.image_shape(config.dataset), torch.device(config.device))[1]
    evaluate = measure.evaluator(config.dataset, config.features, config.num_images, config.device)
    found = evaluate(generator.generator, evaluation_z(config)) or measure.diverged(config)
    of = ("sweep", "loss", "dataset", "seed", "width", "features", "num_images")
    return {name: getattr(config, name) for name in of} | found | provenance(config)


def best_generator(folder: Path, config: RunConfig) -> Generator:
    """The generator of the run's best evaluation, in evaluation mode."""
    shape, device = data.image_shape(config.dataset), torch.device(config.device)
    generator = load(config.loss)(**config.own).generator(shape, config.width, config.bn_decay)
    weights = torch.load(folder / "best.pt", weights_only=True, map_location=device)
    generator.load_state_dict(weights)
    return generator.to(device).eval()


def provenance(config: RunConfig) -> dict[str, str | None]:
    """What made the numbers: commit of the code, versions, machine.

    Of a CPU torch's instruction set too: another one rounds otherwise, and a GAN amplifies it.
    """
    processor = device_name(config.device)
    if config.device == "cpu":
        processor += f", {torch.backends.cpu.get_cpu_capability()}"
    return {
        "commit": run.commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "host": platform.node(),
        "processor": processor,
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

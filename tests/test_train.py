"""Training: one configuration, one set of numbers, interrupted or not; divergence; costs."""

import ctypes
import errno
import json
import math
import os
import platform
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import emulated_graph
import pandas as pd
import pytest
import torch
from there import there
from torch import Tensor

from study import datasets as data
from study import features, files
from study.errors import StudyError
from study.features import random as random_features
from study.losses import load, names
from study.measures import of_a_generator as measure
from study.measures import triangle_manifold
from study.runs.folder import read_result, state_of
from study.settings import arithmetic
from study.settings.config import Normalisation, Precision, RunConfig
from study.settings.space import SHARED
from study.training import cuda_graph, flops, records
from study.training import loop as train
from study.training.checkpoint import checkpoint
from study.training.flops import count_flops
from study.training.loop import batch
from study.training.networks import draw_z, stream
from study.training.players import build

SHARED_NAMES = set(SHARED["wide"])
SPECTRAL = {"normalisation": "spectral", "batch_norm": False}


@pytest.fixture(autouse=True)
def small_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """200 training and 100 held-out images of noise under the name of Fashion-MNIST."""

    def images(name: str, split: str, folder: Path | None = None) -> Tensor:
        generator = torch.Generator().manual_seed({"train": 0, "held_out": 1}[split])
        count = {"train": 200, "held_out": 100}[split]
        return torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8, generator=generator)

    monkeypatch.setattr(data, "load", images)
    monkeypatch.setattr(data, "sizes", lambda name: (200, 100))
    monkeypatch.setattr(data, "digest", lambda name: "0123456789abcdef")
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    train.training_images.cache_clear()
    measure.evaluator.cache_clear()
    yield
    train.training_images.cache_clear()
    measure.evaluator.cache_clear()


def plan(folder: Path, loss: str = "ns", **changes: Any) -> RunConfig:
    """Write a tiny run's configuration into `folder`."""
    defaults = dict(load(loss).defaults)
    own = {name: defaults.pop(name) for name in set(defaults) - SHARED_NAMES}
    values = {
        **defaults,
        "own": own,
        "sweep": "tiny",
        "loss": loss,
        "dataset": "fashion_mnist",
        "number": 0,
        "seed": 0,
        "lr": 1e-3,
        "d_steps": 25,
        "evaluate_every": 20,
        "width": 0.0625,
        "bn_decay": 0.9,
        "features": "random",
        "num_images": 50,
    }
    config = RunConfig(**(values | changes))
    files.write_json(folder / "config.json", config.model_dump())
    return config


def numbers(folder: Path) -> tuple[str, list[dict[str, Any]], pd.DataFrame]:
    """Everything of a run's result but the seconds."""
    result = json.loads((folder / "result.json").read_text())
    for row in result["evaluations"]:
        del row["wall_s"]
    curves = pd.read_parquet(folder / "curves.parquet")
    return result["status"], result["evaluations"], curves


def stop_after(steps: int) -> Callable[[], bool]:
    """An `interrupted` that becomes true at its so-manieth call."""
    calls = iter(range(10**9))
    return lambda: next(calls) >= steps


@pytest.mark.parametrize(
    ("loss", "graph", "changes"),
    [
        *((name, False, {}) for name in names()),
        ("dragan", True, {}),
        ("began", True, {}),
        ("r3", False, SPECTRAL),
        ("wgan", False, SPECTRAL),
        ("began", False, SPECTRAL),
        ("rp", True, SPECTRAL),
    ],
)
def test_an_interrupted_run_ends_with_the_same_numbers(
    loss: str, graph: bool, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graph, "record", emulated_graph.record)
    monkeypatch.setattr(cuda_graph, "aside", lambda work: work())
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        plan(folder, loss, cuda_graph=graph, d_steps=12, evaluate_every=5, **changes)
    assert train.train(whole) == "ok"
    assert train.train(parts, stop_after(3)) == "interrupted"
    assert (parts / "checkpoint.pt").exists()
    assert train.train(parts, stop_after(4)) == "interrupted"
    assert (parts / "best.pt").exists()  # there has been an evaluation
    torch.rand(5)  # the global generator is not part of it
    assert train.train(parts) == "ok"
    status, evaluations, curves = numbers(whole)
    again = numbers(parts)
    assert (status, evaluations) == again[:2]
    pd.testing.assert_frame_equal(curves, again[2], check_exact=True)
    best = [torch.load(f / "best.pt", weights_only=True) for f in (whole, parts)]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])
    assert not (whole / "checkpoint.pt").exists()


def test_bf16_shows_g_the_weights_of_d_after_its_update(tmp_path: Path) -> None:
    """Autocast keeps the weights that it has cast, unless told otherwise."""
    config = plan(tmp_path, "ns", precision="bf16", lr=0.5)
    loss, players = build(config, (1, 28, 28), torch.device("cpu"))
    x = torch.rand(64, 1, 28, 28)
    with train.precision(config):
        before = players.discriminator(x)
        players.d_optimizer.minimise(loss.d_loss(before, players.discriminator(x)))
        within = players.discriminator(x)
    with train.precision(config):
        assert torch.equal(within, players.discriminator(x))
    assert not torch.equal(within, before)


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", False), ("tf32", True)])
def test_a_gpu_is_told_to_repeat_itself(
    precision: Precision, tf32: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    plan(tmp_path, "ns", precision=precision)
    train.train(tmp_path, stop_after(1))
    assert torch.backends.cudnn.deterministic
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert torch.backends.cuda.matmul.allow_tf32 == tf32
    assert torch.backends.cudnn.allow_tf32 == tf32


class Mallinfo2(ctypes.Structure):
    """glibc's struct mallinfo2; hblks counts the blocks that are mapped singly."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    ]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_large_blocks_come_from_memory_that_is_kept() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    libc.mallinfo2.restype = Mallinfo2

    train.keep_freed_memory()
    mapped = libc.mallinfo2().hblks
    block = libc.malloc(20 << 20)
    try:
        assert libc.mallinfo2().hblks == mapped
    finally:
        libc.free(block)


@pytest.mark.parametrize(("every_s", "saved"), [(60.0, [20, 25]), (0.0, [10, 20, 25])])
def test_checkpoints_are_written_by_the_clock_and_at_evaluations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_s: float, saved: list[int]
) -> None:
    monkeypatch.setattr(train, "CHECKPOINT_EVERY_S", every_s)
    steps: list[int] = []

    def noted(state: dict[str, Any], *more: Any) -> dict[str, Any]:
        steps.append(state["step"])
        return checkpoint(state, *more)

    monkeypatch.setattr(train, "checkpoint", noted)
    plan(tmp_path, "ns")
    train.train(tmp_path)
    assert steps == saved


def test_files_and_costs_of_a_run(tmp_path: Path) -> None:
    config = plan(tmp_path, "wgan", disc_iters=5)
    train.train(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [20, 25]
    assert [row["g_steps"] for row in rows] == [5, 6]  # steps 0, 1, 6, 11, 16 and 21
    d_flops, g_flops = count_flops(config, (1, 28, 28))
    assert rows[1]["flops"] == 25 * d_flops + 6 * g_flops
    assert rows[1]["images"] == 25 * 64
    assert rows[0]["fid"] > 0
    assert math.isfinite(rows[0]["fid_train"])
    curves = pd.read_parquet(tmp_path / "curves.parquet")
    assert curves["step"].tolist() == [10, 20, 25]
    losses = curves["d_loss_real"] + curves["d_loss_fake"] + curves["penalty"]
    assert losses.tolist() == pytest.approx(curves["d_loss"].tolist(), rel=1e-4, abs=1e-6)
    assert (tmp_path / "samples/000020.png").exists()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "events"), size_guidance={"images": 9}).Reload()
    assert [image.step for image in events.Images("samples")] == [20, 25]
    assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")


def test_the_best_evaluations_generator_is_kept(tmp_path: Path) -> None:
    config = plan(tmp_path, "ns", d_steps=60, evaluate_every=20)
    train.train(tmp_path)
    _, rows, _ = numbers(tmp_path)
    evaluate = measure.evaluator(config.dataset, config.features, config.num_images, "cpu")
    z = draw_z(config.num_images, "uniform", stream(0, "evaluation"))
    again = there(evaluate(measure.best_generator(tmp_path, config), z))
    assert again["fid"] == min(row["fid"] for row in rows)


def test_divergence_is_a_result(tmp_path: Path) -> None:
    plan(tmp_path, "wgan_gp", lr=1e30, own={"lambda_gp": 1e30})
    assert train.train(tmp_path) == "diverged"
    status, rows, _ = numbers(tmp_path)
    assert status == "diverged"
    assert rows[-1]["fid"] is rows[-1]["fid_train"] is None
    assert state_of(tmp_path) == "diverged"


def test_every_json_reader_can_read_a_diverged_run(tmp_path: Path) -> None:
    """JSON has no infinity: it is null, beside the status; as a result it is infinite again."""
    plan(tmp_path, "wgan_gp", lr=1e30, own={"lambda_gp": 1e30})
    train.train(tmp_path)
    written = (tmp_path / "result.json").read_text()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    for text in (written, *lines):
        json.loads(text, parse_constant=pytest.fail)
    assert json.loads(lines[-1])["status"] == "diverged"
    last = there(read_result(tmp_path))["evaluations"][-1]
    assert last["fid"] == last["fid_train"] == math.inf
    assert isinstance(last["step"], int)
    before = written.replace('"fid": null', '"fid": Infinity')  # as files of before say it
    (tmp_path / "result.json").write_text(
        before.replace('"fid_train": null', '"fid_train": Infinity')
    )
    assert "Infinity" in (tmp_path / "result.json").read_text()
    assert there(read_result(tmp_path))["evaluations"][-1] == last


def test_seed_changes_the_weights_and_nothing_changes_the_data(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    plan(one, seed=0), plan(other, seed=1)
    train.train(one), train.train(other)
    assert numbers(one)[1][0]["fid"] != numbers(other)[1][0]["fid"]


def test_a_checkpoint_that_cannot_be_read_starts_the_run_anew(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    plan(whole), plan(tmp_path)
    train.train(whole)
    train.train(tmp_path, stop_after(13))
    (tmp_path / "checkpoint.pt").write_bytes(b"torn")
    assert train.train(tmp_path) == "ok"
    assert numbers(tmp_path)[:2] == numbers(whole)[:2]
    assert "checkpoint.pt is no checkpoint" in (tmp_path / "log.txt").read_text()
    assert (tmp_path / "checkpoint.pt.unreadable").read_bytes() == b"torn"


@pytest.mark.parametrize(("size", "batches"), [(64, 25), (10, 160), (200, 8)])
def test_batches_show_every_image_once_an_epoch(size: int, batches: int) -> None:
    images = torch.arange(200, dtype=torch.uint8).view(200, 1, 1, 1)
    drawn = [batch(images, step, size) for step in range(batches)]
    assert {len(each) for each in drawn} == {size}
    shown = torch.cat([each.mul(255).round().flatten() for each in drawn])
    for epoch in range(8):  # 25 batches of 64 are 8 epochs of 200, without a gap between them
        assert sorted(shown[200 * epoch : 200 * (epoch + 1)].tolist()) == list(range(200))
    assert shown[:200].tolist() != shown[200:400].tolist()


def test_a_batch_has_the_size_that_the_configuration_says(tmp_path: Path) -> None:
    """In what D and G see, in what the rows count, and in the run's identity."""
    of_64, of_16 = plan(tmp_path / "64"), plan(tmp_path / "16", batch_size=16, num_images=50)
    assert of_64.batch_size == 64
    assert of_64.hash != of_16.model_copy(update={"num_images": of_64.num_images}).hash
    assert count_flops(of_64, (1, 28, 28)) == tuple(4 * n for n in count_flops(of_16, (1, 28, 28)))
    train.train(tmp_path / "16")
    rows = json.loads((tmp_path / "16/result.json").read_text())["evaluations"]
    assert [row["images"] for row in rows] == [16 * row["step"] for row in rows] == [320, 400]


def test_flops_of_the_generator_by_hand(tmp_path: Path) -> None:
    """mm: D's step is one G forward, two D forwards and backwards; G's one D and G more."""
    config = plan(tmp_path, "mm", width=1.0)
    d_flops, g_flops = count_flops(config, (1, 28, 28))
    batch_size, side = 64, 28
    g = 2 * batch_size * (64 * 1024 + 1024 * 6272 + 16 * 128 * 64 * 49 + 16 * 64 * (side // 2) ** 2)
    conv1 = 2 * batch_size * 16 * 64 * (side // 2) ** 2
    rest = 2 * batch_size * (16 * 64 * 128 * 49 + 6272 * 1024 + 1024)
    d_forward = conv1 + rest
    # D's own update: forward, weight gradients, and input gradients of all but the first layer.
    assert d_flops == pytest.approx(g + 2 * (2 * d_forward + rest), rel=0.02)
    # G's: D forward and input gradients; G's weight gradients and all but its first input gradient.
    assert g_flops == pytest.approx(2 * d_forward + 2 * g, rel=0.02)


@pytest.mark.parametrize(
    "name", ["best.pt", "metrics.jsonl", "curves.parquet", "checkpoint.pt", "result.json"]
)
def test_a_full_disk_loses_nothing_but_time(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, full = tmp_path / "whole", tmp_path / "full"
    plan(whole), plan(full)
    train.train(whole)
    write_whole = files.write_atomically

    def write_half(path: Path, write: Callable[[Path], object], **how: bool) -> None:
        def fill(temporary: Path) -> None:
            write(temporary)
            if path.name == name:
                temporary.write_bytes(temporary.read_bytes()[:100])
                raise OSError(errno.ENOSPC, "No space left on device")

        write_whole(path, fill, **how)

    with monkeypatch.context() as disk:
        disk.setattr(files, "write_atomically", write_half)
        with pytest.raises(OSError, match="No space left"):
            train.train(full)
    assert not [path for path in full.iterdir() if path.name.startswith(".")]
    assert state_of(full) == "to do"
    assert train.train(full) == "ok"
    assert numbers(full)[:2] == numbers(whole)[:2]


def test_of_several_gpus_one_is_made_cudas_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's streams and graphs begin on the current GPU, whatever tensors they get."""
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    found = [train.select_device(device) for device in ("cpu", "cuda", "cuda:1")]
    assert [str(device) for device in found] == ["cpu", "cuda", "cuda:1"]
    assert chosen == [torch.device("cuda:1")]


@pytest.mark.parametrize(
    ("precision", "allowed"), [("fp32", False), ("tf32", True), ("bf16", False)]
)
def test_tf32_is_used_only_where_it_is_asked_for(precision: Precision, allowed: bool) -> None:
    train.set_arithmetic(precision)
    assert torch.backends.cudnn.deterministic
    assert torch.backends.cudnn.allow_tf32 is allowed
    assert torch.backends.cuda.matmul.allow_tf32 is allowed
    train.set_arithmetic("fp32")


def test_provenance_names_the_instruction_set(tmp_path: Path) -> None:
    named = records.provenance(plan(tmp_path, "ns"))["processor"]
    assert named == f"{records.device_name('cpu')}, {torch.backends.cpu.get_cpu_capability()}"


@pytest.fixture
def second_extractor(monkeypatch: pytest.MonkeyPatch) -> None:
    """`random` once more, under the name of "second"."""
    second: Any = types.ModuleType("study.features.second")
    second.extractor = lambda device: replace(random_features.extractor(device), name="second")
    monkeypatch.setitem(sys.modules, second.__name__, second)
    monkeypatch.setattr(features, "names", lambda: ["random", "second"])


@pytest.mark.usefixtures("second_extractor")
def test_a_data_sets_own_measure_stands_beside_a_second_extractor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after another, they are all given the generator in evaluation mode."""
    whole = triangle_manifold.precision_recall
    few = partial(whole, num_images=8, steps=2, z_starts=4, z_steps=2)
    monkeypatch.setattr(triangle_manifold, "precision_recall", few)
    config = plan(tmp_path, "ns", dataset="triangles", second_features="second")
    assert train.train(tmp_path) == "ok"
    rows = json.loads((tmp_path / "result.json").read_text())["evaluations"]
    best = min(rows, key=lambda row: row["fid"])
    assert {"f1", "recall_distance", "fid_second", "kid"} < best.keys()
    generator = measure.best_generator(tmp_path, config)
    alone = triangle_manifold.of_generator(generator, "uniform", "cpu")
    assert {name: best[name] for name in alone} == alone


def test_images_leave_a_generator_in_its_mode(tmp_path: Path) -> None:
    generator = build(plan(tmp_path), (1, 28, 28), torch.device("cpu"))[1].generator
    for mode in (True, False):
        list(measure.generate(generator.train(mode), torch.zeros(3, 64)))
        assert generator.training is mode


@pytest.mark.usefixtures("second_extractor")
def test_a_second_extractor_is_asked_once_at_the_best_checkpoint(tmp_path: Path) -> None:
    config = plan(tmp_path, "ns", second_features="second", number=3)
    assert train.train(tmp_path) == "ok"
    rows = json.loads((tmp_path / "result.json").read_text())["evaluations"]
    best = min(rows, key=lambda row: row["fid"])
    assert best["fid_second"] == pytest.approx(best["fid"], rel=1e-9)  # the same features
    assert {"kid", "knn_precision", "knn_recall"} < best.keys()
    assert all("kid" not in row for row in rows if row is not best)
    assert config.hash != plan(tmp_path / "other", "ns", number=3).hash
    infinite = measure.diverged(config)
    assert infinite.keys() == best.keys() - {
        "step", "d_steps", "g_steps", "images", "flops", "wall_s",
    }  # fmt: skip
    assert infinite["kid"] == infinite["fid_second"] == math.inf
    assert infinite["knn_recall"] == 0


def test_setting_zero_tells_what_an_untrained_generator_comes_to(tmp_path: Path) -> None:
    config = plan(tmp_path / "0", "ns")
    plan(tmp_path / "1", "ns", number=1)
    for name in "01":
        assert train.train(tmp_path / name) == "ok"
    first, second = (json.loads((tmp_path / n / "result.json").read_text()) for n in "01")
    assert "untrained" not in second
    row = first["untrained"]
    assert (row["loss"], row["dataset"], row["seed"]) == ("ns", "fashion_mnist", 0)
    generator = build(config, (1, 28, 28), torch.device("cpu"))[1].generator
    evaluate = measure.evaluator(config.dataset, config.features, config.num_images, "cpu")
    assert row["fid"] == there(evaluate(generator, records.evaluation_z(config)))["fid"]
    assert row["fid"] != first["evaluations"][0]["fid"]


def test_rows_name_the_images_and_the_weights_they_were_measured_with(tmp_path: Path) -> None:
    plan(tmp_path, "ns", d_steps=2)
    train.train(tmp_path)
    found = json.loads((tmp_path / "result.json").read_text())["provenance"]
    assert found["features_digest"] == features.load("random").digest[:16]
    assert found["data_digest"] == "0123456789abcdef"


def test_provenance_is_that_of_the_code_that_was_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit made while a run trains is none of its own."""
    monkeypatch.setattr(files, "commit", lambda: "loaded")
    plan(tmp_path, "ns", d_steps=2)

    def interrupted() -> bool:
        monkeypatch.setattr(files, "commit", lambda: "later")
        return False

    train.train(tmp_path, interrupted)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["provenance"]["commit"] == "loaded"


def test_a_run_of_another_definition_is_not_trained(tmp_path: Path) -> None:
    plan(tmp_path, "ns", definition=7)
    with pytest.raises(StudyError, match=r"definition = 7; this code trains definition 1: take"):
        train.train(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_avx2_has_to_be_set_before_torch_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(tmp_path, "ns", arithmetic="avx2")
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    with pytest.raises(StudyError, match=r"has to be set before torch is loaded: start"):
        train.train(tmp_path)
    for name, value in arithmetic.ENVIRONMENT["avx2"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")  # set too late
    with pytest.raises(StudyError, match=r"has to be set before torch is loaded: start"):
        train.train(tmp_path)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(train, "threadpool_info", lambda: [{"architecture": "SkylakeX"}])  # NumPy's
    with pytest.raises(StudyError, match=r"has to be set before torch is loaded: start"):
        train.train(tmp_path)
    monkeypatch.setattr(arithmetic, "cpu_flags", lambda: {"neon"})
    with pytest.raises(StudyError, match=r'arithmetic = "avx2", which this processor .* does not'):
        train.train(tmp_path)


@pytest.mark.parametrize("normalisation", ["none", "batch", "spectral"])
@pytest.mark.parametrize("loss", names())
def test_narrow_networks_tell_the_flops_of_wide_ones(
    loss: str, normalisation: Normalisation, tmp_path: Path
) -> None:
    changes = {"normalisation": normalisation, "batch_norm": normalisation == "batch"}
    shape = (3, 16, 16) if loss in ("began", "wgan_gp") else (1, 28, 28)
    for width in (0.25, 13 / 64):
        config = plan(tmp_path, loss, width=width, **changes)
        assert flops.count_flops(config, shape) == flops.counted(config, shape)

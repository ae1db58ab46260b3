"""`study check`: what holds is ok, and a fault planted for each kind of row is found."""

import errno
import json
import multiprocessing
import os
import queue
import re
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import emulated_graph
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_slurm import running_cluster
from torch import Tensor
from typer.testing import CliRunner, Result

from study import cli, features, files
from study.check import cluster, data, disk, distances, graphs, replay, report, speed, training
from study.check.rows import Check, Machine, NotTried, Off, Row, chosen, require_within, row_of
from study.errors import StudyError
from study.features import Extractor
from study.losses.base import GANLoss, Players
from study.measures import frechet
from study.runs.resources import RESOURCES_FOLDER, read_resources
from study.settings.config import RunConfig
from study.training import cuda_graph, loop, optimizer, players


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine("cpu", tmp_path / "results")


def rows(checks: Sequence[Check], machine: Machine, *names: str) -> dict[str, Row]:
    found = [row_of(check, machine) for check in checks if not names or check.name in names]
    assert found
    return {row.name: row for row in found}


# ---- rows ----------------------------------------------------------------------------------------


def test_a_row_says_what_was_found_whatever_happened(machine: Machine) -> None:
    def fall(machine: Machine) -> NoReturn:
        raise ZeroDivisionError("by\nnought")

    def refuse(machine: Machine) -> NoReturn:
        raise StudyError("no such thing")

    def skip(machine: Machine) -> NoReturn:
        raise NotTried("no CUDA here")

    found = [row_of(Check("a", "b", run), machine)[:4] for run in (str, fall, refuse, skip)]
    assert found == [
        ("a", "b", "ok", str(machine)),
        ("a", "b", "off", "ZeroDivisionError: by nought"),
        ("a", "b", "off", "no such thing"),
        ("a", "b", "not tried", "no CUDA here"),
    ]


def test_a_number_is_told_with_its_bound() -> None:
    assert require_within("apart by", 0.5, 1) == "apart by 0.5 (at most 1)"
    for bad in (1.5, float("nan"), float("inf")):
        with pytest.raises(Off, match=f"apart by {bad:.2g}, more than 1"):
            require_within("apart by", bad, 1)


def test_parts_are_chosen_by_name() -> None:
    parts = ["disk", "runs", "steps", "losses", "graphs", "distances", "data", "cluster", "speed"]
    assert sorted({check.part for check in report.CHECKS}) == sorted(parts)
    assert chosen(report.CHECKS, ["disk"]) == disk.CHECKS
    assert chosen(report.CHECKS, []) == report.CHECKS
    with pytest.raises(StudyError, match=r"unknown part 'disc' of check; did you mean 'disk'\?"):
        chosen(report.CHECKS, ["disc"])
    names = [(check.part, check.name) for check in report.CHECKS]
    assert len(set(names)) == len(names)


# ---- the command ---------------------------------------------------------------------------------


def check(tmp_path: Path, *words: str) -> tuple[Result, Any]:
    done = CliRunner().invoke(
        cli.app,
        ["check", *words, "--device", "cpu", "--json", str(tmp_path / "check.json")],
        env={"STUDY_RESULTS": str(tmp_path / "results")},
    )
    text = (tmp_path / "check.json").read_text()
    return done, json.loads(text, parse_constant=pytest.fail)


def test_the_command_says_what_holds_and_writes_it_down(tmp_path: Path) -> None:
    done, written = check(tmp_path, "disk")
    assert done.exit_code == 0, done.output
    assert "5 ok, 0 off, 0 not tried" in done.output
    assert [row["status"] for row in written["rows"]] == ["ok"] * 5
    assert torch.__version__.startswith(written["machine"]["versions"]["torch"])
    assert written["machine"]["disk"]
    assert not list((tmp_path / "results").iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resources", "mine.toml"], "--resources mine.toml: of jobs; give --cluster slurm too"),
        (["--json", "."], "--json .: no file can be written there; name another"),
        (["--json", "no/such/check.json"], "--json no/such/check.json: no file can be written"),
    ],
)
def test_what_would_be_lost_is_said_first(words: list[str], message: str) -> None:
    done = CliRunner().invoke(cli.app, ["check", *words, "--device", "cpu"])
    assert isinstance(done.exception, StudyError)
    assert str(done.exception).startswith(message)
    assert done.output == ""


def test_status_1_where_something_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*places: Path) -> NoReturn:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    done, written = check(tmp_path, "disk")
    assert done.exit_code == 1
    assert "4 ok, 1 off, 0 not tried; off: disk: hard links" in done.output
    (off,) = (row for row in written["rows"] if row["status"] == "off")
    assert off["detail"].startswith(
        f"no hard links on {tmp_path}/results (Operation not permitted): "
    )


# ---- the disk ------------------------------------------------------------------------------------


def test_a_disk_where_a_link_replaces_a_file_is_off(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", lambda one, other: other.write_bytes(one.read_bytes()))
    assert "two workers could hold one run" in rows(disk.CHECKS, machine)["hard links"].detail


def test_a_disk_that_writes_in_place_is_off(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "write_atomically", lambda path, write: write(path))
    found = rows(disk.CHECKS, machine)["files are replaced whole"]
    assert found.status == "off"
    assert "an open file read 'new'" in found.detail


def test_a_disk_without_locks_is_off(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "alone", lambda folder: nullcontext())
    found = rows(disk.CHECKS, machine)["locks"]
    assert found.status == "off"
    assert "two drivers could write one table" in found.detail


def test_a_disk_that_creates_a_file_twice_is_off(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r": opened(path, mode.replace("x", "w")))
    assert rows(disk.CHECKS, machine, "exclusive creation")["exclusive creation"].status == "off"


@pytest.mark.parametrize(
    ("times", "message"),
    [([0, 0], "the second is no newer"), ([-900, -899], "900, more than 60")],
)
def test_a_clock_that_stands_or_is_minutes_away_is_off(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, times: list[int], message: str
) -> None:
    ahead = iter(times)
    start = time.time()
    monkeypatch.setattr(disk, "stamp", lambda path: start + next(ahead))
    found = rows(disk.CHECKS, machine, "clock")["clock"]
    assert found.status == "off"
    assert message in found.detail.replace("9e+02", "900")


def test_a_results_folder_that_cannot_be_written_to_is_off(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = rows(disk.CHECKS, Machine("cpu", tmp_path / "file"))
    assert {row.status for row in found.values()} == {"off"}
    assert "cannot write to the results folder" in found["locks"].detail


# ---- runs ----------------------------------------------------------------------------------------


def test_runs_are_equal_here(machine: Machine) -> None:
    found = rows(training.CHECKS, machine, "the same run twice", "a run resumed")
    assert [row.status for row in found.values()] == ["ok", "ok"]


def test_a_resumed_run_that_is_not_equal_is_off(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint loses the last bit of one weight."""
    plain = loop.train

    def forgetful(folder: Path, *given: Any) -> str:
        path = folder / "checkpoint.pt"
        if path.exists():
            saved = torch.load(path, weights_only=True)
            weight = saved["generator"]["fc1.weight"]
            weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(1.0))
            torch.save(saved, path)
        return plain(folder, *given)

    monkeypatch.setattr(training, "train", forgetful)
    found = rows(training.CHECKS, machine, "a run resumed")["a run resumed"]
    assert found.status == "off"
    assert "a whole run and a resumed one differ in " in found.detail


def test_a_run_that_does_not_repeat_itself_is_off(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds, plain = iter(range(9)), training.config
    monkeypatch.setattr(
        training, "config", lambda loss, device: plain(loss, device, seed=next(seeds))
    )
    found = rows(training.CHECKS, machine, "the same run twice")["the same run twice"]
    assert found.status == "off"
    assert "two runs differ in evaluations, curves, weights: last distance" in found.detail


def test_a_run_that_goes_on_when_asked_to_stop_is_off(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "train", lambda folder, *given: "ok")
    found = rows(training.CHECKS, machine, "a run resumed")["a run resumed"]
    assert (found.status, found.detail) == ("off", "a run that was asked to stop went on")


# ---- steps ---------------------------------------------------------------------------------------


def test_every_loss_is_tried_and_one_that_breaks_is_off(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rows(training.CHECKS, machine, "hinge")["hinge"].status == "ok"
    plain = training.curves

    def broken(wanted: RunConfig) -> dict[str, Tensor]:
        found = plain(wanted)
        if wanted.normalisation == "spectral":
            found["g_loss"][3] = float("nan")
        return found

    monkeypatch.setattr(training, "curves", broken)
    found = rows(training.CHECKS, machine, "hinge")["hinge"]
    assert found.detail == "g_loss is not finite with normalisation spectral"
    monkeypatch.setattr(training, "curves", lambda wanted: {"d_loss": torch.ones(20)})
    found = rows(training.CHECKS, machine, "hinge")["hinge"]
    assert found.detail == "d_loss does not move with normalisation none"


def test_bf16_that_is_too_coarse_is_off(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows(training.CHECKS, machine, "bf16")["bf16"].status == "ok"
    plain = training.curves

    def coarse(wanted: RunConfig) -> dict[str, Tensor]:
        found = plain(wanted)
        return {k: v * 1.1 for k, v in found.items()} if wanted.precision == "bf16" else found

    monkeypatch.setattr(training, "curves", coarse)
    assert rows(training.CHECKS, machine, "bf16")["bf16"].status == "off"


@pytest.mark.parametrize("none_in", ["bf16", "fp32"])
def test_a_curve_that_is_no_number_is_off(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, none_in: str
) -> None:
    """Wherever it stands: Python's max would drop one that is not the first."""

    def curves(wanted: RunConfig) -> dict[str, Tensor]:
        found = {name: torch.ones(20) for name in ("d_loss", "g_loss")}
        if wanted.precision == none_in:
            found["g_loss"][19] = float("nan")
        return found

    monkeypatch.setattr(training, "curves", curves)
    found = rows(training.CHECKS, machine, "bf16")["bf16"]
    assert (found.status, found.detail) == ("off", "curves within nan, more than 0.02")


def test_curves_deviate_by_a_share_of_the_largest_value() -> None:
    flat, plain = torch.zeros(3), torch.tensor([1.0, -4.0, 2.0]).double()
    jumps = {"accuracy_real": flat, "penalty": flat}
    assert training.deviation({"g": plain + 0.5, **jumps}, {"g": plain, **jumps}) == 0.125
    assert training.deviation({"penalty": flat + 1e-9}, {"penalty": flat}) == float("inf")


def test_what_needs_a_gpu_says_so(machine: Machine) -> None:
    names = "TF32", "CUDA graph, ns", "a CUDA graph's run resumed"
    for row in rows(training.CHECKS, machine, *names).values():
        assert (row.status, row.detail) == ("not tried", "no CUDA here")


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recorder in a CUDA graph's place, and a CPU that is taken for a GPU."""
    monkeypatch.setattr(cuda_graph, "record", emulated_graph.record)
    monkeypatch.setattr(cuda_graph, "aside", lambda work: work())
    monkeypatch.setattr(training, "require_gpu", lambda machine: None)


@pytest.mark.parametrize("loss", ["ns", "wgan_gp", "began"])
def test_a_graphs_step_is_the_plain_one(
    machine: Machine, pretended_gpu: None, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"CUDA graph, {loss}"
    found = rows(training.CHECKS, machine, name)[name]
    assert (found.status, found.detail) == ("ok", "20 steps, equal to the last digit")
    build = players.build

    def counts_in_python(wanted: RunConfig, *given: Any) -> tuple[GANLoss, Players]:
        return build(wanted.model_copy(update={"cuda_graph": False}), *given)

    monkeypatch.setattr(training, "build", counts_in_python)
    found = rows(training.CHECKS, machine, name)[name]
    assert found.status == "off"
    assert re.search(r"d_loss.* within .*, not equal$", found.detail)


def test_both_optimisers_make_the_same_updates(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "a CUDA graph's Adam"
    assert rows(training.CHECKS, machine, name)[name].status == "ok"

    def torchs_epsilon(parameters: Any, lr: float, beta1: float, cuda_graph: bool) -> Any:
        chosen = torch.optim.Adam(parameters, lr, (beta1, 0.999))
        return chosen if cuda_graph else optimizer.adam(parameters, lr, beta1)

    monkeypatch.setattr(training, "adam", torchs_epsilon)
    assert rows(training.CHECKS, machine, name)[name].status == "off"


def test_a_resumed_graph_goes_on_as_a_whole_one(
    machine: Machine, pretended_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "a CUDA graph's run resumed"
    recorded = []

    def record(work: Any) -> Any:
        recorded.append(work)
        return emulated_graph.record(work)

    monkeypatch.setattr(cuda_graph, "record", record)
    assert rows(training.CHECKS, machine, name)[name].status == "ok"
    assert len(recorded) >= 3  # the whole one, and parts of the other


def test_steps_keep_to_their_device() -> None:
    """On `meta` a tensor of another device raises; nothing does before values are asked for."""
    for steps in (
        lambda: training.curves(training.config("dragan", "meta")),
        lambda: replay.replay("dragan", "meta"),
        lambda: replay.replay("vae", "meta", torch.float32),
    ):
        with pytest.raises((NotImplementedError, RuntimeError), match="meta tensor"):
            steps()


# ---- the released graphs -------------------------------------------------------------------------


def test_a_changed_weight_is_off(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = replay.weight

    def changed(name: str, shape: tuple[int, ...], truncated: bool) -> NDArray[np.float32]:
        value = plain(name, shape, truncated)
        if name == "encoder/en_conv2/w":
            value[0, 0, 0, 0] += 1e-3
        return value

    monkeypatch.setattr(replay, "weight", changed)
    found = rows(graphs.CHECKS, machine, "vae in float64")["vae in float64"]
    assert found.status == "off"
    assert "(at most 1e-06)" in found.detail


def test_a_replay_that_is_no_number_is_off(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the last step of the last curve alone."""
    plain = replay.recorded("ns")
    (*first, last) = plain.curves
    broken = {name: values.copy() for name, values in plain.curves.items()}
    broken[last][-1] = np.nan
    assert first
    monkeypatch.setattr(replay, "replay", lambda *given: plain._replace(curves=broken))
    found = rows(graphs.CHECKS, machine, "ns in float64")["ns in float64"]
    assert found.status == "off"
    assert found.detail.startswith("losses within nan (at most 1e-06), pixels within 0 ")


def test_float32_is_told_from_another_arithmetic(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rows(graphs.CHECKS, machine, "vae in float32")["vae in float32"].status == "ok"
    found = replay.recorded("vae")
    monkeypatch.setattr(replay, "replay", lambda *given: found._replace(images=found.images + 0.03))
    assert rows(graphs.CHECKS, machine, "vae in float32")["vae in float32"].status == "off"
    monkeypatch.setattr(graphs, "on_the_cpu", lambda name: found)
    beside = row_of(Check("graphs", "x", graphs.CHECKS[-1].run), machine._replace(device="cuda"))
    assert beside.detail.startswith("pixels beside the CPU's float32: within 0.03, more than 0.02")


# ---- distances -----------------------------------------------------------------------------------


def test_a_wrong_extractor_is_off(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "random is the study's"
    assert rows(distances.CHECKS, machine, name)[name].status == "ok"
    plain = features.load

    def other(name: str, device: str) -> Extractor:
        extractor = plain(name, device)
        next(extractor.network.parameters())[0] *= 2
        return extractor

    monkeypatch.setattr(features, "load", other)
    found = rows(distances.CHECKS, machine, name)[name]
    assert found.status == "off"
    assert found.detail.endswith("these are other features than the study's random")


def test_the_distance_is_torch_fidelitys(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    check = Check("distances", "x", lambda m: distances.beside_torch_fidelity("random", m))
    assert row_of(check, machine).status == "ok"
    plain = frechet.frechet_distance
    monkeypatch.setattr(distances, "frechet_distance", lambda *given: 1.001 * plain(*given))
    assert row_of(check, machine).status == "off"


def test_inception_is_not_tried_without_its_weights(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_INCEPTION", "/nowhere")
    name = "inception beside torch-fidelity"
    found = rows(distances.CHECKS, machine, name)[name]
    assert (found.status, found.detail[:26]) == ("not tried", "no Inception weights here;")


# ---- data ----------------------------------------------------------------------------------------


def test_data_are_verified_where_they_are_and_never_fetched(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("STUDY_CELEBA", raising=False)
    found = rows(data.CHECKS, machine, "noise", "triangles", "celeba", "cifar10", "mnist")
    assert found.pop("noise").detail.startswith("train: 512 images, mean 127")
    for name, row in found.items():
        told = f"not in {tmp_path}/data; `study data {name}` fetches or makes it"
        assert (row.status, row.detail) == ("not tried", told)
    assert not (tmp_path / "data").exists()


def test_a_file_with_another_hash_is_off(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist/train-images-idx3-ubyte").write_bytes(b"not it")
    monkeypatch.setenv("STUDY_DATA", str(tmp_path))
    found = rows(data.CHECKS, machine, "mnist")["mnist"]
    assert found.status == "off"
    assert "sha256 is" in found.detail


# ---- speed ---------------------------------------------------------------------------------------


def test_speed_is_measured_where_there_are_cores(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    found: queue.Queue[tuple[float, int]] = queue.Queue()
    wanted = speed.paper_run("cpu", False)
    assert (wanted.width, wanted.loss, wanted.d_steps) == (1.0, "ns", 15625)
    barrier = multiprocessing.Barrier(1)
    speed.measure(wanted.model_copy(update={"width": 1 / 16}), barrier, found)
    rate, memory = found.get()
    assert rate > 0
    assert memory > 0.05
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    name = "4 at once"
    assert rows(speed.CHECKS, machine, name)[name].detail == "2 cores here"


def test_speed_is_told_with_runs_an_hour(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "speed", lambda *given: speed.Speed(100.0, 1.5))
    said = speed.at_once(1, machine)
    assert said == "plain: 100 steps/s in all, 23 runs an hour, 1.5 GiB each"
    on_gpu = speed.at_once(16, machine._replace(device="cuda"))
    assert on_gpu.count("23 runs an hour") == 2
    monkeypatch.setattr(speed, "count_flops", lambda *given: (10**9, 10**9))
    monkeypatch.setattr(speed, "predicted_flops", lambda runs: 2 * 10**11 * 86_400)
    said = speed.cost(machine._replace(device="cuda"))
    assert "1 days of training on this GPU at NS GAN's 200 GFLOP/s" in said


# ---- the cluster ---------------------------------------------------------------------------------


def test_no_cluster_named_is_not_tried(machine: Machine) -> None:
    for row in rows(cluster.CHECKS, machine).values():
        assert row.status == "not tried"


def test_a_cluster_that_does_not_answer_is_off(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    resources = read_resources(RESOURCES_FOLDER / "one_machine.toml")
    for row in rows(cluster.CHECKS, machine._replace(resources=resources)).values():
        assert row.status == "off"
        assert "on this machine's PATH" in row.detail


@pytest.mark.slurm
def test_a_real_slurm_passes(tmp_path_factory: pytest.TempPathFactory, machine: Machine) -> None:
    resources = read_resources(RESOURCES_FOLDER / "one_machine.toml")
    with running_cluster(tmp_path_factory.mktemp("cluster"), 17400):
        found = rows(cluster.CHECKS, machine._replace(resources=resources))
    assert [row.status for row in found.values()] == ["ok"] * 3, found
    assert "finished its run in 2 attempts" in found["a warned job"].detail

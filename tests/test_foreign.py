"""Files from other hands: what they name never leads out of the results folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from study import cli as commands
from study import files
from study.analysis import examples
from study.errors import StudyError
from study.runs.table import collect, read_table, rows_of
from study.settings.config import RunConfig, read_config

OUTSIDE = ["../../../elsewhere", "/tmp/elsewhere", "..", "a/b", "", ".hidden", "a\n", "x" * 65, "ü"]


def config(**changes: object) -> dict[str, Any]:
    values = {
        "sweep": "mini", "loss": "ns", "dataset": "mnist", "number": 0, "seed": 0, "lr": 1e-3,
        "beta1": 0.5, "disc_iters": 1, "batch_norm": True, "d_steps": 2, "evaluate_every": 1,
        "width": 0.25, "bn_decay": 0.9, "features": "random", "num_images": 10,
    }  # fmt: skip
    return values | changes


def finished_run(folder: Path, values: dict[str, Any], hash_: str = "0" * 16) -> None:
    """A run's folder as a finished run leaves it, with any configuration."""
    row = {"step": 2, "d_steps": 2, "g_steps": 2, "images": 128, "flops": 1, "wall_s": 1.0}
    row |= {"fid": 5.0, "fid_train": 5.0}
    made_by = {"commit": None, "processor": "p", "torch": "t"}
    files.write_json(folder / "config.json", values)
    content = {"status": "ok", "config": hash_, "evaluations": [row], "provenance": made_by}
    files.write_json(folder / "result.json", content)


def table_of(**changes: object) -> pd.DataFrame:
    own = RunConfig(**config())
    row = own.model_dump(exclude={"own", "evaluate_every"}) | {
        "config": own.hash, "status": "ok", "step": 2, "g_steps": 2, "images": 128, "flops": 1,
        "wall_s": 1.0, "fid": 5.0, "fid_train": 5.0, "commit": None, "processor": "p", "torch": "t",
    }  # fmt: skip
    return pd.DataFrame([row | changes])


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("field", ["sweep", "loss", "dataset"])
def test_a_configuration_names_only_names(tmp_path: Path, field: str, name: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config(**{field: name})))
    with pytest.raises(StudyError, match=f"config.json: {field} = .*: names have 1 to 64") as error:
        read_config(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_table_names_only_names(tmp_path: Path, name: str) -> None:
    table_of(dataset=name).to_parquet(tmp_path / "mini.parquet")
    with pytest.raises(StudyError, match=r"mini.parquet: dataset .*; names have 1 to 64"):
        read_table(tmp_path, "mini")


@pytest.mark.parametrize("command", ["collect", "figures", "report", "verdict", "status"])
def test_no_command_touches_what_a_foreign_table_points_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """The fault this mends: a data set that is a path had every *.p* file in it deleted."""
    results, victim = tmp_path / "results", tmp_path / "victim"
    victim.mkdir()
    for name in ("thesis.pdf", "photo.png", "ns_001.parquet"):
        (victim / name).write_text("precious")
    results.mkdir()
    table_of(dataset=str(victim)).to_parquet(results / "mini.parquet")
    finished_run(results / "runs/mini/ns/mnist/000", config(dataset="../../../../../victim"))
    monkeypatch.setenv("STUDY_RESULTS", str(results))
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(commands.app, [command])
    assert sorted(path.name for path in victim.iterdir()) == [
        "ns_001.parquet", "photo.png", "thesis.pdf",
    ]  # fmt: skip
    assert all(path.read_text() == "precious" for path in victim.iterdir())


def test_a_result_says_nothing_that_its_configuration_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A data set that leads elsewhere would make the whole table one that nobody may read."""
    own = {"margin": 2.5}
    folder = tmp_path / "runs/mini/ns/mnist/000"
    finished_run(folder, config(own=own), RunConfig(**config(own=own)).hash)
    path = folder / "result.json"
    result = json.loads(path.read_text())
    result["evaluations"][0] |= {"dataset": "../../x", "lr": 7.0, "margin": 9.0, "config": "x"}
    result["provenance"] |= {"loss": "../x", "status": "diverged", "seed": 3}
    path.write_text(json.dumps(result))
    [row] = rows_of(folder)
    assert (row["sweep"], row["loss"], row["dataset"]) == ("mini", "ns", "mnist")
    assert (row["lr"], row["margin"], row["seed"]) == (1e-3, 2.5, 0)
    assert (row["status"], row["config"], row["d_steps"]) == ("ok", result["config"], 2)
    for name in ("lr", "fid", "status"):
        finished_run(folder, config(own={name: 1.0}), RunConfig(**config(own={name: 1.0})).hash)
        assert rows_of(folder) == []
        said = capsys.readouterr().err
        assert (
            said == f"{path}: its own hyperparameter {name} has the name of a column; the run "
            "is left out\n"
        )


def test_examples_are_copied_over_links_and_not_through_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, victim = tmp_path / "results", tmp_path / "victim"
    folder = results / "runs/mini/ns/mnist/000"
    finished_run(folder, config(), RunConfig(**config()).hash)
    (folder / "samples").mkdir()
    (folder / "samples/000002.png").write_bytes(b"samples")
    (folder / "curves.parquet").write_bytes(b"curves")
    there = results / "examples/mini/mnist"
    there.mkdir(parents=True)
    for name in ("ns_000.png", "ns_000.parquet", "real.png"):
        (there / name).symlink_to(victim / name)
    monkeypatch.setattr("study.datasets.load", lambda *_: torch.zeros(64, 1, 4, 4).byte())
    collect(results, "mini")
    assert examples.keep(results, "mini") == 2  # it is the best and the worst
    assert (there / "ns_000.png").read_bytes() == b"samples"
    assert (there / "ns_000.parquet").read_bytes() == b"curves"
    assert not victim.exists()
    assert not any(path.is_symlink() for path in there.iterdir())
    (folder / "samples/000002.png").unlink()
    (folder / "samples/000002.png").symlink_to(tmp_path / "secret")
    assert examples.keep(results, "mini") == 0
    shutil.rmtree(there)
    there.symlink_to(victim)
    victim.mkdir()
    (folder / "samples/000002.png").unlink()
    assert examples.keep(results, "mini") == 0
    assert not list(victim.iterdir())


def test_stale_examples_go_only_below_the_examples(tmp_path: Path) -> None:
    results, victim = tmp_path / "results", tmp_path / "victim"
    for folder in (victim, results / "examples/mini"):
        folder.mkdir(parents=True)
    (victim / "ns_001.png").write_text("precious")
    (results / "examples/mini/mnist").symlink_to(victim)
    examples.remove_stale(results, results / "examples/mini/mnist", set())
    examples.remove_stale(results, results / "examples/mini/../../../victim", set())
    assert (victim / "ns_001.png").exists()
    ours = results / "examples/mini/triangles"
    ours.mkdir()
    for name in ("ns_001.png", "wgan_gp_100.parquet", "notes.pdf", "plot.png"):
        (ours / name).touch()
    (ours / "vae_002.png").symlink_to(victim / "ns_001.png")
    examples.remove_stale(results, ours, {ours / "ns_001.png"})
    assert {path.name for path in ours.iterdir()} == {
        "ns_001.png", "notes.pdf", "plot.png", "vae_002.png",
    }  # fmt: skip


def test_a_run_of_another_place_gives_no_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs/mini/ns/mnist/003"
    finished_run(folder, config(number=4))
    assert rows_of(folder) == []
    assert "is that of mini/ns/mnist/004; the run is left out" in capsys.readouterr().err

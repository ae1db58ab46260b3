"""`study verify`: committed rows are trained again, and told from others by their last digit."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from there import there
from typer.testing import CliRunner

from study import cli
from study.check import again
from study.check.disk import scratch
from study.errors import StudyError
from study.files import write_json
from study.runs.plan import plan
from study.runs.table import collect, read_table, rows_of
from study.settings import config as settings
from study.settings.arithmetic import Arithmetic
from study.settings.config import RunConfig, SweepConfig, load_sweep
from study.training.loop import train

ROOT = Path(__file__).parent.parent
SWEEP = """
title = "noise"
ranges = "wide"
trials = 1
losses = ["ns", "wgan_gp"]
width = 0.03125
bn_decay = 0.9
features = "random"
num_images = 128
[datasets.noise]
d_steps = 30
evaluate_every = 20
"""


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepConfig:
    """A sweep on noise, and trainings in this very process."""
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps/few.toml").write_text(SWEEP)
    monkeypatch.setattr(settings, "SWEEPS_FOLDER", tmp_path / "sweeps")
    monkeypatch.setattr(again, "trained", trained_here)
    return settings.load_sweep("few")


def trained_here(config: RunConfig, results: Path, train: Callable[[Path], object]) -> pd.DataFrame:
    with scratch(results) as root:
        folder = root / "runs" / config.path
        write_json(folder / "config.json", config.model_dump())
        train(folder)
        return pd.DataFrame(rows_of(folder))


@pytest.fixture
def table(sweep: SweepConfig, tmp_path: Path) -> pd.DataFrame:
    results = tmp_path / "results"
    for config in plan(sweep):
        write_json(results / "runs" / config.path / "config.json", config.model_dump())
        train(results / "runs" / config.path)
    return collect(results, "few")


def verify(table: pd.DataFrame, tmp_path: Path, count: int = 2, seed: int = 0) -> list[again.Again]:
    return list(again.verify(table, count, seed, tmp_path / "again", train, "cpu"))


def test_rows_come_out_again(table: pd.DataFrame, tmp_path: Path) -> None:
    found = verify(table, tmp_path)
    assert {each.config.hash for each in found} == set(table["config"])
    for each in found:
        assert each.is_equal
        assert each.other_seed is None
        assert "equal to the last digit" in again.line(each)
        assert "2 evaluations" in again.line(each)
    assert not list((tmp_path / "again").iterdir())


@pytest.mark.parametrize("column", ["fid", "g_steps"])
def test_a_digit_that_differs_is_told_beside_another_seed(
    table: pd.DataFrame, tmp_path: Path, column: str
) -> None:
    changed = table.copy()
    where = changed.index[changed["loss"] == "ns"][0]
    value = changed.loc[where, column]
    changed.loc[where, column] = value + 1 if column == "g_steps" else np.nextafter(value, 0)
    found = {each.is_equal: each for each in verify(changed, tmp_path)}
    assert again.differing(found[False].recorded, found[False].found) == [column]
    assert found[False].is_off
    assert again.score(there(found[False].other_seed)) != again.score(found[False].found)
    line = again.line(found[False])
    assert "where the table has" in line
    assert "with seed 1 it is" in line
    assert line.endswith("the same digits were promised")
    assert ("differing: " in line) == (column != "fid")


def test_rows_of_an_earlier_order_of_operations_name_their_commit(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    earlier = table.assign(rounding=1, commit="0123456789ab")
    earlier["fid"] *= 1 + 1e-9
    for each in verify(earlier, tmp_path):
        assert again.differing(each.recorded, each.found) == ["fid"]
        assert not each.is_off
        assert again.line(each).endswith(
            "rounding 1 then, 2 now: the code of commit 0123456789ab has the table's digits"
        )


@pytest.mark.parametrize(
    ("changes", "arithmetic", "promised"),
    [
        ({}, "native", True),
        ({"processor": "another"}, "native", False),
        ({"torch": "2.0"}, "native", False),
        ({}, "avx2", True),
        ({"processor": "another"}, "avx2", False),
        ({"processor": "this; then another"}, "native", False),
        ({"torch": "2.0"}, "avx2", False),
        ({"rounding": 1}, "native", False),
        ({"rounding": 1}, "avx2", False),
    ],
)
def test_equality_is_promised_for_one_kind_of_processor(
    sweep: SweepConfig, changes: dict[str, Any], arithmetic: Arithmetic, promised: bool
) -> None:
    made = {"processor": "this", "torch": "2.14", "rounding": 2, "device": "cpu", "commit": "a"}
    row = {"status": "ok", "step": 1, "fid": 3.0, "config": "x"}
    config = plan(sweep)[0].model_copy(update={"arithmetic": arithmetic})
    recorded, found = (pd.DataFrame([row | each]) for each in (made | changes, made))
    assert again.Again(config, recorded, found).should_be_equal == promised
    assert not again.Again(config, recorded, found).is_off
    other = pd.DataFrame([row | made | {"fid": 3.1}])
    compared = again.Again(config, recorded, other, found)
    assert compared.is_off == promised
    assert "3.1 where the table has 3 (1.033 times); with seed 1 it is 3 (1.000 times)" in (
        again.line(compared)
    )


def test_a_diverged_run_is_compared_too() -> None:
    rows = pd.DataFrame({"step": [1, 2], "status": "diverged", "fid": [5.0, np.inf]})
    assert again.differing(rows, rows.copy()) == []
    assert again.score(rows) == np.inf
    assert again.times(3.0, np.inf) == ""
    assert again.differing(rows, rows.assign(status="ok")) == ["status"]
    assert again.differing(rows, rows.head(1)) == ["step"]


@pytest.mark.parametrize(
    ("device", "graph"), [("cpu", False), ("mps", False), ("cuda", True), ("cuda:1", True)]
)
def test_a_cuda_graph_stays_where_the_gpu_is(device: str, graph: bool) -> None:
    config = plan(load_sweep("quick"), ["ns"], ["fashion_mnist"], 1, "cuda", cuda_graph=True)[0]
    here = again.placed(config, device)
    assert (here.device, here.cuda_graph, here.hash) == (device, graph, config.hash)
    plain = config.model_copy(update={"cuda_graph": False})
    assert not again.placed(plain, device).cuda_graph


@pytest.mark.parametrize(
    "name", ["mini", "mini_seeds", "defaults", "paired", "paired_best", "paired_long"]
)
def test_committed_rows_give_their_own_configurations(name: str) -> None:
    table = read_table(ROOT / "results", name)
    keys = [table["loss"], table["dataset"]]
    for _, group in table.groupby(keys):
        for number in (group["number"].min(), group["number"].max()):
            rows = group[group["number"] == number]
            config = again.config_of(rows)
            assert {config.hash} == set(rows["config"])
            assert config.d_steps == rows["d_steps"].max()


@pytest.mark.parametrize(
    ("distribution", "cell", "value"),
    [
        (FloatDistribution(0, 10), 6.48, 6.48),
        (FloatDistribution(0, 10), 6, 6.0),
        (IntDistribution(1, 9), 3.0, 3),
        (IntDistribution(1, 9), 3.5, 3.5),
        (CategoricalDistribution([1, 2.5]), 2.5, 2.5),
        (CategoricalDistribution([1, 2.5]), 1.0, 1),
        (CategoricalDistribution([True, False]), False, False),
        (CategoricalDistribution(["soft", "hard"]), "hard", "hard"),
        (FloatDistribution(0, 1), None, None),
    ],
)
def test_an_own_value_has_the_type_that_is_drawn(
    distribution: BaseDistribution, cell: object, value: object
) -> None:
    """Whatever its default's is: 6.48 beside a default of 6 is no 6."""
    found = again.as_drawn(cell, distribution)
    assert (found, type(found)) == (value, type(value))


def test_whole_numbers_that_a_sweep_draws_stay_whole(
    sweep: SweepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a hyperparameter that is a float by its loss's file; and in the re-runs of that sweep."""
    text = SWEEP.replace("trials = 1", "trials = 2").replace('"ns", ', "")
    whole = text.replace("[datasets", "[space]\nlambda_gp = { low = 2, high = 9 }\n[datasets")
    (tmp_path / "sweeps/few.toml").write_text(whole)
    config = plan(settings.load_sweep("few"))[1]
    assert type(config.own["lambda_gp"]) is int
    best = text.replace('ranges = "wide"', 'best_of = "few"')
    (tmp_path / "sweeps/best.toml").write_text(best)
    for each in (config, config.model_copy(update={"sweep": "best", "seed": 3})):
        row = each.model_dump(exclude={"own"}) | {"step": each.d_steps, "config": each.hash}
        cells = pd.DataFrame([row | {"commit": "c", "lambda_gp": float(each.own["lambda_gp"])}])
        assert again.config_of(cells) == each


def test_a_sweep_that_says_something_else_now_is_named(table: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "sweeps/few.toml").write_text(SWEEP.replace("= 20\n", "= 10\n"))
    with pytest.raises(StudyError, match=r"is of configuration .* but with sweeps/few.toml as it"):
        verify(table, tmp_path)
    (tmp_path / "sweeps/few.toml").write_text(SWEEP.replace("noise]", "mnist]"))
    with pytest.raises(StudyError, match="sweep few has no data set 'noise', the table has"):
        verify(table, tmp_path)
    with pytest.raises(StudyError, match="--rows 3: the table has 2 runs; ask for fewer"):
        verify(table, tmp_path, count=3)


def test_the_seed_says_which_rows() -> None:
    table = pd.DataFrame({"config": [*"abcdefghij"] * 2})
    assert again.chosen(table, 3, 0) == again.chosen(table.sample(frac=1), 3, 0)
    assert again.chosen(table, 3, 0) != again.chosen(table, 3, 1)
    assert sorted(again.chosen(table, 10, 5)) == [*"abcdefghij"]


def test_the_command_refuses_what_is_no_table(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["verify", str(tmp_path / "no.parquet")])
    assert isinstance(done.exception, StudyError)
    assert "no such table; one is results/<sweep>.parquet" in str(done.exception)


def test_the_command_trains_a_row_in_a_worker(table: pd.DataFrame, tmp_path: Path) -> None:
    folders = {"STUDY_SWEEPS": "sweeps", "STUDY_RESULTS": "elsewhere", "STUDY_DATA": "data"}
    environment = os.environ | {name: str(tmp_path / path) for name, path in folders.items()}
    beside = tmp_path / "results/few.txt"
    beside.touch()
    with pytest.raises(StudyError, match=r"few.txt: no such table"):
        CliRunner().invoke(cli.app, ["verify", str(beside)], catch_exceptions=False)
    command = [sys.executable, "-m", "study", "verify", str(tmp_path / "results/few.parquet")]
    done = subprocess.run(
        [*command, "--rows", "1", "--device", "cpu"],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "equal to the last digit (" in done.stdout
    assert done.stdout.endswith("1 of 1 equal to the last digit\n")

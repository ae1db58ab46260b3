"""Hyperparameters, columns and keys are stated once, and everyone asks there.

The proof for hyperparameters is a loss whose own ones are a float, an int, a text and a flag: they
go from the search through the re-runs of its best setting to table, terminal and figures.
"""

import sys
import types
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from study import files, losses, terminal
from study.analysis import dictionary, scores
from study.analysis.figures.settings import axes_of_loss, hyperparameters
from study.errors import StudyError
from study.losses import ns
from study.runs.folder import folder_of
from study.runs.plan import plan as plan_of
from study.runs.table import DECLARED, collect, dtype_of, in_order, own_hyperparameters, read_table
from study.settings import config as configs
from study.settings.config import RunConfig, load_sweep, read_config
from study.settings.hyperparameters import SHARED_NAMES

ROOT = Path(__file__).parent.parent


class FourKinds(ns.Loss):
    """NS GAN that takes four values of four kinds and keeps them."""

    title = "Four kinds"
    defaults = ns.Loss.defaults | {"margin": 0.5, "looks": 3, "mode": "soft", "tied": True}
    _own = {
        "margin": FloatDistribution(0.1, 10.0, log=True),
        "looks": IntDistribution(1, 9),
        "mode": CategoricalDistribution(["soft", "hard"]),
        "tied": CategoricalDistribution([True, False]),
    }
    space = {"wide": _own, "narrow": _own}
    labels = {"margin": "margin m"}

    def __init__(self, margin: float, looks: int, mode: str, tied: bool) -> None:
        super().__init__()
        self.given = (margin, looks, mode, tied)


@pytest.fixture
def four_kinds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The loss as a file of study/losses, a search of six settings, and re-runs of its best."""
    module: Any = types.ModuleType("study.losses.four_kinds")
    module.Loss = FourKinds
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(losses, "names", lambda: ["four_kinds", "ns"])
    text = (
        'title = "t"\ntrials = 6\nlosses = ["four_kinds", "ns"]\nfeatures = "random"\n'
        "num_images = 50\n{}\n[datasets.mnist]\nd_steps = 20\nevaluate_every = 10\n"
    )
    sweeps = tmp_path / "sweeps"
    sweeps.mkdir()
    (sweeps / "look.toml").write_text(text.format('ranges = "wide"'))
    (sweeps / "again.toml").write_text(text.format('best_of = "look"'))
    monkeypatch.setattr(configs, "SWEEPS_FOLDER", sweeps)
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path))
    return tmp_path


def finish(results: Path, config: RunConfig, fid: float) -> None:
    """A finished run as training leaves it, without training."""
    folder = folder_of(results, config)
    files.write_json(folder / "config.json", config.model_dump())
    row = {"step": 20, "d_steps": 20, "g_steps": 20, "images": 1280, "flops": 9, "wall_s": 1.0}
    made_by = {"commit": "c", "processor": "p", "torch": "t", "features_digest": "d"}
    result = {"status": "ok", "reason": None, "config": config.hash, "provenance": made_by}
    distances = {"fid": fid, "fid_train": fid, "fid_report": fid}
    files.write_json(folder / "result.json", result | {"evaluations": [row | distances]})


def test_own_values_of_every_kind_travel_everywhere(
    four_kinds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(load_sweep("look"))
    for config in plan:
        assert read_config_again(config, four_kinds) == config  # no kind is turned into another
        finish(four_kinds, config, 50.0 - config.number)
    table = collect(four_kinds, "look")
    assert own_hyperparameters(table) == ["margin", "looks", "mode", "tied"]
    back = read_table(four_kinds, "look")
    kinds = {name: str(back[name].dtype) for name in ("margin", "looks", "mode", "tied")}
    assert kinds == {"margin": "float64", "looks": "Int64", "mode": "str", "tied": "boolean"}
    ours = back[back["loss"] == "four_kinds"].set_index("number")
    for config in plan:
        if config.loss == "four_kinds":
            row = ours.loc[config.number]
            assert {name: row[name] for name in config.own} == config.own
    assert back[back["loss"] == "ns"][["margin", "looks", "mode", "tied"]].isna().all(axis=None)

    # The re-runs of its best setting have that setting, whole.
    again = [c for c in plan_of(load_sweep("again")) if c.loss == "four_kinds"]
    best = next(c for c in plan if c.loss == "four_kinds" and c.number == 5)
    assert [config.own for config in again] == [best.own] * 6
    kinds_of = [type(value) for value in again[0].own.values()]
    assert kinds_of == [float, int, str, bool]
    own: dict[str, Any] = again[0].own
    assert FourKinds(**own).given == tuple(best.own.values())

    # Terminal, tables and figures show it.
    terminal.report(plan, back, four_kinds)
    out = capsys.readouterr().out
    for name, value in best.own.items():
        assert f"{name} {terminal.value_text(value)}" in out
    shown = scores.best_settings(back)
    assert shown.loc[("mnist", "four_kinds"), "mode"] == best.own["mode"]
    axes = axes_of_loss("four_kinds", back)
    assert list(axes) == ["lr", "beta1", "disc_iters", "batch_norm", *FourKinds._own]
    assert (axes["margin"].label, axes["margin"].is_log) == ("margin m", True)
    labels = [a.get_xlabel() for a in hyperparameters(ours.reset_index()).axes]
    assert {"margin m", "looks", "mode", "tied"} < set(labels)
    assert "margin" not in axes_of_loss("ns", back)


def read_config_again(config: RunConfig, results: Path) -> RunConfig:
    path = results / "config.json"
    files.write_json(path, config.model_dump())
    return read_config(path)


def test_an_own_value_may_not_be_called_what_every_row_says(
    monkeypatch: pytest.MonkeyPatch, four_kinds: Path
) -> None:
    space = {"width": FloatDistribution(0, 1)}
    monkeypatch.setattr(FourKinds, "space", {"wide": space, "narrow": space})
    monkeypatch.setattr(FourKinds, "defaults", ns.Loss.defaults | {"width": 0.5})
    monkeypatch.setattr(FourKinds, "__init__", lambda self, width: None)
    with pytest.raises(StudyError, match=r"four_kinds.py: hyperparameter 'width' has the name of"):
        plan_of(load_sweep("look"), ["four_kinds"])


def test_a_table_written_again_keeps_the_order_of_its_columns(tmp_path: Path) -> None:
    before = pd.read_parquet(ROOT / "results/mini.parquet")
    order = in_order(before)
    assert [name for name in order if name in before] == before.columns.tolist()
    for name in before:
        kind = dtype_of(before[name])
        assert before[name].dtype == kind


def generated(path: str) -> str:
    """What a page has between its two marks."""
    written = (ROOT / path).read_text()
    return written.partition(dictionary.BEGIN)[2].partition(dictionary.END)[0].strip()


def test_dictionaries_are_what_the_code_states() -> None:
    """Else: paste what `python -m study columns` (or `dictionary.sweep_keys()`) says there.

    A loss of one's own, beside those that come with the study, may be in it or not.
    """
    shipped = dictionary.columns(sorted(load_sweep("paired").losses))
    assert generated("results/README.md") in (shipped, dictionary.columns())
    assert generated("sweeps/README.md") == dictionary.sweep_keys()


def test_the_dictionary_has_the_types_of_tables(four_kinds: Path) -> None:
    """Of the values that a loss may have; two may mean values of two types by one name."""
    rows = [line.split(" | ") for line in dictionary.columns(["four_kinds"]).splitlines()]
    types_ = {name.strip("| `"): kind for name, kind, _ in rows}
    assert {name: types_[name] for name in FourKinds._own} == {
        "margin": "float64",
        "looks": "Int64",
        "mode": "str",
        "tied": "boolean",
    }
    assert "| `margin` | float64 | margin m of Four kinds; null for other losses |" in (
        dictionary.columns(["ns", "four_kinds"])
    )
    assert "`margin`" not in dictionary.columns(["ns"])


@pytest.mark.parametrize(
    "name", ["mini", "mini_seeds", "paired", "paired_best", "paired_long", "defaults"]
)
def test_every_column_of_the_shipped_tables_is_declared_or_a_losss_own(name: str) -> None:
    table = pd.read_parquet(ROOT / f"results/{name}.parquet")
    own = {n for loss in losses.names() for n in losses.load(loss).space["wide"]} - {*SHARED_NAMES}
    assert set(own_hyperparameters(table)) <= own


def test_everything_that_is_declared_says_what_it_means() -> None:
    for column in DECLARED.values():
        assert column.meaning, column.name
    assert "|  |\n" not in dictionary.sweep_keys()

"""Generators kept beside the tables: whose, in which precision, and what is drawn from them."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from test_score import toy_set
from test_sweep import TINY, finish
from typer.testing import CliRunner

from study import cli
from study import datasets as data
from study.analysis import generators
from study.errors import StudyError
from study.losses import load
from study.measures import image_sets
from study.measures import of_a_generator as measure
from study.runs.plan import plan
from study.runs.table import merge
from study.settings import config as configs
from study.settings.config import RunConfig, load_sweep
from study.training.records import evaluation_z


def generator_of(config: RunConfig, scale: float = 1) -> dict[str, torch.Tensor]:
    """Initial weights by the run's number, the first layer's times `scale`."""
    torch.manual_seed(config.number)
    own = load(config.loss)(**config.own).generator((1, 28, 28), config.width, config.bn_decay)
    first = next(own.parameters())
    with torch.no_grad():
        first.mul_(scale)
    return own.state_dict()


def scored(folder: Path, config: RunConfig) -> float:
    """The distance of a folder's generator as the run's evaluations take it."""
    measure.evaluator.cache_clear()
    evaluate = measure.evaluator(config.dataset, config.features, config.num_images, "cpu")
    found = evaluate(measure.best_generator(folder, config), evaluation_z(config))
    return math.inf if found is None else found["fid"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RunConfig]]:
    """Three runs of NS GAN and three of WGAN below results/: number 1 is the best of each."""
    torch.set_num_threads(1)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps/tiny.toml").write_text(TINY.replace("fashion_mnist", "mnist"))
    monkeypatch.setattr(configs, "SWEEPS_FOLDER", tmp_path / "sweeps")
    monkeypatch.setitem(data.SETS, "mnist", toy_set())
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path / "results"))
    configs_ = plan(load_sweep("tiny"), ["ns", "wgan"])
    folders = []
    for config in configs_:
        folder = finish(tmp_path / "results", config, [9.0, 8.0 - config.number % 2])
        torch.save(generator_of(config), folder / "best.pt")
        folders.append(folder)
    merge(tmp_path / "results", "tiny", folders)
    yield configs_
    measure.evaluator.cache_clear()


def run_of(results: Path, config: RunConfig) -> Path:
    return results / "runs" / config.path


def test_each_loss_s_best_generator_is_kept_in_half_precision(
    runs: list[RunConfig], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    said = CliRunner().invoke(cli.app, ["keep", "tiny"])
    assert said.exit_code == 0
    best = [config for config in runs if config.number == 1]
    assert len(said.output.splitlines()) == len(best) == 2
    for config, line in zip(best, said.output.splitlines(), strict=True):
        kept = generators.folder(results, config.path)
        assert line.startswith(f"{kept}: 0.")
        assert "half precision changes it by " in line
        assert "kept whole" not in line
        own = torch.load(run_of(results, config) / "best.pt")
        there = torch.load(kept / "best.pt")
        assert {w.dtype for w in there.values()} == {torch.float16}
        assert all(torch.equal(there[name], own[name].to(there[name].dtype)) for name in own)
        size = (kept / "best.pt").stat().st_size
        assert size < 0.65 * (run_of(results, config) / "best.pt").stat().st_size
        before, after = scored(run_of(results, config), config), scored(kept, config)
        assert 0 < abs(after / before - 1) <= generators.TOLERANCE
        assert f"distance {after:.4g}; " in line
    there_now = sorted(path.name for path in (results / "generators").rglob("*.*"))
    assert there_now == ["best.pt", "best.pt", "config.json", "config.json"]


def test_weights_that_halves_cannot_hold_are_kept_whole(
    runs: list[RunConfig], tmp_path: Path
) -> None:
    results, config = tmp_path / "results", runs[2]
    assert (config.loss, config.number) == ("ns", 1)
    torch.save(generator_of(config, scale=1e7), run_of(results, config) / "best.pt")
    ns, wgan = generators.keep(results, "tiny")
    assert (ns.half, wgan.half) == (False, True)
    assert ns.change == math.inf
    own, there = (torch.load(folder / "best.pt") for folder in (run_of(results, config), ns.folder))
    assert all(torch.equal(there[name], own[name]) for name in own)
    assert ns.distance == scored(run_of(results, config), config)


def test_images_are_drawn_from_what_is_kept(
    runs: list[RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the run's path alone, where the run's own folder is gone."""
    results, config = tmp_path / "results", runs[2]
    kept = next(iter(generators.keep(results, "tiny"))).folder
    (results / "runs").rename(tmp_path / "elsewhere")
    words = ["sample", str(config.path), "3", "--to", str(tmp_path / "drawn")]
    said = CliRunner().invoke(cli.app, words)
    assert said.exit_code == 0, said.output
    drawn = image_sets.drawn(kept, 3).mul(255).round().byte()
    files = image_sets.open_set(str(tmp_path / "drawn")).batches(None, 3)
    assert torch.equal(next(files), drawn)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("no table", "no rows of tiny"),
        ("no run", "no generator there, and it is the best run of wgan on mnist"),
        ("another run", "is another run than tiny's table has there"),
        ("a link in the run", "no generator there"),
    ],
)
def test_nothing_is_kept_where_one_is_missing(
    runs: list[RunConfig], tmp_path: Path, spoil: str, message: str
) -> None:
    results, config = tmp_path / "results", runs[3]
    assert (config.loss, config.number) == ("wgan", 1)
    run = run_of(results, config)
    if spoil == "no table":
        (results / "tiny.parquet").unlink()
    elif spoil == "no run":
        (run / "best.pt").unlink()
    elif spoil == "a link in the run":
        (run / "samples").symlink_to(tmp_path)
    else:
        other = config.model_copy(update={"width": 0.5})
        (run / "config.json").write_text(other.model_dump_json())
    with pytest.raises(StudyError, match=message):
        list(generators.keep(results, "tiny"))
    assert not (results / "generators").exists()


def test_nothing_is_written_through_a_link(runs: list[RunConfig], tmp_path: Path) -> None:
    results = tmp_path / "results"
    mine = tmp_path / "mine"
    mine.mkdir()
    (results / "generators").mkdir()
    (results / "generators/tiny").symlink_to(mine)
    with pytest.raises(StudyError, match=r"leads out of .*generators by a link; remove it"):
        list(generators.keep(results, "tiny"))
    assert list(mine.iterdir()) == []

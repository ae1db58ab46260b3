import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_score import a_run  # noqa: F401 (a fixture)

from study import cli as commands
from study import datasets as data
from study import features
from study.analysis import behaviour, figures, measured
from study.analysis.figures.behaviour_agreement import agreement
from study.analysis.figures.behaviour_bias import bias
from study.analysis.figures.behaviour_damage import damage
from study.analysis.figures.style import save
from study.datasets.base import Images
from study.errors import StudyError
from study.files import write_json
from study.measures import triangle_distance
from study.runs.plan import plan
from study.settings.config import load_sweep


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A toy data set of two kinds of images in place of MNIST, and numbers to fit."""

    def read(split: str, folder: Path) -> tuple[Images, Path]:
        rng = np.random.default_rng(split == "train")
        n = 600 if split == "train" else 200
        images = rng.integers(0, 120, (n, 1, 28, 28), np.uint8)
        images[np.arange(n) % 10 < 5, :, :14] += 100
        return images, folder

    def labels(split: str, folder: Path) -> Images:
        return (np.arange(sizes[split]) % 10).astype(np.uint8)

    sizes = {"train": 600, "held_out": 200}
    toy = replace(data.SETS["mnist"], sizes=sizes, read=read, labels=labels)
    monkeypatch.setitem(data.SETS, "mnist", toy)
    monkeypatch.setenv("STUDY_DATA", str(tmp_path))
    monkeypatch.setattr(behaviour, "SIZES", (40, 80, 100, 200, 400))
    monkeypatch.setattr(behaviour, "LEAST_OF_A_CLASS", 60)
    monkeypatch.setattr(behaviour, "NUM_IMAGES", 50)
    monkeypatch.setattr(behaviour, "BESIDE", 30)
    monkeypatch.setattr(behaviour, "NOISE_LEVELS", (0, 40))
    monkeypatch.setattr(behaviour, "BLUR_PX", (0.0, 1.0))
    monkeypatch.setattr(behaviour, "MEMORISED", (5, 50, 100))


@pytest.fixture
def table(small: None) -> pd.DataFrame:
    return behaviour.measure_all("mnist", features.load("random"), draws=2, real_draws=3)


def levels(
    table: pd.DataFrame, experiment: str, real: str = "held_out", column: str = "distance"
) -> "pd.Series[float]":
    rows = table[(table["experiment"] == experiment) & (table["real"] == real)]
    return rows.groupby("level")[column].mean()


def test_every_experiment_has_its_rows(table: pd.DataFrame) -> None:
    counts = table.groupby("experiment").size().to_dict()
    # sizes x draws; 10 classes, 2 levels each x 2 draws; 2 numbers, 2 splits, 2 draws
    assert counts == {"real": 4 * 3, "classes": 20, "noise": 4, "blur": 4, "memorised": 8}
    assert not table.duplicated(behaviour.KEY).any()
    assert set(table[table["experiment"] == "real"]["num_images"]) == {40, 80, 100, 200}
    assert set(table[table["experiment"] != "real"]["num_images"]) == {50}
    assert np.isfinite(table.select_dtypes("number")).all().all()


def test_damage_is_seen(table: pd.DataFrame) -> None:
    for experiment in ("noise", "blur"):
        distances = levels(table, experiment)
        assert distances.iloc[1] > 2 * distances.iloc[0]
    few, all_ = levels(table, "classes")[[1, 10]]
    assert few > 2 * all_
    few, all_ = levels(table, "classes", column="recall")[[1, 10]]
    assert few < all_


def test_copies_of_all_training_images_are_at_distance_0_from_them(table: pd.DataFrame) -> None:
    assert levels(table, "memorised", "train")[50] == pytest.approx(0, abs=1e-9)
    assert levels(table, "memorised", "train")[5] > 1e-4
    honest = levels(table, "noise")[0]
    assert levels(table, "memorised")[50] == pytest.approx(honest, rel=0.5)


def test_classes_are_those_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        behaviour, "_row", lambda _, level, real, fake: {str(level): fake.flatten()}
    )
    kinds = torch.arange(600) % 10
    given = {"train": kinds[:, None].float(), "held_out": torch.zeros(60, 1)}
    found = list(behaviour.mode_dropping(given, kinds.numpy(), np.random.default_rng(0)))
    for k, row in enumerate(found, 1):
        assert len(row[str(k)].unique()) == k


def test_the_same_table_again_and_other_draws_differ(small: None, table: pd.DataFrame) -> None:
    again = behaviour.measure_all("mnist", features.load("random"), draws=2, real_draws=3)
    pd.testing.assert_frame_equal(table, again)
    real = table[(table["experiment"] == "real") & (table["level"] == 100)]["distance"]
    assert real.nunique() == 3


def test_more_draws_change_none_that_were_made(small: None, table: pd.DataFrame) -> None:
    more = behaviour.measure_all("mnist", features.load("random"), draws=3, real_draws=3)
    kept = more[(more["draw"] < 2) | (more["experiment"] == "real")]
    pd.testing.assert_frame_equal(table, kept.reset_index(drop=True))


def test_without_classes_nothing_is_dropped(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(data.SETS, "mnist", replace(data.SETS["mnist"], labels=None))
    table = behaviour.measure_all("mnist", features.load("random"), draws=2, real_draws=2)
    assert "classes" not in set(table["experiment"])
    assert len(damage(table).axes) == 6


def test_classes_are_the_sets_own(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of unlike sizes, the smaller with fewer images than are held out; then too few of one."""
    train = (np.arange(600) % 15 == 0).astype(np.uint8)  # 40 of 600
    toy = replace(data.SETS["mnist"], labels=lambda split, folder: train)
    monkeypatch.setitem(data.SETS, "mnist", toy)
    monkeypatch.setattr(behaviour, "LEAST_OF_A_CLASS", 40)
    found = behaviour.measure_all("mnist", features.load("random"), draws=1, real_draws=1)
    rows = found[found["experiment"] == "classes"]
    assert rows["level"].tolist() == [1, 2]
    assert set(rows["num_images"]) == {40}
    assert "40 to 50 training images" in " ".join(damage(found).get_supxlabel().split())
    monkeypatch.setattr(behaviour, "LEAST_OF_A_CLASS", 41)
    said: list[str] = []
    found = behaviour.measure_all("mnist", features.load("random"), 1, 1, said.append)
    assert "classes" not in set(found["experiment"])
    assert "classes: left out, one has 40 training images" in said


def test_too_few_held_out_images_are_refused(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behaviour, "SIZES", (201, 400))
    with pytest.raises(StudyError, match=r"mnist has 200 held-out images; at least 201 are needed"):
        behaviour.measure_all("mnist", features.load("random"))
    monkeypatch.setattr(behaviour, "SIZES", (40, 80, 100, 200, 400))
    toy = data.SETS["mnist"]
    few = {"train": 90, "held_out": 200}
    monkeypatch.setitem(
        data.SETS,
        "mnist",
        replace(toy, sizes=few, labels=None, read=lambda split, folder: (
            toy.read(split, folder)[0][: few[split]], folder
        )),
    )  # fmt: skip
    found = behaviour.measure_all("mnist", features.load("random"), draws=1, real_draws=1)
    real = found[found["experiment"] == "real"]
    assert real["num_images"].tolist() == [40, 80]  # as many of both as the fewer have
    monkeypatch.setitem(few, "train", 30)
    with pytest.raises(StudyError, match=r"mnist has 30 training images; at least 40 are needed"):
        behaviour.measure_all("mnist", features.load("random"))


def test_a_table_without_real_rows_has_no_figure_of_them(table: pd.DataFrame) -> None:
    with pytest.raises(StudyError, match="no row of real images"):
        bias(table[table["experiment"] != "real"])


def fall(
    sizes: Sequence[int],
    dim: int = 64,
    features_name: str = "random",
    draws: int = 3,
    limit: float = 0.25,
) -> pd.DataFrame:
    """A table of real against real that falls exactly as 1/n to a limit, a shift a draw."""
    rows = [
        {
            "dataset": "mnist",
            "features": features_name,
            "experiment": "real",
            "real": "held_out",
            "level": float(n),
            "draw": draw,
            "num_images": n,
            "dim": dim,
            "distance": limit + 100 / n + 0.01 * (draw - 1),
        }
        for n in sizes
        for draw in range(draws)
    ]
    return pd.DataFrame(rows)


def test_the_limit_of_a_line_in_inverse_n() -> None:
    table = fall([50, 100, 200, 400])
    table.loc[table["num_images"] == 50, "distance"] = 9  # no more images than features: left out
    limit = measured.infinitely_many(table)
    assert limit.value == pytest.approx(0.25)
    assert 0.2399 < limit.low < 0.25 < limit.high < 0.2601
    with pytest.raises(StudyError, match="1 sizes exceed the number of features"):
        measured.infinitely_many(fall([50, 100]))


def test_bias_and_spread_by_number() -> None:
    found = measured.bias(fall([100, 200])).set_index("num_images")
    assert found["mean"].tolist() == pytest.approx([1.25, 0.75])
    assert found["sd"].tolist() == pytest.approx([0.01, 0.01])
    assert found["draws"].tolist() == [3, 3]


def test_the_papers_values_stand_beside_fid_only() -> None:
    inception = measured.bias(fall([5000, 10_000], features_name="inception"))
    assert inception["paper"].tolist() == pytest.approx([np.nan, 1.25], nan_ok=True)
    assert measured.bias(fall([10_000]))["paper"].isna().all()


def test_the_report_states_the_limit(table: pd.DataFrame) -> None:
    said = behaviour.report(table)
    assert "mnist, random features" in said
    assert "real against real, infinitely many:" in said


# --- Runs


def test_distances_of_runs_are_those_recorded(a_run: tuple[str, float]) -> None:  # noqa: F811
    folder, recorded = a_run
    folders = behaviour.runs_below([Path(folder).parent])
    found = behaviour.distances_of_runs(folders, ["random"])
    assert found["random"].tolist() == pytest.approx([recorded], rel=1e-9)
    assert found[["loss", "dataset", "num_images"]].iloc[0].tolist() == ["ns", "mnist", 80]


def test_runs_of_two_data_sets_are_refused_before_they_are_measured(tmp_path: Path) -> None:
    folders = []
    for config in plan(load_sweep("mini"), ["ns"], trials=1):
        write_json(tmp_path / config.dataset / "config.json", config.model_dump())
        folders.append(tmp_path / config.dataset)  # without a generator
    assert len(folders) == 2
    with pytest.raises(StudyError, match=r"runs on fashion_mnist, triangles; .* one data set"):
        behaviour.distances_of_runs(folders, ["random", "lite0"])


def test_no_runs_are_told(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no runs with a"):
        behaviour.distances_of_runs(behaviour.runs_below([tmp_path]), ["random"])


def runs(second: Sequence[float], dataset: str = "mnist") -> pd.DataFrame:
    table = pd.DataFrame({"lite0": [1.0, 2, 3, 4, 5], "random": second, "loss": "ns"})
    return table.assign(dataset=dataset, num_images=100)


def test_agreement_is_spearmans() -> None:
    same = measured.agreement(runs([1.0, 4, 9, 16, 25]), "lite0", "random")
    assert same.value == pytest.approx(1)
    swapped = measured.agreement(runs([2.0, 1, 3, 4, 5]), "lite0", "random")
    assert swapped.value == pytest.approx(0.9)
    two = pd.concat([runs([1.0, 2, 3, 4, 5]), runs([1.0, 2, 3, 4, 5], "cifar10")])
    with pytest.raises(StudyError, match="runs on cifar10, mnist"):
        measured.agreement(two, "lite0", "random")


def test_convergence_has_a_row_a_combination(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triangle_distance, "FRESH_TRIANGLES", 500)
    table = behaviour.manifold_convergence(num_images=2)
    assert set(table["images"]) == {"hold-out", "with noise"}
    assert not table.duplicated(["images", "neighbours", "random", "steps"]).any()
    ends = table[(table["neighbours"] == 8) & (table["random"] == 8) & (table["steps"] == 32)]
    assert ends["mean_excess"].tolist() == [0, 0]
    assert ends.set_index("images")["mean_distance"]["hold-out"] < 0.02


# --- Files


def test_saving_replaces_what_was_measured_again(tmp_path: Path, table: pd.DataFrame) -> None:
    path = tmp_path / "behaviour.parquet"
    behaviour.save(table, path, ["dataset", "features"])
    first = path.read_bytes()
    behaviour.save(table, path, ["dataset", "features"])
    assert path.read_bytes() == first
    both = behaviour.save(table.assign(features="other"), path, ["dataset", "features"])
    assert len(both) == 2 * len(table)
    pd.testing.assert_frame_equal(pd.read_parquet(path), both)


def test_figures_are_the_same_bytes_again(tmp_path: Path, table: pd.DataFrame) -> None:
    assert list(figures.of({"behaviour": table})) == [
        "behaviour_bias_mnist_random",
        "behaviour_damage_mnist_random",
    ]
    drawn = [save(damage(table), tmp_path / name) for name in "ab"]
    for first, second in zip(*drawn, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_the_bias_figure_shows_the_limit_and_the_papers_value() -> None:
    figure = bias(fall([3000, 5000, 10_000], 2048, "inception"))
    left = figure.axes[0]
    labels = left.get_legend_handles_labels()[1]
    assert "n → ∞: 0.25" in labels
    assert "paper, as recalled: 1.25" in labels
    assert left.get_ylabel() == "FID"


def test_the_agreement_figure_has_a_point_a_run() -> None:
    figure = agreement(runs([2.0, 1, 3, 4, 5]), "lite0", "random")
    points = np.array(figure.axes[0].lines[0].get_xydata())
    assert points.tolist() == [[1, 2], [2, 1], [3, 3], [4, 4], [5, 5]]
    assert "correlation 0.90" in " ".join(figure.get_supxlabel().split())


# --- The command


def test_the_agreement_of_one_extractor_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["study", "agreement", str(tmp_path), "--features", "lite0"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as exit_:
        commands.main()
    assert exit_.value.code == 2
    assert capsys.readouterr().err == (
        "error: features lite0; the agreement is that of two extractors\n"
    )


@pytest.mark.parametrize(
    ("command", "content"),
    [
        (["behaviour", "--dataset", "mnist"], "another table"),
        (["agreement", "."], "no table"),
        (["convergence"], "another table"),
    ],
)
def test_a_file_that_is_no_such_table_is_kept_and_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: list[str],
    content: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUDY_RESULTS", "results")
    path = Path(f"results/{command[0]}.parquet")
    path.parent.mkdir()
    if content == "another table":
        pd.DataFrame({"features": ["lite0"], "level": [1.0]}).to_parquet(path)
    else:
        path.write_text("not parquet")
    before = path.read_bytes()
    monkeypatch.setattr(sys, "argv", ["study", *command])
    with pytest.raises(SystemExit) as exit_:
        commands.main()
    assert exit_.value.code == 2
    said = capsys.readouterr().err
    why = "has no column" if content == "another table" else "cannot be read: "
    assert said.startswith(f"error: {path} {why}")
    assert said.endswith("; move it away\n")
    assert path.read_bytes() == before


def test_the_behaviour_command_writes_table_and_figures(
    small: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUDY_RESULTS", "results")
    options = ["--dataset", "mnist", "--features", "random", "--draws", "2", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["study", "behaviour", *options])
    monkeypatch.setattr(figures, "draw", lambda tables, folder: figures.Drawn([], [], 0))
    with pytest.raises(SystemExit) as exit_:
        commands.main()
    assert exit_.value.code == 0
    written = pd.read_parquet("results/behaviour.parquet")
    expected = behaviour.measure_all("mnist", features.load("random"), draws=2, real_draws=6)
    pd.testing.assert_frame_equal(written, expected)
    assert "mnist, random features" in capsys.readouterr().out

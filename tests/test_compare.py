"""`study compare`: the verdict's rule on tables from anywhere."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from study import cli
from study.analysis import compare
from study.analysis.statistics import ratio_interval, told_apart
from study.analysis.statistics.samples import Array
from study.errors import StudyError
from study.settings.config import load_sweep

ROOT = Path(__file__).parent.parent
MINI = str(ROOT / "results/mini.parquet")


def table(loss: str, fid: Sequence[float] | Array, **more: object) -> pd.DataFrame:
    return pd.DataFrame({"loss": loss, "number": range(len(fid)), "fid": fid} | more)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Array, Array]:
    """mine.csv, 0.8 times as far as theirs.csv (forty settings, one of each diverged)."""
    monkeypatch.chdir(tmp_path)
    theirs = np.exp(np.random.default_rng(0).normal(3, 0.4, 40))
    mine = 0.7 * np.exp(np.random.default_rng(1).normal(3, 0.4, 40))
    mine[3] = theirs[5] = np.inf
    table("mine", mine).to_csv("mine.csv", index=False)
    table("theirs", theirs).to_csv("theirs.csv", index=False)
    return mine, theirs


def test_the_numbers_are_the_statistics_own(files: tuple[Array, Array]) -> None:
    mine, theirs = files
    (found,) = compare.compare("mine.csv", "theirs.csv")
    wanted = told_apart(mine, theirs, [1, 2, 5, 10])
    assert found.table["budget"].tolist() == [1, 2, 5, 10]
    assert found.table["chance"].tolist() == wanted.chance.tolist()
    assert found.table["judged"].tolist() == [True, True, True, False]
    assert found.table["p"].tolist() == pytest.approx(wanted.p.tolist(), abs=0.01)
    ratio = ratio_interval(mine, theirs, [1, 2, 5, 10])
    assert found.table["ratio_high"].tolist() == ratio.high.tolist()
    assert found.words.startswith("mine is better than theirs at a budget of 1, 2 and 5 settings (")
    assert "40 settings of it, 40 of the other" in found.words
    (other,) = compare.compare("theirs.csv", "mine.csv")
    assert other.words.startswith("theirs is worse than mine at a budget of 1, 2 and 5 settings (")


def test_parquet_checkpoints_and_status_say_the_same_as_one_row_a_run(
    files: tuple[Array, Array],
) -> None:
    mine, _ = files
    rows = table("mine", np.where(np.isinf(mine), np.nan, mine))
    rows["status"] = np.where(np.isinf(mine), "diverged", "ok")
    early = rows.assign(fid=2 * rows["fid"].fillna(1))
    pd.concat([early, rows]).to_parquet("mine.parquet")
    (one,), (other,) = (compare.compare(f, "theirs.csv") for f in ("mine.csv", "mine.parquet"))
    pd.testing.assert_frame_equal(one.table, other.table)
    assert one.words == other.words


def test_paired_settings_are_told_apart_by_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    setting = np.exp(rng.normal(3, 0.6, 48))
    mine = 0.93 * setting * np.exp(rng.normal(0, 0.05, 48))
    shuffled = table("b", setting).sample(frac=1, random_state=0)
    table("a", np.append(mine, 1.0)).to_csv("a.csv", index=False)
    shuffled.to_csv("b.csv", index=False)
    (alone,), (pairs,) = (compare.compare("a.csv", "b.csv", paired=p) for p in (False, True))
    assert "not told apart" in alone.words
    assert "a is better than b at a budget of 1" in pairs.words
    assert "48 settings of it, 48 of the other, paired" in pairs.words


def test_the_committed_tables_may_be_asked() -> None:
    (found,) = compare.compare(f"{MINI}:wgan", f"{MINI}:ns", "fashion_mnist")
    assert found.words.startswith("WGAN is worse than NS GAN at a budget of ")
    every = compare.compare(f"{MINI}:ls", MINI, "fashion_mnist")
    assert len(every) == 8
    assert any("LS GAN (A) is not told apart from LS GAN (B)" in each.words for each in every)


def test_the_command_prints_words_and_strict_json(files: tuple[Array, Array]) -> None:
    done = CliRunner().invoke(cli.app, ["compare", "mine.csv", "theirs.csv"])
    assert done.exit_code == 0
    assert "mine is better than theirs" in done.output
    done = CliRunner().invoke(cli.app, ["compare", "mine.csv", "theirs.csv", "--json"])
    (found,) = json.loads(done.output, parse_constant=pytest.fail)
    assert found["budgets"][3]["ratio_high"] is None  # open
    assert found["budgets"][0]["chance"] > 0.7


def test_seven_settings_are_too_few(files: tuple[Array, Array]) -> None:
    table("mine", [1.0] * 7).to_csv("few.csv", index=False)
    (found,) = compare.compare("few.csv", "theirs.csv")
    assert "too few to judge (7 settings of it, 40 of the other; 8 of each are" in found.words


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fid": [1.0, None]}, "a.csv: rows without fid: 1; a diverged run is inf, or of status"),
        ({"fid": [1.0, "x"]}, "a.csv: rows without fid: 1"),
        (
            {"features": ["lite0", "inception"]},
            "a.csv: rows of features inception, lite0; keep one",
        ),
        ({"dataset": ["a", "b"]}, "a.csv: rows of dataset a, b; --dataset names one"),
        (
            {"features": ["lite0"] * 2},
            "a.csv is of features lite0, b.csv of inception: they cannot",
        ),
        (
            {"d_steps": [1000, 20_000]},
            "a.csv is trained for 20,000 D steps a run, b.csv for 2,000: they cannot",
        ),
        ({"batch_size": [256] * 2}, "a.csv is of batch_size 256, b.csv of 64: they cannot"),
        ({"loss": ["a", "b"]}, "a.csv has losses a, b; name one: a.csv:a"),
        ({"seed": [0, 1], "number": [0, 0]}, "a.csv: settings with several seeds"),
        ({"sweep": ["one", "two"]}, "a.csv: rows of sweep one, two; keep one"),
        ({"features_digest": ["1a", "2b"]}, "a.csv: rows of features_digest 1a, 2b; keep one"),
        ({"status": ["ok", "stopped"]}, "1 runs were stopped early by halving"),
        ({"status": ["ok", "Diverged"]}, "a.csv: status 'Diverged'; allowed: ok, diverged"),
        ({"loss": ["a", None]}, "a.csv: rows without loss: 1"),
        ({"number": [None, None]}, "a.csv: rows without number: 2"),
        ({"dataset": ["a", None]}, "a.csv: rows without dataset: 1"),
        ({"sweep": ["mini_seeds"] * 2}, "a.csv: mini_seeds trains the best settings of mini again"),
        (
            {"sweep": ["paired"] * 2, "dataset": ["fashion_mnist"] * 2},
            "paired is judged once, and shown when all settings of each loss are there "
            "(fashion_mnist: 80)",
        ),
    ],
)
def test_what_cannot_be_compared_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, list[Any]], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    b = table("b", [1.0, 2.0], features="inception", d_steps=2000, batch_size=64)
    b.to_csv("b.csv", index=False)
    pd.DataFrame(table("a", [1.0, 2.0]).to_dict("list") | changes).to_csv("a.csv", index=False)
    with pytest.raises(StudyError) as caught:
        compare.compare("a.csv", "b.csv")
    assert str(caught.value).startswith(message)


def test_of_a_paired_search_a_complete_data_set_may_be_asked_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draws, sweep = np.random.default_rng(2), load_sweep("paired")
    parts = [
        table(loss, draws.lognormal(3, 0.3, n), sweep="paired", dataset=dataset)
        for dataset, n in (("fashion_mnist", 80), ("triangles", 39))
        for loss in sweep.losses
    ]
    pd.concat(parts).to_parquet("a.parquet")
    assert compare.compare("a.parquet:rp", "a.parquet:ns", "fashion_mnist", paired=True)
    with pytest.raises(StudyError, match=r"judged once, .* \(triangles: 40\)"):
        compare.compare("a.parquet:rp", "a.parquet:ns", "triangles", paired=True)


def test_a_capital_csv_is_one(files: tuple[Array, Array]) -> None:
    Path("mine.csv").rename("MINE.CSV")
    assert compare.compare("MINE.CSV", "theirs.csv")[0].words.startswith("mine is better")


@pytest.mark.parametrize(
    ("source", "dataset", "message"),
    [
        ("no.csv", None, "no.csv: no such file"),
        ("bad.parquet", None, "bad.parquet cannot be read: "),
        ("bare.csv", None, "bare.csv has no column number; needed: loss, number, fid"),
        ("mine.csv:mime", None, "mine.csv has no loss 'mime'; did you mean 'mine'? it has: mine"),
        (f"{MINI}:ls", "fashion", f"{MINI} has no data set 'fashion'; did you mean 'fashion_mnis"),
    ],
)
def test_what_is_no_table_is_said(
    files: tuple[Array, Array], source: str, dataset: str | None, message: str
) -> None:
    Path("bad.parquet").write_text("no")
    Path("bare.csv").write_text("loss,fid\na,1\n")
    with pytest.raises(StudyError) as caught:
        compare.compare(source, "theirs.csv", dataset)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("column", ["features_digest", "data_digest"])
def test_two_tables_of_unlike_weights_or_images_are_not_compared(
    files: tuple[Array, Array], column: str
) -> None:
    for name, digest in {"a": "1a", "b": "2b"}.items():
        table(name, [1.0] * 9, **{column: digest}).to_parquet(f"{name}.parquet")
    with pytest.raises(StudyError, match=f"a.parquet is of {column} 1a, b.parquet of 2b: they"):
        compare.compare("a.parquet", "b.parquet")


def test_losses_may_have_numbers_for_names(files: tuple[Array, Array]) -> None:
    mine, _ = files
    pd.concat([table("1", mine), table("2", mine + 9)]).to_csv("num.csv", index=False)
    (found,) = compare.compare("num.csv:1", "num.csv:2")
    assert found.words.startswith("1 is better than 2 at a budget of 1, 2 and 5 settings (")


@pytest.mark.parametrize("order", [("none.csv", "mine.csv"), ("mine.csv", "none.csv")])
def test_a_table_without_rows_is_said(files: tuple[Array, Array], order: tuple[str, str]) -> None:
    Path("none.csv").write_text("loss,number,fid\n")
    with pytest.raises(StudyError, match=r"none\.csv has no rows; needed is one a run"):
        compare.compare(*order)


def test_the_p_that_is_said_is_of_all_comparisons(files: tuple[Array, Array]) -> None:
    """Mine beside four: p is four times that of a comparison alone, as the naming goes by."""
    mine, theirs = files
    shifts = (0.9, 1.0, 0.55, 3.0)
    others = [table(f"l{n}", theirs * shift) for n, shift in enumerate(shifts)]
    pd.concat(others).to_csv("others.csv", index=False)
    for found, shift in zip(compare.compare("mine.csv", "others.csv"), shifts, strict=True):
        alone = told_apart(mine, theirs * shift, [1, 2, 5, 10]).p_any
        assert ("not told apart" in found.words) == (4 * alone > 0.05)
        assert "over all budgets and 4 comparisons; 40 settings of it" in found.words
        said = re.search(r"\(p (=|<) ([0-9.e-]+) over", found.words)
        assert said
        assert float(said[2]) == pytest.approx(min(1, max(4 * alone, 0.001)), rel=0.2)


def test_no_number_in_common_is_said(files: tuple[Array, Array]) -> None:
    table("x", [1.0] * 9).assign(number=range(100, 109)).to_csv("x.csv", index=False)
    with pytest.raises(StudyError, match="x and theirs have no number in common"):
        compare.compare("x.csv", "theirs.csv", paired=True)

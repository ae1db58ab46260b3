"""The verdict's numbers on tables whose answer is known, and the words made from them."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from test_plots import PAPER, evaluation, make
from there import there
from typer.testing import CliRunner

from study import cli
from study.analysis import scores, verdict
from study.analysis import statistics as st
from study.analysis.findings import effects_in_markdown, main_table_in_markdown
from study.analysis.statistics.samples import Array
from study.analysis.tables import Tables, finished, other_searches
from study.analysis.verdict import (
    against,
    agreement,
    interim,
    measures,
    reruns,
    search,
    variance,
    words,
)
from study.errors import StudyError
from study.settings import config

Study = Callable[..., Tables]
Fids = Mapping[str, Sequence[float] | Array]

INF = np.inf
SWEEP = """
title = "A search for the tests"
ranges = "wide"
trials = {trials}
width = 0.25
features = "lite0"
num_images = 5000
{more}
[datasets.fashion_mnist]
d_steps = 2000
evaluate_every = 1000
"""
PAIRED = 'draws = "shared"\nseed = "number"'


def scored(fids: Fids, dataset: str = "fashion_mnist", **more: object) -> pd.DataFrame:
    """The scores of `table`."""
    return scores.search(table(fids, dataset, **more))


def table(fids: Fids, dataset: str = "fashion_mnist", **more: object) -> pd.DataFrame:
    """One evaluation a setting, {loss: scores in the order of their numbers}."""
    rows = [
        evaluation(loss, dataset, number, 1000, fid=fid, fid_train=fid, commit="0" * 12)
        | {"status": "ok" if np.isfinite(fid) else "diverged"}
        | more
        for loss, own in fids.items()
        for number, fid in enumerate(own)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Makes the Tables of a search of the sweep "mini", whose TOML states so many settings."""
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(config, "SWEEPS_FOLDER", tmp_path / "sweeps")

    def make_tables(
        rows: pd.DataFrame, trials: int | None = None, more: str = "", **others: pd.DataFrame
    ) -> Tables:
        stated = trials or rows["number"].nunique()
        (tmp_path / "sweeps" / "mini.toml").write_text(SWEEP.format(trials=stated, more=more))
        whole = rows.astype({"flops": "int64"})
        whole.to_parquet(tmp_path / "results" / "mini.parquet")
        none = pd.DataFrame()
        empty = dict.fromkeys(set(Tables._fields) - {"results", "sweep"}, none)
        return Tables(tmp_path / "results", "mini", **empty | {"search": rows} | others)

    return make_tables


def compared(tables: Tables, reference: str = "ns") -> dict[str, Any]:
    """Loss -> the numbers of its comparison, of one data set."""
    panels = against.panels_of(scores.search(tables.search), config.load_sweep("mini"), reference)
    return {row["loss"]: row for panel in panels for row in against.comparisons(panel)}


def said(tables: Tables) -> dict[str, str]:
    return {finding.question: finding.answer for finding in verdict.findings(tables)}


def five_kinds(n: int = 80) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {
        "ns": 40 + rng.normal(size=n),
        "ls": 20 + rng.normal(size=n),  # always better
        "mm": 60 + rng.normal(size=n),  # always worse
        "wgan": 40 + rng.normal(size=n),  # alike
        "vae": np.where(np.arange(n) % 4, 60, 20.0),  # worse, until one of four is drawn
    }


# Which losses beat the reference?


def test_better_and_worse_and_at_which_budgets(study: Study) -> None:
    rows = compared(study(table(five_kinds())))
    at = {loss: (row["better_at"], row["worse_at"]) for loss, row in rows.items()}
    every = [1, 2, 5, 10]
    assert at.pop("vae") == ([5, 10], [1])
    assert at == {"ls": (every, []), "mm": ([], every), "wgan": ([], [])}
    verdicts = {loss: row["verdict"] for loss, row in rows.items()}
    assert verdicts == {
        "ls": "better",
        "mm": "worse",
        "wgan": "not told apart",
        "vae": "better and worse",
    }


def test_the_numbers_are_those_of_the_rule(study: Study) -> None:
    fids = five_kinds()
    rows = compared(study(table(fids)))
    found = st.judge(fids["ns"], {n: fids[n] for n in fids if n != "ns"}, [1, 2, 5, 10])
    for loss, row in rows.items():
        assert_allclose(row["p_holm"], found[loss].p_holm)
        assert_allclose(row["p"], found[loss].comparison.p)
        assert_allclose(row["chance"], st.win_chance(fids[loss], fids["ns"], [1, 2, 5, 10]))
        ratio = st.ratio_interval(fids[loss], fids["ns"], [1, 2, 5, 10])
        assert_allclose([r["low"] for r in row["ratio"]], ratio.low)
        assert row["n"] == 80


def test_a_paired_sweep_is_judged_by_pairs(study: Study) -> None:
    rng = np.random.default_rng(1)
    setting = rng.lognormal(3, 1, size=40)
    fids = {"ns": setting, "ls": setting * 0.97, "mm": setting * rng.lognormal(0, 0.1, size=40)}
    rows = compared(study(table(fids), more=PAIRED))
    assert rows["ls"]["verdict"] == "better"  # 3 % everywhere: only pairs show it
    assert rows["mm"]["verdict"] == "not told apart"
    assert rows["ls"]["ratio"][0]["high"] < 0.98
    assert compared(study(table(fids)))["ls"]["verdict"] == "not told apart"
    (line, *_) = verdict.headline(study(table(fids), more=PAIRED))
    assert line == (
        "Fashion-MNIST, better than NS GAN with as many settings tried: "
        "LS GAN (budgets 1, 2 and 5: chance 100 %, expected best 0.97 times, p < 0.001)."
    )


def test_rows_in_another_order_say_the_same(study: Study) -> None:
    rows = table(five_kinds(24))
    first = verdict.as_json(study(rows))
    again = verdict.as_json(study(rows.sample(frac=1, random_state=3)))
    assert first["comparisons"] == again["comparisons"]
    assert first["sentences"] == again["sentences"]


@pytest.mark.parametrize("more", ["", PAIRED])
def test_before_all_stated_settings_are_there_nobody_is_named(study: Study, more: str) -> None:
    tables = study(table(five_kinds(40)), trials=80, more=more)
    (line,) = verdict.headline(tables)
    assert "nobody is named yet" in line
    assert "of the 80 settings a loss that the sweep states all 5 losses lack 40" in line
    assert "--interim" in line
    for row in compared(tables).values():
        assert row["verdict"] == "not judged"
        assert row["p"] is row["p_any"] is row["p_holm"] is None
        assert row["missing"] == 40


def test_one_loss_that_lacks_one_setting_holds_all_back(study: Study) -> None:
    rows = table(five_kinds(16))
    lacking = rows[~((rows["loss"] == "wgan") & (rows["number"] == 7))]
    (line,) = verdict.headline(study(lacking, more=PAIRED))
    assert "of the 16 settings a loss that the sweep states WGAN lacks 1" in line
    assert compared(study(lacking, more=PAIRED))["wgan"]["n"] == 15
    stated = study(table({"ns": [1.0] * 8, "ls": [2.0] * 8}), more='losses = ["ns", "ls", "mm"]')
    assert "MM GAN lacks 8" in verdict.headline(stated)[0]


def test_losses_beyond_the_stated_ones_take_nothing_from_them(study: Study) -> None:
    """They are judged for themselves, when they have all settings; what was stated stays."""
    fids, stated = five_kinds(16), f"{PAIRED}\nlosses = ['ns', 'ls', 'mm']"
    alone = study(table({loss: fids[loss] for loss in ("ns", "ls", "mm")}), more=stated)
    expected = verdict.headline(alone)
    one_run = pd.concat([table({loss: fids[loss] for loss in ("ns", "ls", "mm")}),
                         table({"wgan": fids["wgan"][:1]})])  # fmt: skip
    begun = study(one_run, more=stated)
    assert verdict.headline(begun)[:3] == expected
    (line,) = verdict.headline(begun)[3:]
    assert line.startswith("Fashion-MNIST, losses that the sweep does not state: nobody is named")
    assert "WGAN lacks 15" in line
    told = scores.complete(config.load_sweep("mini"), one_run)
    assert told["loss"].value_counts().to_dict() == {"ns": 16, "ls": 16, "mm": 16}
    whole = study(table({loss: fids[loss] for loss in ("ns", "ls", "mm", "wgan")}), more=stated)
    assert verdict.headline(whole)[:3] == expected
    assert verdict.headline(whole)[5].startswith("Not told apart: WGAN (one 0.8 times")
    rows = compared(whole)
    assert {loss: row["standing"] for loss, row in rows.items()} == {
        "ls": "primary", "mm": "primary", "wgan": "secondary",
    }  # fmt: skip
    both = study(table({loss: fids[loss] for loss in ("ns", "ls", "mm")}), more=PAIRED)
    found = st.judge(fids["ns"], {n: fids[n] for n in ("ls", "mm")}, [1, 2], paired=True)
    assert compared(both)["ls"]["p_holm"] == rows["ls"]["p_holm"] == found["ls"].p_holm


def test_only_the_question_that_was_stated_is_the_primary_one(study: Study) -> None:
    """Its data set, its reference; a second data set may be of fewer settings."""
    fids = five_kinds(16)
    more = f"{PAIRED}\n[datasets.triangles]\ntrials = 8\nd_steps = 9\nevaluate_every = 9"
    first_eight = {loss: fid[:8] for loss, fid in fids.items()}
    rows = pd.concat([table(fids), table(first_eight, "triangles")])
    tables = study(rows, trials=16, more="")
    path = tables.results.parent / "sweeps" / "mini.toml"
    path.write_text(path.read_text().replace("num_images = 5000", f"num_images = 5000\n{PAIRED}")
                    + more.removeprefix(PAIRED))  # fmt: skip
    lines = verdict.headline(tables)
    assert lines[2].endswith("together (Holm); the same settings and seeds for all, judged once.")
    assert lines[5].endswith("for all; secondary, these 5 % are spent anew.")
    assert "n = 8 settings a loss" in lines[5]
    assert verdict.headline(tables, "ls")[2].endswith("secondary, these 5 % are spent anew.")
    told = verdict.as_json(tables)
    assert told["stated_settings"] == {"fashion_mnist": 16, "triangles": 8}
    first, by_budget, *others = verdict.findings(tables)
    assert not first.answer.startswith("Secondary. ")
    assert by_budget.question == "By how much, at each budget?"  # the numbers of the first
    assert all(finding.answer.startswith("Secondary. ") for finding in others)
    assert not any(f.answer.startswith("Secondary") for f in verdict.findings(study(table(fids))))


def test_a_paired_search_shows_counts_until_it_is_complete(study: Study) -> None:
    """Neither chances nor ratios, nor answers, nor figures: it is judged once."""
    tables = study(table(five_kinds(40)), trials=80, more=PAIRED)
    (finding,) = verdict.findings(tables)
    assert finding.table.columns.tolist() == ["n", "p_holm", "verdict", "power"]
    assert finding.table[["p_holm", "power"]].isna().all(axis=None)
    for row in verdict.as_json(tables)["comparisons"]:
        assert row["budgets"] == row["chance"] == row["ratio"] == []
    with pytest.raises(StudyError, match=r"judged once, .* \(fashion_mnist: 80\)"):
        finished(tables)
    whole = study(table(five_kinds(16)), more=PAIRED)
    assert finished(whole).search.equals(whole.search)
    assert "win_1" in next(iter(verdict.findings(whole))).table


def test_ratio_interval_and_p_of_each_loss_at_each_budget(study: Study) -> None:
    fids = five_kinds(40)
    tables = study(table(fids), more=PAIRED)
    _, found, *_ = verdict.findings(tables)
    budgets = [1, 2, 5]  # 40 settings are too few for 10
    assert found.table.index.tolist() == [
        ("fashion_mnist", loss) for loss in ("mm", "ls", "wgan", "vae") for _ in budgets
    ]
    by_loss = {loss: rows for (_, loss), rows in found.table.groupby(level=["dataset", "loss"])}
    row = by_loss["ls"]
    ratio = st.ratio_interval(fids["ls"], fids["ns"], budgets, True)
    assert row["budget"].tolist() == budgets
    for name, wanted in zip(("ratio", "low", "high"), ratio, strict=True):
        assert_allclose(row[name], wanted)
    assert (row["p"] < 1e-4).all()
    alone = st.told_apart(fids["wgan"], fids["ns"], budgets, True, draws=100_000)
    assert_allclose(by_loss["wgan"]["p"], alone.p, atol=0.01)
    ratios = st.ratio_interval(fids["mm"], fids["ns"], budgets, True)[0]
    assert by_loss["mm"]["ratio"].tolist() == ratios.tolist()
    assert (ratios > 1).all()
    assert (row["high"] < 1).all()
    assert "over that of NS GAN (below 1 the loss is better)" in found.answer


def test_the_power_beside_what_is_not_told_apart(study: Study) -> None:
    fids = five_kinds(80)
    tables = study(table(fids), more=PAIRED)
    row = compared(tables)["wgan"]
    chance = st.power(
        fids["wgan"], fids["ns"], 0.8, [1, 2, 5, 10], True, alpha=0.05 / 4, draws=100_000
    )
    assert row["power"] == chance == 1  # scores that scatter by 1 around 40: 32 is seen
    assert (
        "WGAN (one 0.8 times at every setting would be named with chance 100 %)"
        in (verdict.headline(tables)[2])
    )
    assert compared(tables)["ls"]["power"] is None


def test_settings_beyond_the_stated_ones_change_nothing(study: Study) -> None:
    fids = five_kinds(48)
    all_of_them = compared(study(table(fids), trials=40))
    first = compared(study(table({loss: fid[:40] for loss, fid in fids.items()}), trials=40))
    assert all_of_them == first


def test_too_few_settings_for_any_budget(study: Study) -> None:
    (line,) = verdict.headline(study(table(five_kinds(7))))
    assert "7 settings a loss, too few for any budget" in line


def test_another_reference(study: Study) -> None:
    tables = study(table(five_kinds(16)))
    assert verdict.headline(tables, "ls")[1].startswith("Worse: MM GAN")
    with pytest.raises(StudyError, match=r"no rows of 'hinge'; the table has mm, ns, ls, wgan"):
        verdict.headline(tables, "hinge")


def test_what_holds_at_any_look(study: Study) -> None:
    tables = study(table(five_kinds(40)), trials=80)
    panel = next(against.panels_of(scores.search(tables.search), config.load_sweep("mini"), "ns"))
    rows = {row["loss"]: row for row in interim.looks(panel)}
    assert rows["ls"]["verdict"] == "better"
    assert rows["mm"]["verdict"] == "worse"
    assert rows["wgan"]["verdict"] == "not told apart"
    assert rows["ls"]["blocks"] == [40, 20, 8, 4]
    assert rows["ls"]["wins"] == [40, 20, 8, 4]
    questions = [f.question for f in verdict.findings(tables, at_any_look=True)]
    assert questions[0] == "Which losses beat NS GAN?"
    assert questions[2] == "What holds at any look?"
    answer = interim.finding([panel]).answer
    assert re.search(
        r"^Fashion-MNIST, the first 40 settings: better than NS GAN: LS GAN \(p", answer
    )
    assert "; worse: MM GAN (p" in answer
    assert answer.endswith(
        "A bet on who wins consecutive blocks of k settings: this holds at every look, however "
        "often and whenever one looks, 5 % for all losses and budgets of a sentence together."
    )


def test_better_stays_better_when_later_blocks_are_lost(study: Study) -> None:
    """The word is of the look that the proof is of."""
    fids = {"ns": np.full(30, 40.0), "ls": np.where(np.arange(30) < 14, 30.0, 50.0)}
    panel = next(
        against.panels_of(
            scores.search(study(table(fids), trials=80).search), config.load_sweep("mini"), "ns"
        )
    )
    (row,) = interim.looks(panel)
    assert (row["wins"][0], row["verdict"]) == (14, "better")
    fids["ls"] = np.where(np.arange(30) < 14, 50.0, 30.0)
    panel = panel._replace(fids={loss: pd.Series(fid) for loss, fid in fids.items()})
    assert interim.looks(panel)[0]["verdict"] == "worse"


def test_a_gap_ends_what_an_interim_look_may_use(study: Study) -> None:
    rows = table({"ns": np.arange(20.0) + 5, "ls": np.arange(20.0) + 1})
    gap = rows[~((rows["loss"] == "ls") & (rows["number"] == 12))]
    panel = next(
        against.panels_of(scores.search(study(gap).search), config.load_sweep("mini"), "ns")
    )
    assert interim.looks(panel)[0]["n"] == 12


# The other questions


def test_a_loss_whose_file_is_gone_keeps_its_rows(study: Study) -> None:
    """Its ranges are not known any more: nothing is said of where its winner lies in them."""
    fids = five_kinds(8)
    tables = study(table(fids | {"gone": fids["ns"]}))
    answers = said(tables)
    assert "gone" in answers["Which losses beat NS GAN?"]
    assert "of 5 winners lie" in answers["Do the winners lie at the edge of their ranges?"]


def test_what_an_exploration_has_in_common_is_not_denied(study: Study) -> None:
    rows = table(five_kinds(16))
    own = "exploration: every loss drew its own settings, and the table was open while it grew."
    assert verdict.headline(study(rows))[2].endswith(f"(Holm); {own}")
    line = verdict.headline(study(rows, more='draws = "shared"'))[2]
    assert line.endswith("(Holm); exploration: the table was open while it grew.")


def test_a_further_loss_changes_no_share_of_the_variance(study: Study) -> None:
    question = "What does the distance go back to?"
    fids, stated = five_kinds(40), f"{PAIRED}\nlosses = ['ns', 'ls', 'mm']"
    three = {loss: fids[loss] for loss in ("ns", "ls", "mm")}
    alone = said(study(table(three), more=stated))[question]
    assert alone == said(study(table(three | {"vae": fids["vae"]}), more=stated))[question]
    begun = pd.concat([table(three), table({"vae": fids["vae"][:10]})])
    assert alone == said(study(begun, more=stated))[question]
    assert alone != said(study(table(three | {"vae": fids["vae"]}), more=PAIRED))[question]


def test_readmes_table_has_the_columns_that_there_are_numbers_for(study: Study) -> None:
    """A search of six settings of no authors' default, not trained again; one that diverged."""
    fids = {"ns": [4.0, 3.0, 0.25, 9.0, 5.0, 6.0], "rp": [INF] * 6, "hinge": [12.34] * 6}
    tables = study(table(fids, lr=0.3), trials=6, more=PAIRED)
    assert main_table_in_markdown(tables, "fashion_mnist").splitlines() == [
        "| loss | best of 6 | the paper's best of 100: FID, 50 seeds |",
        "| --- | --- | --- |",
        "| NS GAN | 0.25 | 26.5 ± 1.6 |",
        "| Hinge GAN | 12.3 |  |",
        "| RpGAN | inf |  |",
    ]


def test_readmes_effects_are_those_of_the_rule_the_least_first(study: Study) -> None:
    """Ratio and interval at the least and the largest judged budget, beside Holm's p."""
    fids = {loss: values for loss, values in five_kinds(40).items() if loss in ("ns", "ls", "mm")}
    tables = study(table(fids), more=PAIRED)
    others = {loss: fids[loss] for loss in ("mm", "ls")}
    judged = st.judge(fids["ns"], others, [1, 2, 5], paired=True)
    lines = {}
    for loss, title in (("ls", "LS GAN"), ("mm", "MM GAN")):
        ratio, low, high = st.ratio_interval(fids[loss], fids["ns"], [1, 5], True)
        ends = [f"{r:.2f} ({a:.2f}–{b:.2f})" for r, a, b in zip(ratio, low, high, strict=True)]
        lines[ratio[1]] = f"| {title} | {' | '.join(ends)} | {judged[loss].p_holm:.3g} |"
    assert effects_in_markdown(tables, "fashion_mnist").splitlines() == [
        "| loss | budget 1 | budget 5 | p |",
        "| --- | --- | --- | --- |",
        *(lines[ratio] for ratio in sorted(lines)),
    ]


def test_runs_by_status() -> None:
    result: Any = search.runs_by_status(scores.search(make(n=8)))
    assert result.loc["fashion_mnist", "mm"][["settings", "ok", "diverged"]].tolist() == [8, 6, 2]
    assert result.loc[("fashion_mnist", "ns"), "share"] == 0


def test_runs_no_better_than_an_untrained_generator() -> None:
    rows = scored({"ns": [70.0, 61.0, 56.0, 20.0, INF], "mm": [10.0, 20, 30, 40, 50]})
    start = pd.DataFrame(
        {
            "dataset": "fashion_mnist",
            "loss": ["ns"] * 3 + ["mm", "ns"],
            "features": ["lite0"] * 4 + ["inception"],
            "num_images": 5000,
            "width": 0.25,
            "fid": [62.0, 60.0, 61.0, 60.0, 400.0],
        }
    )
    result: Any = search.beside_untrained(rows, start).loc["fashion_mnist"]
    assert result.loc["ns", ["untrained", "no_better", "near"]].tolist() == [61, 3, 4]  # 0.9 * 61
    assert result.loc["mm", ["no_better", "near"]].tolist() == [0, 0]
    answer = there(search.untrained(rows, start)).answer
    assert "3 of 10 runs (30%) are no better, 4 (40%) at 90% of that or above" in answer
    assert search.untrained(rows, start.iloc[:0]) is None
    # Weights and images count by their digests, where both say them.
    other = pd.concat([start, start.assign(fid=9.0, features_digest="2b", data_digest="3c")])
    told = rows.assign(features_digest="1a")
    assert scores.untrained_distance(other, told) == 60.5
    assert scores.untrained_distance(other, told.assign(features_digest="2b")) == 34.5
    assert scores.untrained_distance(other[5:], told.assign(data_digest="3c")) is None


def test_defaults() -> None:
    result: Any = search.defaults_beside_search(
        scored({"ns": [30.0, 10, 20, 40, np.inf], "mm": [np.inf, 9]})
    )
    assert result.loc["fashion_mnist", "ns"].tolist() == [30, 10, 3, 0.5]
    assert result.loc["fashion_mnist", "mm"].tolist() == [np.inf, 9, np.inf, 1]
    near = search.defaults_beside_search(scored({"ns": [0.5, 0.25]}))
    assert near["ratio"].tolist() == [2.0]
    drawn = scored({"ns": [0.5, 0.25]}).assign(lr=0.3)
    assert search.defaults(drawn) is None
    assert search.full_length(drawn, drawn) is None


def at_length(loss: str, fids: Sequence[float]) -> list[dict[str, Any]]:
    """One run of the defaults at full width, evaluated every 4,000 steps."""
    wide = {"sweep": "defaults", "width": 1.0, "num_images": 10_000}
    return [
        evaluation(loss, "fashion_mnist", 0, 4000 * (place + 1), fid=fid, **wide)
        for place, fid in enumerate(fids)
    ]


def test_the_defaults_at_full_length() -> None:
    rows = scored({"ns": [60.0, 10], "ls": [30.0, 12], "wgan": [70.0, 9], "mm": [50.0, 8]})
    runs = {"ns": [40.0, 10, 11], "ls": [12.0, 9, 8], "wgan": [44.0, 30, 22]}
    full = pd.DataFrame([row for loss, fids in runs.items() for row in at_length(loss, fids)])
    result: Any = search.at_full_length(rows, full).loc["fashion_mnist"]
    assert result.loc["ns"].tolist() == [60, 4000, 40, 10, 4]
    assert result.loc["ls"].tolist() == [30, 4000, 12, 8, 1.5]
    assert result.loc["wgan"].tolist() == [70, 4000, 44, 22, 2]
    answer = there(search.full_length(rows, full)).answer
    assert "12,000 D steps at width 1: the defaults come to 8 (LS GAN) to 22 (WGAN)" in answer
    assert (
        "distance falls by a factor of 1.5 (LS GAN) to 4 (NS GAN) from the first evaluation"
        in answer
    )
    assert "correlation of 3 losses' defaults with those of the search: 1.00" in answer
    assert "Not trained so: MM GAN." in answer


def test_a_default_that_diverged_at_full_length_has_no_fall() -> None:
    rows = scored({"ns": [60.0, 10], "mm": [50.0, 8]})
    full = pd.DataFrame(at_length("ns", [40.0, 10]) + at_length("mm", [20.0, np.inf]))
    full.loc[full["loss"] == "mm", "status"] = "diverged"
    result: Any = search.at_full_length(rows, full).loc["fashion_mnist"]
    assert result.loc["mm"].tolist()[:4] == [50, 4000, 20, np.inf]
    assert np.isnan(result.loc["mm", "fall"])


def test_winners_at_the_edge_of_their_ranges(study: Study) -> None:
    fids = {"ns": [3.0, 1, 2], "wgan": [1.0, 2, 3], "mm": [5.0, 4, 6]}
    rows = table(fids).assign(lr=1e-3, beta1=0.5)
    rows.loc[rows["loss"] == "ns", "lr"] = [1e-3, 0.0098, 1e-5]  # 0.9971 of three decades
    rows.loc[rows["loss"] == "mm", "beta1"] = [0.0, 0.985, 0.5]
    rows.loc[rows["loss"] == "wgan", "clip"] = [1.1e-3, 0.1, 0.1]  # 0.0138 of three decades
    tables = study(rows)
    places: Any = search.winners_in_their_ranges(scores.search(rows), config.load_sweep("mini"))
    lr = places[places["hyperparameter"] == "lr"].loc[("fashion_mnist", "ns")]
    assert_allclose(lr["place"], (np.log10(0.0098) + 5) / 3)
    answer = search.edges(scores.search(tables.search), config.load_sweep("mini")).answer
    assert "3 of 3 winners lie within 2% of an end of a range" in answer
    for clause in ("MM GAN (beta1 0.985 of 0 to 1)", "NS GAN (lr 0.0098", "WGAN (clip 0.0011"):
        assert clause in answer


def two_evaluations(
    loss: str, halves: Sequence[float], ends: Sequence[float]
) -> list[dict[str, Any]]:
    return [
        evaluation(loss, "fashion_mnist", number, step, fid=fid)
        for number, both in enumerate(zip(halves, ends, strict=True))
        for step, fid in zip((1000, 2000), both, strict=True)
    ]


def test_what_stopping_the_worse_half_early_had_cost() -> None:
    halves = [50.0, 40, 30, 20, 10, 51, 52, 53, 54, 55]
    ends = [45.0, 35, 25, 15, 9, 48, 47, 3, 50, 49]  # number 7 would have stopped at 53
    kept = [45.0, 35, 25, 15, 9, 48, 47, 46, 50, 49]
    rows = pd.DataFrame(two_evaluations("ns", halves, ends) + two_evaluations("mm", halves, kept))
    result: Any = search.stopped_early(rows).loc["fashion_mnist"]
    assert result.loc["ns"].tolist() == [1, 1, 3, 3, 0.25, 0.25, 0]
    assert result.loc["mm"].tolist() == [1, 0, 1, 1, 0.25, 0.25, 0]
    assert "in 1 of them (50%) the best was stopped" in there(search.stopping(rows)).answer
    assert search.stopping(table({"ns": [1.0] * 10})) is None  # nothing at half of the steps


def test_stopping_early_knows_at_half_what_was_known_then() -> None:
    """Number 0 is the best at half and diverges later; number 5, sixth at half, ends as the best.

    Number 1 had diverged by half, where its one row is; of mm number 3 was not evaluated by then.
    """
    halves = [10.0, INF, 12, 13, 14, 60, 61, 62, 63, 64]
    ends = [INF, INF, 42, 43, 44, 3, 50, 51, 52, 53]
    rows = pd.DataFrame(two_evaluations("ns", halves, ends) + two_evaluations("mm", halves, ends))
    rows = rows[~((rows["number"] == 1) & (rows["step"] == 2000))]
    rows = rows[~((rows["loss"] == "mm") & (rows["number"] == 3) & (rows["step"] == 1000))]
    lost = rows["number"].isin([0, 1])
    rows["status"] = np.where(lost, "diverged", "ok")
    found = search.stopped_early(rows)
    # 0, 2, 3, 4 and 5 go on: number 5 is found.
    result: Any = found.loc["fashion_mnist", "ns"]
    assert result[["searches", "lost", "ratio", "left_out"]].tolist() == [1, 0, 1, 0]
    assert ("fashion_mnist", "mm") not in found.index
    later = [10.0, 11, 12, 13, 14, 60, 61, 62, 63, 64]
    rows = pd.DataFrame(two_evaluations("ns", later, [INF, 41, 42, 43, 44, 3, 50, 51, 52, 53]))
    rows["status"] = np.where(rows["number"] == 0, "diverged", "ok")
    result = search.stopped_early(rows).loc["fashion_mnist", "ns"]
    # 0 to 4 go on and 5 stops, with 60 for its 3: number 1's 11 is the best that is found.
    assert result[["searches", "lost"]].tolist() == [1, 1]
    assert_allclose(result["ratio"], 11 / 3)


def test_an_expected_best_that_is_infinite_is_called_so(study: Study) -> None:
    """Two of ns' runs diverged, so that one or two of its settings may all have."""
    rng = np.random.default_rng(1)
    base = np.exp(rng.normal(3, 0.3, 40))
    fids = {"ns": np.where(np.arange(40) < 2, INF, base), "mm": base / 2, "ls": base * 0.99}
    fids["wgan"] = np.where(np.arange(40) < 2, INF, base / 2)
    tables = study(table(fids), more=PAIRED)
    better, worse, _ = verdict.headline(tables)
    assert worse == "Worse: none."
    mm, wgan = (better[better.index(name) :] for name in ("MM GAN (", "WGAN ("))
    assert re.match(
        r"MM .*expected best 0\.50 times at 5, NS GAN's infinite at 1 and 2 by diverged runs, p", mm
    )
    assert re.match(
        r"WGAN .*expected best 0\.50 times at 5, both infinite at 1 and 2 by diverged runs, p", wgan
    )
    swapped = verdict.headline(tables, "mm")[1]
    assert "NS GAN (budgets 1, 2 and 5: " in swapped
    assert "expected best 2.00 times at 5, infinite at 1 and 2 by diverged runs, p" in swapped
    rows = {row["loss"]: row for row in verdict.as_json(tables)["comparisons"]}
    assert [each["value"] for each in rows["wgan"]["ratio"][:2]] == [None, None]  # infinite by both
    assert [each["value"] for each in rows["mm"]["ratio"][:2]] == [0, 0]
    only = {"ns": [*[INF] * 20, *base[20:]], "mm": [*[INF] * 19, *base[19:] / 9]}
    (said, *_) = verdict.headline(study(table(only), more=PAIRED))
    assert re.search(r"expected best both infinite at 1.* by diverged runs, p", said)


def test_noise_of_the_seed_and_of_the_setting() -> None:
    rows = scored({"ns": [10.0, 20, 40, 80], "mm": [10.0, np.inf, np.inf, 20]})
    again = table({"ns": [10.0, 11, 12, 13]}, sweep="seeds")
    result = reruns.noise(rows, again)
    assert result.index.tolist() == [("fashion_mnist", "ns")]
    assert result.iloc[0].tolist() == [10, 4, 11.5, 1.2, 4]


def with_seeds(fids: Fids) -> pd.DataFrame:
    rows = table(fids, sweep="seeds")
    return rows.assign(seed=rows["number"] + 1)


def test_who_is_first_when_trained_again() -> None:
    again = with_seeds({"ns": [10.0, 12, 11, 13], "mm": [11.0, 12.5, 11.5, 14], "ls": [30.0] * 4})
    result = reruns.order_of_winners(again).loc["fashion_mnist"]
    assert result.index.tolist() == ["ns", "mm", "ls"]
    ratio = st.ratio_of_reruns([11.0, 12.5, 11.5, 14], [10.0, 12, 11, 13])
    assert_allclose(result.loc["mm", ["ratio", "low", "high"]].astype(float), ratio)
    assert result["chance_first"].tolist() == [1, 0, 0]
    answer = there(reruns.who_is_first(again)).answer
    assert (
        "NS GAN's winner has the least geometric mean, 11.4, and is first with chance 1.00."
        in answer
    )
    assert "Not told from it: none" in answer


def test_winners_that_diverged_with_some_seed_are_named() -> None:
    fids = {"ns": [10.0, 12, 11, 13], "mm": [INF, 8, 8, 8], "ls": [30.0] * 4}
    answer = there(reruns.who_is_first(with_seeds(fids))).answer
    assert "NS GAN's winner has the least geometric mean, 11.4" in answer
    assert "Diverged with some seed: MM GAN." in answer
    fids = {"ns": [INF, 12, 11, 13], "mm": [INF, 8, 8, 8]}
    answer = there(reruns.who_is_first(with_seeds(fids))).answer
    assert "4 seeds that all share: every loss's winner diverged with some seed" in answer
    assert "least" not in answer


def test_what_longer_training_changes() -> None:
    """Setting 1 of ns and mm was the best; ns' setting 2 overtakes it, and wgan's place is mm's."""
    before = {"ns": [30.0, 10, 20], "mm": [40.0, 12, 14], "wgan": [50.0, 18, 16]}
    rows = table(before)
    rows["seed"] = rows["number"]
    best = {"ns": {1: 9.0, 2: 8.0}, "mm": {1: 6.0, 2: 7.0}, "wgan": {2: 4.0, 1: 5.0}}
    longer = pd.DataFrame(
        [
            rows[(rows["loss"] == loss) & (rows["number"] == seed)].iloc[0].to_dict()
            | {"sweep": "long", "number": rank, "fid": fid, "step": 7000, "config": f"{loss}{rank}"}
            for loss, own in best.items()
            for rank, (seed, fid) in enumerate(own.items())
        ]
    )
    searched = scores.search(rows)
    result: Any = reruns.after_longer(searched, longer).loc["fashion_mnist"]
    assert result.loc["ns"].tolist() == [2, 0, 10, 8, 1.25, False]
    assert result.loc["mm"].tolist() == [2, 0, 12, 6, 2, True]
    assert result.loc["wgan"].tolist() == [2, 0, 16, 4, 4, True]
    said = there(reruns.after_more_steps(searched, longer)).answer
    assert "the 2 best settings of each loss with their seeds, 7,000 D steps" in said
    assert "falls by a factor of 1.2 (NS GAN) to 4 (WGAN)" in said
    assert "for 2 of 3 losses the best one still is" in said
    assert "The least of all was that of NS GAN, and now is that of WGAN." in said
    assert "of 3 losses' least distances, then and now: -1.00" in said
    gone = longer.assign(
        fid=longer["fid"].where(longer["loss"] != "mm", INF),
        status=np.where(longer["loss"] == "mm", "diverged", "ok"),
    )
    result = reruns.after_longer(searched, gone).loc["fashion_mnist"]
    assert result.loc["mm", ["diverged", "longer", "kept"]].tolist() == [2, INF, False]
    assert np.isnan(result.loc["mm", "fall"])
    said = there(reruns.after_more_steps(searched, gone)).answer
    assert "falls by a factor of 1.2 (NS GAN) to 4 (WGAN); for 1 of 3 losses" in said
    assert "Longer runs that diverged: MM GAN (2)." in said
    alone = there(reruns.after_more_steps(searched, longer[longer["number"] == 0])).answer
    assert "the best setting of each loss with the seed that it had, 7,000 D steps for at" in alone
    assert "by a factor of 1.1 (NS GAN) to 4 (WGAN). The least of all was" in alone
    with pytest.raises(StudyError, match="differ in num_images"):
        reruns.after_longer(searched, longer.assign(num_images=77))
    with pytest.raises(StudyError, match="differ in features"):
        reruns.noise(searched, longer.assign(features="random"))
    # Another setting than the search's has nothing to stand beside.
    assert reruns.after_more_steps(searched, longer.assign(lr=0.5)) is None


def test_the_variance_of_a_paired_table_goes_back_to_what_made_it(study: Study) -> None:
    rng = np.random.default_rng(0)
    effect, fids = {"ns": 0.0, "mm": 0.5, "ls": -0.5}, {}
    lr = 10 ** rng.uniform(-5, -2, size=60)
    z = (np.log10(lr) + 3.5) / 0.866
    for loss, shift in effect.items():
        fids[loss] = np.exp(3 + shift + z + 0.1 * rng.normal(size=60))
    rows = table(fids)
    rows["lr"] = lr[rows["number"]]
    rows["normalisation"] = np.array(["none", "batch", "spectral"])[rows["number"] % 3]
    result: Any = variance.shares(scores.search(rows)).loc["fashion_mnist", "share"]
    assert result["lr"] > 0.8
    assert_allclose(result["loss"], 0.1667 / 1.17, atol=0.03)
    assert abs(result["normalisation"]) < 0.02
    assert abs(result["the settings otherwise"]) < 0.02
    assert result["rest"] < 0.03
    assert "batch_norm" not in result.index
    assert_allclose(result.sum(), 1)
    questions = said(study(rows, more=PAIRED))
    assert "lr 8" in questions["What does the distance go back to?"]


def test_agreement_with_the_paper() -> None:
    quartiles = pd.read_csv(PAPER / "wide_quartiles.csv")
    theirs = quartiles[quartiles["dataset"] == "fashion_mnist"].set_index("loss")
    same: Fids = {str(loss): [row["min"], row["min"] + 500] for loss, row in theirs.iterrows()}
    both = agreement.beside_the_paper(scored(same), quartiles)
    assert_allclose(both["minimum"], both["paper_minimum"])
    assert both.loc[("fashion_mnist", "began"), "paper_median"] == np.inf  # beyond the axis
    result: Any = agreement.agreement_with_paper(scored(same), quartiles)
    by_hand = np.array([7, *st.spearman(range(7), range(7))])
    assert_allclose(result.loc["fashion_mnist", "minimum"], by_hand)


def test_agreement_of_the_re_runs_with_the_papers_table() -> None:
    best = pd.read_csv(PAPER / "best_fid.csv")
    theirs = best[best["dataset"] == "fashion_mnist"].set_index("loss")["fid_mean"]
    again = with_seeds({str(loss): [-5 + fid, 30 - fid, 100.0] for loss, fid in theirs.items()})
    row: Any = agreement.reruns_with_paper(again, best).loc[("fashion_mnist", "re-runs")]
    medians = [np.median([-5 + fid, 30 - fid, 100.0]) for fid in theirs]
    assert_allclose(row, np.array([len(theirs), *st.spearman(medians, theirs)]))


def test_agreement_between_two_data_sets() -> None:
    rising = np.arange(6.0) + 1
    one = table({"ns": rising, "mm": rising, "vae": [1.0, 1, 1, 1, 1, 1]}, "mnist")
    other = table({"ns": 9 * rising, "mm": rising[::-1], "vae": rising}, "triangles")
    runs = scores.search(pd.concat([one, other]))
    result = agreement.agreement_between(runs, "mnist", "triangles")
    assert_allclose(result["correlation"], [-1, 1, np.nan])
    assert_allclose(result["settings"], 6)
    with pytest.raises(StudyError, match="no rows of 'celeba'; the table has mnist, triangles"):
        agreement.agreement_between(runs, "mnist", "celeba")


@pytest.mark.parametrize(("settings", "early"), [(9, True), (10, False)])
def test_words_on_two_data_sets_say_when_settings_are_too_few(settings: int, early: bool) -> None:
    both = [table({"ns": np.arange(1.0, settings + 1)}, name) for name in ("mnist", "triangles")]
    (finding,) = agreement.between_datasets(scores.search(pd.concat(both)))
    assert "1.00 in the median over losses." in finding.answer
    assert ("With 9 settings a loss that is too early to say." in finding.answer) == early


def test_agreement_with_another_measure_of_the_same_images() -> None:
    fids = {"ns": [1.0, 2, 3], "mm": [4.0, 5, INF], "ls": [7.0, 8, 9]}
    rows = table(fids).assign(fid_second=lambda rows: 10 * rows["fid"], kid=np.nan)
    rows.loc[rows["loss"] == "ls", "fid_second"] = [0.1, 0.2, 0.3]
    found = there(measures.between_measures(rows)).table
    assert found.index.tolist() == [("fashion_mnist", "fid_second")]
    by_hand = st.spearman([1, 2, 3, 4, 5, INF, 7, 8, 9], [10, 20, 30, 40, 50, INF, 0.1, 0.2, 0.3])
    assert found["correlation"].iloc[0] == by_hand.value
    answer = there(measures.between_measures(rows)).answer
    assert f"over 9 runs {by_hand.value:.2f} (95 % interval {by_hand.low:.2f}" in answer
    assert "the order of 3 losses by their median -0.50" in answer
    two = there(measures.between_measures(rows[rows["loss"] != "ls"])).answer
    assert "over 6 runs 1.00" in two
    assert "the order of" not in two
    assert measures.between_measures(table(fids)) is None


def test_the_question_by_other_measures_of_the_same_images(study: Study) -> None:
    """By the second distance mm is better and by the kernel distance, which may be negative, worse;
    ls is as ns; a diverged run loses by each."""
    rng = np.random.default_rng(0)
    base = np.exp(rng.normal(3, 0.3, 40))
    noise = {loss: np.exp(rng.normal(0, 0.02, 40)) for loss in ("mm", "ls")}
    rows = table({"ns": base, "mm": base * noise["mm"], "ls": base * noise["ls"]})
    factor = np.where(rows["loss"] == "mm", 0.5, 1.0)
    rows["fid_second"] = rows["fid"] * factor
    rows["kid"] = np.log(rows["fid"] / factor) - 3.0
    lost = (rows["loss"] == "mm") & (rows["number"] == 7)
    rows["fid"] = rows["fid"].where(~lost, INF)
    rows["status"] = rows["status"].where(~lost, "diverged")
    study(rows, more=PAIRED)
    found: Any = there(measures.judged_otherwise(rows, config.load_sweep("mini"), "ns"))
    assert found.table.index.names == ["dataset", "loss", "measure"]
    verdicts = found.table["verdict"]
    assert verdicts.to_dict() == {
        ("fashion_mnist", "mm", "fid_second"): "better",
        ("fashion_mnist", "ls", "fid_second"): "not told apart",
        ("fashion_mnist", "mm", "kid"): "worse",
        ("fashion_mnist", "ls", "kid"): "not told apart",
    }
    won = [
        found.table.loc[("fashion_mnist", "mm", name), "win_1"] for name in ("fid_second", "kid")
    ]
    assert_allclose(won, [39 / 40, 0], atol=1e-12)
    said = found.answer
    assert "a second extractor's features: better than NS GAN: MM GAN (budgets 1, 2 and 5" in said
    assert (
        "the kernel distance: better than NS GAN: none; worse: MM GAN (budgets 1, 2 and 5" in said
    )
    study(rows, trials=50, more=PAIRED)
    assert measures.judged_otherwise(rows, config.load_sweep("mini"), "ns") is None


def test_agreement_between_two_studies() -> None:
    one = scored({"ns": [1.0, 2, 3], "mm": [4.0, 5, 6], "ls": [7.0, 8, 9], "vae": [1.0, 1, 1]})
    other = table({"ns": [9.0, 8], "mm": [5.0, 6], "ls": [1.0, 2]}, sweep="other")
    finding: Any = agreement.between_studies(one, {"other": other})
    assert finding.table.loc[("fashion_mnist", "other"), ["losses", "correlation"]].tolist() == [
        3,
        -1,
    ]


def test_two_losses_have_no_order_that_another_study_could_share() -> None:
    fids: Fids = {"ns": [1.0, 2, 3], "mm": [4.0, 5, 6]}
    assert agreement.between_studies(scored(fids), {"other": table(fids, sweep="other")}) is None


def test_flattery_takes_the_selected_run() -> None:
    rows = table({"ns": [10.0, 20, 30]}).assign(fid_report=[12.0, 20, 33])
    assert_allclose(search.flattery_of_choice(rows).iloc[0], [10, 12, 1.2, 1.1])


def test_words_hold_the_numbers(study: Study) -> None:
    rng = np.random.default_rng(0)
    fids: Fids = {
        "ns": 40 + rng.normal(size=12),
        "ls": 20 + rng.normal(size=12),
        "mm": [np.inf] * 12,
    }
    rows = table(fids).assign(fid_report=lambda rows: rows["fid"])
    again = with_seeds({"ns": [39.0, 40, 41, 42]})
    answers = said(study(rows, seeds=again))
    assert "Fashion-MNIST: 12 of 36 runs." in answers["How many runs diverged?"]
    beat = answers["Which losses beat NS GAN?"]
    assert "LS GAN (budget 1: chance 100 %, expected best 0.49 times, p < 0.001)" in beat
    assert "Worse: MM GAN (budget 1: chance 0 %" in beat
    assert "Diverged with its defaults: MM GAN" in " ".join(answers.values())
    assert "a factor of 1.05" in answers["Is it the seed or the setting?"]
    assert "of each of 3 losses" in answers["Do the losses rank as in the paper?"]
    assert "distances are 1 times those" in answers["Does the choice flatter the winner?"]


def test_a_search_that_cannot_be_compared_with_does_not_stop_the_verdict(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = study(table(five_kinds(8)))
    sweeps = tables.results.parent / "sweeps"
    for name in ("stops", "good"):
        (sweeps / f"{name}.toml").write_text(SWEEP.format(trials=8, more=""))
        table(five_kinds(8), sweep=name).to_parquet(tables.results / f"{name}.parquet")
    stopped = table(five_kinds(8), sweep="stops").assign(status="stopped")
    stopped.to_parquet(tables.results / "stops.parquet")
    assert list(other_searches(tables)) == ["good"]
    assert "Fashion-MNIST, medians of 5 losses beside those of good" in " ".join(
        said(tables).values()
    )
    assert "stops is not compared with: 40 runs were stopped early" in capsys.readouterr().err


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_settings_are_no_reason_to_fail(study: Study, n: int) -> None:
    assert len(said(study(make(("ns", "vae"), n=n)))) == 4


def test_one_loss_alone_has_a_verdict_too(study: Study) -> None:
    questions = said(study(make(("ns",), n=3)))
    assert "Which losses beat NS GAN?" not in questions
    assert "How many runs diverged?" in questions


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (make(("mm",), n=2), "all 2 runs diverged"),
        (pd.concat([make(n=2), make(("ns",), n=3, features="inception")]), "differ in features"),
    ],
)
def test_refused(study: Study, rows: pd.DataFrame, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        list(verdict.findings(study(rows)))


# For programs


def test_json_is_strict_and_whole(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    fids = five_kinds(24) | {"began": np.array([INF] * 24)}
    tables = study(table(fids))
    monkeypatch.setattr("study.cli.results_folder", lambda: tables.results)
    result = CliRunner().invoke(cli.app, ["verdict", "--sweep", "mini", "--json", "--interim"])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout, parse_constant=pytest.fail)
    assert content["sentences"] == verdict.headline(tables)
    row = next(row for row in content["comparisons"] if row["loss"] == "ls")
    assert row["dataset"] == "fashion_mnist"
    assert (row["reference"], row["n"], row["verdict"]) == ("ns", 24, "better")
    for name in ("budgets", "chance", "p", "ratio"):
        assert len(row[name]) == 2
    assert row["p_any"] <= row["p_holm"] <= 0.05
    infinite = next(row for row in content["comparisons"] if row["loss"] == "began")
    assert infinite["ratio"][0]["value"] is None
    assert {look["loss"] for look in content["looks"]} == set(fids) - {"ns"}
    assert content["questions"][0]["question"] == "Which losses beat NS GAN?"


def test_the_terminal_says_the_same_sentences(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = study(table(five_kinds(16)))
    monkeypatch.setattr("study.cli.results_folder", lambda: tables.results)
    result = CliRunner().invoke(cli.app, ["verdict", "--sweep", "mini"])
    printed = " ".join(result.stdout.split())
    for line in verdict.headline(tables):
        assert line in printed


def test_no_figure_library_is_loaded() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from study.analysis import verdict; "
        "print([m for m in ('matplotlib', 'seaborn', 'torch', 'scipy.stats') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_cells_have_three_digits_and_nothing_where_there_is_no_value() -> None:
    values = [12.345, 1234.6, -0.00123456, np.nan, None, np.inf, 3, "a"]
    found = words.cells(pd.DataFrame({"x": pd.Series(values, dtype=object)}))
    assert [row["x"] for row in found] == ["12.3", "1235", "-0.00123", "", "", "inf", "3", "a"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "fids",
    [
        {"began": [58.0], "vae": [29.0]},  # no NS GAN: its rows are named as missing
        {"ns": [40.0]},
        {"ns": [0.0] * 12, "ls": [0.0, 3.0] * 6},
        {"ns": [*range(1, 12), 0.0], "wgan": [INF] * 12, "ls": [5.0] * 12},
    ],
    ids=["no reference", "alone", "all at 0", "one at 0"],
)
def test_whatever_a_search_has_come_to_is_put_in_words(study: Study, fids: Fids) -> None:
    """Each run with two evaluations, the other images at the same distance."""
    rows = table(fids).assign(d_steps=1000, wall_s=1.0)
    early = rows.assign(step=500, d_steps=500, wall_s=0.5, fid=rows["fid"] + 1)
    both = pd.concat([early, rows], ignore_index=True)
    tables = study(both.assign(fid_report=both["fid"]))
    reference = next(iter(fids))
    for finding in verdict.findings(tables, reference):
        assert finding.answer
        words = f"{finding.answer} {' '.join(map(str, verdict.cells(finding.table)))}"
        assert not re.search(r"\bnan\b|\bNone\b| times times|  ", words), words


def test_a_search_that_stopped_its_only_0_lost_it_wholly() -> None:
    """The best of ten is at 0 in the end, and among the worse five at half of the steps."""
    fids = {"ns": [*range(1, 10), 0.0]}
    rows = table(fids).assign(d_steps=1000, wall_s=1.0)
    early = rows.assign(step=500, d_steps=500, wall_s=0.5, fid=[*range(11, 21)])
    found = search.stopped_early(pd.concat([early, rows], ignore_index=True))
    assert found[["lost", "worst"]].to_numpy().tolist() == [[1, INF]]
    same = search.stopped_early(pd.concat([early.assign(fid=rows["fid"]), rows], ignore_index=True))
    assert same[["lost", "worst"]].to_numpy().tolist() == [[0, 1]]


@pytest.mark.filterwarnings("error")
def test_one_setting_or_a_distance_of_0_is_no_nan() -> None:
    one = scores.search(make(("ns", "vae"), n=1))
    assert "nan" not in there(search.defaults(one)).answer
    assert "of the searched settings" not in there(search.defaults(one)).answer
    table = make(("ns", "vae"), n=6, fid_report=30.0)
    table["fid"] = table["fid"].where(table["number"] != 2, 0.0)
    assert search.defaults_beside_search(scores.search(table))["ratio"].isna().all()
    assert "Diverged" not in there(search.defaults(scores.search(table))).answer
    assert search.flattery_of_choice(table)["ratio"].isna().all()

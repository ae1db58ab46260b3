"""The verdict's numbers on tables whose answer is known, and the words made from them."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from test_plots import PAPER, evaluation, make

from study.analysis import verdict
from study.errors import StudyError


def table(scores, dataset="fashion_mnist", **more):
    """One evaluation a setting, {loss: scores in the order of their numbers}."""
    rows = [
        evaluation(loss, dataset, number, 1000, fid=fid)
        | {"status": "ok" if np.isfinite(fid) else "diverged"}
        | more
        for loss, fids in scores.items()
        for number, fid in enumerate(fids)
    ]
    return pd.DataFrame(rows)


def test_runs_by_status():
    result = verdict.runs_by_status(make(n=8))
    assert result.loc["fashion_mnist", "mm"][["settings", "ok", "diverged"]].tolist() == [8, 6, 2]
    assert result.loc[("fashion_mnist", "ns"), "share"] == 0


def test_better_and_worse_than_ns_and_at_which_budgets():
    rng = np.random.default_rng(0)
    fids = {
        "ns": 40 + rng.normal(size=40),
        "ls": 20 + rng.normal(size=40),  # always better
        "mm": 60 + rng.normal(size=40),  # always worse
        "wgan": 40 + rng.normal(size=40),  # alike
        "vae": np.where(
            np.arange(40) % 4, 60, 20.0
        ),  # first worse, then better: five of forty decide
    }
    result = verdict.against(table(fids)).loc["fashion_mnist"]
    assert result["better"].to_dict() == {"mm": "", "ls": "1, 2, 5", "wgan": "", "vae": ""}
    assert result["worse"].to_dict() == {"mm": "1, 2, 5", "ls": "", "wgan": "", "vae": "1"}
    with pytest.raises(StudyError, match="no rows of 'ns' on fashion_mnist"):
        verdict.against(table({"mm": [1.0, 2], "ls": [2.0, 3]}))


def test_defaults():
    result = verdict.defaults(table({"ns": [30.0, 10, 20, 40, np.inf], "mm": [np.inf, 9]}))
    assert result.loc["fashion_mnist", "ns"].tolist() == [30, 10, 3, 0.5]
    assert result.loc["fashion_mnist", "mm"].tolist() == [np.inf, 9, np.inf, 1]


def at_length(loss, fids):
    """One run of the defaults at full width, evaluated every 4,000 steps."""
    wide = {"sweep": "defaults", "width": 1.0, "num_images": 10_000}
    return [
        evaluation(loss, "fashion_mnist", 0, 4000 * (place + 1), fid=fid, **wide)
        for place, fid in enumerate(fids)
    ]


def test_the_defaults_at_full_length():
    search = table({"ns": [60.0, 10], "ls": [30.0, 12], "wgan": [70.0, 9], "mm": [50.0, 8]})
    runs = {"ns": [40.0, 10, 11], "ls": [12.0, 9, 8], "wgan": [44.0, 30, 22]}
    full = pd.DataFrame([row for loss, fids in runs.items() for row in at_length(loss, fids)])
    result = verdict.at_full_length(search, full).loc["fashion_mnist"]
    assert result.loc["ns"].tolist() == [60, 4000, 40, 10, 4]
    assert result.loc["ls"].tolist() == [30, 4000, 12, 8, 1.5]
    assert result.loc["wgan"].tolist() == [70, 4000, 44, 22, 2]
    said = {f.question: f.answer for f in verdict.findings(search, full=full)}
    answer = said["What do full width and length change?"]
    assert "12,000 D steps at width 1: the defaults end at 8 (LS GAN) to 22 (WGAN)" in answer
    assert (
        "distance falls by a factor of 1.5 (LS GAN) to 4 (NS GAN) from the first evaluation"
        in answer
    )
    assert "correlation of 3 losses' defaults with those of the search: 1.00" in answer
    assert "Not trained so: MM GAN." in answer


def test_a_default_that_diverged_at_full_length_has_no_fall():
    search = table({"ns": [60.0, 10], "mm": [50.0, 8]})
    full = pd.DataFrame(at_length("ns", [40.0, 10]) + at_length("mm", [20.0, np.inf]))
    full.loc[full["loss"] == "mm", "status"] = "diverged"
    result = verdict.at_full_length(search, full).loc["fashion_mnist"]
    assert result.loc["mm"].tolist()[:4] == [50, 4000, 20, np.inf]
    assert np.isnan(result.loc["mm", "fall"])


def test_noise_of_the_seed_and_of_the_setting():
    search = table({"ns": [10.0, 20, 40, 80], "mm": [10.0, np.inf, np.inf, 20]})
    again = table({"ns": [10.0, 11, 12, 13]}, sweep="seeds")
    result = verdict.noise(search, again)
    assert result.index.tolist() == [("fashion_mnist", "ns")]
    assert result.iloc[0].tolist() == [10, 4, 11, 1.2, 4]


def test_agreement_with_the_paper():
    quartiles = pd.read_csv(PAPER / "wide_quartiles.csv")
    theirs = quartiles[quartiles["dataset"] == "fashion_mnist"].set_index("loss")
    same = {loss: [row["min"], row["min"] + 500] for loss, row in theirs.iterrows()}
    both = verdict.beside_the_paper(table(same), quartiles)
    assert_allclose(both["minimum"], both["paper_minimum"])
    assert both.loc[("fashion_mnist", "began"), "paper_median"] == np.inf  # beyond the axis
    result = verdict.agreement_with_paper(table(same), quartiles)
    assert_allclose(result.loc["fashion_mnist", "minimum"], [7, 1, 0.658, 1], atol=1e-3)


def test_agreement_between_two_data_sets():
    rising = np.arange(6.0) + 1
    one = table({"ns": rising, "mm": rising, "vae": [1.0, 1, 1, 1, 1, 1]}, "mnist")
    other = table({"ns": 9 * rising, "mm": rising[::-1], "vae": rising}, "triangles")
    result = verdict.agreement_between(pd.concat([one, other]), "mnist", "triangles")
    assert_allclose(result["correlation"], [-1, 1, np.nan])
    assert_allclose(result["settings"], 6)
    with pytest.raises(StudyError, match="no rows of 'celeba'; the table has mnist, triangles"):
        verdict.agreement_between(pd.concat([one, other]), "mnist", "celeba")


@pytest.mark.parametrize(("settings", "early"), [(9, True), (10, False)])
def test_words_on_two_data_sets_say_when_settings_are_too_few(settings, early):
    both = [table({"ns": np.arange(1.0, settings + 1)}, name) for name in ("mnist", "triangles")]
    said = {f.question: f.answer for f in verdict.findings(pd.concat(both))}
    answer = said["Does a setting that is good on one data set help on another?"]
    assert "1.00 in the median over losses." in answer
    assert ("With 9 settings a loss that is too early to say." in answer) == early


def test_flattery_takes_the_selected_run():
    rows = table({"ns": [10.0, 20, 30]}).assign(fid_report=[12.0, 20, 33])
    assert_allclose(verdict.flattery(rows).iloc[0], [10, 12, 1.2, 1.1])


def test_words_hold_the_numbers():
    rng = np.random.default_rng(0)
    fids = {"ns": 40 + rng.normal(size=12), "ls": 20 + rng.normal(size=12), "mm": [np.inf] * 12}
    search = table(fids).assign(fid_report=lambda rows: rows["fid"])
    again = table({"ns": [39.0, 40, 41, 42]}, sweep="seeds")
    quartiles = pd.read_csv(PAPER / "wide_quartiles.csv")
    said = {f.question: f.answer for f in verdict.findings(search, again, quartiles)}
    assert "Fashion-MNIST: 12 of 36 runs." in said["How many runs diverged?"]
    beats = said["Does any loss beat NS GAN?"]
    assert "12 settings a loss: better than NS GAN: LS GAN (budget 1); worse: MM GAN" in beats
    assert "Diverged with its defaults: MM GAN" in " ".join(said.values())
    assert "a factor of 1.05" in said["Is it the seed or the setting?"]
    assert "of each of 3 losses" in said["Do the losses rank as in the paper?"]
    assert "1 times those" in said["Does the choice flatter the winner?"]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_settings_are_no_reason_to_fail(n):
    questions = [finding.question for finding in verdict.findings(make(("ns", "vae"), n=n))]
    assert len(questions) == 3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (make(n=1).iloc[:0], "no rows"),
        (make(("mm",), n=2), "all 2 runs diverged"),
        (pd.concat([make(n=2), make(("ns",), n=3, features="inception")]), "differ in features"),
    ],
)
def test_refused(rows, message):
    with pytest.raises(StudyError, match=message):
        list(verdict.findings(rows))

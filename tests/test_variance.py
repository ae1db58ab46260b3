"""Shares of variance, and re-runs, on scores whose answer is known."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy import stats

from study.analysis import statistics as st
from study.analysis.statistics.samples import Array
from study.errors import StudyError


def factors(rng: np.random.Generator, n: int) -> dict[str, NDArray[Any]]:
    return {
        "lr": rng.uniform(-5, -2, n),
        "beta1": rng.random(n),
        "norm": rng.choice(["none", "batch", "spectral"], n),
    }


def test_shares_sum_to_one_and_noise_has_none() -> None:
    rng, found = np.random.default_rng(0), []
    for _ in range(60):
        found.append(st.shares_of_variance(rng.normal(size=(5, 50)), factors(rng, 50)))
    means = {name: np.mean([shares[name] for shares in found]) for name in found[0]}
    assert list(means) == [
        "loss",
        "lr",
        "beta1",
        "norm",
        "first interactions of these",
        "the settings otherwise",
        "loss x lr",
        "loss x beta1",
        "loss x norm",
        "rest",
    ]
    assert all(abs(sum(shares.values()) - 1) < 1e-12 for shares in found)
    assert all(abs(share) < 0.02 for name, share in means.items() if name != "rest")


def test_each_part_finds_what_was_put_into_it() -> None:
    rng, n, losses = np.random.default_rng(1), 400, np.linspace(-1, 1, 9)[:, None]
    known = factors(rng, n)
    lr = (known["lr"] - known["lr"].mean()) / known["lr"].std()
    spectral = (known["norm"] == "spectral") - np.mean(known["norm"] == "spectral")
    parts = {
        "loss": 1.5 * losses + 0 * lr,
        "lr": 1.0 * lr + 0 * losses,
        "first interactions of these": lr * spectral + 0 * losses,
        "the settings otherwise": 0.8 * rng.normal(size=(1, n)) + 0 * losses,
        "loss x norm": 2 * losses * spectral,
        "rest": 0.7 * rng.normal(size=(9, n)),
    }
    found = st.shares_of_variance(sum(parts.values()), known)
    total = sum(part.var() for part in parts.values())
    for name, part in parts.items():
        assert_allclose(found[name], part.var() / total, atol=0.02)
    assert max(abs(found[name]) for name in ("beta1", "norm", "loss x lr", "loss x beta1")) < 0.02


def test_one_factor_is_one_way_analysis_of_variance() -> None:
    rng = np.random.default_rng(2)
    level = np.repeat(["a", "b", "c"], 20)
    y = rng.normal(size=(1, 60)) + (level == "a")
    y = np.concatenate([y, y])  # two losses that are one: all is the settings'
    found = st.shares_of_variance(y, {"level": level})
    groups = [y[0][level == name] for name in "abc"]
    between = sum(20 * (group.mean() - y[0].mean()) ** 2 for group in groups)
    within = sum(((group - group.mean()) ** 2).sum() for group in groups)
    omega = (between - 2 * within / 57) / (between + within)
    assert_allclose(found["level"], omega)
    assert_allclose(between / 2 / (within / 57), stats.f_oneway(*groups).statistic)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.ones((1, 50)), "shape"),
        (np.full((2, 50), np.inf), "finite"),
        (np.ones((2, 12)), "more settings are needed"),
    ],
)
def test_no_shares_without_enough_finite_scores(scores: Array, message: str) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(StudyError, match=message):
        st.shares_of_variance(scores, factors(rng, scores.shape[1]))


def test_ratio_of_reruns_is_students() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.lognormal(size=10), rng.lognormal(size=10)
    test = stats.ttest_rel(np.log(x), np.log(y)).confidence_interval(0.95)
    found = st.ratio_of_reruns(x, y)
    assert_allclose([found.low, found.high], np.exp([test.low, test.high]))
    assert_allclose(found.value, stats.gmean(x) / stats.gmean(y))
    assert_allclose(st.ratio_of_reruns([2.0], [4.0]), [0.5, 0, np.inf])
    assert_allclose(st.ratio_of_reruns([2.0, np.inf], [4.0, 1.0]), [np.inf, 0, np.inf])
    with pytest.raises(StudyError, match="positive"):
        st.ratio_of_reruns([0.0, 1.0], [1.0, 2.0])


def test_chance_to_be_first() -> None:
    equal = st.chance_to_be_first({"a": [1.0, 2, 3], "b": [1.0, 2, 3], "c": [9.0, 9, 9]})
    assert_allclose([equal["a"], equal["b"], equal["c"]], [0.5, 0.5, 0])
    rng = np.random.default_rng(4)
    x, y = rng.lognormal(size=30), rng.lognormal(0.2, size=30)
    found = st.chance_to_be_first({"x": x, "y": y}, draws=20_000)
    difference = np.log(x / y)
    normal = stats.norm.cdf(-difference.mean() / difference.std() * 30**0.5)
    assert_allclose(found["x"], normal, atol=0.02)
    assert st.chance_to_be_first({"x": [1.0, np.inf], "y": [5.0, 6.0]})["x"] < 0.3

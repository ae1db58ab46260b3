"""Tests of two losses against enumeration, SciPy and published algorithms."""

from collections.abc import Callable
from itertools import combinations, product
from math import comb

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from test_statistics import SAMPLES, Scores, chance, minima

from study.analysis import statistics as st
from study.errors import StudyError

INF = np.inf
PAIRED = {
    "plain": ([3.0, 1.0, 8.0, 10.0, 7.0], [4.0, 2.0, 6.0, 9.0, 5.0]),
    "ties within pairs": ([2.0, 1.0, 5.0, 4.0], [2.0, 3.0, 5.0, 1.5]),
    "ties between pairs": ([1.0, 3.0, 1.0, 1.0, 2.0], [3.0, 1.0, 4.0, 1.0, 2.5]),
    "all of it": ([1.0, 1.0, INF, 2.0, INF, 2.0], [1.0, 5.0, 2.0, INF, INF, 1.0]),
}


def common_subsets(x: Scores, y: Scores, k: int) -> float:
    """P(best of X < best of Y), ties at half, over all subsets of k settings."""
    rows = [list(rows) for rows in combinations(range(len(x)), k)]
    best = np.array([[np.array(x)[r].min(), np.array(y)[r].min()] for r in rows])
    return float(np.mean((best[:, 0] < best[:, 1]) + 0.5 * (best[:, 0] == best[:, 1])))


@pytest.mark.parametrize("k", [1, 2, 4])
def test_win_chance_is_over_all_pairs_of_subsets(k: int) -> None:
    for a, b in combinations([x for x in SAMPLES.values() if len(x) >= 4], 2):
        expected = chance(minima(a, k), minima(b, k))
        assert_allclose(st.win_chance(a, b, k), expected, rtol=1e-13)
        assert_allclose(st.win_chance(b, a, k), 1 - expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", PAIRED)
def test_paired_win_chance_is_over_all_common_subsets(name: str) -> None:
    x, y = PAIRED[name]
    for k in range(1, len(x) + 1):
        assert_allclose(st.win_chance(x, y, k, paired=True), common_subsets(x, y, k), atol=1e-14)


def test_paired_win_chance_is_the_published_sum() -> None:
    rng = np.random.default_rng(0)
    x, y, n = rng.random(50), rng.random(50), 50
    by_least = np.argsort(np.minimum(x, y))
    for k in (1, 3, 10):
        weights = [comb(n - i, k - 1) / comb(n, k) for i in range(1, n + 1)]
        expected = np.sum((x < y)[by_least] * weights)
        assert_allclose(st.win_chance(x, y, k, paired=True), expected, rtol=1e-12)


def test_win_chance_at_one_is_mann_whitney() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 40), rng.integers(2, 9, 30)
    u = stats.mannwhitneyu(b, a).statistic
    assert_allclose(st.win_chance(a, b, 1), u / (40 * 30))
    assert isinstance(st.win_chance(a, b, 1), float)
    assert st.win_chance(a, b, [[1, 2]]).shape == (1, 2)


def test_rliables_published_case() -> None:
    # tests/rliable/metrics_test.py of rliable 1.2.0: P(x > y) = 1/3 as the mean over the tasks
    # (columns); lower is better here.
    x, y = np.array([[1, 2], [2, 2], [1, 1], [2, 1]]), np.array([[1, 1], [2, 2], [3, 3]])
    wins = [st.win_chance(-x[:, task], -y[:, task], 1) for task in range(2)]
    assert_allclose(np.mean(wins), 1 / 3)


@pytest.mark.parametrize("name", PAIRED)
def test_small_paired_tests_count_all_swaps(name: str) -> None:
    x, y = map(np.array, PAIRED[name])
    budgets = [1, 2, 3]
    found = st.told_apart(x, y, budgets, paired=True)
    swapped = []
    for flips in product([False, True], repeat=len(x)):
        pair = np.where(flips, y, x), np.where(flips, x, y)
        swapped.append([abs(common_subsets(*pair, k) - 0.5) for k in budgets])
    observed = [abs(common_subsets(x, y, k) - 0.5) for k in budgets]
    assert_allclose(found.p, np.mean(np.array(swapped) >= np.array(observed) - 1e-12, axis=0))
    assert not found.judged.any()
    assert found.p_any == 1


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([3.0, 1.0, 8.0, 10.0], [4.0, 2.0, 6.0, 9.0, 5.0]),
        ([2.0, 1.0, 1.0, INF], [INF, 1.0, 7.0, 2.0, INF]),
    ],
)
def test_small_unpaired_tests_count_all_permutations(x: list[float], y: list[float]) -> None:
    found = st.told_apart(x, y, [1, 2])
    pooled, dealt = np.array(x + y), []
    for rows in combinations(range(len(pooled)), len(x)):
        own = np.isin(np.arange(len(pooled)), rows)
        dealt.append([chance(minima(pooled[own], k), minima(pooled[~own], k)) for k in (1, 2)])
    observed = [chance(minima(x, k), minima(y, k)) for k in (1, 2)]
    far = abs(np.array(dealt) - 0.5) >= abs(np.array(observed) - 0.5) - 1e-12
    assert_allclose(found.p, far.mean(axis=0))


def test_at_one_setting_it_is_the_sign_test_and_mann_whitneys() -> None:
    rng = np.random.default_rng(1)
    for shift in (0, 0.3):
        x, y = rng.normal(size=60), rng.normal(size=60) + shift
        error = 5 * np.sqrt(0.25 / 20_000)
        p = st.told_apart(x, y, [1], paired=True).p[0]
        assert abs(p - stats.binomtest(int((x < y).sum()), 60).pvalue) < error
        p = st.told_apart(x, y[:50], [1]).p[0]
        assert abs(p - stats.mannwhitneyu(x, y[:50], method="exact").pvalue) < error
    x, y = rng.normal(size=8), rng.normal(size=8)  # few enough to count them all
    p = st.told_apart(x, y, [1], paired=True).p[0]
    assert_allclose(p, stats.binomtest(int((x < y).sum()), 8).pvalue)
    assert_allclose(st.told_apart(x, y, [1]).p[0], stats.mannwhitneyu(x, y, method="exact").pvalue)


@pytest.mark.parametrize("paired", [True, False])
def test_over_the_budgets_it_is_westfall_and_youngs_least_p(paired: bool) -> None:
    """Against a plain loop over the relabellings, which ranks all of them at every budget."""
    rng = np.random.default_rng(2)
    x, y, budgets, draws = rng.random(40), rng.random(40) * 1.3, [1, 2, 5], 1_500
    found = st.told_apart(x, y, budgets, paired, draws=40_000)
    rows = [st.win_chance(x, y, budgets, paired)]
    for _ in range(draws):
        if paired:
            flip = rng.random(40) < 0.5
            pair = np.where(flip, x, y), np.where(flip, y, x)
        else:
            pooled = rng.permutation(np.concatenate([x, y]))
            pair = pooled[:40], pooled[40:]
        rows.append(st.win_chance(*pair, budgets, paired))
    far = np.round(abs(np.array(rows) - 0.5), 10)
    p = np.stack([(column >= column[:, None]).mean(axis=1) for column in far.T], axis=1)
    least = p.min(axis=1)
    adjusted = [(least <= own).mean() for own in p[0]]
    assert_allclose(found.p, p[0], atol=5 * np.sqrt(0.25 / draws))
    assert_allclose(found.p_adjusted, adjusted, atol=5 * np.sqrt(0.25 / draws))
    assert found.p_any == found.p_adjusted.min() >= found.p.min()


def test_of_one_budget_nothing_is_to_be_allowed_for() -> None:
    rng = np.random.default_rng(3)
    for paired in (True, False):
        found = st.told_apart(rng.random(40), rng.random(40), [2], paired)
        assert found.p_any == found.p[0]


def test_only_budgets_with_eight_times_as_many_settings_are_judged() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.random(80), rng.random(39)
    found = st.told_apart(x, y, [1, 2, 4, 5, 10])
    assert_array_equal(found.judged, [True, True, True, False, False])
    assert_array_equal(found.p_adjusted[3:], 1)
    assert (found.p[3:] < 1).all()
    assert found.p_any == st.told_apart(x, y, [1, 2, 4]).p_any


@pytest.mark.parametrize("paired", [True, False])
def test_order_of_rows_side_and_infinity_do_not_matter(paired: bool) -> None:
    rng = np.random.default_rng(5)
    x, y = np.round(rng.lognormal(size=48), 1), np.round(rng.lognormal(0.4, size=48), 1)
    x[:10], y[5:20] = INF, INF
    found = st.told_apart(x, y, [1, 3, 6], paired)
    rows = rng.permutation(48)
    again = st.told_apart(x[rows], y[rows], [1, 3, 6], paired)
    for name in found._fields:
        assert_array_equal(getattr(found, name), getattr(again, name))
    other = st.told_apart(y, x, [1, 3, 6], paired)
    assert_allclose(other.chance, 1 - found.chance)
    assert_allclose(other.p, found.p, atol=0.02)
    ranks = np.unique(np.concatenate([x, y]), return_inverse=True)[1].astype(float)
    ranked = st.told_apart(ranks[:48], ranks[48:], [1, 3, 6], paired)
    assert_array_equal(ranked.p, found.p)  # only the order of the scores counts


def test_equal_scores_are_told_apart_by_nothing() -> None:
    for paired in (True, False):
        found = st.told_apart([INF] * 16, [INF] * 16, [1, 2], paired)
        assert_array_equal(found.chance, 0.5)
        assert_array_equal(found.p, 1)


def test_holm() -> None:
    # Holm 1979: sorted p times m, m - 1, ..., rising; the same by statsmodels' multipletests.
    assert_allclose(st.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert_allclose(st.holm([0.6, 0.5]), [1, 1])
    assert st.holm([]).shape == (0,)


def test_judge_names_whom_holms_steps_name() -> None:
    rng = np.random.default_rng(6)
    reference = rng.lognormal(size=80)
    others = {
        "better": reference * np.exp(rng.normal(-0.8, 0.3, 80)),
        "worse": reference * np.exp(rng.normal(0.8, 0.3, 80)),
        "alike": reference * np.exp(rng.normal(0, 0.3, 80)),
    }
    found = st.judge(reference, others, [1, 2, 5, 10, 11], paired=True)
    assert found["better"].better == (1, 2, 5, 10)
    assert found["worse"].worse == (1, 2, 5, 10)
    assert found["alike"].better == found["alike"].worse == ()
    p = [j.comparison.p_any for j in found.values()]
    assert_allclose([j.p_holm for j in found.values()], st.holm(p))


def test_nobodys_naming_depends_on_the_seed() -> None:
    """At p near a step of Holm's more draws are taken, until both sides of the error agree."""
    rng = np.random.default_rng(1)
    x, y = rng.random(16), 0.62 * rng.random(16)
    p = st.told_apart(y, x, [1, 2], draws=320_000, seed=99).p_any
    alpha = p + 1.5 * np.sqrt(p * (1 - p) / 20_000)
    first = [st.told_apart(y, x, [1, 2], seed=seed).p_any <= alpha for seed in (0, 1, 7, 10)]
    assert first == [False, True, False, False]  # 20,000 draws say now this, now that
    named = [st.judge(x, {"y": y}, [1, 2], alpha=alpha, seed=seed)["y"].better for seed in (0, 1)]
    assert named == [(1,), (1,)]


def test_a_chance_is_within_0_and_1() -> None:
    for n in (40, 48, 80):
        worse, better = np.arange(n) + 100.0, np.arange(n) + 1.0
        for paired in (True, False):
            chance = st.win_chance(worse, better, [1, 2, 5], paired)
            assert (chance >= 0).all()
            assert "-" not in f"{100 * chance[0]:.0f}"
            assert (st.win_chance(better, worse, [1, 2, 5], paired) <= 1).all()


@pytest.mark.parametrize("paired", [True, False])
def test_power_is_how_often_the_test_names_a_better_loss(paired: bool) -> None:
    """Beside told_apart itself on studies made by hand, and by a loss that is no better."""
    rng = np.random.default_rng(11)
    base = rng.normal(3, 0.3, 40)
    x, y = np.exp(base + rng.normal(0, 0.2, 40)), np.exp(base + rng.normal(0, 0.2, 40))
    x[:3] = y[2:4] = np.inf
    named = []
    for _ in range(200):
        if paired:
            swap = rng.random(40) < 0.5
            a, b = 0.8 * np.where(swap, x, y), np.where(swap, y, x)
        else:
            dealt = rng.permutation(np.concatenate([x, y]))
            a, b = 0.8 * dealt[:40], dealt[40:]
        found = st.told_apart(a, b, [1, 2, 5], paired, draws=2_000)
        named.append(found.p_any <= 0.05 and found.chance[found.p_adjusted.argmin()] > 0.5)
    power = st.power(x, y, 0.8, [1, 2, 5], paired, alpha=0.05)
    assert abs(power - np.mean(named)) < 3 * np.sqrt(0.25 / 200)
    assert st.power(x, y, 1.0, [1, 2, 5], paired, alpha=0.05) < 0.045  # half of the 5 %: one side
    assert st.power(x, y, 0.8, [10], paired, alpha=0.05) == 0  # not judged with 40
    assert st.power(x, y, 0.01, [1], paired, alpha=0.05) == 1


def test_ratio_interval_is_the_plain_bootstraps() -> None:
    rng = np.random.default_rng(8)
    x = rng.lognormal(size=40)
    y = x * rng.lognormal(0.3, 0.2, size=40)
    for paired in (True, False):
        got = st.ratio_interval(x, y, [1, 5], paired, draws=4000)
        assert_allclose(got.value, st.expected_min(x, [1, 5]) / st.expected_min(y, [1, 5]))
        loop = []
        for _ in range(1000):
            rows = rng.integers(40, size=(2, 40))
            means = (
                st.expected_min(x[rows[0]], [1, 5]),
                st.expected_min(y[rows[0 if paired else 1]], [1, 5]),
            )
            loop.append(means[0] / means[1])
        ends = np.quantile(loop, stats.norm.cdf([-2.06, 2.06]), axis=0)
        assert_allclose([got.low, got.high], ends, rtol=0.12)


def test_ratio_of_infinite_means() -> None:
    finite, half = [2.0] * 16, [1.0, INF] * 8
    assert_allclose(st.ratio_interval(finite, half, 1), [0, 0, 0])
    assert_allclose(st.ratio_interval(half, half, 1), [np.nan, 0, INF])
    assert st.ratio_interval(half, finite, 9).value == 0.5  # no nine of sixteen all diverged
    assert_array_equal(st.ratio_interval(finite, finite, 3), [1, 0, INF])  # 3 > 16 / 8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: st.win_chance([1, 2, 3], [1], 2), "budget 2 .* 1 to 1"),
        (lambda: st.told_apart([1, 2, 3], [1, 2], [1], paired=True), "3 scores paired with 2"),
        (lambda: st.told_apart([1, np.nan], [1, 2], [1]), "NaN"),
        (lambda: st.told_apart([1, 2], [1, 2], [3]), "budget 3"),
        (lambda: st.ratio_interval([1, 2], [1, 2], 1, level=95), "level 95"),
    ],
)
def test_bad_input_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        call()

"""Statistics against enumeration, closed forms, simulation and published definitions."""

from collections.abc import Callable, Sequence
from itertools import combinations, product
from math import comb
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from study.analysis import statistics as st
from study.analysis.statistics.samples import Array
from study.errors import StudyError

INF = np.inf
Scores = Sequence[float] | Array

SAMPLES = {
    "plain": [3.0, 1.0, 2.0, 10.0, 7.0, 5.0],
    "ties": [2.0, 2.0, 1.0, 1.0, 1.0, 4.0],
    "diverged": [3.0, INF, 2.0, INF, 1.0, 9.0],
    "all diverged": [INF] * 4,
    "one": [4.0],
}
BOTH = [(name, k) for name, x in SAMPLES.items() for k in range(1, len(x) + 1)]


def minima(x: Scores, k: int) -> Array:
    """The minimum of every subset of k."""
    return np.array([min(subset) for subset in combinations(x, k)])


def chance(xs: Scores, ys: Scores) -> float:
    """P(one of xs is below one of ys), ties counting half, over all pairs."""
    a, b = np.array(xs)[:, None], np.array(ys)[None]
    return float(np.mean((a < b) + 0.5 * (a == b)))


@pytest.mark.parametrize(("name", "k"), BOTH)
def test_expected_min_is_the_mean_over_all_subsets(name: str, k: int) -> None:
    assert_allclose(st.expected_min(SAMPLES[name], k), minima(SAMPLES[name], k).mean(), rtol=1e-14)


@pytest.mark.parametrize(("name", "k"), BOTH)
@pytest.mark.parametrize("q", [0, 0.05, 0.25, 0.5, 0.9, 1])
def test_min_quantile_is_that_of_all_subsets(name: str, k: int, q: float) -> None:
    expected = np.quantile(minima(SAMPLES[name], k), q, method="inverted_cdf")
    assert st.min_quantile(SAMPLES[name], k, q) == expected


def test_scalars_and_shapes() -> None:
    assert isinstance(st.expected_min([1, 2], 2), float)
    assert st.expected_min([1, 2, 3], [[1, 2, 3]]).shape == (1, 3)
    assert st.min_quantile([1, 2, 3], np.array([1, 3]), 0.5).tolist() == [2, 1]
    assert st.expected_ranks([[1, 2], [3, 4], [5, 6]], [1, 2]).shape == (3, 2)
    assert st.rank_interval([[1, 2], [3, 4]], 1, rng=0, draws=9).low.shape == (2,)
    assert_allclose(st.expected_min([5, 1, 3], [1, 3]), [3, 1])


def test_large_searches_stay_exact() -> None:
    n = 10_000
    ranks = np.arange(1, n + 1)[::-1]
    k = np.array([1, 2, 17, 100, 5_000, 9_999, n])
    assert_allclose(st.expected_min(ranks, k), (n + 1) / (k + 1), rtol=1e-10)  # known closed form
    exact = [1 - comb(n - 300, b) / comb(n, b) for b in (1, 17, 100)]
    reached = [st.min_quantile(ranks, b, p) for b, p in zip((1, 17, 100), exact, strict=True)]
    assert reached == [300, 300, 300]


def test_infinite_once_a_draw_may_hold_nothing_but_diverged_runs() -> None:
    x = np.r_[np.arange(9_000.0), [INF] * 1_000]
    assert_array_equal(np.isinf(st.expected_min(x, [999, 1_000, 1_001])), [True, True, False])


def test_unbiased() -> None:
    rng, k = np.random.default_rng(1), 8
    searches = rng.random((4_000, 10))
    error = 0.1 / np.sqrt(4_000)
    assert abs(np.mean([st.expected_min(s, k) for s in searches]) - 1 / (k + 1)) < 3 * error


def test_mean_interval_is_that_of_a_plain_bootstrap() -> None:
    x, k, n = np.sort(np.random.default_rng(0).exponential(size=40)), 5, 40
    got = st.expected_min_interval(x, k, rng=5, draws=4_000, level=0.8)
    rng = np.random.default_rng(6)
    loop = [st.expected_min(rng.choice(x, n), k) for _ in range(4_000)]
    repeated = x @ np.diff([0, *(1 - (1 - np.arange(1, n + 1) / n) ** k)])
    deciding = 2 * n / k
    reach = np.sqrt(deciding / (deciding - 1)) * stats.t.ppf(0.9, deciding - 1)
    at = stats.norm.cdf([-reach, reach])
    expected = np.quantile(loop, at) - (repeated - st.expected_min(x, k))
    assert_allclose([got.low, got.high], expected, atol=0.01)


def test_same_seed_same_interval() -> None:
    x = np.random.default_rng(0).random(80)
    first, again = (st.expected_min_interval(x, [2, 9], rng=4, draws=100) for _ in range(2))
    assert_array_equal(first, again)
    other = st.expected_min_interval(x, [2, 9], rng=np.random.default_rng(5), draws=100)
    assert (first.low != other.low).all()


def test_an_end_of_which_nothing_can_be_said_is_open() -> None:
    x = np.random.default_rng(0).random(100)
    mean = st.expected_min_interval(x, [1, 2, 12, 13, 100], rng=0, draws=50)
    assert_array_equal(np.isfinite(mean.low), [False, True, True, False, False])
    assert_array_equal(np.isfinite(mean.high), [False, True, True, False, False])
    assert st.expected_min_interval([*x, INF], 5, rng=0, draws=50).high == INF
    ranks = st.rank_interval([x, x + 0.1], [12, 13], rng=0, draws=50)
    assert_array_equal(np.isfinite(ranks.low), [[True, False]] * 2)
    reported = st.quantile_at_min_interval(x, x, [12, 13], 0.5, rng=0, draws=50)
    assert_array_equal(np.isfinite(reported.high), [True, False])
    median = st.min_quantile_interval(x, [18, 19, 100], 0.5)
    assert_array_equal(np.isinf(median.low), [False, True, True])  # 0.5^(100/19) > 0.025


ENDS = {
    "thirties": [*np.linspace(30.0, 30.4, 25), *[INF] * 5],
    "half": [*np.geomspace(5, 500, 20), *[INF] * 20],
    "one finite": [3.0, *[INF] * 15],
    "none finite": [INF] * 16,
    "ties": [2.0] * 10 + [1.0] * 10 + [7.0] * 20,
    "plain": [*np.geomspace(1, 60, 40)],
}


@pytest.mark.parametrize("name", ENDS)
def test_no_value_lies_outside_its_interval(name: str) -> None:
    x = np.array(ENDS[name])
    k = np.arange(1, len(x) + 1)
    y = x[::-1] + np.where(np.arange(len(x)) % 3, 0, 5.0)
    for level in (0.5, 0.95):
        options: dict[str, Any] = {"rng": 1, "draws": 200, "level": level}
        estimates = [
            st.expected_min_interval(x, k, **options),
            st.quantile_at_min_interval(x, y, k, 0.5, **options),
            st.rank_interval([x, y], k, **options),
            *(st.min_quantile_interval(x, k, q, level=level) for q in (0, 0.1, 0.5, 0.9, 1)),
        ]
        ratios = [
            st.ratio_interval(x, y, k, both, draws=200, level=level) for both in (False, True)
        ]
        for ratio in ratios:  # unknown where both means are infinite, and nowhere else
            unknown = np.isinf(st.expected_min(x, k)) & np.isinf(st.expected_min(y, k))
            assert_array_equal(np.isnan(ratio.value), unknown)
            known = np.where(unknown, 1, ratio.value)
            estimates.append(st.Estimate(known, ratio.low, ratio.high))
        for value, low, high in estimates:
            assert not np.isnan([value, low, high]).any()
            assert (low <= value).all()
            assert (value <= high).all()


@pytest.mark.parametrize(("n", "k", "q"), [(30, 1, 0.5), (30, 4, 0.5), (40, 5, 0.1), (25, 3, 0.9)])
def test_quantile_interval_is_the_binomials(n: int, k: int, q: float) -> None:
    """The narrowest order statistics with at most 2.5 % outside on either side, by enumeration."""
    x = np.arange(1.0, n + 1)
    p = 1 - (1 - q) ** (1 / k)
    low = max(r for r in range(n + 1) if stats.binom.cdf(r - 1, n, p) <= 0.025)
    high = min(s for s in range(1, n + 2) if stats.binom.sf(s - 1, n, p) <= 0.025)
    got = st.min_quantile_interval(x, k, q)
    assert got.low == (low if low else -INF)
    assert got.high == (high if high <= n else INF)


def test_quantile_interval_at_one_setting_is_that_of_scipy() -> None:
    x = np.random.default_rng(3).normal(size=35)
    test: Any = stats.quantile_test(x, q=0, p=0.3).confidence_interval(0.95)
    got = st.min_quantile_interval(x, 1, 0.3)
    assert_allclose(np.array([got.low, got.high]), np.array([test.low, test.high]))


def test_ranks_are_over_all_triples_of_subsets() -> None:
    losses = [SAMPLES["plain"], SAMPLES["ties"], SAMPLES["diverged"]]
    triples = list(product(*(minima(x, 2) for x in losses)))
    expected = stats.rankdata(triples, axis=1).mean(0)
    assert_allclose(st.expected_ranks(losses, 2), expected, rtol=1e-13)
    assert_allclose(st.expected_ranks(losses, [1, 4]).sum(0), 6)


def test_rank_interval_against_a_plain_loop() -> None:
    losses = [np.random.default_rng(i).gamma(2, 1 + i, 40) for i in range(3)]
    got = st.rank_interval(losses, [2, 5], rng=0, draws=3_000)
    rng = np.random.default_rng(1)
    loop = np.array(
        [st.expected_ranks([rng.choice(x, 40) for x in losses], [2, 5]) for _ in range(1_000)]
    )
    low, high = np.quantile(loop, [0.02, 0.98], axis=0)  # Student's t of 40 and of 16
    assert_allclose(got.high - got.low, high - low, atol=0.15)
    assert_array_equal(got.value, st.expected_ranks(losses, [2, 5]))
    assert (got.low >= 1).all()
    assert (got.high <= 3).all()


def test_performance_profile_and_cost_curve() -> None:
    assert_array_equal(
        st.performance_profile([1, 2, INF, 4], [1, 2.5, 5, INF]), [0, 0.5, 0.75, 0.75]
    )
    cost, score = st.cost_curve([10.0, 20.0, 60.0], [3, 1, 2], [1, 2, 3])
    assert_allclose(cost, [30, 60, 90])
    assert_allclose(score, [2, 4 / 3, 1])


def test_expected_at_min_is_the_mean_over_all_subsets() -> None:
    f1, precision = np.array([0.2, 0.9, 0.5, 0.9]), np.array([0.1, 0.8, 0.7, 0.6])
    for k in (1, 2, 3, 4):
        chosen = []
        for subset in combinations(range(4), k):
            best = [i for i in subset if f1[i] == max(f1[list(subset)])]
            chosen.append(precision[best].mean())
        assert_allclose(st.expected_at_min(-f1, precision, k), np.mean(chosen))


@pytest.mark.parametrize(("count", "n"), [(0, 10), (3, 10), (10, 10), (1, 1), (37, 100)])
def test_share_is_clopper_and_pearsons(count: int, n: int) -> None:
    expected = stats.binomtest(count, n).proportion_ci(method="exact")
    assert_allclose(st.share_interval(count, n), [count / n, *expected], atol=1e-12)


def test_diverged_share() -> None:
    share = st.diverged_share([1.0, INF, 2.0, INF])
    assert_allclose(share, st.share_interval(2, 4))
    assert share.value == 0.5


def test_spearman_is_scipys() -> None:
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=80), 1)
    y = x + rng.normal(size=80)
    y[:5] = INF
    got = st.spearman(x, y)
    assert_allclose(got.value, stats.spearmanr(x, np.where(np.isinf(y), 1e9, y)).statistic)
    # Bonett and Wright 2000: z = artanh r, standard error sqrt((1 + r^2 / 2) / (n - 3)).
    z, error = np.arctanh(got.value), np.sqrt((1 + got.value**2 / 2) / 77)
    assert_allclose([got.low, got.high], np.tanh(z + error * stats.norm.ppf([0.025, 0.975])))
    assert_allclose(st.spearman([1, 2, 3], [9, 4, INF]), [0.5, -1, 1])
    agreed, half_a_swap = st.spearman(range(7), range(7)), 1 - 6 / (7 * 48)
    z, error = np.arctanh(half_a_swap), np.sqrt((1 + half_a_swap**2 / 2) / 4)
    assert_allclose(agreed, [1, np.tanh(z - error * stats.norm.ppf(0.975)), 1])
    turned = st.spearman(range(7), range(7, 0, -1))
    assert_allclose(turned, np.array([-1, -1, -agreed.low]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: st.expected_min([], 1), r"shape \(0,\)"),
        (lambda: st.expected_min([[1, 2]], 1), r"shape \(1, 2\)"),
        (lambda: st.expected_min([1, np.nan, 2], 1), "1 of 3 scores are NaN"),
        (lambda: st.expected_min([1, -INF], 1), "-inf"),
        (lambda: st.expected_min([1, 2], 3), "budget 3 is not a whole number from 1 to 2"),
        (lambda: st.expected_min([1, 2], [1, 0]), "budget 0"),
        (lambda: st.expected_min([1, 2], 1.5), "budget 1.5"),
        (lambda: st.min_quantile([1, 2], 1, 1.5), "quantile 1.5"),
        (lambda: st.expected_min_interval([1, 2], 1, rng=0, level=95), "level 95"),
        (lambda: st.expected_ranks([[1, 2], [np.nan, 1]], 1), "NaN"),
        (lambda: st.share_interval(3, 2), "3 of 2"),
        (lambda: st.performance_profile([np.nan], 1), "NaN"),
        (lambda: st.cost_curve([1, np.nan], [1, 2], 1), "finite cost"),
        (lambda: st.cost_curve([1], [1, 2], 1), r"shape \(1,\)"),
        (lambda: st.expected_at_min([1, 2], [1, np.nan], 1), "one finite value"),
        (lambda: st.spearman([1, 1], [1, 2]), "no rank correlation"),
        (lambda: st.spearman([1, 2, 3], [1, 2]), "no rank correlation"),
    ],
)
def test_bad_input_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_quantile_at_min_against_enumeration() -> None:
    fid = np.array([3.0, 1, 4, 1.5, 9, np.inf])
    value = np.array([30.0, 25, 7, 50, 1, np.inf])
    for k in range(1, 7):
        picked = [value[min(c, key=lambda i: fid[i])] for c in combinations(range(6), k)]
        for q in (0.1, 0.5, 0.9, 1.0):
            expected = np.quantile(picked, q, method="inverted_cdf")
            assert st.quantile_at_min(fid, value, k, q) == expected
    budgets = np.arange(1, 7)
    assert_allclose(st.quantile_at_min(fid, fid, budgets, 0.5), st.min_quantile(fid, budgets, 0.5))
    with pytest.raises(StudyError, match="one number each"):
        st.quantile_at_min(fid, value[:3], 1, 0.5)


def test_interval_of_quantile_at_min_is_the_plain_bootstraps() -> None:
    rng = np.random.default_rng(0)
    fid = np.exp(rng.normal(size=40))
    value = fid * np.exp(0.2 * rng.normal(size=40))
    got = st.quantile_at_min_interval(fid, value, [1, 5], 0.5, rng=0, draws=4000)
    loop = []
    for _ in range(1000):
        rows = rng.integers(40, size=40)
        loop.append(st.quantile_at_min(fid[rows], value[rows], [1, 5], 0.5))
    ends = np.quantile(loop, [0.02, 0.98], axis=0)
    places = [np.searchsorted(np.sort(value), pair) for pair in (got[1:], ends)]
    assert abs(places[0] - places[1]).max() <= 2

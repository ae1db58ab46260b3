"""Statistics against enumeration, closed forms, simulation and published definitions."""

from itertools import combinations, product
from math import comb

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from study.analysis import statistics as st
from study.errors import StudyError

INF = np.inf
SAMPLES = {
    "plain": [3.0, 1.0, 2.0, 10.0, 7.0, 5.0],
    "ties": [2.0, 2.0, 1.0, 1.0, 1.0, 4.0],
    "diverged": [3.0, INF, 2.0, INF, 1.0, 9.0],
    "all diverged": [INF] * 4,
    "one": [4.0],
}
BOTH = [(name, k) for name, x in SAMPLES.items() for k in range(1, len(x) + 1)]


def minima(x, k):
    """The minimum of every subset of k."""
    return np.array([min(subset) for subset in combinations(x, k)])


def chance(xs, ys):
    """P(one of xs is below one of ys), ties counting half, over all pairs."""
    a, b = np.array(xs)[:, None], np.array(ys)[None]
    return np.mean((a < b) + 0.5 * (a == b))


@pytest.mark.parametrize(("name", "k"), BOTH)
def test_expected_min_is_the_mean_over_all_subsets(name, k):
    assert_allclose(st.expected_min(SAMPLES[name], k), minima(SAMPLES[name], k).mean(), rtol=1e-14)


@pytest.mark.parametrize(("name", "k"), BOTH)
@pytest.mark.parametrize("q", [0, 0.05, 0.25, 0.5, 0.9, 1])
def test_min_quantile_is_that_of_all_subsets(name, k, q):
    expected = np.quantile(minima(SAMPLES[name], k), q, method="inverted_cdf")
    assert st.min_quantile(SAMPLES[name], k, q) == expected


@pytest.mark.parametrize("k", [1, 2, 3])
def test_with_replacement_is_over_all_tuples(k):
    x = [3.0, 1.0, 1.0, 8.0]
    all_minima = np.min(list(product(x, repeat=k)), axis=1)
    mean, std = st.expected_min_with_replacement(x, k)
    assert_allclose([mean, std], [all_minima.mean(), all_minima.std()], rtol=1e-14)


def test_both_forms_by_hand():
    # Of 1, 2, 3 two: without replacement (1, 1, 2)/3; with, 1 has 5 of the 9 pairs, 2 three, 3 one.
    assert_allclose(st.expected_min([3, 1, 2], 2), 4 / 3)
    mean, std = st.expected_min_with_replacement([3, 1, 2], 2)
    assert_allclose([mean, std**2], [14 / 9, 38 / 81])


def test_dodge_et_al_as_they_state_it():
    # E[max of k] = sum v (P(V <= v)^k - P(V < v)^k) over the distinct values, for a maximum.
    accuracy, k = np.array([0.5, 0.7, 0.7, 0.9]), 3
    expected = sum(
        v * (np.mean(accuracy <= v) ** k - np.mean(accuracy < v) ** k) for v in np.unique(accuracy)
    )
    assert_allclose(-st.expected_min_with_replacement(-accuracy, k)[0], expected)


def test_scalars_and_shapes():
    assert isinstance(st.expected_min([1, 2], 2), float)
    assert st.expected_min([1, 2, 3], [[1, 2, 3]]).shape == (1, 3)
    assert st.min_quantile([1, 2, 3], np.array([1, 3]), 0.5).tolist() == [2, 1]
    assert st.expected_ranks([[1, 2], [3, 4], [5, 6]], [1, 2]).shape == (3, 2)
    assert st.rank_interval([[1, 2], [3, 4]], 1, rng=0, draws=9).low.shape == (2,)
    assert_allclose(st.expected_min([5, 1, 3], [1, 3]), [3, 1])


def test_large_searches_stay_exact():
    n = 10_000
    ranks = np.arange(1, n + 1)[::-1]
    k = np.array([1, 2, 17, 100, 5_000, 9_999, n])
    assert_allclose(st.expected_min(ranks, k), (n + 1) / (k + 1), rtol=1e-10)  # known closed form
    exact = [1 - comb(n - 300, b) / comb(n, b) for b in (1, 17, 100)]
    reached = [st.min_quantile(ranks, b, p) for b, p in zip((1, 17, 100), exact, strict=True)]
    assert reached == [300, 300, 300]


def test_infinite_once_a_draw_may_hold_nothing_but_diverged_runs():
    x = np.r_[np.arange(9_000.0), [INF] * 1_000]
    assert_array_equal(np.isinf(st.expected_min(x, [999, 1_000, 1_001])), [True, True, False])
    assert np.isinf(st.expected_min_with_replacement(x, 9_000)).all()


def test_unbiased_where_the_other_form_is_not():
    rng, k = np.random.default_rng(1), 8
    searches = rng.random((4_000, 10))
    truth, error = 1 / (k + 1), 0.1 / np.sqrt(4_000)
    assert abs(np.mean([st.expected_min(s, k) for s in searches]) - truth) < 3 * error
    biased = np.mean([st.expected_min_with_replacement(s, k)[0] for s in searches])
    assert biased - truth > 10 * error


def test_bootstrap_is_that_of_a_plain_loop():
    x = np.array([1.0, 2.0, 2.5, 7.0, 9.0, INF])
    got = st.expected_min_interval(x, 2, rng=5, draws=3_000, level=0.8)
    rng = np.random.default_rng(6)
    loop = [st.expected_min(rng.choice(x, 6), 2) for _ in range(3_000)]
    weights = {k: np.diff([0, *(1 - ((6 - np.arange(1, 7)) / 6) ** k)]) for k in (2,)}[2]
    bias = x[:5] @ weights[:5] - x[:5] @ np.array([5, 4, 3, 2, 1]) / 15
    low = np.quantile(loop, 0.1, method="inverted_cdf") - bias
    assert got.value == st.expected_min(x, 2)
    assert_allclose(got.low, low, atol=0.05)
    assert got.high == INF


def test_bootstrap_mean_is_the_form_with_replacement():
    x, k = np.random.default_rng(2).exponential(size=30), 20
    rng = np.random.default_rng(3)
    resampled = [st.expected_min(rng.choice(x, 30), k) for _ in range(4_000)]
    mean = st.expected_min_with_replacement(x, k)[0]
    assert abs(np.mean(resampled) - mean) < 4 * np.std(resampled) / np.sqrt(4_000)


def test_same_seed_same_interval():
    x = np.random.default_rng(0).random(50)
    first, again = (st.expected_min_interval(x, [1, 9], rng=4, draws=100) for _ in range(2))
    assert_array_equal(first, again)
    other = st.expected_min_interval(x, [1, 9], rng=np.random.default_rng(5), draws=100)
    assert (first.low != other.low).all()


def test_coverage_of_the_curve():
    """95 % as long as k is small beside n, and far less at k = n, as the module says."""
    rng, budgets = np.random.default_rng(7), np.array([1, 3, 10, 100])
    hits = np.zeros(4)
    for _ in range(1_000):
        band = st.expected_min_interval(rng.random(100), budgets, rng=rng, draws=400)
        hits += (band.low <= 1 / (budgets + 1)) & (1 / (budgets + 1) <= band.high)
    assert ((hits[:3] >= 930) & (hits[:3] <= 970)).all(), hits
    assert hits[3] < 800


def test_coverage_of_the_median_and_of_a_win():
    rng, k = np.random.default_rng(8), 3
    x = np.linspace(0, 1, 100_001)
    wins = np.trapezoid(k * (1 - x) ** (k - 1) * (1 - x / 1.3) ** k, x)  # U(0, 1) against U(0, 1.3)
    median = 1 - 0.5 ** (1 / k)
    hits = np.zeros(2)
    for _ in range(1_000):
        a, b = rng.random(100), 1.3 * rng.random(100)
        band, win = (
            st.min_quantile_interval(a, k, 0.5),
            st.win_interval(a, b, k, rng=rng, draws=200),
        )
        hits += [band.low <= median <= band.high, win.low <= wins <= win.high]
    assert ((hits >= 930) & (hits <= 970)).all(), hits


def test_quantile_interval_is_the_bootstrap_without_draws():
    x, k = np.r_[np.random.default_rng(1).random(25), [INF] * 5], 4
    got = st.min_quantile_interval(x, k, 0.5)
    draws = np.random.default_rng(2).choice(x, (20_000, 30))
    loop = np.sort(draws)[:, np.flatnonzero(np.sort(x) == got.value)[0]]
    at = [np.mean(loop <= end) for end in (got.low, got.high)]
    before = [np.mean(loop < end) for end in (got.low, got.high)]
    assert before[0] < 0.03
    assert at[0] > 0.02
    assert before[1] < 0.98
    assert at[1] > 0.97


@pytest.mark.parametrize("k", [1, 2, 4])
def test_win_probability_is_over_all_pairs_of_subsets(k):
    for a, b in combinations([x for x in SAMPLES.values() if len(x) >= 4], 2):
        expected = chance(minima(a, k), minima(b, k))
        assert_allclose(st.win_probability(a, b, k), expected, rtol=1e-13)
        assert_allclose(st.win_probability(b, a, k), 1 - expected, rtol=1e-13, atol=1e-15)


def test_win_probability_at_one_is_mann_whitney():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 40), rng.integers(2, 9, 30)
    u = stats.mannwhitneyu(b, a).statistic
    assert_allclose(st.win_probability(a, b, 1), u / (40 * 30))


def test_ranks_are_over_all_triples_of_subsets():
    losses = [SAMPLES["plain"], SAMPLES["ties"], SAMPLES["diverged"]]
    triples = list(product(*(minima(x, 2) for x in losses)))
    expected = stats.rankdata(triples, axis=1).mean(0)
    assert_allclose(st.expected_ranks(losses, 2), expected, rtol=1e-13)
    assert_allclose(st.expected_ranks(losses, [1, 4]).sum(0), 6)


def test_rank_interval_against_a_plain_loop():
    losses = [np.random.default_rng(i).gamma(2, 1 + i, 20) for i in range(3)]
    got = st.rank_interval(losses, [2, 5], rng=0, draws=3_000)
    rng = np.random.default_rng(1)
    loop = np.array(
        [st.expected_ranks([rng.choice(x, 20) for x in losses], [2, 5]) for _ in range(1_000)]
    )
    low, high = np.quantile(loop, [0.025, 0.975], axis=0)
    assert_allclose(got.high - got.low, high - low, atol=0.15)
    assert_array_equal(got.value, st.expected_ranks(losses, [2, 5]))
    assert (got.low < got.value).all()
    assert (got.value < got.high).all()
    assert (got.low >= 1).all()
    assert (got.high <= 3).all()


def test_win_interval_follows_the_probability():
    rng = np.random.default_rng(3)
    a, b = rng.random(60), rng.random(60) + 0.3
    win, loss = (st.win_interval(*pair, [1, 5], rng=0, draws=500) for pair in ((a, b), (b, a)))
    assert (win.low > 0.5).all()
    assert (win.low <= win.value).all()
    assert (win.value <= win.high).all()
    assert_allclose(win.value, 1 - loss.value)


def test_settings_to_separate_follows_noether():
    # Noether (1987): N = z^2 / (3 (P - 1/2)^2) for both groups, equal in size, near P = 1/2.
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=300), rng.normal(size=300) + 0.25
    effect = st.win_probability(a, b, 1) - 0.5
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    more = st.settings_to_separate(a, b, 1, rng=0)
    assert_allclose(more + 300, z**2 / (6 * effect**2), rtol=0.1)
    assert st.settings_to_separate(a, a + 9, 1, rng=0) == 0
    assert st.settings_to_separate(a, a, 1, rng=0) == INF
    tie = np.arange(40.0)
    almost = np.where(tie == 5, 4.5, tie)  # one tie of 1,600 pairs is now a loss: P = 1/2 - 1/3200
    assert_allclose(st.win_probability(tie, almost, 1), 0.5 - 1 / 3200)
    assert st.settings_to_separate(tie, almost, 1, rng=0) == INF


def test_performance_profile_and_cost_curve():
    assert_array_equal(
        st.performance_profile([1, 2, INF, 4], [1, 2.5, 5, INF]), [0, 0.5, 0.75, 0.75]
    )
    cost, score = st.cost_curve([10.0, 20.0, 60.0], [3, 1, 2], [1, 2, 3])
    assert_allclose(cost, [30, 60, 90])
    assert_allclose(score, [2, 4 / 3, 1])


def test_expected_at_min_is_the_mean_over_all_subsets():
    f1, precision = np.array([0.2, 0.9, 0.5, 0.9]), np.array([0.1, 0.8, 0.7, 0.6])
    for k in (1, 2, 3, 4):
        chosen = []
        for subset in combinations(range(4), k):
            best = [i for i in subset if f1[i] == max(f1[list(subset)])]
            chosen.append(precision[best].mean())
        assert_allclose(st.expected_at_min(-f1, precision, k), np.mean(chosen))


@pytest.mark.parametrize(("count", "n"), [(0, 10), (3, 10), (10, 10), (1, 1), (37, 100)])
def test_share_is_wilsons(count, n):
    expected = stats.binomtest(count, n).proportion_ci(method="wilson")
    assert_allclose(st.share_interval(count, n), [count / n, *expected], atol=1e-12)


def test_diverged_share():
    share = st.diverged_share([1.0, INF, 2.0, INF])
    assert_allclose(share, st.share_interval(2, 4))
    assert share.value == 0.5


def test_rliable_by_hand():
    assert st.interquartile_mean([100, 1, 2, 3, 4, 5, 6, 7]) == 4.5  # 3, 4, 5, 6
    assert st.interquartile_mean([[0, 10], [2, 6], [4, INF]]) == 5.5  # one cut at each end
    assert st.interquartile_mean([1, 2, INF, INF]) == INF
    x = np.random.default_rng(0).random(37)
    assert_allclose(st.interquartile_mean(x), stats.trim_mean(x, 0.25))
    # gamma = 1 on scores 0.2, 0.8, 1.5 leaves 1 - (0.2 + 0.8 + 1) / 3; lower is better here.
    assert_allclose(st.optimality_gap([-0.2, -0.8, -1.5], -1), 1 / 3)
    assert st.optimality_gap([25, INF], 20) == INF


def test_rliables_published_case():
    # tests/rliable/metrics_test.py of rliable 1.2.0: IQM 1.5 and 2, and P(x > y) = 1/3 as the mean
    # over the tasks (columns); lower is better here.
    x, y = np.array([[1, 2], [2, 2], [1, 1], [2, 1]]), np.array([[1, 1], [2, 2], [3, 3]])
    assert st.interquartile_mean(x) == 1.5
    assert st.interquartile_mean(y) == 2
    wins = [st.win_probability(-x[:, task], -y[:, task], 1) for task in range(2)]
    assert_allclose(np.mean(wins), 1 / 3)


def test_the_same_as_rliable_and_opda():
    # Printed by rliable 1.2.0 (on -x, higher is better there) and opda 0.8.0 for these scores.
    x = np.array([26.5, 31.2, 29.9, 22.9, 64.3, 41, 58.7, 30.7, 24.5, 21.5, 27.7, 33.8, 49.2, 28.8])
    y = np.array([24.1, 44.5, 27.9, 35.2, 29.3, 60.6, 23.3, 62.6, 26.0, 40.4, 31.6, 48.5])
    assert_allclose(st.interquartile_mean(x), 31.2)
    assert_allclose(st.optimality_gap(x, 25), 10.4857143)
    assert_allclose(st.win_probability(x, y, 1), 0.56547619)
    assert_allclose(
        st.expected_min_with_replacement(x, [1, 2, 5, 14])[0],
        [35.05, 28.3535714, 24.2819058, 22.2628413],
    )


def test_spearman():
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=80), 1)
    y = x + rng.normal(size=80)
    y[:5] = INF
    got = st.spearman(x, y, rng=1)
    assert_allclose(got.value, stats.spearmanr(x, np.where(np.isinf(y), 1e9, y)).statistic)
    draws = rng.integers(80, size=(1_000, 80))
    loop = [stats.spearmanr(x[d], np.where(np.isinf(y), 1e9, y)[d]).statistic for d in draws]
    assert_allclose([got.low, got.high], np.quantile(loop, [0.025, 0.975]), atol=0.03)
    assert_allclose(st.spearman([1, 2, 3], [1, 4, 9], rng=0).value, 1)
    assert_allclose(st.spearman([1, 2, 3], [9, 4, INF], rng=0, draws=50).value, 0.5)


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
        (lambda: st.expected_min_with_replacement([INF, 2], 9), "budget 9"),
        (lambda: st.min_quantile([1, 2], 1, 1.5), "quantile 1.5"),
        (lambda: st.expected_min_interval([1, 2], 1, rng=0, level=95), "level 95"),
        (lambda: st.win_probability([1, 2, 3], [1], 2), "budget 2 .* 1 to 1"),
        (lambda: st.expected_ranks([[1, 2], [np.nan, 1]], 1), "NaN"),
        (lambda: st.share_interval(3, 2), "3 of 2"),
        (lambda: st.performance_profile([np.nan], 1), "NaN"),
        (lambda: st.cost_curve([1, np.nan], [1, 2], 1), "finite cost"),
        (lambda: st.cost_curve([1], [1, 2], 1), r"shape \(1,\)"),
        (lambda: st.expected_at_min([1, 2], [1, np.nan], 1), "one finite value"),
        (lambda: st.spearman([1, 1], [1, 2], rng=0), "no rank correlation"),
        (lambda: st.spearman([1, 2, 3], [1, 2], rng=0), "no rank correlation"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(StudyError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_quantile_at_min_against_enumeration():
    fid = np.array([3.0, 1, 4, 1.5, 9, np.inf])
    value = np.array([30.0, 25, 7, 50, 1, np.inf])
    for k in range(1, 7):
        picked = [value[min(c, key=lambda i: fid[i])] for c in combinations(range(6), k)]
        for q in (0.1, 0.5, 0.9, 1.0):
            expected = np.quantile(picked, q, method="inverted_cdf")
            assert st.quantile_at_min(fid, value, k, q) == expected
    k = np.arange(1, 7)
    assert_allclose(st.quantile_at_min(fid, fid, k, 0.5), st.min_quantile(fid, k, 0.5))
    with pytest.raises(StudyError, match="one number each"):
        st.quantile_at_min(fid, value[:3], 1, 0.5)


def test_interval_of_quantile_at_min_is_that_of_the_minimum_where_they_are_one():
    fid = np.exp(np.random.default_rng(0).normal(size=40))
    k = np.array([1, 3, 10])
    drawn = st.quantile_at_min_interval(fid, fid, k, 0.5, rng=0, draws=4000)
    exact = st.min_quantile_interval(fid, k, 0.5)
    assert_allclose(drawn.value, exact.value)
    ranks = [np.searchsorted(np.sort(fid), ends) for ends in (drawn[1:], exact[1:])]
    assert abs(ranks[0] - ranks[1]).max() <= 1  # the draws' noise is one order statistic at most

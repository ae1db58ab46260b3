"""What one loss's search finds, as a function of its budget, and how sure that is.

Every function takes the scores of n settings of one loss (the least distance of each run, shape
(n,), lower is better, +inf for a diverged run) and a budget k: the number of settings tried,
1 <= k <= n, a whole number or an array of them. A result has the shape of the budget.

Two bands must not be confused. `min_quantile` gives the spread of one search's outcome: what k
settings may yield. The intervals (`Estimate`) give the uncertainty of a curve that was estimated
from n settings; where nothing can be said of an end it is open, that is infinite. `rng` is a seed
or a `numpy.random.Generator`.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr, ndtr, stdtrit

from study.analysis.statistics.samples import (
    Array,
    Estimate,
    IntArray,
    Rng,
    budgets_of,
    judged,
    picks,
    replaced,
    scores_of,
    shaped,
    tails,
    without,
)
from study.errors import StudyError


def expected_min(fid: ArrayLike, budget: ArrayLike) -> Array:
    """Expected minimum of k of the n scores, drawn without replacement; unbiased for k new ones.

    Sum of x(i) C(n-i, k-1) / C(n, k) over the sorted scores (Tang et al. 2020, arXiv 2004.14503,
    eq. 6); infinite where k or more runs diverged, since a draw may then hold nothing else.
    """
    scores = np.sort(scores_of(fid))
    budgets = budgets_of(budget, len(scores))
    return shaped(weighted(scores, subset_weights(len(scores), budgets), budgets), budget)


def expected_min_interval(
    fid: ArrayLike, budget: ArrayLike, *, rng: Rng, draws: int = 2000, level: float = 0.95
) -> Estimate:
    """`expected_min` with a bootstrap interval over the n settings, for 2 <= k <= n / 8.

    The bootstrap draws settings with replacement (Efron 1979). Its mean is known exactly, it is the
    same statistic for k settings drawn *with* replacement; the percentiles are shifted by that
    bias and taken as far out as Student's t wants it of the 2 n / k runs that decide (Hesterberg
    2015, arXiv 1411.5279, section 5.3). Both ends are open beyond n / 8, where intervals of this
    kind do not hold, and at k = 1, where the mean of a skewed search is known to a bootstrap in
    88 to 92 % of cases. The upper end is open, too, where a run diverged, for then every mean may
    be infinite; the lower one takes such a run for one as bad as the worst of the others. Simulated
    (`tests/test_coverage.py`, n = 40 and 80): 95 % intervals hold the truth in 92.5 to 97.8 %.
    """
    scores = np.sort(scores_of(fid))
    n, budgets = len(scores), budgets_of(budget, len(scores))
    weights, finite, _ = subset_weights(n, budgets), np.isfinite(scores), tails(level)
    value, held = weighted(scores, weights, budgets), judged(budgets, n) & (np.array(budgets) > 1)
    low, high = np.full(len(budgets), -np.inf), np.full(len(budgets), np.inf)
    if finite.any() and held.any():
        capped = np.minimum(scores, scores[finite][-1])
        bias = capped @ (repeated_weights(n, budgets) - weights)
        rows = [capped[np.sort(p, kind="stable")] @ weights for p in picks(n, draws, rng)]
        ends = expanded(np.concatenate(rows), n, budgets, level) - bias
        low = np.where(held, np.minimum(ends[0], value), low)
        high = np.where(held & finite.all(), np.maximum(ends[1], value), high)
    return Estimate(*(shaped(part, budget) for part in (value, low, high)))


def min_quantile(fid: ArrayLike, budget: ArrayLike, q: float) -> Array:
    """Quantile q (in [0, 1]) of the minimum of k of the n scores, exact, without interpolation.

    The smallest score x(i) with P(min <= x(i)) = 1 - C(n-i, k) / C(n, k) >= q.
    """
    scores = np.sort(scores_of(fid))
    ranks = [_rank(len(scores), k, q) for k in budgets_of(budget, len(scores))]
    return shaped(scores[ranks], budget)


def min_quantile_interval(
    fid: ArrayLike, budget: ArrayLike, q: float, *, level: float = 0.95
) -> Estimate:
    """`min_quantile` with its exact, distribution-free interval.

    The minimum of k new settings has its quantile q where one setting has its quantile
    p = 1 - (1 - q)^(1/k). Order statistics x(r) and x(s) hold that whatever the distribution, with
    P(Binomial(n, p) < r) and P(Binomial(n, p) >= s) at most (1 - level) / 2 each (David and
    Nagaraja 2003, section 7.1). Where no order statistic does the end is open: the lower one is
    then -inf, the upper one +inf (as it is where x(s) is a diverged run). At 95 % the median's
    lower end is open from k = 19 on with n = 100: no sample tells what lies below its minimum.
    Simulated with 0, 10 and 50 % infinite: 94 to 99 %, 95 % at least by the binomial.
    """
    scores = np.sort(scores_of(fid))
    n, budgets, outside = len(scores), budgets_of(budget, len(scores)), tails(level)[0]
    value = np.array([scores[_rank(n, k, q)] for k in budgets])
    fenced = np.concatenate([[-np.inf], scores, [np.inf]])
    ends = []
    for k in budgets:
        below = bdtr(np.arange(n + 1), n, 1 - (1 - q) ** (1 / k))  # P(Binomial <= 0..n)
        r = np.searchsorted(below, outside, side="right")  # P(Binomial <= r - 1) <= outside
        s = np.argmax(np.append(1 - below[:-1], 0.0) <= outside) + 1
        ends.append((fenced[r], fenced[s]))
    low, high = np.array(ends).reshape(-1, 2).T
    low, high = np.minimum(low, value), np.maximum(high, value)
    return Estimate(*(shaped(part, budget) for part in (value, low, high)))


def expected_at_min(fid: ArrayLike, value: ArrayLike, budget: ArrayLike) -> Array:
    """Expected value of another measure (n,) at the setting that has the least of k scores.

    The paper's precision and recall are those of the run with the best F1: fid = -F1. Settings of
    equal score share their values' mean; draws as in `expected_min`.
    """
    scores = scores_of(fid)
    values = np.asarray(value, dtype=float)
    if values.shape != scores.shape or not np.isfinite(values).all():
        raise StudyError(
            f"values of shape {values.shape} for {scores.shape} scores; give one finite value each"
        )
    place = np.unique(scores, return_inverse=True)[1]
    means = (np.bincount(place, values) / np.bincount(place))[np.sort(place)]
    return shaped(means @ subset_weights(len(scores), budgets_of(budget, len(scores))), budget)


def quantile_at_min(fid: ArrayLike, value: ArrayLike, budget: ArrayLike, q: float) -> Array:
    """Quantile q of another measure (n,) at the setting that has the least of k scores.

    For a score that was selected on some images and is reported on others. The least value whose
    settings are together selected with probability >= q; values may be +inf. With value = fid it is
    `min_quantile`. Of settings of equal score the one of least value is taken.
    """
    values, order = _at_min(fid, value)
    weights = subset_weights(len(values), budgets_of(budget, len(values)))
    chance = np.cumsum(weights[order], axis=0)
    return shaped(values[order][_first_at(chance, q)], budget)


def quantile_at_min_interval(
    fid: ArrayLike,
    value: ArrayLike,
    budget: ArrayLike,
    q: float,
    *,
    rng: Rng,
    draws: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """`quantile_at_min` with its percentile bootstrap interval over the settings, for k <= n / 8.

    Percentiles as in `expected_min_interval`, without a shift: an order statistic's bootstrap is
    centred, and infinities do not harm it. Both ends are open beyond n / 8. Simulated (n = 40 and
    80, 0, 10 and 50 % infinite): 95 % intervals hold the truth in 92.5 to 98.5 %.
    """
    values, order = _at_min(fid, value)
    n, budgets = len(values), budgets_of(budget, len(values))
    found, sample = np.asarray(quantile_at_min(fid, value, budget, q)).ravel(), []
    chances = [without(n, k) for k in budgets]
    for rows in picks(n, draws, rng):
        counts = np.stack([np.bincount(row, minlength=n) for row in rows.astype(np.int64)])
        drawn = np.concatenate([np.zeros((len(rows), 1), int), np.cumsum(counts, axis=1)], axis=1)
        taken = [np.cumsum(-np.diff(chance[drawn])[:, order], axis=1).T for chance in chances]
        sample.append(np.stack([values[order][_first_at(chance, q)] for chance in taken], axis=1))
    ends, held = expanded(np.concatenate(sample), n, budgets, level), judged(budgets, n)
    low = np.where(held, np.minimum(ends[0], found), -np.inf)
    high = np.where(held, np.maximum(ends[1], found), np.inf)
    return Estimate(*(shaped(part, budget) for part in (found, low, high)))


def cost_curve(cost: ArrayLike, fid: ArrayLike, budget: ArrayLike) -> tuple[Array, Array]:
    """(expected cost of k settings, `expected_min` of k settings), for any cost on the x axis.

    `cost` (n,) is what each setting took (steps, FLOPs, seconds). In random order k settings cost
    k times the mean in expectation, whatever cost and score have to do with each other.
    """
    costs, scores = np.asarray(cost, dtype=float), np.asarray(fid, dtype=float)
    if costs.shape != scores.shape or not (np.isfinite(costs) & (costs >= 0)).all():
        raise StudyError(
            f"costs of shape {costs.shape} for {scores.shape} scores; one finite cost >= 0 "
            "a setting is needed: drop no row and fill in what is missing"
        )
    return np.asarray(budget) * costs.mean(), expected_min(scores, budget)


def subset_weights(n: int, budgets: list[int]) -> Array:
    """P(x(i) is the least of k of n) for i = 1..n, a column a budget: (n, budgets)."""
    return -np.diff([without(n, k) for k in budgets]).T


def repeated_weights(n: int, budgets: list[int]) -> Array:
    """The same for draws with replacement."""
    return -np.diff([replaced(n, k) for k in budgets]).T


def weighted(scores: Array, weights: Array, budgets: list[int]) -> Array:
    """Weighted sums (budgets,) of sorted scores (n,); infinite where k runs diverged."""
    diverged = np.isinf(scores)
    return np.where(diverged.sum() >= budgets, np.inf, np.where(diverged, 0, scores) @ weights)


def expanded(sample: Array, n: int, budgets: list[int], level: float) -> Array:
    """Percentiles (2, budgets) of bootstrap draws (draws, budgets), as far out as Student's t wants
    it of the 2 n / k runs that decide: a bootstrap's spread is that of n - 1 in n."""
    ends = np.empty((2, len(budgets)))
    for column, k in enumerate(budgets):
        deciding = max(2 * n / k, 2)
        reach = np.sqrt(deciding / (deciding - 1)) * stdtrit(deciding - 1, tails(level)[1])
        at = [ndtr(-reach), ndtr(reach)]
        ends[:, column] = np.quantile(sample[:, column], at, method="inverted_cdf")
    return ends


def _rank(n: int, budget: int, q: float) -> int:
    if not 0 <= q <= 1:
        raise StudyError(f"quantile {q} is outside 0 to 1; 0.5 is the median")
    return int(np.argmax(1 - without(n, budget)[1:] >= q - 1e-12))  # 1e-12: rounding of 1 - S


def _first_at(chance: Array, q: float) -> IntArray:
    """First place along axis 0 where a cumulative chance reaches q."""
    return np.asarray(np.argmax(chance >= q - 1e-12, axis=0))


def _at_min(fid: ArrayLike, value: ArrayLike) -> tuple[Array, IntArray]:
    """Values in the order of their scores, and what sorts these values."""
    scores, values = scores_of(fid), scores_of(value)
    if scores.shape != values.shape:
        raise StudyError(
            f"values of shape {values.shape} for {scores.shape} scores; give one number each"
        )
    by_score = values[np.lexsort((values, scores))]
    return by_score, np.argsort(by_score, kind="stable")

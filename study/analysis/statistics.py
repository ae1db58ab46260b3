"""What a search found, as a function of its budget, and how sure that is.

Every function takes the scores of n settings of one loss (the minimum distance of each run, shape
(n,), lower is better, +inf for a diverged run) and a budget k: the number of settings tried,
1 <= k <= n, a whole number or an array of them. A result has the shape of the budget.

Two bands must not be confused. `min_quantile` gives the spread of one search's outcome: what k
settings may yield. The intervals (`Estimate`) give the uncertainty of a curve that was estimated
from n settings. Near k = n both are too narrow, since no sample tells what lies below its minimum:
on 100 uniform scores the 95 % interval of the expected minimum covers the truth in 94 to 96 % of
cases up to k = 10, in 89 % at k = 50 and in 73 % at k = 100.

The bootstrap draws settings with replacement, each loss by itself (Efron 1979). Its mean is known
exactly: it is the same statistic for k settings drawn *with* replacement. So every interval of a
mean is the percentile interval, shifted by that known bias, and its end points are order
statistics, which infinities do not harm. `rng` is a seed or a `numpy.random.Generator`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, ndtri

from study.errors import StudyError

Array = NDArray[np.float64]
IntArray = NDArray[np.integer]
Survival = Callable[[int, int], Array]
Rng = int | np.random.Generator

ENOUGH = 10
"""Fewer settings than this tell no two losses apart: the bootstrap of three scores that lie below
three others has no spread, though the order comes about by chance once in ten (2 / C(6, 3))."""

_BLOCK = 200_000  # numbers of a bootstrap held at a time: 1.6 MB, about a processor's cache


class Estimate(NamedTuple):
    """A value and the ends of its interval, all of one shape."""

    value: Array
    low: Array
    high: Array


def expected_min(fid: ArrayLike, budget: ArrayLike) -> Array:
    """Expected minimum of k of the n scores, drawn without replacement; unbiased for k new ones.

    Sum of x(i) C(n-i, k-1) / C(n, k) over the sorted scores (Tang et al. 2020, arXiv 2004.14503,
    eq. 6); infinite where k or more runs diverged, since a draw may then hold nothing else.
    """
    scores, k = _scores(fid), np.asarray(budget)
    budgets = _budgets(k, len(scores))
    return _shaped([_mean(scores, -np.diff(_without(len(scores), b)), b) for b in budgets], k)


def expected_min_with_replacement(fid: ArrayLike, budget: ArrayLike) -> tuple[Array, Array]:
    """Mean and standard deviation of the minimum of k scores drawn with replacement.

    The limit of the paper's bootstrap: sum of x(i) [((n-i+1)/n)^k - ((n-i)/n)^k] (Dodge et al.
    2019, arXiv 1909.03004, eq. 7 and 8). Too high near k = n; infinite once a run diverged (the
    deviation is then undefined, and given as infinite).
    """
    scores, k = _scores(fid), np.asarray(budget)
    weights = [-np.diff(_with(len(scores), b)) for b in _budgets(k, len(scores))]
    if np.isinf(scores[-1]):
        return _shaped([np.inf] * k.size, k), _shaped([np.inf] * k.size, k)
    means = [scores @ w for w in weights]
    spreads = [np.sqrt((scores - mean) ** 2 @ w) for mean, w in zip(means, weights, strict=True)]
    return _shaped(means, k), _shaped(spreads, k)


def min_quantile(fid: ArrayLike, budget: ArrayLike, q: float) -> Array:
    """Quantile q (in [0, 1]) of the minimum of k of the n scores, exact, without interpolation.

    The smallest score x(i) with P(min <= x(i)) = 1 - C(n-i, k) / C(n, k) >= q.
    """
    scores, k = _scores(fid), np.asarray(budget)
    return _shaped([scores[_rank(len(scores), b, q)] for b in _budgets(k, len(scores))], k)


def expected_min_interval(
    fid: ArrayLike, budget: ArrayLike, *, rng: Rng, draws: int = 2000, level: float = 0.95
) -> Estimate:
    """`expected_min` with its bootstrap interval over the n settings."""
    scores, k = _scores(fid), np.asarray(budget)
    n, budgets = len(scores), _budgets(k, len(scores))
    weights = -np.diff([_without(n, b) for b in budgets]).T
    bias = np.where(np.isinf(scores), 0, scores) @ (
        -np.diff([_with(n, b) for b in budgets]).T - weights
    )
    rows = [
        _mean(scores[np.sort(p, kind="stable")], weights, budgets) for p in _picks(n, draws, rng)
    ]
    interval = _interval(np.concatenate(rows), bias, level)
    return Estimate(expected_min(fid, k), *(_shaped(end, k) for end in interval))


def min_quantile_interval(
    fid: ArrayLike, budget: ArrayLike, q: float, *, level: float = 0.95
) -> Estimate:
    """`min_quantile` with its bootstrap interval over the n settings, exact without any draw.

    The quantile is one order statistic x(i), and P(x*(i) <= x(j)) = P(Binomial(n, j/n) >= i)
    for a resample x* (Efron 1982, section 10.3; Hutson and Ernst 2000). Biased for no k, but never
    below the best score seen.
    """
    scores, k = _scores(fid), np.asarray(budget)
    n, share = len(scores), np.arange(1, len(scores) + 1) / len(scores)
    below = [betainc(i + 1, n - i, share) for i in (_rank(n, b, q) for b in _budgets(k, n))]
    ends = [[scores[np.argmax(p >= at - 1e-12)] for p in below] for at in _tails(level)]
    return Estimate(min_quantile(fid, k, q), *(_shaped(end, k) for end in ends))


def expected_at_min(fid: ArrayLike, value: ArrayLike, budget: ArrayLike) -> Array:
    """Expected value of another measure (n,) at the setting that has the least of k scores.

    The paper's precision and recall are those of the run with the best F1: fid = -F1. Settings of
    equal score share their values' mean; draws as in `expected_min`.
    """
    scores, k = _scores(fid), np.asarray(budget)
    values = np.asarray(value, dtype=float)
    if values.shape != scores.shape or not np.isfinite(values).all():
        raise StudyError(
            f"values of shape {values.shape} for {scores.shape} scores; give one finite value each"
        )
    level = np.unique(np.asarray(fid, dtype=float), return_inverse=True)[1]
    means = (np.bincount(level, values) / np.bincount(level))[np.sort(level)]
    budgets = _budgets(k, len(scores))
    return _shaped([means @ -np.diff(_without(len(scores), b)) for b in budgets], k)


def quantile_at_min(fid: ArrayLike, value: ArrayLike, budget: ArrayLike, q: float) -> Array:
    """Quantile q of another measure (n,) at the setting that has the least of k scores.

    For a score that was selected on some images and is reported on others. The least value whose
    settings are together selected with probability >= q; values may be +inf. With value = fid it is
    `min_quantile`. Of settings of equal score the one of least value is taken.
    """
    values, order = _at_min(fid, value)
    k = np.asarray(budget)
    picked = []
    for b in _budgets(k, len(values)):
        chance = np.cumsum(-np.diff(_without(len(values), b))[order])
        picked.append(values[order][_first_at(chance, q)])
    return _shaped(picked, k)


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
    """`quantile_at_min` with its percentile bootstrap interval over the n settings."""
    values, order = _at_min(fid, value)
    k, n, generator = np.asarray(budget), len(values), np.random.default_rng(rng)
    blocks = []
    for rows in _blocks(draws, n):
        counts = _resampled_counts(n, rows, generator)
        chances = (-np.diff(_without(n, b)[counts], axis=0)[order] for b in _budgets(k, n))
        blocks.append([values[order][_first_at(np.cumsum(c, axis=0), q)] for c in chances])
    interval = _interval(np.concatenate(blocks, axis=1).T, np.zeros(()), level)
    return Estimate(quantile_at_min(fid, value, k, q), *(_shaped(end, k) for end in interval))


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


def win_probability(x: ArrayLike, y: ArrayLike, budget: ArrayLike) -> Array:
    """P(best of k from X is below best of k from Y), a tie counting half; without replacement.

    Both diverged is a tie. For k = 1 this is Mann-Whitney's U / (n m).
    """
    return np.asarray(2 - expected_ranks([x, y], budget)[0])[()]


def win_interval(x: ArrayLike, y: ArrayLike, budget: ArrayLike, **options: Any) -> Estimate:
    """`win_probability` with its bootstrap interval; options as in `rank_interval`."""
    ranks = rank_interval([x, y], budget, **options)
    return Estimate(*(np.asarray(2 - r[0])[()] for r in (ranks.value, ranks.high, ranks.low)))


def expected_ranks(fids: Sequence[ArrayLike], budget: ArrayLike) -> Array:
    """Expected rank (1 is best) of each loss's best of k among all losses, shape (losses, *k).

    1 + the sum over the other losses of P(its best of k is below), ties sharing their ranks.
    """
    return _exact_ranks(fids, np.asarray(budget), _without)


def rank_interval(
    fids: Sequence[ArrayLike],
    budget: ArrayLike,
    *,
    rng: Rng,
    draws: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """`expected_ranks` with its bootstrap interval over the settings of every loss."""
    k = np.asarray(budget)
    value, repeated = _exact_ranks(fids, k, _without), _exact_ranks(fids, k, _with)
    sample = _rank_sample(fids, k, draws, rng).swapaxes(0, 1).reshape(draws, *value.shape)
    ends = _interval(sample, repeated - value, level)
    return Estimate(value, *(np.clip(end, 1, len(fids)) for end in ends))


def settings_to_separate(
    x: ArrayLike, y: ArrayLike, budget: int, *, rng: Rng, level: float = 0.95, power: float = 0.8
) -> float:
    """How many more settings of each loss to tell, at budget k, which of the two wins.

    Told apart: the two-sided test of P(win) = 1/2 at 1 - level succeeds with probability `power`.
    The standard error (of 2,000 bootstrap draws) falls with 1/sqrt(n), so that
    n' = n ((z_level + z_power) se / (P - 1/2))^2, the normal sample size formula (Noether 1987, for
    k = 1). It takes the measured P for the truth; 0 if n suffices, infinite if P is within 0.001 of
    1/2.
    """
    effect = abs(float(win_probability(x, y, budget)) - 0.5)
    if effect < 1e-3:
        return np.inf
    error = float(_rank_sample([x, y], np.asarray(budget), 2000, rng)[0].std())
    n, z = min(np.size(x), np.size(y)), float(ndtri((1 + level) / 2) + ndtri(power))
    return float(max(0, np.ceil(n * (z * error / effect) ** 2 - n)))


def performance_profile(fid: ArrayLike, tau: ArrayLike) -> Array:
    """Share of settings with a distance below tau, shape of tau (Dolan and Moré 2002; rliable,
    Agarwal et al. 2021, arXiv 2108.13264, eq. 3, with lower for better)."""
    return np.asarray(np.searchsorted(_scores(fid), tau, side="left") / np.size(fid))[()]


def share_interval(count: ArrayLike, n: int, *, level: float = 0.95) -> Estimate:
    """count / n with Wilson's score interval (Wilson 1927): sane at 0 and n, for any n >= 1."""
    if n < 1 or np.any((np.asarray(count) < 0) | (np.asarray(count) > n)):
        raise StudyError(f"{count!r} of {n} is no share; give 0 <= count <= n and n >= 1")
    share, z2 = np.asarray(count) / n, float(ndtri((1 + level) / 2)) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Estimate(share, np.maximum(centre - half, 0), np.minimum(centre + half, 1))


def diverged_share(fid: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Share of diverged runs (scores of +inf) with Wilson's interval."""
    scores = _scores(fid)
    return share_interval(int(np.isinf(scores).sum()), len(scores), level=level)


def interquartile_mean(fid: ArrayLike) -> float:
    """Mean of the middle half: floor(n/4) scores cut at each end (rliable's IQM, that is
    scipy's trim_mean at 0.25). Infinite if more than a quarter of the runs diverged."""
    scores = _scores(np.ravel(np.asarray(fid, dtype=float)))
    cut = len(scores) // 4
    return float(scores[cut : len(scores) - cut].mean())


def optimality_gap(fid: ArrayLike, target: float) -> float:
    """Mean of max(score - target, 0): by how much the target distance is missed on average.

    rliable's gamma - mean(min(score, gamma)) with lower for better, in the distance's own unit.
    """
    return float(np.maximum(_scores(np.ravel(np.asarray(fid))) - target, 0).mean())


def spearman(
    x: ArrayLike, y: ArrayLike, *, rng: Rng, draws: int = 2000, level: float = 0.95
) -> Estimate:
    """Spearman's rank correlation of paired values with its percentile bootstrap over the pairs.

    Ties, infinities among them, share their mean rank. Resamples in which either side has one
    value only have no correlation and are left out.
    """
    pair = [np.asarray(values, dtype=float) for values in (x, y)]
    if pair[0].shape != pair[1].shape or any(_scores(v)[0] == _scores(v)[-1] for v in pair):
        raise StudyError(
            f"no rank correlation of {pair[0].shape} with {pair[1].shape} values; give two "
            "equally long lists, each with at least two different values"
        )
    codes = np.stack([np.unique(values, return_inverse=True)[1] for values in pair])
    rows = np.concatenate([_correlation(codes[:, p]) for p in _picks(codes.shape[1], draws, rng)])
    low, high = _interval(rows[np.isfinite(rows)], np.zeros(()), level)
    return Estimate(_correlation(codes[:, None])[0], low, high)


def _exact_ranks(fids: Sequence[ArrayLike], budget: IntArray, survival: Survival) -> Array:
    samples = [_scores(fid) for fid in fids]
    counts = [np.arange(len(s) + 1)[:, None] for s in samples]
    budgets = _budgets(budget, min(len(s) for s in samples))
    return _ranks(samples, counts, budgets, survival).reshape(len(fids), *budget.shape)


def _rank_sample(fids: Sequence[ArrayLike], budget: IntArray, draws: int, rng: Rng) -> Array:
    """Expected ranks in every bootstrap resample, (losses, draws, budgets)."""
    samples, generator = [_scores(fid) for fid in fids], np.random.default_rng(rng)
    budgets, sizes = _budgets(budget, min(len(s) for s in samples)), [len(s) for s in samples]
    blocks = []
    for rows in _blocks(draws, sum(sizes)):
        counts = [_resampled_counts(n, rows, generator) for n in sizes]
        blocks.append(_ranks(samples, counts, budgets, _without))
    return np.concatenate(blocks, axis=1)


def _ranks(
    samples: list[Array], counts: Sequence[IntArray], budgets: list[int], survival: Survival
) -> Array:
    """Expected ranks (losses, rows, budgets), given how often each loss's i best scores,
    i = 0..n, were drawn: counts (n + 1, rows).

    Loss i beats j with chance sum p_i(v) (S_j before v + S_j at v) / 2 over the values v, where
    S_j(v) = P(best of j above v); over all j, itself (1/2) included, only the total of S matters.
    """
    values = np.unique(np.concatenate(samples))
    below = [np.concatenate([[0], np.searchsorted(s, values, "right")]) for s in samples]
    level = [np.searchsorted(values, s) for s in samples]
    ranks = np.empty((len(samples), counts[0].shape[1], len(budgets)))
    for column, budget in enumerate(budgets):
        above = [survival(len(c) - 1, budget)[c] for c in counts]
        total = sum(a[b] for a, b in zip(above, below, strict=True))
        middle = (total[:-1] + total[1:]) / 2
        for row, (a, v) in enumerate(zip(above, level, strict=True)):
            ranks[row, :, column] = np.einsum("vr,vr->r", np.diff(a, axis=0), middle[v])
    return ranks + len(samples) + 0.5


def _without(n: int, budget: int) -> Array:
    """P(min of k > x(i)) = C(n-i, k) / C(n, k) for i = 0..n, as a product of ratios within [0, 1]:
    nothing overflows, and small values keep their relative precision."""
    i = np.arange(n)
    return np.concatenate([[1.0], np.cumprod(np.maximum(n - budget - i, 0) / (n - i))])


def _with(n: int, budget: int) -> Array:
    """The same for draws with replacement: ((n - i) / n)^k."""
    return np.asarray((1 - np.arange(n + 1) / n) ** budget, dtype=float)


def _mean(scores: Array, weights: Array, budget: int | list[int]) -> Array:
    """Weighted sums (..., *budgets) of sorted scores (..., n); infinite where k runs diverged."""
    diverged = np.isinf(scores)
    count = diverged.sum(-1).reshape(scores.shape[:-1] + (1,) * np.ndim(budget))
    return np.where(count >= budget, np.inf, np.where(diverged, 0, scores) @ weights)


def _rank(n: int, budget: int, q: float) -> int:
    if not 0 <= q <= 1:
        raise StudyError(f"quantile {q} is outside 0 to 1; 0.5 is the median")
    return int(np.argmax(1 - _without(n, budget)[1:] >= q - 1e-12))  # 1e-12: rounding of 1 - S


def _first_at(chance: Array, q: float) -> Array:
    """First place along axis 0 where a cumulative chance reaches q."""
    return np.asarray(np.argmax(chance >= q - 1e-12, axis=0))


def _at_min(fid: ArrayLike, value: ArrayLike) -> tuple[Array, IntArray]:
    """Values in the order of their scores, and what sorts these values."""
    scores, values = np.asarray(fid, dtype=float), np.asarray(value, dtype=float)
    _scores(scores), _scores(values)
    if scores.shape != values.shape:
        raise StudyError(
            f"values of shape {values.shape} for {scores.shape} scores; give one number each"
        )
    by_score = values[np.lexsort((values, scores))]
    return by_score, np.argsort(by_score, kind="stable")


def _blocks(draws: int, size: int) -> list[int]:
    """Draws cut into blocks of rows, of `size` numbers each, that fit a processor's cache."""
    rows = max(1, _BLOCK // size)
    return [min(rows, draws - start) for start in range(0, draws, rows)]


def _picks(n: int, draws: int, rng: Rng) -> Iterator[IntArray]:
    """Resamples of n settings as blocks (rows, n) of their numbers."""
    generator = np.random.default_rng(rng)
    dtype = np.uint16 if n <= 2**16 else np.int64  # 16 bits are sorted by radix, in linear time
    for rows in _blocks(draws, n):
        yield generator.integers(n, size=(rows, n), dtype=dtype)


def _resampled_counts(n: int, rows: int, rng: np.random.Generator) -> IntArray:
    """How many picks of a resample are among the i best settings, i = 0..n: (n + 1, rows)."""
    picks = (rng.integers(n, size=(rows, n)) + 1) * rows + np.arange(rows)[:, None]
    counts = np.bincount(picks.ravel(), minlength=rows * (n + 1)).reshape(n + 1, rows)
    return np.cumsum(counts, axis=0)


def _correlation(codes: IntArray) -> Array:
    """Pearson's correlation of the mid-ranks of codes (2, rows, n), as (rows,)."""
    ranks = np.stack([_mid_ranks(side) for side in codes])
    ranks -= ranks.mean(-1, keepdims=True)
    norms = np.sqrt((ranks**2).sum(-1))
    with np.errstate(invalid="ignore"):
        return np.asarray((ranks[0] * ranks[1]).sum(-1) / (norms[0] * norms[1]), dtype=float)


def _mid_ranks(codes: IntArray) -> Array:
    """Ranks of each row's codes (rows, n) in 0..n-1, ties at their mean rank."""
    rows, n = codes.shape
    flat = codes + n * np.arange(rows)[:, None]
    counts = np.bincount(flat.ravel(), minlength=rows * n).reshape(rows, n)
    return np.take_along_axis(np.cumsum(counts, 1) - (counts - 1) / 2, codes, axis=1)


def _interval(sample: Array, bias: Array, level: float) -> tuple[Array, Array]:
    low, high = np.quantile(sample, _tails(level), axis=0, method="inverted_cdf")
    return low - bias, high - bias


def _tails(level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise StudyError(f"level {level} is not between 0 and 1; 0.95 is usual")
    return (1 - level) / 2, (1 + level) / 2


def _scores(fid: ArrayLike) -> Array:
    """The scores sorted, shape (n,), n >= 1; refused where they cannot be ranked."""
    scores = np.asarray(fid, dtype=float)
    if scores.ndim != 1 or not scores.size:
        raise StudyError(f"scores of shape {scores.shape}; give one number a setting, at least one")
    bad = np.isnan(scores) | (scores == -np.inf)
    if bad.any():
        raise StudyError(
            f"{bad.sum()} of {scores.size} scores are NaN or -inf; a diverged run counts as +inf, "
            "a run that failed on its machine is run again"
        )
    return np.sort(scores)


def _budgets(budget: IntArray, n: int) -> list[int]:
    flat = np.ravel(budget)
    bad = flat[~((flat >= 1) & (flat <= n) & (flat == np.floor(flat)))]
    if bad.size:
        raise StudyError(f"budget {bad[0]} is not a whole number from 1 to {n}, the settings there")
    return [int(k) for k in flat]


def _shaped(values: Sequence[ArrayLike] | Array, budget: IntArray) -> Array:
    return np.asarray(values, dtype=float).reshape(budget.shape)[()]

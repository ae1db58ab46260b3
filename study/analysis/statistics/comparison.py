"""Which of two losses finds the lower score with k settings, and whether chance tells it as well.

Scores as everywhere: one a setting, lower is better, +inf for a diverged run. *Paired*: x[i] and
y[i] are of one and the same setting (and seed). *Unpaired*: each loss drew its own settings.

The tests depend on the order of the scores alone, so that infinities are ordinary values, and on no
order of the rows.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from study.analysis.statistics.curves import expanded, subset_weights, weighted
from study.analysis.statistics.relabelling import null_of, observed
from study.analysis.statistics.samples import (
    Array,
    Estimate,
    IntArray,
    budgets_of,
    judged,
    pairs_of,
    scores_of,
    shaped,
    tails,
    without,
)

Bools = NDArray[np.bool_]


class Comparison(NamedTuple):
    """A loss X beside another Y. Arrays have one entry a budget."""

    budgets: IntArray
    chance: Array
    """P(best of k of X < best of k of Y), a tie counting half."""
    p: Array
    """Two-sided p-value of the budget by itself."""
    p_adjusted: Array
    """The same with all judged budgets allowed for (min-p); 1 where the budget is not judged."""
    p_any: float
    """The least of p_adjusted: whether the two differ at any judged budget. 1 where none is."""
    judged: Bools
    """Whether there are 8 k settings of both."""
    error: Array
    """Four standard errors of p_adjusted from the draws; 0 where all relabellings were counted."""


class Judgement(NamedTuple):
    """A loss beside the reference, with all losses allowed for (Holm)."""

    comparison: Comparison
    p_holm: float
    """p_any, Holm's correction over the losses compared."""
    better: tuple[int, ...]
    """Budgets at which it is better than the reference, with the error stated."""
    worse: tuple[int, ...]


def win_chance(x: ArrayLike, y: ArrayLike, budget: ArrayLike, paired: bool = False) -> Array:
    """P(best of k of X < best of k of Y), a tie counting half, k drawn without replacement.

    Paired: the same k settings for both. With m = min(x, y) and pairs sorted by m that is
    W_k = sum over i of 1[x_i < y_i] C(n - i, k - 1) / C(n, k), where no two m are equal; equal ones
    are handled exactly. Unpaired at k = 1: Mann-Whitney's U / (n m). Both diverged is a tie.
    """
    pattern, labels = observed(x, y, paired)
    budgets = budgets_of(budget, pattern.fewest)
    return shaped(_chance(pattern.excess(labels, budgets)[0]), budget)


def _chance(excess: Array) -> Array:
    """Excess over 1/2 as a chance: rounding leads to no number outside [0, 1]."""
    return np.clip(excess + 0.5, 0, 1)


def told_apart(
    x: ArrayLike,
    y: ArrayLike,
    budgets: ArrayLike,
    paired: bool = False,
    draws: int = 20_000,
    seed: int = 0,
) -> Comparison:
    """Test of "the loss does not matter" at each budget and at any of those that are judged.

    The statistic is |P(best of k of X < best of k of Y) - 1/2|, see `win_chance`; p is the share of
    `draws` relabellings (paired: swaps within pairs; unpaired: permutations of the pooled scores)
    in which it is at least as large, the observed one counted in; of all relabellings where these
    are no more. At k = 1 this is the sign test, and Mann-Whitney's. Over the budgets: the least p,
    judged by the same relabellings (Westfall and Young 1993, algorithm 2.5). A budget is judged
    where both losses have 8 k settings. The test is of the sharp null hypothesis, under which the
    loss changes no score.
    """
    pattern, labels = observed(x, y, paired)
    tried = tuple(budgets_of(budgets, pattern.fewest))
    excess = pattern.excess(labels, list(tried))[0]
    null = null_of(pattern, tried, draws, seed)
    held = judged(tried, pattern.fewest)
    count = null.at_least(abs(excess))
    counted = 0 if null.complete else 1  # a drawn sample holds the observed labels once more
    total = null.draws + counted
    p, adjusted = (count + counted) / total, np.ones(len(tried))
    for column in np.flatnonzero(held):
        rank = count[column] + counted
        limits = rank - ((counted == 1) & (count < rank))
        as_rare = (null.ranks[:, held] <= limits[held]).any(axis=1).sum()
        adjusted[column] = (as_rare + counted) / total
    error = 4 * np.sqrt(adjusted * (1 - adjusted) / total) + 4 / total
    return Comparison(
        budgets=np.array(tried),
        chance=_chance(excess),
        p=p,
        p_adjusted=adjusted,
        p_any=float(adjusted.min(initial=1.0)),
        judged=held,
        error=np.where(held, 0.0 if null.complete else error, 0.0),
    )


def holm(p_values: ArrayLike) -> Array:
    """Holm's adjusted p-values (Holm 1979): the j-th least of m times m - j + 1, rising, at most 1.

    Naming those at or below alpha errs in at most a share alpha of all studies, however the tests
    depend on each other.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1)
    return adjusted


def first_draws(paired: bool) -> int:
    """Sign flips, or permutations, that a test begins with."""
    return 100_000 if paired else 20_000


def judge(
    reference: ArrayLike,
    others: Mapping[str, ArrayLike],
    budgets: ArrayLike,
    paired: bool = False,
    *,
    alpha: float = 0.05,
    most: int = 1_600_000,
    seed: int = 0,
) -> dict[str, Judgement]:
    """Every other loss against the reference: names somebody wrongly in a share alpha of studies.

    `told_apart` for each, Holm over the losses; a loss that is named is said to be better or worse
    at the budgets whose adjusted p passes the same step. Draws are taken until nobody's naming
    depends on them (four standard errors), `most` at most; what is still open then is not named.
    """
    draws = dict.fromkeys(others, first_draws(paired))
    found: dict[str, Comparison] = {}
    named, unsettled = np.zeros((0, 0), bool), list(others)
    while unsettled:
        for name in unsettled:
            found[name] = told_apart(others[name], reference, budgets, paired, draws[name], seed)
        p, error = (np.array([getattr(c, part) for c in found.values()]) for part in _PARTS)
        named = _named(p + error, alpha)
        differ = (named != _named(p - error, alpha)).any(axis=1)
        unsettled = [n for n, open_ in zip(found, differ, strict=True) if open_]
        unsettled = [name for name in unsettled if 4 * draws[name] <= most]
        draws |= {name: 4 * draws[name] for name in unsettled}
    adjusted = holm([comparison.p_any for comparison in found.values()])
    return {
        name: Judgement(
            comparison,
            float(p_holm),
            tuple(comparison.budgets[row & (comparison.chance > 0.5)].tolist()),
            tuple(comparison.budgets[row & (comparison.chance < 0.5)].tolist()),
        )
        for (name, comparison), p_holm, row in zip(found.items(), adjusted, named, strict=True)
    }


_PARTS = ("p_adjusted", "error")


def _named(p: Array, alpha: float) -> Bools:
    """Which (loss, budget) are named, given adjusted p-values (losses, budgets): Holm's steps."""
    named = np.zeros(p.shape, bool)
    if p.size:
        least = p.min(axis=1)
        for step, row in enumerate(np.argsort(least, kind="stable")):
            limit = alpha / (len(p) - step)
            if least[row] > limit:
                break
            named[row] = p[row] <= limit
    return named


def ratio_interval(
    x: ArrayLike,
    y: ArrayLike,
    budget: ArrayLike,
    paired: bool = False,
    *,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Expected best of k of X over that of Y, with a bootstrap interval, for k <= n / 8.

    Settings are drawn with replacement, pairs together where paired; percentiles reach as far out
    as in `expected_min_interval`, unshifted, since numerator and denominator share their bias. 0
    to infinity beyond n / 8, where intervals of this kind do not hold, and where both means are
    infinite, of which the ratio is NaN. A score must not be negative. Simulated (n = 40 and
    80): 95 % intervals hold the truth in 93 to 98 %, at k = 1 of lognormal searches in 89 to 95 %.
    """
    first, second = pairs_of(x, y) if paired else (scores_of(x), scores_of(y))
    fewest = min(len(first), len(second))
    budgets = budgets_of(budget, fewest)
    held, _ = judged(budgets, fewest), tails(level)
    sides = [(np.sort(s), subset_weights(len(s), budgets)) for s in (first, second)]
    above, below = (weighted(s, w, budgets) for s, w in sides)
    value = _ratio(above, below, np.nan)
    low, high = np.zeros(len(budgets)), np.full(len(budgets), np.inf)
    if held.any():
        generator = np.random.default_rng(seed)
        counts = [_resampled(len(first), draws, generator)]
        counts.append(counts[0] if paired else _resampled(len(second), draws, generator))
        above, below = (
            _resampled_means(side, count, budgets)
            for side, count in zip((first, second), counts, strict=True)
        )
        lows, highs = (_ratio(above, below, undefined) for undefined in (0.0, np.inf))
        low = np.where(held, np.fmin(expanded(lows, fewest, budgets, level)[0], value), low)
        high = np.where(held, np.fmax(expanded(highs, fewest, budgets, level)[1], value), high)
    return Estimate(*(shaped(part, budget) for part in (value, low, high)))


def _resampled(n: int, draws: int, generator: np.random.Generator) -> IntArray:
    """How often each of n settings is drawn, (draws, n)."""
    picks = generator.integers(n, size=(draws, n)) + n * np.arange(draws)[:, None]
    return np.bincount(picks.ravel(), minlength=draws * n).reshape(draws, n)


def _resampled_means(scores: Array, counts: IntArray, budgets: list[int]) -> Array:
    """`expected_min` of every resample, (draws, budgets)."""
    n, order = len(scores), np.argsort(scores, kind="stable")
    taken = np.zeros((len(counts), n + 1), dtype=np.int64)
    np.cumsum(counts[:, order], axis=1, out=taken[:, 1:])
    ranked, diverged = scores[order], int(np.isinf(scores).sum())
    finite, means = np.where(np.isinf(ranked), 0, ranked), []
    for k in budgets:
        mean = -np.diff(without(n, k)[taken], axis=1) @ finite
        means.append(np.where(n - taken[:, n - diverged] >= k, np.inf, mean))
    return np.stack(means, axis=1)


def _ratio(above: Array, below: Array, undefined: float) -> Array:
    """above / below; `undefined` where both are 0, or both infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = above / below
    return np.where(np.isnan(ratio), undefined, ratio)

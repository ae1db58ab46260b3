"""What all statistics of a search share: checked scores and budgets, and the chances of subsets."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from study.errors import StudyError

Array = NDArray[np.float64]
IntArray = NDArray[np.integer]
Rng = int | np.random.Generator

BUDGETS = (1, 2, 5, 10)
"""Settings tried at which losses are judged, where there are settings for it."""
SETTINGS_A_BUDGET = 8
"""A budget k is judged where there are 8 k settings. The best of k out of n is decided by about
2 n / k of the runs: at k = n / 2 by four, which can prove nothing."""

_BLOCK = 200_000  # numbers of a bootstrap held at a time: 1.6 MB, about a processor's cache


class Estimate(NamedTuple):
    """A value and the ends of its interval, all of one shape; an infinite end is open."""

    value: Array
    low: Array
    high: Array


def judged(budget: ArrayLike, n: int) -> NDArray[np.bool_]:
    """Whether a budget is judged with n settings: n >= 8 k."""
    return n >= SETTINGS_A_BUDGET * np.asarray(budget)


def scores_of(fid: ArrayLike) -> Array:
    """The scores as given, shape (n,), n >= 1; StudyError where they cannot be ranked."""
    scores = np.asarray(fid, dtype=float)
    if scores.ndim != 1 or not scores.size:
        raise StudyError(f"scores of shape {scores.shape}; give one number a setting, at least one")
    bad = np.isnan(scores) | (scores == -np.inf)
    if bad.any():
        raise StudyError(
            f"{bad.sum()} of {scores.size} scores are NaN or -inf; a diverged run counts as +inf, "
            "a run that failed on its machine is run again"
        )
    return scores


def pairs_of(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Both sides of paired scores; StudyError where they are not equally many."""
    first, second = scores_of(x), scores_of(y)
    if first.shape != second.shape:
        raise StudyError(
            f"{len(first)} scores paired with {len(second)}; give both of each setting, in one "
            "order, or compare them unpaired"
        )
    return first, second


def budgets_of(budget: ArrayLike, n: int) -> list[int]:
    """Budgets as a flat list; StudyError where one is no whole number from 1 to n."""
    flat = np.ravel(budget)
    bad = flat[~((flat >= 1) & (flat <= n) & (flat == np.floor(flat)))]
    if bad.size:
        raise StudyError(f"budget {bad[0]} is not a whole number from 1 to {n}, the settings there")
    return [int(k) for k in flat]


def shaped(values: Sequence[ArrayLike] | Array, budget: ArrayLike) -> Array:
    """Values in the shape of the budgets; a number where the budget is one."""
    return np.asarray(values, dtype=float).reshape(np.shape(budget))[()]


def without(n: int, budget: int) -> Array:
    """P(min of k > x(i)) = C(n-i, k) / C(n, k) for i = 0..n, k scores drawn without replacement.

    A product of ratios within [0, 1]: nothing overflows, and small values keep their precision.
    """
    i = np.arange(n)
    return np.concatenate([[1.0], np.cumprod(np.maximum(n - budget - i, 0) / (n - i))])


def replaced(n: int, budget: int) -> Array:
    """The same for draws with replacement: ((n - i) / n)^k."""
    return np.asarray((1 - np.arange(n + 1) / n) ** budget, dtype=float)


def tails(level: float) -> tuple[float, float]:
    """What lies below either end of an interval of this level."""
    if not 0 < level < 1:
        raise StudyError(f"level {level} is not between 0 and 1; 0.95 is usual")
    return (1 - level) / 2, (1 + level) / 2


def blocks(draws: int, size: int) -> list[int]:
    """Draws cut into blocks of rows, of `size` numbers each, that fit a processor's cache."""
    rows = max(1, _BLOCK // size)
    return [min(rows, draws - start) for start in range(0, draws, rows)]


def picks(n: int, draws: int, rng: Rng) -> Iterator[IntArray]:
    """Resamples of n settings as blocks (rows, n) of their numbers."""
    generator = np.random.default_rng(rng)
    dtype = np.uint16 if n <= 2**16 else np.int64  # 16 bits are sorted by radix, in linear time
    for rows in blocks(draws, n):
        yield generator.integers(n, size=(rows, n), dtype=dtype)

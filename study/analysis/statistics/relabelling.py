"""Relabellings: what two losses' scores could have been, did the loss not matter.

Paired scores swap their labels, pooled ones are dealt anew. Both patterns know the statistic, the
excess of P(best of k of X < best of k of Y) over 1/2, of any labels. Only the order of the scores
counts, so that a null distribution serves all pairs of losses with the same pattern of ties (most
often none) and is remembered.
"""

from functools import lru_cache
from itertools import combinations
from math import comb
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from study.analysis.statistics.samples import Array, IntArray, pairs_of, scores_of, without

Labels = NDArray[Any]
"""Rows of labels: paired, which decided pairs X wins; unpaired, the places of X's scores."""

_EQUAL = 1e-12  # statistics nearer than this are equal, but for rounding
_ROWS = 2_000  # relabellings held at a time


class Pairs(NamedTuple):
    """The pattern of paired scores: pairs in levels of equal min(x, y), the least first."""

    n: int
    decided: tuple[int, ...]
    """Pairs of unlike scores in each level that has any."""
    before: tuple[int, ...]
    """All pairs in the levels below."""
    size: tuple[int, ...]
    """All pairs in the level."""

    @property
    def fewest(self) -> int:
        """The fewer settings of the two losses."""
        return self.n

    @property
    def relabellings(self) -> int:
        """How many there are."""
        return int(2 ** sum(self.decided))

    def every(self) -> Labels:
        """All of them."""
        d = sum(self.decided)
        return ((np.arange(2**d)[:, None] >> np.arange(d)) & 1).astype(bool)

    def draw(self, rows: int, generator: np.random.Generator) -> Labels:
        """Some of them, each as likely as any other."""
        return generator.integers(0, 2, size=(rows, sum(self.decided)), dtype=np.int8).astype(bool)

    def excess(self, wins: Labels, budgets: list[int]) -> Array:
        """W_k - 1/2 (rows, budgets), given which decided pairs X wins (rows, decided).

        A level decides where no lower one was drawn. X wins it if only pairs that it wins were
        drawn of it: of C(rest + a, k) - C(rest, k) subsets, a the pairs that X wins there.
        """
        survival = np.array([without(self.n, k) for k in budgets]) / 2
        end = np.array(self.before, int) + np.array(self.size, int)
        decided = np.array(self.decided, int)
        starts = np.concatenate([[0], np.cumsum(decided)])[:-1]
        single = decided == 1
        gain = survival[:, end[single] - 1] - survival[:, end[single]]
        total = (2.0 * wins[:, starts[single]] - 1) @ gain.T
        for level in np.flatnonzero(~single):
            d, last = decided[level], end[level]
            a = wins[:, starts[level] : starts[level] + d].sum(axis=1)
            total += (survival[:, last - a] - survival[:, last - (d - a)]).T
        return np.asarray(total)


class Pooled(NamedTuple):
    """The pattern of unpaired scores: how many there are of each value, the least first."""

    n: int
    m: int
    sizes: tuple[int, ...]

    @property
    def fewest(self) -> int:
        """The fewer settings of the two losses."""
        return min(self.n, self.m)

    @property
    def relabellings(self) -> int:
        """How many there are."""
        return comb(self.n + self.m, self.n)

    def every(self) -> Labels:
        """All of them."""
        return np.array(list(combinations(range(self.n + self.m), self.n)), dtype=np.int64)

    def draw(self, rows: int, generator: np.random.Generator) -> Labels:
        """Places of X among the pooled scores, sorted: (rows, n)."""
        size = (rows, self.n + self.m)
        keys = generator.integers(2**32, size=size, dtype=np.uint32)
        return np.sort(np.argpartition(keys, self.n, axis=1)[:, : self.n], axis=1)

    def excess(self, places: Labels, budgets: list[int]) -> Array:
        """P(best of k of X < best of k of Y) - 1/2, (rows, budgets), given the places of X.

        The j-th score of X is its best with chance S(j - 1) - S(j); Y's best is above it with the
        chance S of as many scores of Y as lie below, halfway where some lie at it.
        """
        if len(self.sizes) == self.n + self.m:
            below = through = places - np.arange(self.n)  # no ties: those of Y that lie before
        else:
            of_x = np.zeros((len(places), self.n + self.m + 1), dtype=np.int64)
            np.put_along_axis(of_x, places + 1, 1, axis=1)
            np.cumsum(of_x, axis=1, out=of_x)
            end = np.cumsum(self.sizes)
            start: IntArray = np.repeat(end - np.array(self.sizes), self.sizes)[places]
            stop = np.repeat(end, self.sizes)[places]
            below = start - np.take_along_axis(of_x, start, axis=1)
            through = stop - np.take_along_axis(of_x, stop, axis=1)
        columns = []
        for k in budgets:
            best, above = -np.diff(without(self.n, k)), without(self.m, k)
            middle = above[below] if below is through else (above[below] + above[through]) / 2
            columns.append(middle @ best - 0.5)
        return np.stack(columns, axis=1)


class Null:
    """The statistic of many relabellings at each budget, and their ranks among themselves."""

    def __init__(self, statistics: Array, complete: bool) -> None:
        self.draws, self.complete = len(statistics), complete
        self.sorted = np.sort(statistics, axis=0)
        self.ranks = self.at_least(statistics)

    def at_least(self, statistics: Array) -> IntArray:
        """In how many relabellings each budget's statistic is at least this, (..., budgets)."""
        columns = [
            self.draws - np.searchsorted(column, value - _EQUAL, side="left")
            for column, value in zip(self.sorted.T, statistics.T, strict=True)
        ]
        return np.stack(columns, axis=-1)


@lru_cache(maxsize=16)
def null_of(pattern: Pairs | Pooled, budgets: tuple[int, ...], draws: int, seed: int) -> Null:
    """The statistic's null distribution: all relabellings where they are no more than `draws`."""
    if pattern.relabellings <= draws:
        return Null(abs(pattern.excess(pattern.every(), list(budgets))), True)
    generator = np.random.default_rng(seed)
    rows = [min(_ROWS, draws - start) for start in range(0, draws, _ROWS)]
    drawn = [abs(pattern.excess(pattern.draw(r, generator), list(budgets))) for r in rows]
    return Null(np.concatenate(drawn), False)


def observed(x: ArrayLike, y: ArrayLike, paired: bool) -> tuple[Pairs | Pooled, Labels]:
    """The pattern of two losses' scores, and the labels that were observed, one row."""
    if paired:
        first, second = pairs_of(x, y)
        least = np.minimum(first, second)
        order = np.lexsort((first > second, first == second, least))
        first, second, least = first[order], second[order], least[order]
        _, begin, size = np.unique(least, return_index=True, return_counts=True)
        decided = np.add.reduceat((first != second).astype(int), begin)
        kept = decided > 0
        levels = (decided[kept], begin[kept], size[kept])
        pattern = Pairs(len(least), *(tuple(part.tolist()) for part in levels))
        return pattern, (first < second)[first != second][None]
    first, second = scores_of(x), scores_of(y)
    pooled = np.concatenate([first, second])
    order = np.argsort(pooled, kind="stable")
    sizes = np.unique(pooled, return_counts=True)[1]
    places = np.flatnonzero(order < len(first))[None]
    return Pooled(len(first), len(second), tuple(sizes.tolist())), places

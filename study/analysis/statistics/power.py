"""What a comparison could have seen: the chance that a loss is named which is better by so much."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from study.analysis.statistics.relabelling import Labels, Pairs, Pooled, null_of
from study.analysis.statistics.samples import Array, budgets_of, judged, pairs_of, scores_of


def power(
    x: ArrayLike,
    y: ArrayLike,
    factor: float,
    budgets: Sequence[int],
    paired: bool = False,
    *,
    alpha: float,
    draws: int = 20_000,
    studies: int = 1_000,
    seed: int = 0,
) -> float:
    """Chance that `told_apart` finds p_any <= alpha, and the loss better, for one that is better
    by `factor` (0.8: its scores are 0.8 times as large) at every setting.

    Studies are made of the scores at hand: relabelled at random, as though the loss did not matter
    (paired: pairs swapped; unpaired: pooled scores dealt anew), then one side is multiplied. A
    diverged run stays one. `draws` as in `told_apart`, whose null distribution is shared. 0 where
    no budget is judged.
    """
    generator = np.random.default_rng(seed)
    pattern: Pairs | Pooled
    if paired:
        pattern, labels = _paired(*pairs_of(x, y), factor, studies, generator)
    else:
        pattern, labels = _unpaired(scores_of(x), scores_of(y), factor, studies, generator)
    tried = tuple(k for k in budgets_of(list(budgets), pattern.fewest) if judged(k, pattern.fewest))
    if not tried:
        return 0.0
    null = null_of(pattern, tried, draws, 0)
    excess = pattern.excess(labels, list(tried))
    count = null.at_least(abs(excess))
    rarest = np.sort(null.ranks.min(axis=1))  # min-p: the rarest budget of each relabelling
    counted = 0 if null.complete else 1
    as_rare = np.searchsorted(rarest, count.min(axis=1), side="right")
    named = (as_rare + counted) / (null.draws + counted) <= alpha
    better = np.take_along_axis(excess, count.argmin(axis=1)[:, None], axis=1)[:, 0] > 0
    return float((named & better).mean())


def _paired(
    x: Array, y: Array, factor: float, studies: int, generator: np.random.Generator
) -> tuple[Pairs, Labels]:
    """The pattern of the pairs and, a row a study, which of the decided ones the better loss wins.

    Pairs that both diverged come last and decide nothing; other ties are of probability 0.
    """
    swap = generator.integers(0, 2, size=(studies, len(x))).astype(bool)
    better, other = factor * np.where(swap, y, x), np.where(swap, x, y)
    order = np.minimum(better, other).argsort(axis=1, kind="stable")
    wins = np.take_along_axis(better < other, order, axis=1)
    decided = int(np.isfinite(np.minimum(x, y)).sum())
    ones = (1,) * decided
    return Pairs(len(x), ones, tuple(range(decided)), ones), wins[:, :decided]


def _unpaired(
    x: Array, y: Array, factor: float, studies: int, generator: np.random.Generator
) -> tuple[Pooled, Labels]:
    """The pattern of the pooled scores and, a row a study, the places of the better loss's."""
    n, pooled = len(x), np.concatenate([x, y])
    dealt = np.stack([generator.permutation(pooled) for _ in range(studies)])
    dealt[:, :n] *= factor
    places = np.sort(dealt.argsort(axis=1, kind="stable").argsort(axis=1)[:, :n], axis=1)
    diverged = int(np.isinf(pooled).sum())
    sizes = (1,) * (len(pooled) - diverged) + ((diverged,) if diverged else ())
    return Pooled(n, len(y), sizes), places

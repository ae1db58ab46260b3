"""Which loss wins, at any look: a bet on consecutive blocks of settings.

The test of `told_apart` is made once. Here anybody may look as often as they like, after every
setting, and stop when they like: a loss that does not matter is named in at most 5 of 100 studies,
however it is looked at.

Settings come in the order of their numbers. Blocks of k consecutive ones are k new settings each;
a block is won by the loss whose best of it is lower. If the loss does not matter, each decided
block is a fair coin. The bet: of a capital that begins at 1 the share (w - l) / (w + l + 1) is
staked on X (a negative one: on Y) after w wins of X and l of Y, as Krichevsky and Trofimov estimate
a coin's bias (1981, IEEE Transactions on Information Theory 27, 199-207). The capital is then
2^(w + l) B(w + 1/2, l + 1/2) / B(1/2, 1/2), a martingale: it ever reaches 1 / alpha with
probability alpha at most (Ville 1939; Shafer 2021, JRSS A 184, 407-431; Waudby-Smith and Ramdas
2024, JRSS B 86, 1-27). So 1 over the most it ever was is a p-value at every n.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln

from study.analysis.statistics.comparison import holm
from study.analysis.statistics.samples import Array, IntArray, scores_of


class Look(NamedTuple):
    """A loss X beside another Y at one look. Arrays have one entry a budget."""

    budgets: IntArray
    blocks: IntArray
    """Whole blocks seen."""
    wins: Array
    """Of these, X's; an undecided block counts half."""
    ahead: NDArray[np.bool_]
    """Whether it was X that had won more blocks when the bet had come to most: what p speaks of."""
    p: Array
    """p-value of each budget, valid at every look."""
    p_any: float
    """Over the budgets (Bonferroni), valid at every look."""
    p_holm: float
    """Over the losses, too (Holm)."""


def block_winners(x: ArrayLike, y: ArrayLike, budget: int) -> Array:
    """1 where X has the lower best of a block of k consecutive settings, 0 where Y, 1/2 where
    neither; shape (whole blocks,). A remainder of fewer than k settings waits."""
    first, second = (scores_of(s) if np.size(s) else np.zeros(0) for s in (x, y))
    count = min(len(first), len(second)) // budget
    best = [side[: count * budget].reshape(count, budget).min(axis=1) for side in (first, second)]
    return np.asarray((best[0] < best[1]) + 0.5 * (best[0] == best[1]))


def capital(winners: ArrayLike) -> Array:
    """What the bet has come to after 0, 1, ... blocks, shape (blocks + 1,)."""
    won = np.asarray(winners, dtype=float)
    w = np.concatenate([[0], np.cumsum(won == 1)])
    lost = np.concatenate([[0], np.cumsum(won == 0)])
    log = (w + lost) * np.log(2) + betaln(w + 0.5, lost + 0.5) - betaln(0.5, 0.5)
    return np.asarray(np.exp(log))


def looks(
    reference: ArrayLike, others: Mapping[str, ArrayLike], budgets: Sequence[int]
) -> dict[str, Look]:
    """Every other loss against the reference, now. Scores in the order of their numbers, from 0 on
    without a gap; budgets stated beforehand."""
    found = {}
    for name, fid in others.items():
        winners = [block_winners(fid, reference, k) for k in budgets]
        capitals = [capital(won) for won in winners]
        most = [int(held.argmax()) for held in capitals]
        p = np.array([1 / held[at] for held, at in zip(capitals, most, strict=True)])
        ahead = [won[:at].sum() > at / 2 for won, at in zip(winners, most, strict=True)]
        found[name] = Look(
            budgets=np.array(budgets),
            blocks=np.array([len(won) for won in winners]),
            wins=np.array([won.sum() for won in winners]),
            ahead=np.array(ahead),
            p=p,
            p_any=min(1.0, len(p) * float(p.min())),
            p_holm=1.0,
        )
    adjusted = holm([look.p_any for look in found.values()])
    return {
        name: look._replace(p_holm=float(p))
        for (name, look), p in zip(found.items(), adjusted, strict=True)
    }

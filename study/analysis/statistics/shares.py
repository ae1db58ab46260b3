"""Shares of settings, and rank correlation, each with its interval."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv, ndtri

from study.analysis.statistics.samples import Array, Estimate, scores_of, tails
from study.errors import StudyError


def performance_profile(fid: ArrayLike, tau: ArrayLike) -> Array:
    """Share of settings with a distance below tau, shape of tau (Dolan and Moré 2002; rliable,
    Agarwal et al. 2021, arXiv 2108.13264, eq. 3, with lower for better)."""
    below = np.searchsorted(np.sort(scores_of(fid)), tau, side="left")
    return np.asarray(below / np.size(fid))[()]


def share_interval(count: ArrayLike, n: int, *, level: float = 0.95) -> Estimate:
    """count / n with its exact interval (Clopper and Pearson 1934), which holds for any n >= 1."""
    k = np.asarray(count, dtype=float)
    if n < 1 or np.any((k < 0) | (k > n)):
        raise StudyError(f"{count!r} of {n} is no share; give 0 <= count <= n and n >= 1")
    outside = tails(level)[0]
    with np.errstate(all="ignore"):
        low = np.where(k == 0, 0.0, betaincinv(np.maximum(k, 1), n - k + 1, outside))
        high = np.where(k == n, 1.0, betaincinv(k + 1, np.maximum(n - k, 1), 1 - outside))
    return Estimate((k / n)[()], low[()], high[()])


def diverged_share(fid: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Share of diverged runs (scores of +inf) with its exact interval."""
    scores = scores_of(fid)
    return share_interval(int(np.isinf(scores).sum()), len(scores), level=level)


def spearman(x: ArrayLike, y: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Spearman's rank correlation of paired values, ties (infinities among them) at mid-ranks.

    Interval: Fisher's z with the standard error sqrt((1 + r^2 / 2) / (n - 3)) of Bonett and Wright
    (2000, Psychometrika 65, 23-28); -1 to 1 below 5 pairs. Where the orders agree fully the end
    reaches 1, and the other is that of half a swap of two neighbours. Simulated (normal, true
    correlation 0 to 0.9, 5 to 100 pairs): 95 % intervals hold the truth in 94 to 99 %.
    """
    pair = [np.asarray(values, dtype=float) for values in (x, y)]
    if pair[0].shape != pair[1].shape or any(len(np.unique(scores_of(v))) < 2 for v in pair):
        raise StudyError(
            f"no rank correlation of {pair[0].shape} with {pair[1].shape} values; give two "
            "equally long lists, each with at least two different values"
        )
    n = len(pair[0])
    r = float(np.corrcoef([_mid_ranks(values) for values in pair])[0, 1])
    low, high = -1.0, 1.0
    if n >= 5:
        most = 1 - 6 / (n * (n * n - 1))
        held = min(max(r, -most), most)
        half = ndtri(tails(level)[1]) * np.sqrt((1 + held**2 / 2) / (n - 3))
        low = low if r < -most else float(np.tanh(np.arctanh(held) - half))
        high = high if r > most else float(np.tanh(np.arctanh(held) + half))
    return Estimate(*(np.asarray(part)[()] for part in (r, low, high)))


def _mid_ranks(values: Array) -> Array:
    place, counts = np.unique(values, return_inverse=True, return_counts=True)[1:]
    return (np.cumsum(counts) - (counts - 1) / 2)[place]

"""One setting a loss, trained again with several seeds, the same seeds for all losses."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from study.analysis.statistics.samples import Estimate, pairs_of, scores_of, tails
from study.errors import StudyError


def ratio_of_reruns(x: ArrayLike, y: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Ratio of the geometric means of two losses' re-runs, paired by seed, with its t-interval.

    Student's interval of the mean log ratio: exact where log ratios are normal, and within 2 % of
    its level for the skewed ones of `tests/test_coverage.py`. 0 to infinity for a single seed, and
    where a re-run diverged, of which the ratio is given as 0, infinity or (both) 1.
    """
    first, second = pairs_of(x, y)
    if (np.minimum(first, second) <= 0).any():
        raise StudyError(
            f"a score of {min(first.min(), second.min()):g}; ratios need positive ones"
        )
    diverged = bool(np.isinf(first).any()), bool(np.isinf(second).any())
    if any(diverged):
        value = {(True, False): np.inf, (False, True): 0.0, (True, True): 1.0}[diverged]
        return Estimate(*(np.asarray(part)[()] for part in (value, 0.0, np.inf)))
    log = np.log(first / second)
    n, outside = len(log), tails(level)[1]
    half = stdtrit(n - 1, outside) * log.std(ddof=1) / np.sqrt(n) if n > 1 else np.inf
    with np.errstate(over="ignore"):
        ends = np.exp(log.mean() + np.array([0, -half, half]))
    return Estimate(*(np.asarray(part)[()] for part in ends))


def chance_to_be_first(
    fids: Mapping[str, ArrayLike], *, draws: int = 10_000, seed: int = 0
) -> dict[str, float]:
    """How often each loss has the least geometric mean when the seeds are drawn again.

    The bootstrap over seeds, all losses' together; losses that are equal share it. How sure the
    order of these means is, not which loss is best: each is one setting, selected by its score.
    """
    scores = np.array([scores_of(fid) for fid in fids.values()])
    with np.errstate(divide="ignore"):
        logs = np.log(scores)
    picks = np.random.default_rng(seed).integers(scores.shape[1], size=(draws, scores.shape[1]))
    means = logs[:, picks].mean(axis=2)
    least = means == means.min(axis=0)
    shares = (least / least.sum(axis=0)).mean(axis=1)
    return dict(zip(fids, map(float, shares), strict=True))

"""opda's simultaneous bands (Lourie, He & Cho 2024) as a peer of the pointwise interval."""

import numpy as np
import pytest
from opda.nonparametric import EmpiricalDistribution

from study.analysis.statistics import min_quantile, min_quantile_interval

BUDGETS = np.array([1, 2, 5, 10, 20, 40])


@pytest.mark.parametrize("seed", range(5))
def test_an_interval_at_one_budget_lies_within_the_band_for_all_at_once(seed: int) -> None:
    fid = np.random.default_rng(seed).lognormal(3, 0.5, 80)
    low, _, high = EmpiricalDistribution.confidence_bands(fid, 0.95, a=0, method="ks")
    # The greatest distribution function has the least quantiles.
    ends = [band.quantile_tuning_curve(BUDGETS, 0.5, minimize=True) for band in (high, low)]
    interval = min_quantile_interval(fid, BUDGETS, 0.5)
    where_closed = np.isfinite(interval.low) & (interval.low > 0)
    assert where_closed.any()
    assert (interval.low[where_closed] >= ends[0][where_closed]).all()
    assert (interval.high <= ends[1]).all()


def test_the_median_of_the_best_is_opdas_with_replacement() -> None:
    """Both are quantiles of the sample; at budget 1 the same one, later a neighbour at most."""
    fid = np.sort(np.random.default_rng(9).lognormal(3, 0.5, 80))
    theirs = EmpiricalDistribution(fid).quantile_tuning_curve(BUDGETS, 0.5, minimize=True)
    ours = min_quantile(fid, BUDGETS, 0.5)
    ranks = [np.searchsorted(fid, curve) for curve in (ours, theirs)]
    assert abs(ranks[0] - ranks[1]).max() <= 1

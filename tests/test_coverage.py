"""Every interval holds the truth as often as it says: simulation from populations that are known.

A few hundred samples in every run; the full counts are marked slow and print what they find.
"""

from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.statistics.samples import Array

MINI = Path(__file__).parent.parent / "results" / "mini.parquet"
BUDGETS = np.array([1, 2, 5, 10])
POPULATIONS = ["uniform", "lognormal", "ns", "began"]
INFINITE = [0, 0.1, 0.5]


@cache
def shipped(loss: str) -> Array:
    """Sorted log scores of a loss on Fashion-MNIST in the shipped table."""
    runs = scores.search(pd.read_parquet(MINI))
    own = runs[(runs["dataset"] == "fashion_mnist") & (runs["loss"] == loss)]
    found: Array = np.log(np.sort(own["fid"].to_numpy()))
    return found


def quantiles(name: str, u: Array, infinite: float = 0.0) -> Array:
    """Quantile function of a population, of which a share diverged: u in [0, 1)."""
    v = np.minimum(u / (1 - infinite), 1 - 1e-12)
    if name == "uniform":
        finite = v
    elif name == "lognormal":
        finite = np.exp(stats.norm.ppf(v))
    else:
        known = shipped(name)
        finite = np.exp(np.interp(v, (np.arange(len(known)) + 0.5) / len(known), known))
    return np.where(u < 1 - infinite, finite, np.inf)


GRID = (np.arange(200_000) + 0.5) / 200_000


@cache
def true_mean(name: str, k: int) -> float:
    return float(np.mean(quantiles(name, GRID) * k * (1 - GRID) ** (k - 1)))


FACTORS = (1, 1.2, 0.8)  # of the scores of three losses that are ranked


@cache
def true_ranks(name: str, infinite: float) -> Array:
    thin = GRID[::10]
    return st.expected_ranks([f * quantiles(name, thin, infinite) for f in FACTORS], BUDGETS)


def holds(estimate: st.Estimate, truth: float | Array) -> NDArray[np.bool_]:
    """Whether the interval does; a value that is unknown (of infinite means) has an open one."""
    unknown = np.isnan(estimate.value)
    assert ((estimate.low <= estimate.value) | (unknown & (estimate.low == 0))).all()
    assert ((estimate.value <= estimate.high) | (unknown & np.isposinf(estimate.high))).all()
    return (estimate.low <= truth) & (truth <= estimate.high)


def median_of_best(
    rng: np.random.Generator, name: str, n: int, infinite: float
) -> NDArray[np.bool_]:
    fid = quantiles(name, rng.random(n), infinite)
    truth = quantiles(name, 1 - 0.5 ** (1 / BUDGETS), infinite)
    return holds(st.min_quantile_interval(fid, BUDGETS, 0.5), truth)


def mean_of_best(rng: np.random.Generator, name: str, n: int, infinite: float) -> NDArray[np.bool_]:
    fid = quantiles(name, rng.random(n), infinite)
    truth = np.array([true_mean(name, k) if infinite == 0 else np.inf for k in BUDGETS])
    return holds(st.expected_min_interval(fid, BUDGETS, rng=rng, draws=500), truth)


def ratio_of_bests(
    rng: np.random.Generator, name: str, n: int, infinite: float, paired: bool = False
) -> NDArray[np.bool_]:
    """Against the uniform or NS GAN's shape; paired: the ranks of the two correlate by 0.5."""
    other = "uniform" if name in ("uniform", "lognormal") else "ns"
    z = rng.normal(size=(3, n))
    u, v = stats.norm.cdf((z[:2] + z[2]) / 2**0.5 if paired else z[:2])
    x, y = quantiles(name, u, infinite), quantiles(other, v, infinite)
    truth = np.array([true_mean(name, k) / true_mean(other, k) for k in BUDGETS])
    seed = int(rng.integers(2**31))
    estimate = st.ratio_interval(x, y, BUDGETS, paired, draws=500, seed=seed)
    return holds(estimate, truth) | (infinite > 0)  # the ratio of infinite means is none


def paired_ratio_of_bests(
    rng: np.random.Generator, name: str, n: int, infinite: float
) -> NDArray[np.bool_]:
    return ratio_of_bests(rng, name, n, infinite, paired=True)


def ranks(rng: np.random.Generator, name: str, n: int, infinite: float) -> Array:
    fids = [factor * quantiles(name, rng.random(n), infinite) for factor in FACTORS]
    estimate = st.rank_interval(fids, BUDGETS, rng=rng, draws=500)
    share: Array = holds(estimate, true_ranks(name, infinite)).mean(axis=0)
    return share


def reported_at_best(
    rng: np.random.Generator, name: str, n: int, infinite: float
) -> NDArray[np.bool_]:
    """What is reported is what was selected, but for noise of 5 %."""
    fid = quantiles(name, rng.random(n), infinite)
    value = fid * np.exp(0.05 * rng.normal(size=n))
    estimate = st.quantile_at_min_interval(fid, value, BUDGETS, 0.5, rng=rng, draws=500)
    return holds(estimate, true_reported(name, infinite))


@cache
def true_reported(name: str, infinite: float) -> Array:
    rng = np.random.default_rng(0)
    best = [quantiles(name, 1 - rng.random(200_000) ** (1 / k), infinite) for k in BUDGETS]
    noise = np.exp(0.05 * rng.normal(size=200_000))
    return np.quantile(best * noise, 0.5, axis=1, method="inverted_cdf")


Interval = Callable[[np.random.Generator, str, int, float], NDArray[Any]]
KINDS: dict[str, tuple[Interval, float]] = {
    "median of the best": (median_of_best, 0.95),
    "mean of the best": (mean_of_best, 0.92),
    "ratio of bests": (ratio_of_bests, 0.93),
    "ratio of bests, paired": (paired_ratio_of_bests, 0.93),
    "ranks": (ranks, 0.92),
    "reported at the best": (reported_at_best, 0.93),
}
"""Kind of interval, and what of 95 % it holds at least."""


def coverage(kind: str, name: str, n: int, infinite: float, samples: int) -> Array:
    rng = np.random.default_rng([n, int(10 * infinite), *name.encode()])
    interval = KINDS[kind][0]
    share: Array = np.mean([interval(rng, name, n, infinite) for _ in range(samples)], axis=0)
    return share


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "infinite"), [("uniform", 0), ("lognormal", 0.1), ("ns", 0.5)])
def test_coverage(kind: str, name: str, infinite: float) -> None:
    found, least = coverage(kind, name, 80, infinite, 100), KINDS[kind][1]
    assert (found >= least - 3 * np.sqrt(least * (1 - least) / 100)).all(), found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_coverage_in_full(kind: str) -> None:
    least = KINDS[kind][1]
    for n, name, infinite in product((40, 80), POPULATIONS, INFINITE):
        found = coverage(kind, name, n, infinite, 400)
        print(f"{kind}, {name}, n = {n}, {infinite:.0%} infinite: {found.round(3)}")
        assert (found >= least - 3 * np.sqrt(least * (1 - least) / 400)).all()


def correlated_ranks(rng: np.random.Generator, n: int, rho: float) -> NDArray[np.bool_]:
    x = rng.normal(size=n)
    y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=n)
    return holds(st.spearman(x, y), 6 / np.pi * np.arcsin(rho / 2))


@pytest.mark.parametrize(("n", "rho"), [(7, 0.5), (14, 0.8), (40, 0.0)])
def test_coverage_of_a_rank_correlation(n: int, rho: float) -> None:
    rng = np.random.default_rng(n)
    assert np.mean([correlated_ranks(rng, n, rho) for _ in range(1000)]) >= 0.95 - 3 * 0.007


@pytest.mark.slow
def test_coverage_of_a_rank_correlation_in_full() -> None:
    rng = np.random.default_rng(0)
    for n in (5, 7, 8, 14, 40, 100):
        for rho in (0, 0.5, 0.8, 0.9):
            found = np.mean([correlated_ranks(rng, n, rho) for _ in range(4000)])
            print(f"rank correlation {rho}, {n} pairs: {found:.3f}")
            assert found >= 0.935


@pytest.mark.parametrize("share", [0.003, 0.1, 0.5])
def test_coverage_of_a_share(share: float) -> None:
    """Exact: over all counts, by their binomial chances."""
    for n in (10, 40, 100):
        counts = np.arange(n + 1)
        estimate = st.share_interval(counts, n)
        held = (estimate.low <= share) & (share <= estimate.high)
        assert stats.binom.pmf(counts, n, share)[held].sum() >= 0.95


NOISES = {
    "normal": lambda rng, n: rng.normal(size=n),
    "skewed": lambda rng, n: rng.gamma(2, size=n) - 2,
    "heavy": lambda rng, n: rng.standard_t(4, size=n),
}


@pytest.mark.parametrize("noise", NOISES)
def test_coverage_of_a_ratio_of_reruns(noise: str) -> None:
    """Ten seeds, whose luck the two losses share to a half."""
    rng, held = np.random.default_rng(1), 0.0
    for _ in range(2000):
        luck, one, other = (0.1 * NOISES[noise](rng, 10) for _ in range(3))
        x, y = 13.2 * np.exp(luck + one), 12.8 * np.exp(luck + other)
        held += holds(st.ratio_of_reruns(x, y), 13.2 / 12.8).mean()
    assert held / 2000 >= 0.95 - 3 * 0.005

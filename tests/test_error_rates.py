"""How often equal losses are called different, and what is found where they differ: simulation.

A few tables in every run, with the seeds fixed; the full counts are marked slow. What those gave
stands in the docstrings.
"""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from study.analysis import statistics as st

BUDGETS = [1, 2, 5, 10]
MINI = Path(__file__).parent.parent / "results" / "mini.parquet"


def equal_losses(rng, losses, n, infinite, paired):
    """Scores (losses, n) of losses that do not matter: lognormal, a share of them diverged.

    Paired: half of the variance, and of what makes a run diverge, is the setting's.
    """
    setting = rng.normal(size=n) if paired else 0
    score = (setting + rng.normal(size=(losses, n))) / 2**0.5
    trouble = (setting + rng.normal(size=(losses, n))) / (2**0.5 if paired else 1)
    return np.where(trouble < stats.norm.ppf(infinite), np.inf, np.exp(score))


def somebody_named(fids, paired):
    """Whether the rule names any loss, as `judge` does, with fewer draws."""
    n = fids.shape[1]
    budgets = [k for k in BUDGETS if st.judged(k, n)]
    p = [st.told_apart(fid, fids[0], budgets, paired, draws=20_000).p_any for fid in fids[1:]]
    return st.holm(p).min() <= 0.05


def somebody_named_at_any_look(fids):
    """Whether the interim rule names any loss with 1, 2, ..., n settings."""
    n, p = fids.shape[1], []
    for fid in fids[1:]:
        known = np.ones((len(BUDGETS), n + 1))
        for row, k in enumerate(BUDGETS):
            least = np.minimum.accumulate(1 / st.capital(st.block_winners(fid, fids[0], k)))
            known[row] = least[np.arange(n + 1) // k]
        p.append(np.minimum(1, len(BUDGETS) * known.min(axis=0)))
    return any(st.holm(at_look).min() <= 0.05 for at_look in np.array(p).T)


def share(tables, of):
    """Share of tables of which it is true, and its exact interval."""
    count = sum(of() for _ in range(tables))
    return st.share_interval(count, tables)


CASES = [
    (losses, n, infinite, paired)
    for losses in (8, 14)
    for n in (40, 80, 100)
    for infinite in (0, 0.3)
    for paired in (True, False)
]


@pytest.mark.slow
@pytest.mark.parametrize(("losses", "n", "infinite", "paired"), CASES)
def test_equal_losses_are_told_apart_in_five_of_a_hundred_tables(losses, n, infinite, paired):
    rng = np.random.default_rng([losses, n, int(10 * infinite), paired])
    found = share(
        1000, lambda: somebody_named(equal_losses(rng, losses, n, infinite, paired), paired)
    )
    print(f"{losses} losses, {n} settings, {infinite:.0%} infinite, paired {paired}: {found}")
    assert found.low <= 0.05
    assert found.value <= 0.06


@pytest.mark.slow
@pytest.mark.parametrize(("losses", "n", "infinite", "paired"), CASES)
def test_a_look_after_every_setting_names_no_more(losses, n, infinite, paired):
    rng = np.random.default_rng([losses, n, int(10 * infinite), paired, 1])
    found = share(
        1000,
        lambda: somebody_named_at_any_look(equal_losses(rng, losses, n, infinite, paired)),
    )
    print(f"interim, {losses}, {n}, {infinite:.0%} infinite, paired {paired}: {found}")
    assert found.low <= 0.05
    assert found.value <= 0.06

"""The bet on blocks of settings: against enumeration of all outcomes, and by hand."""

from itertools import product
from math import comb

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import ArrayLike

from study.analysis import statistics as st

INF = np.inf


def test_blocks_are_won_by_the_lower_best() -> None:
    x = [3.0, 1, 5, 6, INF, INF, 0]
    y = [2.0, 4, 5, 7, INF, INF, 9]
    assert_array_equal(st.block_winners(x, y, 1), [0, 1, 0.5, 1, 0.5, 0.5, 1])
    assert_array_equal(st.block_winners(x, y, 2), [1, 0.5, 0.5])
    assert_array_equal(st.block_winners(x, y[:5], 2), [1, 0.5])  # the last setting waits
    assert st.block_winners(x, [], 1).shape == (0,)


def test_the_capital_is_that_of_the_bets() -> None:
    rng = np.random.default_rng(0)
    won = rng.choice([0, 0.5, 1], size=40, p=[0.2, 0.1, 0.7])
    money, w, lost = [1.0], 0, 0
    for outcome in won:
        staked = (w - lost) / (w + lost + 1)
        money.append(money[-1] * (1 + staked * (2 * outcome - 1)))
        w, lost = w + (outcome == 1), lost + (outcome == 0)
    assert_allclose(st.capital(won), money)


def test_the_capital_is_fair_and_seldom_great() -> None:
    """Over all outcomes of twelve fair coins: mean 1 at every time, 1 / alpha in alpha at most."""
    paths = np.array([st.capital(outcome) for outcome in product([0, 1], repeat=12)])
    assert_allclose(paths.mean(axis=0), 1)
    most = paths.max(axis=1)
    for alpha in (0.5, 0.2, 0.1, 0.05, 0.01):
        assert (most >= 1 / alpha).mean() <= alpha


def test_eight_blocks_of_eight_by_hand() -> None:
    # 2^8 (1/2)(3/2)...(15/2) / 8! = 2^8 C(16, 8) / 4^8
    assert_allclose(st.capital(np.ones(8))[-1], comb(16, 8) / 2**8)


def test_looks_allow_for_budgets_and_losses() -> None:
    reference = np.arange(40.0) + 100
    others: dict[str, ArrayLike] = {
        "better": np.arange(40.0),
        "alike": reference[::-1].copy(),
        "none": [],
    }
    found = st.looks(reference, others, (1, 5))
    assert_array_equal(found["better"].blocks, [40, 8])
    assert_array_equal(found["better"].wins, [40, 8])
    p = [1 / st.capital(np.ones(count))[-1] for count in (40, 8)]
    assert_allclose(found["better"].p, p)
    assert_allclose(found["better"].p_any, 2 * p[0])
    assert_allclose(found["better"].p_holm, 3 * 2 * p[0])
    assert found["none"].p_any == 1
    assert_array_equal(found["none"].blocks, [0, 0])


def test_what_was_once_won_is_kept() -> None:
    """p is the least of all looks: what came later does not take a proof back."""
    early = np.concatenate([np.ones(12), np.zeros(30)])
    reference = np.ones(42) * 0.5
    look = st.looks(reference, {"x": 1 - early}, (1,))["x"]
    assert_allclose(look.p[0], 1 / st.capital(np.ones(12))[-1])
    assert look.ahead.tolist() == [True]  # though it has won but 12 of 42 by now
    assert st.looks(reference, {"x": early}, (1,))["x"].ahead.tolist() == [False]

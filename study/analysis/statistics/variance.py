"""What the variance of the scores goes back to: hyperparameters, loss, and how they go together."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from math import factorial

import numpy as np
from numpy.typing import ArrayLike

from study.analysis.statistics.samples import Array
from study.errors import StudyError

Factors = Mapping[str, ArrayLike]


def shares_of_variance(scores: ArrayLike, factors: Factors) -> dict[str, float]:
    """Shares of the variance of `scores` (losses, settings), every loss at every setting.

    `factors`: name -> values (settings,). Numbers of more than three values enter as a parabola,
    others as levels. Loss and settings are crossed, so that the sum of squares falls into that of
    the losses' means, of the settings' means and of what is left, exactly. The settings' part goes
    to the factors, what is left to their interactions with the loss, each factor with its mean
    share over all orders of entering (Lindeman, Merenda and Gold 1980; Shapley 1953); then to the
    factors' first interactions among themselves. "the settings otherwise" is what else the losses
    share at a setting (higher interactions, a common seed), "rest" what none of all this explains.
    Every part has its degrees of freedom times the residual variance taken off, so that noise has 0
    in expectation (omega squared, Hays 1963); shares sum to 1.
    """
    y = np.asarray(scores, dtype=float)
    losses, settings = y.shape
    if losses < 2 or not np.isfinite(y).all():
        raise StudyError(f"scores of shape {y.shape}; give a finite one of each loss and setting")
    names = list(factors)
    columns = {name: _columns(np.asarray(factors[name])) for name in names}
    pairs = [_products(columns[one], columns[other]) for one, other in combinations(names, 2)]
    of_settings = y.mean(axis=0) - y.mean()
    of_losses = y.mean(axis=1) - y.mean()
    left = y - y.mean() - of_settings - of_losses[:, None]
    total = float(((y - y.mean()) ** 2).sum())
    everything = np.column_stack([*columns.values(), *pairs])
    main = Part(losses**0.5 * of_settings[None], columns, everything)
    crossed = Part(left, columns, np.column_stack(list(columns.values())))
    parts = {"loss": settings * float((of_losses**2).sum()) - (losses - 1) * crossed.noise}
    parts |= main.averaged()
    parts["first interactions of these"] = main.together() - sum(main.averaged().values())
    parts["the settings otherwise"] = (settings - 1) * (main.noise - crossed.noise)
    parts |= {f"loss x {name}": value for name, value in crossed.averaged().items()}
    shares = {name: float(value / total) for name, value in parts.items()}
    return shares | {"rest": 1 - sum(shares.values())}


class Part:
    """Rows (rows, settings) whose sums of squares are explained by columns of factors."""

    def __init__(self, rows: Array, columns: Mapping[str, Array], everything: Array) -> None:
        self.rows, self.columns, self.everything = rows, columns, everything
        # The rows of losses sum to 0: one of them is no degree of freedom.
        self.free = max(1, len(rows) - 1)
        explained, rank = self._fit(everything)
        left = self.free * (rows.shape[1] - 1 - rank)
        if left <= 0:
            raise StudyError(
                f"{rows.shape[1]} settings for {rank} columns; more settings are needed"
            )
        self.noise = (float((rows**2).sum()) - explained) / left

    def together(self) -> float:
        """What all columns explain, beyond noise."""
        return self._explained(self.everything)

    def averaged(self) -> dict[str, float]:
        """What each factor adds beyond noise, its mean over all orders of entering."""
        names = list(self.columns)
        known = {chosen: self._of(chosen) for chosen in _subsets(names)}
        shares = dict.fromkeys(names, 0.0)
        for name in names:
            for before in _subsets([other for other in names if other != name]):
                weight = factorial(len(before)) * factorial(len(names) - len(before) - 1)
                added = known[tuple(n for n in names if n in before or n == name)] - known[before]
                shares[name] += weight / factorial(len(names)) * added
        return shares

    def _of(self, chosen: tuple[str, ...]) -> float:
        if not chosen:
            return 0.0
        return self._explained(np.column_stack([self.columns[name] for name in chosen]))

    def _explained(self, columns: Array) -> float:
        explained, rank = self._fit(columns)
        return float(explained - self.free * rank * self.noise)

    def _fit(self, columns: Array) -> tuple[float, int]:
        """Sum of squares of the projection on the columns, and their rank."""
        basis, size, _ = np.linalg.svd(columns - columns.mean(axis=0), full_matrices=False)
        basis = basis[:, size > 1e-9 * size.max(initial=1e-300)]
        return float(((self.rows @ basis) ** 2).sum()), basis.shape[1]


def _subsets(names: list[str]) -> Iterable[tuple[str, ...]]:
    for size in range(len(names) + 1):
        yield from combinations(names, size)


def _columns(values: Array) -> Array:
    """A factor's columns: standardised value and square, or all levels but the first."""
    levels = np.unique(values)
    if np.issubdtype(values.dtype, np.number) and len(levels) > 3:
        z = (values - values.mean()) / values.std()
        return np.column_stack([z, z**2])
    return np.column_stack([(values == level).astype(float) for level in levels[1:]])


def _products(one: Array, other: Array) -> Array:
    return np.asarray(one[:, :, None] * other[:, None, :]).reshape(len(one), -1)

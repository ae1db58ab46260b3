"""What a hyperparameter is, and those that every loss has. Imports no torch.

A loss's own ones are stated in its file: their ranges in `space`, their labels in `labels`.
"""

from collections.abc import Mapping
from typing import NamedTuple

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

Space = Mapping[str, BaseDistribution]
"""What settings are drawn from: hyperparameter -> distribution."""


class Hyperparameter(NamedTuple):
    """A value that a search varies."""

    name: str
    label: str
    """On axes."""
    wide: BaseDistribution
    narrow: BaseDistribution

    @property
    def is_log(self) -> bool:
        """Whether it is drawn, and shown, on a logarithmic scale."""
        return bool(getattr(self.wide, "log", False))

    @property
    def choices(self) -> tuple[object, ...]:
        """Its values, where it has but a few; else none."""
        return tuple(getattr(self.wide, "choices", ()))


# The paper's tables 3 and 4; the narrow lr is one decade.
SHARED = (
    Hyperparameter(
        "lr",
        "learning rate",
        FloatDistribution(1e-5, 1e-2, log=True),
        FloatDistribution(1e-4, 1e-3, log=True),
    ),
    Hyperparameter("beta1", "β1", FloatDistribution(0.0, 1.0), CategoricalDistribution([0.5])),
    Hyperparameter(
        "disc_iters",
        "D steps a G step",
        CategoricalDistribution([1, 5]),
        CategoricalDistribution([1]),
    ),
    Hyperparameter(
        "batch_norm",
        "batch norm in D",
        CategoricalDistribution([True, False]),
        CategoricalDistribution([True, False]),
    ),
)
NORMALISATION = Hyperparameter(
    "normalisation",
    "normalisation of D",
    CategoricalDistribution(["none", "batch", "spectral"]),
    CategoricalDistribution(["none", "batch", "spectral"]),
)
"""What `batch_norm` is where there are but two of its values: a sweep states one of them."""

SHARED_NAMES = tuple(each.name for each in (*SHARED, NORMALISATION))

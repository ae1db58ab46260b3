"""Search spaces, and the setting of a trial as a pure function of its number.

The first 100 wide and 50 narrow settings of the eight models are the paper's very own, from
sweeps/paper/. Beyond them, and for new losses, each value is drawn from a stream that depends on
sweep, loss, number and hyperparameter name alone: more trials, a new loss or a new hyperparameter
change no setting already drawn, and nothing is random at run time.
"""

import csv
import hashlib
from functools import cache
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from study.errors import StudyError
from study.losses import load
from study.losses.base import Space
from study.settings import shipped

PAPER_FOLDER = shipped.SWEEPS / "paper"

# What all losses share (the paper's tables 3 and 4; the narrow lr is one decade).
SHARED: dict[str, Space] = {
    "wide": {
        "lr": FloatDistribution(1e-5, 1e-2, log=True),
        "beta1": FloatDistribution(0.0, 1.0),
        "disc_iters": CategoricalDistribution([1, 5]),
        "batch_norm": CategoricalDistribution([True, False]),
    },
    "narrow": {
        "lr": FloatDistribution(1e-4, 1e-3, log=True),
        "beta1": CategoricalDistribution([0.5]),
        "disc_iters": CategoricalDistribution([1]),
        "batch_norm": CategoricalDistribution([True, False]),
    },
}


def ranges_of(ranges: str, loss: str) -> Space:
    """Every hyperparameter of `loss` with its distribution in the named ranges."""
    if ranges not in SHARED:
        raise StudyError(f"unknown ranges '{ranges}'; allowed: {', '.join(SHARED)}")
    return {**SHARED[ranges], **load(loss).space.get(ranges, {})}


def setting(sweep: str, loss: str, number: int, ranges: str | Space) -> dict[str, Any]:
    """Trial `number` of `loss`: hyperparameter -> value.

    `ranges` names the study's ranges (wide, narrow) or gives distributions. Number 0 is the
    authors' default; the next ones are the paper's where the ranges (or, with distributions
    given, the sweep) carry its name; the rest are drawn.
    """
    published = paper_settings(ranges if isinstance(ranges, str) else sweep).get(loss, [])
    if number < len(published):
        return dict(published[number])
    space = ranges_of(ranges, loss) if isinstance(ranges, str) else ranges
    if number == 0:
        return dict(load(loss).defaults)
    return {name: draw(f"{sweep}/{loss}/{number}/{name}", space[name]) for name in space}


def draw(stream: str, distribution: BaseDistribution) -> Any:
    """One value from `distribution`, by the inverse of its distribution function.

    The uniform number comes from SHA-256 of the stream's name, so it is the same everywhere.
    """
    u = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:7]) / 2**56  # [0, 1)
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(u * len(distribution.choices))]
    if isinstance(distribution, IntDistribution):
        return distribution.low + int(u * (distribution.high - distribution.low + 1))
    if not isinstance(distribution, FloatDistribution):
        raise TypeError(f"no draw from {distribution}")
    low, high = distribution.low, distribution.high
    if distribution.log:
        return float(np.exp(np.log(low) + u * (np.log(high) - np.log(low))))
    return low + u * (high - low)


@cache
def paper_settings(name: str) -> dict[str, list[dict[str, Any]]]:
    """Loss -> the paper's settings in order; empty where the paper has no such search."""
    path = PAPER_FOLDER / f"{name}.csv"
    settings: dict[str, list[dict[str, Any]]] = {}
    if name not in SHARED:
        return settings
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            settings.setdefault(row["loss"], []).append(parse(row))
    return settings


def parse(row: dict[str, str]) -> dict[str, Any]:
    """A row of the paper's settings in the study's names."""
    own_lambda = "lambda_k" if row["loss"] == "began" else "lambda_gp"
    values = {
        "lr": float(row["lr"]),
        "beta1": float(row["beta1"]),
        "disc_iters": int(row["disc_iters"]),
        "batch_norm": row["batch_norm"] == "true",
        own_lambda: row["lambda"] and float(row["lambda"]),
        "clip": row["clip"] and float(row["clip"]),
        "gamma": row["gamma"] and float(row["gamma"]),
    }
    return {name: value for name, value in values.items() if value != ""}

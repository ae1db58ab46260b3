"""Search spaces, and the setting of a trial as a pure function of its number.

The first 100 wide and 50 narrow settings of the eight models are the paper's very own, from
sweeps/paper/. Beyond them, and for new losses, each value is drawn from a stream that depends on
sweep, loss, number and hyperparameter name alone: more trials, a new loss or a new hyperparameter
change no setting already drawn, and nothing is random at run time. Where a sweep's draws are
shared the loss is no part of the stream, so that all losses have the same settings.
"""

import csv
import decimal
import difflib
import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from study.errors import StudyError
from study.losses import about, names
from study.settings import hyperparameters, shipped
from study.settings.config import Range, SweepConfig
from study.settings.hyperparameters import NORMALISATION, SHARED_NAMES, Hyperparameter, Space

PAPER_FOLDER = shipped.SWEEPS / "paper"

_EXACTLY = decimal.Context(prec=40)  # digits, of which a float keeps 17

SHARED: dict[str, Space] = {
    "wide": {each.name: each.wide for each in hyperparameters.SHARED},
    "narrow": {each.name: each.narrow for each in hyperparameters.SHARED},
}


def described(loss: str) -> dict[str, Hyperparameter]:
    """Every hyperparameter of a loss by its name, the shared ones first."""
    said = about(loss)
    shared = (*hyperparameters.SHARED, NORMALISATION)
    own = {name: kind for name, kind in said.space["wide"].items() if name not in SHARED_NAMES}
    return {each.name: each for each in shared} | {
        name: Hyperparameter(name, said.labels.get(name, name), kind, said.space["narrow"][name])
        for name, kind in own.items()
    }


def ranges_of(
    ranges: str, loss: str, given: Mapping[str, Range] | None = None, draws: str = "own"
) -> Space:
    """Every hyperparameter of `loss` with its distribution in the named ranges.

    A sweep's `given` ranges replace those of the same name; with `normalisation` among them
    `batch_norm` is none. Where draws are shared, so are the shared hyperparameters' ranges.
    """
    if ranges not in SHARED:
        raise StudyError(f"unknown ranges '{ranges}'; allowed: {', '.join(SHARED)}")
    own = about(loss).space.get(ranges, {})
    if draws == "shared":
        own = {name: kind for name, kind in own.items() if name not in SHARED[ranges]}
    space = {**SHARED[ranges], **own}
    given = given or {}
    if "normalisation" in given:
        del space["batch_norm"]
        space["normalisation"] = NORMALISATION.wide
    return {name: distribution(given[name]) if name in given else space[name] for name in space}


def space_of(sweep: SweepConfig, loss: str) -> Space:
    """What a sweep draws the settings of `loss` from; StudyError where it states no such thing."""
    known = {*SHARED_NAMES}
    known |= {name for each in names() for name in about(each).space.get("wide", {})}
    for name in sorted(sweep.space.keys() - known):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(sorted(known))}"
        raise StudyError(f"sweeps/{sweep.name}.toml: space: no hyperparameter '{name}'; {hint}")
    stated = sweep.space["normalisation"].choices if "normalisation" in sweep.space else ()
    unknown = {*stated} - {*NORMALISATION.choices}
    if unknown:
        raise StudyError(
            f"sweeps/{sweep.name}.toml: space: normalisation {sorted(map(str, unknown))}; "
            f"allowed: {', '.join(map(str, NORMALISATION.choices))}"
        )
    if "normalisation" in sweep.space and "batch_norm" in sweep.space:
        raise StudyError(
            f"sweeps/{sweep.name}.toml: space: batch_norm beside normalisation, which says it too; "
            "leave one out"
        )
    there = described(loss)
    for name in sorted(sweep.space.keys() & there.keys()):
        require_kind(f"sweeps/{sweep.name}.toml: space", sweep.space[name], there[name])
    return ranges_of(sweep.ranges or "wide", loss, sweep.space, sweep.draws)


def require_kind(where: str, given: Range, named: Hyperparameter) -> None:
    """StudyError where a stated range has values that the hyperparameter cannot be."""
    kinds = {type(value) for value in named.choices}
    if isinstance(named.wide, FloatDistribution):
        kinds = {int, float}
    elif isinstance(named.wide, IntDistribution):
        kinds = {int}
    values = given.choices or (given.low, given.high)
    wrong = [value for value in values if type(value) not in kinds]
    if wrong:
        allowed = " or ".join(sorted(kind.__name__ for kind in kinds))
        raise StudyError(f"{where}: {named.name} = {wrong[0]!r}; allowed: values of type {allowed}")


def distribution(given: Range) -> BaseDistribution:
    """A stated range as Optuna's distribution: of whole numbers where both ends are."""
    if given.choices:
        return CategoricalDistribution(list(given.choices))
    low, high = given.low, given.high
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=given.log)
    return FloatDistribution(float(low or 0), float(high or 0), log=given.log)


def setting(
    sweep: str, loss: str, number: int, ranges: str | Space, draws: str = "own"
) -> dict[str, Any]:
    """Trial `number` of `loss`: hyperparameter -> value.

    `ranges` names the study's ranges (wide, narrow) or gives distributions. Number 0 is the
    authors' default; the next ones are the paper's where the ranges (or, with distributions
    given, the sweep) carry its name; the rest are drawn. With shared draws every number is drawn,
    and the same for all losses.
    """
    if draws == "own":
        published = paper_settings(ranges if isinstance(ranges, str) else sweep).get(loss, [])
        if number < len(published):
            return dict(published[number])
        if number == 0:
            return dict(about(loss).defaults)
    space = ranges_of(ranges, loss, draws=draws) if isinstance(ranges, str) else ranges
    if draws == "shared":
        return {name: draw(f"{sweep}/{number}/{name}", space[name]) for name in space}
    return {name: draw(f"{sweep}/{loss}/{number}/{name}", space[name]) for name in space}


def draw(stream: str, distribution: BaseDistribution) -> Any:
    """One value from `distribution`, by the inverse of its distribution function: as Optuna's.

    The uniform number comes from SHA-256 of the stream's name, and logarithms are rounded
    correctly, so that the value is the same everywhere. (NumPy's exp and log have other last digits
    where a processor has AVX512, and draws had, until November 2026.)
    """
    u = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:7]) / 2**56  # [0, 1)
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(u * len(distribution.choices))]
    if isinstance(distribution, IntDistribution):
        least, end = distribution.low, distribution.high + 1
        if distribution.log:
            drawn = int(between(least, end, u))
            return min(max(drawn, least), distribution.high)
        step = distribution.step
        return least + step * int(u * -(-(end - least) // step))
    if not isinstance(distribution, FloatDistribution):
        raise TypeError(f"no draw from {distribution}")
    low, high = distribution.low, distribution.high
    if distribution.log:
        return between(low, high, u)
    if distribution.step is not None:
        return low + distribution.step * int(u * (round((high - low) / distribution.step) + 1))
    return low + u * (high - low)


def between(low: float, high: float, u: float) -> float:
    """What lies at `u` in [0, 1] of the way from `low` to `high`, both positive, in logarithms."""
    log_low, log_high = (float(_EXACTLY.ln(decimal.Decimal(end))) for end in (low, high))
    return float(_EXACTLY.exp(decimal.Decimal(log_low + u * (log_high - log_low))))


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

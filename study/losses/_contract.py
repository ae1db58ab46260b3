"""What every file of this folder keeps to, so that no command falls over what one of them says."""

import inspect
import re
from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from torch import nn

from study.losses.base import GANLoss
from study.settings.frozen import NAME, NAME_RULE
from study.settings.hyperparameters import NORMALISATION, SHARED, SHARED_NAMES

STATED = {
    "title": str,
    "source": str,
    "defaults": Mapping,
    "space": Mapping,
    "labels": Mapping,
}
"""What a loss says of itself, with its type."""
RANGES = ("wide", "narrow")
DRAWN_FROM = (FloatDistribution, IntDistribution, CategoricalDistribution)
"""What settings can be drawn from (`space.draw`)."""
VALUES = (bool, int, float, str)
"""What a hyperparameter can be: configurations and tables hold these, and no subclass of them."""
SHARED_RANGES = {each.name: each.wide for each in (*SHARED, NORMALISATION)}


def wrong_with(name: str, loss: object) -> str | None:
    """What a file's Loss lacks of what every loss states and computes, in a line; else None."""
    if not re.fullmatch(NAME, name):
        return NAME_RULE
    if not (isinstance(loss, type) and issubclass(loss, GANLoss)):
        return "Loss is no subclass of study.losses.base.GANLoss"
    # Each takes for granted what those before it have found.
    checks = (not_stated, wrong_space, wrong_names, wrong_default, wrong_init, wrong_losses)
    return next(filter(None, (check(loss) for check in checks)), None)


def not_stated(loss: type[GANLoss]) -> str | None:
    """A class attribute that is not there, or of another type."""
    for attribute, kind in STATED.items():
        if not isinstance(getattr(loss, attribute, None), kind):
            return f"Loss does not state its {attribute}"
    for shared in SHARED:
        if shared.name not in loss.defaults:
            return f"its defaults have no {shared.name}"
    return None


def wrong_space(loss: type[GANLoss]) -> str | None:
    """Ranges that nothing can be drawn from."""
    space = loss.space
    if {*space} != {*RANGES}:
        has = listed([shown(ranges) for ranges in space])
        return f"its space must have 'wide' and 'narrow', each {{name: distribution}}; it has {has}"
    for ranges in RANGES:
        if not isinstance(space[ranges], Mapping):
            return f"space['{ranges}'] = {shown(space[ranges])} is no {{name: distribution}}"
        for name, distribution in space[ranges].items():
            where = f"space['{ranges}'][{name!r}]"
            if not isinstance(distribution, DRAWN_FROM):
                allowed = ", ".join(kind.__name__ for kind in DRAWN_FROM)
                return f"{where} = {shown(distribution)} is none of Optuna's {allowed}"
            for choice in getattr(distribution, "choices", ()):
                if type(choice) not in VALUES:
                    return f"{where} has the choice {shown(choice)}, which must be {one_of(VALUES)}"
    return None


def wrong_names(loss: type[GANLoss]) -> str | None:
    """Own hyperparameters that are stated here and not there."""
    stated = {
        "defaults": loss.defaults,
        **{f"space['{each}']": loss.space[each] for each in RANGES},
    }
    for names in stated.values():
        for name in names:
            if not (isinstance(name, str) and name.isidentifier()):
                return f"hyperparameter {shown(name)} must have a name that Python can have"
    own = {where: sorted({*names} - {*SHARED_NAMES}) for where, names in stated.items()}
    if any(names != own["defaults"] for names in own.values()):
        said = ", ".join(f"{where} has {listed(names)}" for where, names in own.items())
        return f"its own hyperparameters must be the same in defaults and both ranges: {said}"
    return None


def wrong_default(loss: type[GANLoss]) -> str | None:
    """A default that is no plain value, or of another type than what is drawn.

    A whole number for a float would make the same setting another run. Those that all losses have
    are turned into floats by a run's configuration.
    """
    for name, value in loss.defaults.items():
        if type(value) not in VALUES:
            return f"its default {name} = {shown(value)} must be {one_of(VALUES)}"
        for ranges in (SHARED_RANGES, loss.space["wide"], loss.space["narrow"]):
            kinds = values_of(ranges[name]) if name in ranges else {type(value)}
            whole = name in SHARED_NAMES and float in kinds and type(value) is int
            if type(value) not in kinds and not whole:
                allowed = one_of([kind for kind in VALUES if kind in kinds])
                return f"its default {name} = {shown(value)} must be {allowed}, as its range's are"
    return None


def values_of(distribution: BaseDistribution) -> set[type]:
    """The types of what is drawn from a distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return {type(choice) for choice in distribution.choices}
    return {int if isinstance(distribution, IntDistribution) else float}


def wrong_init(loss: type[GANLoss]) -> str | None:
    """An `__init__` that does not take the loss's own hyperparameters by their names."""
    own = {name: value for name, value in loss.defaults.items() if name not in SHARED_NAMES}
    # torch's own has (*args, **kwargs), and takes none
    none = loss.__init__ is nn.Module.__init__
    signature = inspect.Signature() if none else inspect.signature(loss)
    try:
        signature.bind(**own)
    except TypeError as error:
        return f"__init__ must take ({', '.join(('self', *own))}), its own hyperparameters: {error}"
    return None


def wrong_losses(loss: type[GANLoss]) -> str | None:
    """Losses that are not there, or take other outputs than `step` gives; one's own `step` may."""
    if loss.step is not GANLoss.step:
        return None
    parts = (loss.d_loss_real, loss.d_loss_fake)
    if loss.d_loss is GANLoss.d_loss and (
        parts[0] is GANLoss.d_loss_real or parts[1] is GANLoss.d_loss_fake
    ):
        return "Loss has no d_loss; define d_loss_real and d_loss_fake, or d_loss whole"
    if loss.g_loss is GANLoss.g_loss:
        return "Loss has no g_loss; define it"
    inputs = ["d_fake", "d_real"] if loss.g_sees_real else ["d_fake"]
    try:
        inspect.signature(loss.g_loss).bind(None, *inputs)
    except TypeError as error:
        return (
            f"g_loss must take ({', '.join(inputs)}), since g_sees_real is {loss.g_sees_real} "
            f"({error}); state g_sees_real = {not loss.g_sees_real}, or change what it takes"
        )
    return None


def shown(value: Any) -> str:
    """A value as Python writes it, in one line of bounded length."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:79]}…"


def one_of(kinds: Any) -> str:
    """The names of types: "bool, int or str"."""
    *first, last = (kind.__name__ for kind in kinds)
    return f"{', '.join(first)} or {last}" if first else str(last)


def listed(names: list[str]) -> str:
    """Names, or that there are none."""
    return ", ".join(names) or "none"

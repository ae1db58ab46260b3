"""The losses of the study. This folder is the registry: one file a loss, each with `class Loss`."""

import importlib
import inspect
import pkgutil
from typing import cast

from study.errors import StudyError
from study.losses.base import GANLoss


def names() -> list[str]:
    """The names of all losses, sorted: the files of this folder."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")


def load(name: str) -> type[GANLoss]:
    """The class of a loss by its name; StudyError on an unknown one."""
    if name not in names():
        raise StudyError(f"unknown loss '{name}'; study/losses has: {', '.join(names())}")
    module = importlib.import_module(f"study.losses.{name}")
    loss = cast(type[GANLoss], module.Loss)
    require_declared_inputs(name, loss)
    return loss


def require_declared_inputs(name: str, loss: type[GANLoss]) -> None:
    """StudyError where `g_loss` does not take what the class says that it sees."""
    inputs = ["d_fake", "d_real"] if loss.g_sees_real else ["d_fake"]
    try:
        inspect.signature(loss.g_loss).bind(None, *inputs)
    except TypeError as error:
        raise StudyError(
            f"study/losses/{name}.py: g_loss must take ({', '.join(inputs)}), since g_sees_real is "
            f"{loss.g_sees_real} ({error}); state g_sees_real = {not loss.g_sees_real}, or change "
            "what it takes"
        ) from None

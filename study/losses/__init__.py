"""The losses of the study. This folder is the registry: one file a loss, each with `class Loss`."""

import importlib
import inspect
import pkgutil
import sys
from typing import cast

from study.errors import StudyError, unknown
from study.losses.base import GANLoss

SAID: set[str] = set()
"""What has been said on stderr, not to be said again."""


def names() -> list[str]:
    """The names of all losses, sorted: the files of this folder.

    One that cannot be loaded, or has no class Loss, is named on stderr and left out.
    """
    found = []
    for name in file_names():
        try:
            class_in(name)
            found.append(name)
        except StudyError as error:
            if str(error) not in SAID:
                SAID.add(str(error))
                print(f"{error}; it is left out", file=sys.stderr)
    return found


def file_names() -> list[str]:
    """The files of this folder that should each hold a loss, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")


def class_in(name: str) -> type[GANLoss]:
    """The class Loss of a file of this folder; StudyError where it cannot be had."""
    try:
        return cast(type[GANLoss], importlib.import_module(f"study.losses.{name}").Loss)
    except AttributeError as error:
        raise StudyError(f"study/losses/{name}.py: no loss: {error}") from error
    except Exception as error:  # whatever half-written code raises
        raise StudyError(f"study/losses/{name}.py: {type(error).__name__}: {error}") from error


def load(name: str) -> type[GANLoss]:
    """The class of a loss by its name; StudyError on an unknown one."""
    if name not in names():
        if name in file_names():
            class_in(name)  # says what is wrong with it
        raise unknown("loss", name, names(), "study/losses has")
    loss = class_in(name)
    require_contract(name, loss)
    return loss


def require_contract(name: str, loss: type[GANLoss]) -> None:
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

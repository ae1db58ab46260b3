"""The losses of the study. This folder is the registry: one file a loss, each with `class Loss`."""

import importlib
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
    return cast(type[GANLoss], module.Loss)

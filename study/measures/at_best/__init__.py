"""What is measured once a run, of its best generator.

This folder is the registry: one file a measure, with its COLUMNS, `wanted(config)` and
`measure(best)`, which returns a value for each column. Tables ask for the columns alone: a file
imports what needs torch inside `measure`.
"""

import importlib
import pkgutil
from typing import Any

from study.measures.at_best.base import Best
from study.settings.columns import Column
from study.settings.config import RunConfig

__all__ = ["COLUMNS", "Best", "measure", "names", "wanted"]


def names() -> list[str]:
    """The names of all measures, sorted: the files of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")


_MODULES = [importlib.import_module(f"{__name__}.{name}") for name in names()]
COLUMNS: tuple[Column, ...] = tuple(column for module in _MODULES for column in module.COLUMNS)


def wanted(config: RunConfig) -> list[Any]:
    """The modules whose measures a run of this configuration takes."""
    return [module for module in _MODULES if module.wanted(config)]


def measure(best: Best) -> dict[str, float]:
    """All that is wanted of a run's best generator: column -> value."""
    found: dict[str, float] = {}
    for module in wanted(best.config):
        found |= module.measure(best)
    return found

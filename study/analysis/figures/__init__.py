"""The figures of the study. This folder is the registry: one file a figure, each with a PLOT.

A figure takes tables, which hold one row an evaluation (results/README.md), and gives a matplotlib
Figure. Each loss has one place, colour, line and marker in all figures. Every figure's caption
states what was measured and what its band is.
"""

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import cast

import pandas as pd
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis.figures.base import Plot
from study.analysis.figures.style import remove_stale, save
from study.errors import StudyError

Tables = Mapping[str, pd.DataFrame]


def names() -> list[str]:
    """The names of all figures, in the order in which they are shown: the files of this folder.

    A file that cannot be imported is named on stderr, and the others go on.
    """
    found = {}
    for module in pkgutil.iter_modules(__path__):
        try:
            plot = getattr(importlib.import_module(f"{__name__}.{module.name}"), "PLOT", None)
        except Exception as error:  # whatever a half-written file raises
            print(f"study/analysis/figures/{module.name}.py: {error!r}", file=sys.stderr)
            continue
        if plot is not None:  # the others are what figures share
            found[module.name] = plot.place
    return sorted(found, key=lambda name: (found[name], name))


def load(name: str) -> Plot:
    """What the figure of this name says of itself."""
    return cast(Plot, importlib.import_module(f"{__name__}.{name}").PLOT)


def of(tables: Tables) -> dict[str, Callable[[], Figure]]:
    """Every figure that the tables allow by the name of its file, each drawn when called."""
    return {name: make for kind in names() for name, make in of_kind(kind, tables)}


def of_kind(kind: str, tables: Tables) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """The figures of one kind that the tables allow: one, or one a data set, a loss."""
    plot, none = load(kind), pd.DataFrame()
    needed = [tables.get(name, none) for name in plot.needs]
    if any(table.empty for table in needed) or not set(plot.columns) <= set(needed[0]):
        return
    for column in plot.columns:
        needed[0] = needed[0][needed[0].groupby("dataset")[column].transform("count") > 0]
    if needed[0].empty:
        return
    given = [*needed, *(tables.get(name, none) for name in plot.takes)]
    if not plot.each:
        yield kind, partial(plot.draw, *given)
        return
    for key in _groups(needed[0], plot.each):
        own = [_only(table, dict(zip(plot.each, key, strict=True))) for table in given]
        yield "_".join((kind, *key)), partial(plot.draw, *own)


def draw(tables: Tables, folder: Path, alone: bool = False) -> tuple[list[Path], list[str]]:
    """Write every figure as SVG and PNG; returns the files, and a line a figure that cannot be.

    A figure is written whole or not at all, and one that cannot be drawn is not left from before.
    With `alone` no other figures that were ever drawn here are left in the folder.
    """
    written, refused = [], []
    for name, make in of(tables).items():
        stem = folder / name
        try:
            written += save(make(), stem)
        except StudyError as error:
            refused.append(f"{name}: {error}")
            for suffix in (".svg", ".png"):
                stem.with_suffix(suffix).unlink(missing_ok=True)
    if alone:
        remove_stale(folder, written)
    return written, refused


def _groups(table: pd.DataFrame, columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The values of the columns that occur together, data sets and losses in the study's order."""
    order = {"dataset": scores.dataset_order, "loss": scores.losses}
    places = [order[name](table) if name in order else sorted(set(table[name])) for name in columns]
    found = {tuple(map(str, key)) for key in table[list(columns)].itertuples(index=False)}
    return sorted(
        found, key=lambda key: [all_.index(v) for all_, v in zip(places, key, strict=True)]
    )


def _only(table: pd.DataFrame, values: Mapping[str, str]) -> pd.DataFrame:
    for name, value in values.items():
        if name in table:
            table = table[table[name] == value]
    return table

"""The figures of the study. This folder is the registry: one file a figure, each with a PLOT.

A figure takes tables, which hold one row an evaluation (results/README.md), and gives a matplotlib
Figure. Each loss has one place, colour, line and marker in all figures. Every figure's caption
states what was measured and what its band is.
"""

import importlib
import pkgutil
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, cast

import pandas as pd
from matplotlib.figure import Figure

from study.analysis import scores
from study.analysis.figures import unchanged
from study.analysis.figures.base import Plot
from study.analysis.figures.processes import together
from study.analysis.figures.style import drawn, remove_stale, write
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


class Wanted(NamedTuple):
    """A figure that tables allow: it is drawn when called."""

    kind: str
    given: tuple[pd.DataFrame, ...]

    def __call__(self) -> Figure:
        """Draw it."""
        return load(self.kind).draw(*self.given)


def of(tables: Tables) -> dict[str, Wanted]:
    """Every figure that the tables allow by the name of its file, each drawn when called."""
    return {name: make for kind in names() for name, make in of_kind(kind, tables)}


def of_kind(kind: str, tables: Tables) -> Iterator[tuple[str, Wanted]]:
    """The figures of one kind that the tables allow: one, or one a data set, a loss that all the
    tables it needs have.

    Their tables' rows are numbered anew: what precedes them in a file changes no figure.
    """
    plot, none = load(kind), pd.DataFrame()
    needed = [tables.get(name, none) for name in plot.needs]
    if any(table.empty for table in needed) or not set(plot.columns) <= set(needed[0]):
        return
    for column in plot.columns:
        needed[0] = needed[0][needed[0].groupby("dataset")[column].transform("count") > 0]
    if needed[0].empty:
        return
    given = [*needed, *(tables.get(name, none) for name in plot.takes)]
    for key in _groups(needed[0], plot.each) if plot.each else [()]:
        values = dict(zip(plot.each, key, strict=True))
        own = [_only(table, values).reset_index(drop=True) for table in given]
        if not any(table.empty for table in own[: len(needed)]):
            yield "_".join((kind, *key)), Wanted(kind, tuple(own))


# --- Files ----------------------------------------------------------------------------------------


class Drawn(NamedTuple):
    """What has come of the figures of a folder."""

    written: list[Path]
    """The figures' files, those that were left as they were among them."""
    refused: list[str]
    """A line a figure that cannot be drawn."""
    unchanged: int
    """How many files were left as they were."""


def draw(tables: Tables, folder: Path) -> Drawn:
    """Have every figure in the folder: see `draw_all`."""
    return draw_all({folder: tables})[folder]


def draw_all(
    tables: Mapping[Path, Tables], alone: Collection[Path] = (), processes: int = 1
) -> dict[Path, Drawn]:
    """Have every figure in the tables' folder as SVG and PNG; what stands there is not drawn again.

    A figure is written whole or not at all, and one that cannot be drawn is not left from before.
    No other figures that were ever drawn here are left in the folders of `alone`. A script that
    asks for several processes begins with `if __name__ == "__main__":`, as Python wants it.
    """
    wanted = {at / name: make for at, own in tables.items() for name, make in of(own).items()}
    keys, known = _keys(wanted), unchanged.record()
    left = [at for at in wanted if not unchanged.stand(_paths(at), known.get(keys[at]))]
    found: dict[Path, list[str] | str] = {}
    try:
        jobs = [(wanted[at], at) for at in left]
        found.update(zip(left, together(_draw, jobs, processes), strict=True))
    finally:
        hashes = {at: each for at, each in found.items() if not isinstance(each, str)}
        # What has changed while it was drawn is not known to be drawn.
        again = _keys({at: wanted[at] for at in hashes})
        unchanged.remember({key: hashes[at] for at, key in again.items() if key == keys[at]})
    came_to = {
        folder: _came_to({at: found.get(at) for at in wanted if at.parent == folder})
        for folder in tables
    }
    for folder in alone:
        remove_stale(folder, came_to[folder].written)
    return came_to


def _came_to(figures: Mapping[Path, list[str] | str | None]) -> Drawn:
    """What to say of the figures of a folder, each with what `_draw` gave, if it was drawn."""
    refused = {at: reason for at, reason in figures.items() if isinstance(reason, str)}
    for path in (path for at in refused for path in _paths(at)):
        path.unlink(missing_ok=True)
    written = [path for at in figures if at not in refused for path in _paths(at)]
    same = sum(len(_paths(at)) for at, each in figures.items() if each is None)
    return Drawn(written, [f"{at.name}: {reason}" for at, reason in refused.items()], same)


def _paths(at: Path) -> list[Path]:
    return [at.with_name(at.name + end) for end in (".svg", ".png")]


def _keys(wanted: Mapping[Path, Wanted]) -> dict[Path, str]:
    around = unchanged.surroundings() if wanted else ""
    return {at: unchanged.key_of(*make, around) for at, make in wanted.items()}


def _draw(make: Wanted, stem: Path) -> list[str] | str:
    """Write a figure's files, and their hashes; why it cannot be drawn where it cannot."""
    try:
        contents = drawn(make())
    except StudyError as error:
        return str(error)
    write(contents, stem)
    return list(map(unchanged.digest, contents.values()))


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

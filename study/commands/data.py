"""Commands about data sets: list them, describe one, add one's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

from study import datasets
from study.datasets import folder as own
from study.errors import StudyError
from study.terminal import say


class NameOrCommand(TyperGroup):
    """`data NAME` is short for `data show NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `show` before a first word that is no command."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=NameOrCommand, invoke_without_command=True)


@app.callback()
def list_all(context: typer.Context) -> None:
    """The data sets there are; `data NAME` checks and describes one, `data add` makes one."""
    if context.invoked_subcommand is None:
        for name in datasets.names():
            try:
                found = datasets.find(name)
            except StudyError as error:  # each stands for itself
                print(error, file=sys.stderr)
                continue
            channels, height, width = found.shape
            kind = "grey" if channels == 1 else "colour"
            counts = ", ".join(f"{n:,} {part}" for part, n in found.sizes.items())
            say(f"{name}: {found.title}, {height} x {width}, {kind}, {counts}")


@app.command("show")
def show(name: str) -> None:
    """Fetch or find a data set, check every file, and say what it holds."""
    for key, value in datasets.summary(name).items():
        say(f"{key}: {value}")


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="What the data set is to be called.")],
    folder: Annotated[Path, typer.Argument(help="Images; its subfolders, if any, are classes.")],
    size: Annotated[int, typer.Option(help="Pixels a side, a multiple of 4 from 8 to 128.")] = 32,
    held_out: Annotated[
        float, typer.Option(help="What is not trained on: a share, or a number of images.")
    ] = 0.1,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out, and count, what cannot be read.")
    ] = False,
) -> None:
    """Make a folder of images a data set of your own, for every sweep, `fid` and figure."""
    taken = [*datasets.SETS, *(command.name or "" for command in app.registered_commands)]
    with bar(f"{folder}") as advance:
        added = own.add(
            name,
            folder,
            datasets.data_folder(),
            size=size,
            held_out=held_out,
            skip_bad=skip_bad,
            taken=taken,
            progress=advance,
        )
    for line in own.report(name, added):
        say(line)


@contextmanager
def bar(what: str) -> Iterator[own.Progress]:
    """A progress bar on stderr, where that is a terminal: a function (done, of)."""
    name = TextColumn("{task.description}", markup=False)  # a folder may be called [/]
    columns = (name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)

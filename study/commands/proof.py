"""Commands that prove: what holds on this machine, and whether committed rows come out again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from study import files, terminal
from study.commands.sweeps import DEVICE_HELP, Cluster, refuse_idle_options
from study.errors import StudyError
from study.runs.folder import results_folder
from study.runs.resources import RESOURCES_FOLDER, read_resources


def check(
    part: Annotated[list[str] | None, typer.Argument(help="Only these; default: all.")] = None,
    device: Annotated[str | None, typer.Option(help=DEVICE_HELP)] = None,
    cluster: Annotated[
        Cluster, typer.Option(help="slurm: look at the cluster as well.")
    ] = Cluster.LOCAL,
    resources: Annotated[
        Path | None,
        typer.Option(help="With slurm: what a job may use.", show_default="one_machine.toml"),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--json", help="Write the rows to this file, for a bug report.")
    ] = None,
) -> None:
    """Try what this package relies on, on this machine: a row each, status 1 where one is off."""
    from study.check import report
    from study.check.rows import Machine, chosen, row_of
    from study.runs import checks
    from study.training.loop import set_arithmetic

    device = device or checks.default_device()
    checks.require_device(device)
    set_arithmetic("fp32")
    refuse_idle_options(cluster, resources, workers=None)
    if to is not None and (to.is_dir() or not to.parent.is_dir()):
        raise StudyError(f"--json {to}: no file can be written there; name another")
    resources = resources or RESOURCES_FOLDER / "one_machine.toml"
    found = read_resources(resources) if cluster == Cluster.SLURM else None
    machine = Machine(device, results_folder(), found)
    rows = []
    for each in chosen(report.CHECKS, part or []):
        rows.append(row_of(each, machine))
        terminal.say(report.line(rows[-1]))
    print(report.summary(rows))
    if to is not None:
        files.write_atomically(to, lambda path: path.write_text(report.as_json(rows, machine)))
        print(to)
    if any(row.status == "off" for row in rows):
        raise typer.Exit(1)


def verify(
    table: Annotated[Path, typer.Argument(help="A table, as results/mini.parquet.")],
    rows: Annotated[int, typer.Option(min=1, help="How many of its runs.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Which of them: drawn by this seed.")] = 0,
    device: Annotated[
        str | None, typer.Option(help="Default: the row's, or what there is.")
    ] = None,
) -> None:
    """Train runs of a table again: equal to the last digit, or how far apart.

    Status 1 where torch, rounding and processor are the row's, but the digits are not.
    """
    from study.check import again
    from study.runs.table import read_table
    from study.training.loop import train

    if not table.is_file() or table.suffix != ".parquet":
        raise StudyError(f"{table}: no such table; one is results/<sweep>.parquet")
    found = read_table(table.parent, table.stem)
    files.commit()
    off = equal = 0
    for each in again.verify(found, rows, seed, results_folder(), train, device):
        terminal.say(again.line(each))
        off, equal = off + each.is_off, equal + each.is_equal
    print(f"{equal} of {rows} equal to the last digit")
    if off:
        raise typer.Exit(1)

"""Commands beyond this program: the main table as CSV and LaTeX, others' tables compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from study import files, terminal
from study.errors import StudyError
from study.runs.folder import results_folder


def export(
    sweep: Annotated[str, typer.Argument(help="A search that has a table.")],
    csv: Annotated[Path | None, typer.Option("--csv", help="Write a row a budget here.")] = None,
    latex: Annotated[Path | None, typer.Option("--latex", help="Write a table here.")] = None,
) -> None:
    """Write a search's main table, medians with intervals, for other programs and for papers."""
    from study.analysis import export as exports
    from study.analysis.tables import read_tables

    if csv is None and latex is None:
        raise StudyError("nothing to write: give --csv FILE, --latex FILE, or both")
    table = exports.main_table(read_tables(results_folder(), sweep).search)
    if csv is not None:
        files.write_atomically(csv, lambda path: table.to_csv(path, index=False))
        print(csv)
    if latex is not None:
        text = exports.latex(table)
        files.write_atomically(latex, lambda path: path.write_text(text, encoding="utf-8"))
        print(latex)


def compare(
    mine: Annotated[str, typer.Argument(help="A table (Parquet or CSV), or TABLE:LOSS.")],
    theirs: Annotated[str, typer.Argument(help="What to compare it with, named likewise.")],
    dataset: Annotated[str | None, typer.Option(help="Only this data set.")] = None,
    paired: Annotated[
        bool, typer.Option("--paired", help="A number is the same setting and seed on both sides.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Whether one loss is better than another, at which budget and how sure, by any tables.

    Columns: loss, number (of the setting), fid; a diverged run is infinite.
    """
    from study.analysis import compare as comparison
    from study.analysis import verdict

    found = comparison.compare(mine, theirs, dataset, paired)
    if as_json:
        rows = [{"words": each.words, "budgets": each.table.to_dict("records")} for each in found]
        print(files.strict_json(rows, indent=1))
        return
    for each in found:
        terminal.say(each.words)
        cells = verdict.cells(each.table.set_index("budget"))
        terminal.console.print(terminal.records(cells, terminal.console.width), "")

"""Commands for other programs: the main table as CSV and LaTeX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from study import files
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

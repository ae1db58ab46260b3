"""Commands beyond this program: tables as CSV and LaTeX, others' tables, generators and images."""

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
    from study.analysis.tables import finished, read_tables

    if csv is None and latex is None:
        raise StudyError("nothing to write: give --csv FILE, --latex FILE, or both")
    for to in (csv, latex):
        if to is not None and (not to.name or to.is_dir()):
            raise StudyError(f"'{to}' is a folder; give the file's name too")
    if csv == latex:
        raise StudyError(f"{csv} cannot be CSV and LaTeX; give two files")
    table = exports.main_table(finished(read_tables(results_folder(), sweep)).search)
    if csv is not None:
        files.write_atomically(csv, lambda path: table.to_csv(path, index=False))
        print(csv)
    if latex is not None:
        text = exports.latex(table)
        files.write_atomically(latex, lambda path: path.write_text(text, encoding="utf-8"))
        print(latex)


def keep(
    sweep: Annotated[str, typer.Argument(help="A sweep with its table and runs.")],
) -> None:
    """Keep the generator of each loss's best run in results/generators/, to draw images from.

    In half precision where that changes its distance by at most 0.1 %.
    """
    from study.analysis import generators

    for kept in generators.keep(results_folder(), sweep):
        print(
            f"{kept.folder}: {kept.bytes / 1e6:.2f} MB, distance {kept.distance:.4g}; half "
            f"precision changes it by {100 * kept.change:+.3f} %"
            f"{'' if kept.half else ', so that it is kept whole'}"
        )


def sample(
    run: Annotated[
        Path,
        typer.Argument(help="A run's folder, or its path below results/runs (or generators)."),
    ],
    count: Annotated[int, typer.Argument(min=1, help="How many images.")] = 64,
    to: Annotated[Path, typer.Option(help="The folder they go to: new, or empty.")] = Path(
        "samples"
    ),
) -> None:
    """Draw images from a run's best generator, as PNG files: the first are those it was scored by.

    Pixels are rounded to 8 bits.
    """
    from PIL import Image

    from study.measures.image_sets import open_set

    results = results_folder()
    places = [run, results / "runs" / run, results / "generators" / run]
    folder = next((place for place in places if (place / "config.json").is_file()), None)
    if folder is None:
        raise StudyError(f"{run}: no run's folder (it would hold config.json); `make status`")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise StudyError(f"{to} is there already and not empty; give another folder by --to")
    images = open_set(str(folder), count)
    height, width = images.size
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(
            f"{to} cannot be made ({error.strerror}); give another folder by --to"
        ) from error
    drawn = (image for batch in images.batches(None, 256) for image in batch)
    for number, image in enumerate(drawn):
        pixels = image.mul(255).round().byte().numpy().transpose(1, 2, 0)
        Image.fromarray(pixels.squeeze()).save(to / f"{number:06d}.png")
    print(f"{to}: {count:,} images of {height} x {width} pixels")


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

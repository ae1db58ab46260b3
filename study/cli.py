"""The command line's commands.

Each imports what it needs: torch takes seconds, and `status` must answer at once.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.padding import Padding
from rich.table import Table

from study import files, terminal
from study.commands import data, exports, proof, sweeps
from study.commands.each import Refused
from study.errors import StudyError
from study.runs.folder import results_folder

if TYPE_CHECKING:
    import pandas as pd

INTERRUPTED = 130
"""Exit status that typer makes of Ctrl-C."""

app = typer.Typer(
    help='A reproduction of "Are GANs Created Equal? A Large-Scale Study".',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


for command in (
    *(sweeps.sweep, sweeps.status, sweeps.cancel, sweeps.collect, sweeps.train),
    *(proof.check, proof.verify, exports.export, exports.compare, exports.keep, exports.sample),
):
    app.command()(command)
app.add_typer(data.app, name="data")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("losses")
def list_losses(as_json: Json = False) -> None:
    """The losses, their sources, authors' defaults and search spaces."""
    from study.losses import about, names
    from study.settings.space import SHARED, ranges_of

    table = {
        name: {
            "title": about(name).title,
            "source": about(name).source,
            "defaults": dict(about(name).defaults),
            "space": {
                ranges: {key: str(value) for key, value in ranges_of(ranges, name).items()}
                for ranges in SHARED
            },
        }
        for name in names()
    }
    if as_json:
        print(json.dumps(table, indent=1))
        return
    for name in table:
        said = about(name)
        out = Table("hyperparameter", "default", *SHARED, box=None, pad_edge=False)
        for key, default in said.defaults.items():
            ranges = [range_text(ranges_of(r, name)[key]) for r in SHARED]
            out.add_row(key, terminal.value_text(default), *ranges)
        terminal.console.print(
            f"\n[bold]{name}[/bold]  {said.title}: {said.source}", highlight=False
        )
        terminal.console.print(Padding(out, (0, 0, 0, 4)))


@app.command("columns")
def print_columns() -> None:
    """What every column of results/*.parquet means, with its type."""
    from study.analysis import dictionary

    print(dictionary.columns())


def range_text(distribution: object) -> str:
    """A distribution in a few characters."""
    choices = getattr(distribution, "choices", None)
    if choices is not None:
        return "{" + ", ".join(terminal.value_text(choice) for choice in choices) + "}"
    low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
    scale = " log" if getattr(distribution, "log", False) else ""
    return f"[{terminal.value_text(low)}, {terminal.value_text(high)}]{scale}"


@app.command("untrained")
def measure_untrained(
    sweep: Annotated[str, typer.Option(help="A file of sweeps/, without .toml.")],
    loss: Annotated[list[str], typer.Option(help="Only this loss (may be repeated).")] = [],
    dataset: Annotated[list[str], typer.Option(help="Only this data set.")] = [],
) -> None:
    """Measure each loss's generator before any training, into results/untrained.parquet."""
    from study.runs.plan import plan
    from study.runs.table import record_untrained
    from study.settings.config import load_sweep
    from study.training.records import untrained

    results = results_folder()
    for config in plan(load_sweep(sweep), loss, dataset, trials=1):
        row = untrained(config)
        record_untrained(results, [row])
        print(f"{sweep}/{config.loss}/{config.dataset}: {row['fid']:.2f} ({config.features})")


@app.command("figures")
def draw_figures(
    sweep: Annotated[list[str], typer.Option(help="Only this search.")] = [],
    to: Annotated[Path, typer.Option(help="Folder.")] = Path("analysis/figures"),
) -> None:
    """Draw every figure that the tables in results/ allow, as SVG and PNG."""
    from study.analysis import figures
    from study.analysis.tables import finished, read_measured, read_tables, searches

    results, refused = results_folder(), Refused(asked=bool(sweep))
    tables: dict[Path, figures.Tables] = {}
    for name in sweep or searches(results):
        with refused.of(name):
            tables[to / name] = finished(read_tables(results, name)).frames()
    alone = list(tables)
    if not sweep and (measured := read_measured(results)):
        tables[to] = measured
    drawn = figures.draw_all(tables, alone, len(os.sched_getaffinity(0)))
    for folder, found in drawn.items():
        same = f", {found.unchanged} of them unchanged" if found.unchanged else ""
        print(f"{folder}: {len(found.written)} files{same}")
        for line in found.refused:
            print(f"not drawn: {line}", file=sys.stderr)
    refused.end()


@app.command("verdict")
def print_verdict(
    sweep: Annotated[str, typer.Option(help="A search that has a table.")] = "paired",
    reference: Annotated[str, typer.Option(help="The loss that the others are to beat.")] = "ns",
    interim: Annotated[
        bool, typer.Option("--interim", help="Also what holds at any look, however early.")
    ] = False,
    as_json: Json = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print it as a page, as in results/FINDINGS.md.")
    ] = False,
) -> None:
    """Print what the study finds: each question, its answer in words, and the numbers behind it."""
    from study.analysis import verdict
    from study.analysis.tables import read_tables

    if markdown and (as_json or interim or reference != verdict.REFERENCE):
        raise StudyError(
            "--markdown prints a page as results/FINDINGS.md; leave --json, --interim, --reference"
        )
    tables = read_tables(results_folder(), sweep)
    if markdown:
        from study.analysis import findings

        print(findings.page(tables), end="")
        return
    if as_json:
        found = verdict.as_json(tables, reference, at_any_look=interim)
        print(json.dumps(found, indent=1, allow_nan=False))
        return
    for finding in verdict.findings(tables, reference, at_any_look=interim):
        terminal.console.print(f"\n[bold]{finding.question}[/bold]")
        terminal.console.print(finding.answer, highlight=False, markup=False)
        if len(finding.table):
            rows = verdict.cells(finding.table)
            names = [str(name) for name in finding.table.index.names]
            terminal.console.print(terminal.records(rows, terminal.console.width, names))


@app.command("report")
def write_report(
    sweep: Annotated[list[str], typer.Option(help="Only this search.")] = [],
    to: Annotated[Path, typer.Option(help="Folder.")] = Path("analysis"),
) -> None:
    """Write one self-contained HTML page a search: verdict, tables, figures, provenance."""
    from study.analysis import report
    from study.analysis.tables import finished, read_tables, searches

    results, processes = results_folder(), len(os.sched_getaffinity(0))
    refused = Refused(asked=bool(sweep))
    for name in sweep or searches(results):
        with refused.of(name):
            print(report.write(finished(read_tables(results, name)), to, processes))
    refused.end()


@app.command("dashboard")
def open_dashboard(
    sweep: Annotated[str, typer.Option(help="A search that has a table.")] = "mini",
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Its port.")] = 8080,
) -> None:
    """Show a sweep's trials in the browser, by optuna-dashboard; its storage is the table's."""
    from study.analysis import dashboard
    from study.analysis.tables import shown
    from study.runs.table import read_table, table_path
    from study.settings.config import load_sweep

    config, results = load_sweep(sweep), results_folder()
    table = read_table(results, sweep)
    if table.empty:
        raise StudyError(
            f"no rows in {table_path(results, sweep)}; `make sweep SWEEP={sweep}` trains some"
        )
    dashboard.serve(dashboard.record(results, config, shown(config, table)), host, port)


@app.command("fid")
def show_distance(
    real: Annotated[
        str, typer.Argument(help="A folder of images, an .npy or .npz, DATA:SPLIT, or a run's.")
    ],
    fake: Annotated[str, typer.Argument(help="What to compare with it, named likewise.")],
    features: Annotated[str | None, typer.Option(help="inception, lite0, lite2 or random.")] = None,
    num_images: Annotated[
        int | None, typer.Option(min=1, help="So many a side; default: all, or a run's own number.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: what there is.")] = None,
    as_json: Json = False,
) -> None:
    """The distance between two sets of images, by the study's recipe, with its uncertainty."""
    from study import features as extractors
    from study.measures import of_two_sets as score

    device = device_for(device)
    extractor = extractors.load(features or extractors.default(), device, any_weights=True)
    found = score.compare(score.pair(real, fake, num_images, device), extractor, data.bar)
    if as_json:
        print(files.strict_json({"real": real, "fake": fake} | asdict(found), indent=1))
    else:
        for line in score.report(found):
            terminal.say(line)


@app.command("behaviour")
def show_behaviour(
    dataset: Annotated[str, typer.Option(help="Whose real images.")] = "fashion_mnist",
    features: Annotated[str | None, typer.Option(help="inception, lite0, lite2 or random.")] = None,
    draws: Annotated[int, typer.Option(min=2, help="Repetitions with other images.")] = 3,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: what there is.")] = None,
) -> None:
    """How the distance behaves: number of images, dropped classes, noise, blur, copies."""
    from study import features as extractors
    from study.analysis import behaviour

    path = table_to_write("behaviour")
    extractor = extractors.load(features or extractors.default(), device_for(device))
    say = terminal.console.print
    found = behaviour.measure_all(dataset, extractor, draws, real_draws=3 * draws, say=say)
    print(behaviour.report(found))
    behaviour.save(found, path, replaced=["dataset", "features"])
    draw_behaviour("behaviour", found, path)


@app.command("agreement")
def show_agreement(
    runs: Annotated[list[Path], typer.Argument(help="Runs' folders, or folders above them.")],
    features: Annotated[list[str], typer.Option(help="Two extractors.")] = ["inception", "lite0"],
    num_images: Annotated[int | None, typer.Option(min=1, help="Instead of the runs' own.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: what there is.")] = None,
) -> None:
    """Whether two extractors rank trained generators alike: Spearman's correlation over runs."""
    from study.analysis import behaviour, measured

    if len(set(features)) != 2:
        raise StudyError(f"features {', '.join(features)}; the agreement is that of two extractors")
    path, folders = table_to_write("agreement"), behaviour.runs_below(runs)
    device = device_for(device)
    found = behaviour.distances_of_runs(folders, features, num_images, device)
    agreed = measured.agreement(found, *features)
    terminal.say(
        f"{' and '.join(features)} over {len(found)} generators: Spearman {agreed.value:.3f} "
        f"(95 %: {agreed.low:.3f} to {agreed.high:.3f})"
    )
    behaviour.save(found, path)
    draw_behaviour("agreement", found, path)


@app.command("convergence")
def show_convergence(
    run_dir: Annotated[Path | None, typer.Argument(help="A run on triangles, for recall.")] = None,
    num_images: Annotated[int, typer.Option(min=1, help="Images of each kind.")] = 128,
) -> None:
    """What the descents to the manifold of triangles find, by number of starts and of steps."""
    from study.analysis import behaviour

    path = table_to_write("convergence")
    found = behaviour.manifold_convergence(run_dir, num_images)
    behaviour.save(found, path)
    draw_behaviour("convergence", found, path)


def table_to_write(name: str) -> Path:
    """Where a table goes that is no sweep's; StudyError where something else is there already."""
    from study.analysis.tables import measured

    results = results_folder()
    measured(results, name)
    return results / f"{name}.parquet"


def draw_behaviour(name: str, found: pd.DataFrame, path: Path) -> None:
    """Write the figures of this table into analysis/figures/, and say what was written."""
    from study.analysis import figures

    drawn = figures.draw({name: found}, Path("analysis/figures"))
    print(*(path, *drawn.written), sep="\n")


def device_for(asked: str | None) -> str:
    """The device asked for, or the best there is; StudyError where this machine has it not."""
    from study.runs import checks

    checks.require_device(asked or "cpu")
    return asked or checks.default_device()


def main() -> None:
    """Run the command line; bad input is one line on stderr and status 2."""
    try:
        code = app(standalone_mode=False) or 0
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except typer.TyperException as error:
        if said := usage(error):
            print(f"error: {said}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        print(f"error: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("interrupted; the same command goes on from here", file=sys.stderr)
    sys.exit(code)


def usage(error: typer.TyperException) -> str:
    """What typer has against a command's words, in a line; nothing where it printed the help."""
    said = " ".join(error.format_message().split()).removesuffix(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "python -m study"
    return f"{said}; `{command} --help` tells what there is" if said else ""


if __name__ == "__main__":
    main()

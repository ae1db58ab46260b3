"""The command line: python -m study COMMAND."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.padding import Padding
from rich.table import Table

from study import data as datasets
from study import launch, run, store, view
from study import sweep as sweeps
from study.config import load_sweep
from study.errors import StudyError
from study.losses import load, names
from study.space import SHARED, ranges_of

app = typer.Typer(
    help='A reproduction of "Are GANs Created Equal? A Large-Scale Study".',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("losses")
def list_losses(as_json: Json = False) -> None:
    """The losses, their sources, authors' defaults and search spaces."""
    table = {
        name: {
            "title": load(name).title,
            "source": load(name).source,
            "defaults": dict(load(name).defaults),
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
        cls = load(name)
        out = Table("hyperparameter", "default", *SHARED, box=None, pad_edge=False)
        for key, default in cls.defaults.items():
            ranges = [range_text(ranges_of(r, name)[key]) for r in SHARED]
            out.add_row(key, view.value_text(default), *ranges)
        view.console.print(f"\n[bold]{name}[/bold]  {cls.title}: {cls.source}", highlight=False)
        view.console.print(Padding(out, (0, 0, 0, 4)))


def range_text(distribution: object) -> str:
    """A distribution in a few characters."""
    choices = getattr(distribution, "choices", None)
    if choices is not None:
        return "{" + ", ".join(view.value_text(choice) for choice in choices) + "}"
    low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
    scale = " log" if getattr(distribution, "log", False) else ""
    return f"[{view.value_text(low)}, {view.value_text(high)}]{scale}"


@app.command("data")
def show_data(name: str) -> None:
    """Fetch or find a data set, check every file, and say what it holds."""
    for key, value in datasets.summary(name).items():
        print(f"{key}: {value}")


@app.command("sweep")
def run_sweep(
    loss: Annotated[list[str], typer.Option(help="Only this loss (may be repeated).")] = [],
    sweep: Annotated[str, typer.Option(help="A file of sweeps/, without .toml.")] = "quick",
    dataset: Annotated[list[str], typer.Option(help="Only this data set.")] = [],
    trials: Annotated[int | None, typer.Option(min=1, help="Settings a loss.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at once on this machine.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: what there is.")] = None,
    max_failures: Annotated[int, typer.Option(min=1, help="Stop at so many failed runs.")] = 20,
) -> None:
    """Train what is missing of a sweep, collect it, and show where it stands."""
    config = load_sweep(sweep)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    results = sweeps.results_folder()
    if config.name == "quick" and not dataset:
        dataset = ["fashion_mnist"]
    plan = sweeps.plan(config, loss, dataset, trials, device)
    status = sweeps.prepare(plan, results)
    gpus = torch.cuda.device_count() if device == "cuda" else 0
    workers = workers or gpus or len(os.sched_getaffinity(0))
    try:
        if status.open:
            sweeps.run_here(status, results, workers, gpus, max_failures)
    finally:
        table = store.collect(results, sweep, sweeps.folders_of(sweep, results))
        if len(table):
            store.record_in_optuna(results, config, table)
    sweeps.report(plan, table, results)


@app.command("status")
def show_status(
    sweep: Annotated[str | None, typer.Option(help="Only this sweep.")] = None,
    as_json: Json = False,
) -> None:
    """What is to do, running, done, failed and lost, from the files alone."""
    results = sweeps.results_folder()
    entries, failures = sweeps.status(results, [sweep] if sweep else None)
    if as_json:
        print(json.dumps({"groups": entries, "failures": failures}, indent=1))
        return
    for name in sorted({entry["sweep"] for entry in entries}):
        groups = [entry for entry in entries if entry["sweep"] == name]
        view.console.print(f"sweep {name}")
        view.console.print(view.overview_table(groups, load_sweep(name).features))
    for failure in failures:
        print(f"{failure['run']} failed: {failure['error']}; log: {failure['log']}")


@app.command("collect")
def collect(sweep: Annotated[list[str], typer.Option(help="Only this sweep.")] = []) -> None:
    """Bring finished runs into results/<sweep>.parquet."""
    results = sweeps.results_folder()
    for name in sweep or sweeps.sweeps_with_runs(results):
        table = store.collect(results, name, sweeps.folders_of(name, results))
        runs = table["config"].nunique()
        print(f"{store.table_path(results, name)}: {runs} runs, {len(table)} rows")


@app.command("train")
def train_one(run_dir: Path) -> None:
    """Train the one run whose config.json lies in RUN_DIR, from its checkpoint if it has one."""
    if not (run_dir / "config.json").exists():
        raise StudyError(f"{run_dir}: no config.json there; `make sweep` plans runs")
    launch.work([run_dir.absolute()], retries=0)
    state = run.state_of(run_dir)
    print(f"{run_dir}: {state}; {run_dir / 'log.txt'}")
    if state == "failed":
        raise typer.Exit(1)


@app.command("work", hidden=True)
def work() -> None:
    """Train the runs whose folders stand on standard input, a JSON list (a worker of `sweep`)."""
    folders = [Path(folder) for folder in json.load(sys.stdin)]
    launch.work(folders)


def main() -> None:
    """Run the command line; bad input is one line on stderr and status 2."""
    try:
        app()
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()

"""The command line's commands.

Each imports what it needs: torch takes seconds, and `status` must answer at once.
"""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.padding import Padding
from rich.table import Table

from study import files, terminal
from study.errors import StudyError
from study.runs import progress, slurm
from study.runs import table as store
from study.runs import workers as launch
from study.runs.claim import forgive
from study.runs.folder import results_folder, state_of, sweeps_with_runs
from study.settings.config import ENVIRONMENT, load_sweep, read_config

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(
    help='A reproduction of "Are GANs Created Equal? A Large-Scale Study".',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Cluster(StrEnum):
    """Where a sweep's runs are trained."""

    LOCAL = "local"
    SLURM = "slurm"


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("losses")
def list_losses(as_json: Json = False) -> None:
    """The losses, their sources, authors' defaults and search spaces."""
    from study.losses import load, names
    from study.settings.space import SHARED, ranges_of

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
            out.add_row(key, terminal.value_text(default), *ranges)
        terminal.console.print(f"\n[bold]{name}[/bold]  {cls.title}: {cls.source}", highlight=False)
        terminal.console.print(Padding(out, (0, 0, 0, 4)))


def range_text(distribution: object) -> str:
    """A distribution in a few characters."""
    choices = getattr(distribution, "choices", None)
    if choices is not None:
        return "{" + ", ".join(terminal.value_text(choice) for choice in choices) + "}"
    low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
    scale = " log" if getattr(distribution, "log", False) else ""
    return f"[{terminal.value_text(low)}, {terminal.value_text(high)}]{scale}"


@app.command("data")
def show_data(name: str) -> None:
    """Fetch or find a data set, check every file, and say what it holds."""
    from study import datasets as data

    for key, value in data.summary(name).items():
        print(f"{key}: {value}")


@app.command("sweep")
def run_sweep(
    loss: Annotated[list[str], typer.Option(help="Only this loss (may be repeated).")] = [],
    sweep: Annotated[str, typer.Option(help="A file of sweeps/, without .toml.")] = "quick",
    dataset: Annotated[list[str], typer.Option(help="Only this data set.")] = [],
    trials: Annotated[int | None, typer.Option(min=1, help="Settings a loss.")] = None,
    cluster: Annotated[Cluster, typer.Option(help="Where to train.")] = Cluster.LOCAL,
    resources: Annotated[
        Path, typer.Option(help="With slurm: what a job may use.")
    ] = slurm.RESOURCES_FOLDER / "one_machine.toml",
    wait: Annotated[
        bool, typer.Option("--wait", help="With slurm: stay until all is done.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at once on this machine.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: what there is.")] = None,
    cuda_graph: Annotated[
        bool, typer.Option("--cuda-graph", help="On a GPU: replay the step as a CUDA graph.")
    ] = False,
    retries: Annotated[int, typer.Option(min=0, help="Further attempts at a failed run.")] = 1,
    max_failures: Annotated[int, typer.Option(min=1, help="Stop at so many failed runs.")] = 20,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
) -> None:
    """Train what is missing of a sweep, collect it, and show where it stands."""
    from study.runs import checks, forecast, local
    from study.runs.sweep import plan
    from study.training.loop import train

    config = load_sweep(sweep)
    cluster_resources = slurm.read_resources(resources) if cluster == Cluster.SLURM else None
    device = device or default_device(cluster_resources)
    results = results_folder()
    if config.name == "quick" and not dataset:
        dataset = ["fashion_mnist"]
    configs = plan(config, loss, dataset, trials, device, cuda_graph=cuda_graph)
    gpus = local_gpus() if device == "cuda" else []
    workers = workers or len(gpus) or len(os.sched_getaffinity(0))
    at_once = cluster_resources.runs_together if cluster_resources else workers
    if dry_run:
        for line in forecast.describe(
            progress.progress(configs, results), results, at_once, cluster_resources
        ):
            print(line)
        return
    found = progress.prepare(configs, results)
    if found.left():
        checks.require_inputs(configs)
    try:
        with terminal.live(results, at_once, config.features) as show:
            if cluster_resources is not None:
                slurm.run_on_slurm(
                    found, train, show, results, cluster_resources, retries, max_failures, wait
                )
            elif found.left():
                local.run_here(found, train, show, workers, gpus, retries, max_failures)
    finally:
        table = collect_one(results, sweep)
    if cluster == Cluster.LOCAL or wait:
        terminal.report(configs, table, results)
        left = progress.progress(configs, results).left()
        if left:
            states = ", ".join(f"{count} {state}" for state, count in left.items())
            print(
                f"{left.total()} of {len(configs)} runs are not done ({states}); `make status` "
                "says more, and the same command goes on from here",
                file=sys.stderr,
            )
            raise typer.Exit(1)


def collect_one(results: Path, sweep: str) -> pd.DataFrame:
    """Bring a sweep's finished runs into its table and its Optuna storage; returns the table."""
    from study.analysis import dashboard

    table = store.collect(results, sweep)
    if len(table):
        dashboard.record(results, load_sweep(sweep), table)
    return table


def local_gpus() -> list[str]:
    """The GPUs of this machine that may be used, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    return launch.visible_gpus() or [str(index) for index in range(torch.cuda.device_count())]


def default_device(resources: slurm.Resources | None) -> str:
    """Where runs train: what this machine has, or what a SLURM job asks for."""
    if resources is not None:
        return resources.device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@app.command("cancel")
def cancel(sweep: Annotated[list[str], typer.Option(help="Only this sweep.")] = []) -> None:
    """Take the SLURM jobs of the sweeps out of the queue; their runs can be sent again."""
    results = results_folder()
    for name in sweep or sweeps_with_runs(results):
        print(f"{name}: {slurm.cancel(slurm.jobs_folder(results, name))} jobs cancelled")


@app.command("status")
def show_status(
    sweep: Annotated[str | None, typer.Option(help="Only this sweep.")] = None,
    as_json: Json = False,
) -> None:
    """What is to do, running, done, failed and lost, from the files alone."""
    results = results_folder()
    entries, failures = progress.status(results, [sweep] if sweep else None)
    if as_json:
        print(json.dumps({"groups": entries, "failures": failures}, indent=1))
        return
    for name in sorted({entry["sweep"] for entry in entries}):
        groups = [entry for entry in entries if entry["sweep"] == name]
        terminal.console.print(f"sweep {name}")
        terminal.console.print(terminal.overview_table(groups, load_sweep(name).features))
    for failure in failures:
        print(f"{failure['run']} failed: {failure['error']}; log: {failure['log']}")


@app.command("collect")
def collect(
    sweep: Annotated[list[str], typer.Option(help="Only this sweep.")] = [],
    common: Annotated[
        bool, typer.Option("--common", help="Keep only the first settings, which all losses have.")
    ] = False,
    winners: Annotated[
        bool,
        typer.Option(
            "--winners",
            help="Of re-runs, keep only those of what is still the best; move others' folders to "
            "overtaken/.",
        ),
    ] = False,
) -> None:
    """Bring finished runs into results/<sweep>.parquet, and a few of their files beside it."""
    from study.analysis import examples, scores
    from study.analysis.tables import of_the_winners
    from study.runs.sweep import best_settings

    results = results_folder()
    for name in sweep or sweeps_with_runs(results):
        if winners:
            search = load_sweep(name).best_of
            progress.set_overtaken_aside(results, name, best_settings(search) if search else {})
        table = collect_one(results, name)
        if common:
            table = scores.common_settings(table)
        if winners and (search := load_sweep(name).best_of):
            table = of_the_winners(table, store.read_table(results, search))
        if common or winners:
            store.write_table(results, name, table)
        examples.keep(results, name)
        runs = table["config"].nunique()
        print(f"{store.table_path(results, name)}: {runs} runs, {len(table)} rows")


@app.command("untrained")
def measure_untrained(
    sweep: Annotated[str, typer.Option(help="A file of sweeps/, without .toml.")],
    loss: Annotated[list[str], typer.Option(help="Only this loss (may be repeated).")] = [],
    dataset: Annotated[list[str], typer.Option(help="Only this data set.")] = [],
) -> None:
    """Measure each loss's generator before any training, for tables older than that column."""
    from study.runs import sweep as sweeps
    from study.training.loop import untrained

    results = results_folder()
    for config in sweeps.plan(load_sweep(sweep), loss, dataset, trials=1):
        row = untrained(config)
        store.record_untrained(results, [row])
        print(f"{sweep}/{config.loss}/{config.dataset}: {row['fid']:.2f} ({config.features})")


@app.command("figures")
def draw_figures(
    sweep: Annotated[list[str], typer.Option(help="Only this search.")] = [],
    to: Annotated[Path, typer.Option(help="Folder.")] = Path("analysis/figures"),
) -> None:
    """Draw every figure that the tables in results/ allow, as SVG and PNG."""
    from study.analysis import figures
    from study.analysis.tables import read_tables, searches

    results = results_folder()
    for name in sweep or searches(results):
        written, refused = figures.draw(read_tables(results, name).frames(), to / name)
        print(f"{to / name}: {len(written)} files")
        for line in refused:
            print(f"not drawn: {line}", file=sys.stderr)


@app.command("verdict")
def print_verdict(
    sweep: Annotated[str, typer.Option(help="A search that has a table.")] = "mini",
) -> None:
    """Print what the study finds: each question, its answer in words, and the numbers behind it."""
    from study.analysis import report
    from study.analysis.tables import read_tables

    tables = read_tables(results_folder(), sweep)
    for finding in report.findings(tables):
        terminal.console.print(f"\n[bold]{finding.question}[/bold]")
        terminal.console.print(finding.answer, highlight=False)
        if len(finding.table):
            print(f"\n{finding.table.round(3).to_string()}")


@app.command("report")
def write_report(
    sweep: Annotated[list[str], typer.Option(help="Only this search.")] = [],
    to: Annotated[Path, typer.Option(help="Folder.")] = Path("analysis"),
) -> None:
    """Write one self-contained HTML page a search: verdict, tables, figures, provenance."""
    from study.analysis import report
    from study.analysis.tables import read_tables, searches

    results = results_folder()
    for name in sweep or searches(results):
        print(report.write(read_tables(results, name), to))


@app.command("train")
def train_one(run_dir: Path) -> None:
    """Train the one run whose config.json lies in RUN_DIR, from its checkpoint if it has one."""
    if not (run_dir / "config.json").exists():
        raise StudyError(f"{run_dir}: no config.json there; `make sweep` plans runs")
    os.environ.update(ENVIRONMENT[read_config(run_dir / "config.json").arithmetic])
    from study.training.loop import train  # loads torch, which reads the environment

    files.commit()
    forgive(run_dir)
    with launch.Notice(*launch.SIGNALS) as notice:
        launch.attempt(run_dir, train, lambda: notice.given, retries=0)
    state = state_of(run_dir)
    print(f"{run_dir}: {state}; {run_dir / 'log.txt'}")
    if state == "failed":
        raise typer.Exit(1)


@app.command("fid")
def show_distance(
    real: Annotated[
        str, typer.Argument(help="A folder of images, an .npy or .npz, DATA:SPLIT, or a run's.")
    ],
    fake: Annotated[str, typer.Argument(help="What to compare with it, named likewise.")],
    features: Annotated[str | None, typer.Option(help="inception, lite0, lite2 or random.")] = None,
    num_images: Annotated[int | None, typer.Option(help="Images of each side.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: what there is.")] = None,
    as_json: Json = False,
) -> None:
    """The distance between two sets of images, by the study's recipe, with its uncertainty."""
    from study import features as extractors
    from study.measures import of_two_sets as score

    device = device or default_device(None)
    extractor = extractors.load(features or extractors.default(), device)
    found = score.compare(*score.pair(real, fake, num_images, device), extractor)
    if as_json:
        print(json.dumps({"real": real, "fake": fake} | found._asdict(), indent=1))
    else:
        print(score.report(found))


@app.command("behaviour")
def show_behaviour(
    dataset: Annotated[str, typer.Option(help="Whose real images.")] = "fashion_mnist",
    features: Annotated[str | None, typer.Option(help="inception, lite0, lite2 or random.")] = None,
    draws: Annotated[int, typer.Option(min=2, help="Repetitions with other images.")] = 3,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: what there is.")] = None,
) -> None:
    """How the distance behaves: number of images, dropped classes, noise, blur, copies."""
    from study import features as extractors
    from study.measures import behaviour

    extractor = extractors.load(features or extractors.default(), device or default_device(None))
    say = terminal.console.print
    found = behaviour.measure_all(dataset, extractor, draws, real_draws=3 * draws, say=say)
    print(behaviour.report(found))
    path = results_folder() / "behaviour.parquet"
    behaviour.save(found, path, replaced=["dataset", "features"])
    draw_behaviour("behaviour", found, path)


@app.command("agreement")
def show_agreement(
    runs: Annotated[list[Path], typer.Argument(help="Runs' folders, or folders above them.")],
    features: Annotated[list[str], typer.Option(help="Two extractors.")] = ["inception", "lite0"],
    num_images: Annotated[int | None, typer.Option(help="Instead of the runs' own.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: what there is.")] = None,
) -> None:
    """Whether two extractors rank trained generators alike: Spearman's correlation over runs."""
    from study.measures import behaviour

    if len(set(features)) != 2:
        raise StudyError(f"features {', '.join(features)}; the agreement is that of two extractors")
    folders = behaviour.runs_below(runs)
    device = device or default_device(None)
    found = behaviour.distances_of_runs(folders, features, num_images, device)
    agreed = behaviour.agreement(found, *features)
    print(
        f"{' and '.join(features)} over {len(found)} generators: Spearman {agreed.value:.3f} "
        f"(95 %: {agreed.low:.3f} to {agreed.high:.3f})"
    )
    path = results_folder() / "agreement.parquet"
    behaviour.save(found, path)
    draw_behaviour("agreement", found, path)


@app.command("convergence")
def show_convergence(
    run_dir: Annotated[Path | None, typer.Argument(help="A run on triangles, for recall.")] = None,
    num_images: Annotated[int, typer.Option(min=1, help="Images of each kind.")] = 128,
) -> None:
    """What the descents to the manifold of triangles find, by number of starts and of steps."""
    from study.measures import behaviour

    found = behaviour.manifold_convergence(run_dir, num_images)
    path = results_folder() / "convergence.parquet"
    behaviour.save(found, path)
    draw_behaviour("convergence", found, path)


def draw_behaviour(name: str, found: pd.DataFrame, path: Path) -> None:
    """Write the figures of this table into analysis/figures/, and say what was written."""
    from study.analysis import figures

    written, _ = figures.draw({name: found}, Path("analysis/figures"))
    print(*(path, *written), sep="\n")


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

"""Commands about sweeps: train, cancel, status, collect."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study import files, terminal
from study.commands.each import Refused
from study.counts import counted
from study.errors import StudyError
from study.runs import orders, slurm
from study.runs import progress as runs
from study.runs import status as stands
from study.runs.claim import forgive, last_claim
from study.runs.driver import Scheduler, Show, drive
from study.runs.folder import DONE, folders_of, results_folder, state_of, sweeps_with_runs
from study.runs.halving import judge, require_all
from study.runs.resources import RESOURCES_FOLDER, Resources, read_resources
from study.runs.table import collect as collect_runs
from study.runs.table import read_table, table_path, write_table
from study.runs.workers import SIGNALS, Notice, attempt
from study.settings.arithmetic import ENVIRONMENT
from study.settings.config import load_sweep, read_config
from study.settings.frozen import NAME

if TYPE_CHECKING:
    import pandas as pd

    from study.settings.config import Halving, RunConfig


class Cluster(StrEnum):
    """Where a sweep's runs are trained."""

    LOCAL = "local"
    SLURM = "slurm"


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEVICE_HELP = "cpu or cuda; default: what there is."
WITHOUT_GRAPH = (
    "a run on a GPU waits for Python: --cuda-graph (FLAGS=--cuda-graph) trains one about 4 times "
    "as fast (NS GAN at the paper's size on an H200: docs/machines.md)"
)


def sweep(
    loss: Annotated[list[str], typer.Option(help="Only this loss (may be repeated).")] = [],
    sweep: Annotated[str, typer.Option(help="A file of sweeps/, without .toml.")] = "quick",
    dataset: Annotated[list[str], typer.Option(help="Only this data set.")] = [],
    trials: Annotated[int | None, typer.Option(min=1, help="Settings a loss.")] = None,
    cluster: Annotated[Cluster, typer.Option(help="Where to train.")] = Cluster.LOCAL,
    resources: Annotated[
        Path | None,
        typer.Option(help="With slurm: what a job may use.", show_default="one_machine.toml"),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="With slurm: stay until all is done.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at once on this machine.")
    ] = None,
    device: Annotated[str | None, typer.Option(help=DEVICE_HELP)] = None,
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
    from study.runs import checks, forecast
    from study.runs.plan import as_others, plan

    config = load_sweep(sweep)
    refuse_idle_options(cluster, resources, workers)
    resources = resources or RESOURCES_FOLDER / "one_machine.toml"
    given = read_resources(resources) if cluster == Cluster.SLURM else None
    device = device or (given.device if given else checks.default_device())
    results = results_folder()
    if config.name == "quick" and not dataset:
        dataset = ["fashion_mnist"]
    configs = plan(config, loss, dataset, trials, device, cuda_graph=cuda_graph)
    for other in (name for name in dataset if name not in config.datasets):
        terminal.say(as_others(config, other))
    require_machine(device, cuda_graph, given, resources)
    gpus = checks.local_gpus() if device == "cuda" and not given else []
    one_gpu = 1 if device.startswith("cuda:") else None
    workers = workers or len(gpus) or one_gpu or len(os.sched_getaffinity(0))
    at_once = given.runs_together if given else workers
    require_all(config, trials)
    found = runs.progress(configs, results)
    configs = found.configs
    jobs = orders.jobs_folder(results, sweep)
    limits = (retries, max_failures)
    if found.left() and not dry_run:
        checks.require_inputs(configs)
    environment = ENVIRONMENT[config.arithmetic]
    with scheduler_for(given, jobs, workers, gpus, limits, environment) as scheduler:
        if dry_run:
            there = scheduler.carried() if isinstance(scheduler, slurm.Jobs) else {}
            for line in forecast.describe(found, results, scheduler, there, at_once):
                terminal.say(line)
            return
        found = judge(runs.prepare(configs, results, config.halving), config.halving)
        for each in terminal.left_in_order(found):
            terminal.say(f"{each.run}: goes on at step {each.step:,}")
        try:
            with terminal.live(results, at_once) as show:
                train_all(found, scheduler, show, limits, wait, config.halving)
        except KeyboardInterrupt:
            for each in terminal.left_in_order(found.now()):
                print(f"{each.run}: stopped at step {each.step:,}, kept", file=sys.stderr)
            raise
        finally:
            table = collect_one(results, sweep)
    if not given or wait:
        finish(configs, table, results)


def require_machine(
    device: str, cuda_graph: bool, given: Resources | None, resources: Path
) -> None:
    """A StudyError where runs cannot be trained there; what is to be known of it is said."""
    from study.runs import checks

    if given:
        checks.require_known_device(device)
        slurm.require()
        say_about_jobs(given, device, resources)
    else:
        checks.require_device(device)
    if device.startswith("cuda") and not cuda_graph:
        print(WITHOUT_GRAPH, file=sys.stderr)


def refuse_idle_options(cluster: Cluster, resources: Path | None, workers: int | None) -> None:
    """StudyError where an option is given that the place of training has no use for."""
    if cluster == Cluster.LOCAL and resources is not None:
        raise StudyError(f"--resources {resources}: of jobs; give --cluster slurm too, or leave it")
    if cluster == Cluster.SLURM and workers is not None:
        raise StudyError(f"--workers {workers}: on this machine; of jobs --resources says how many")


def train_all(
    found: runs.Progress,
    scheduler: Scheduler,
    show: Show,
    limits: tuple[int, int],
    wait: bool,
    halving: Halving | None,
) -> None:
    """Have what is missing trained: to the end here, and on a cluster where one is to wait."""
    if isinstance(scheduler, slurm.Jobs):
        scheduler.report_former()
        if not wait:
            scheduler.submit(found.open(limits[0]))
            print("`make status` tells how it goes; `make cancel` takes the jobs back")
            return
        there = len(scheduler.carried())
        if there:
            print(f"in the queue already: {there}")
    if found.left():
        drive(found, scheduler, show, *limits, halving)


@contextmanager
def scheduler_for(
    resources: Resources | None,
    jobs: Path,
    workers: int,
    gpus: list[str],
    limits: tuple[int, int],
    environment: Mapping[str, str],
) -> Iterator[Scheduler]:
    """What trains the runs: the queue of a cluster where there are `resources`, or workers here."""
    from study.runs.local import here
    from study.training.loop import train

    if resources is not None:
        yield slurm.Jobs(jobs, resources, train, *limits, environment)
    else:
        with here(train, workers, limits[0], gpus, environment) as scheduler:
            yield scheduler


def say_about_jobs(resources: Resources, device: str, path: Path) -> None:
    """Say where the runs will train, and what is wrong with the jobs."""
    asked = "ask for a GPU" if resources.asks_for_gpu else "ask for no GPU by any option of sbatch"
    line = f"jobs {asked}; runs train on {device} (`device = ...` in {path} states it)"
    print(line, file=sys.stderr)
    if resources.warning:
        print(f"{path}: {resources.warning}", file=sys.stderr)


def finish(configs: list[RunConfig], table: pd.DataFrame, results: Path) -> None:
    """Show what came of a sweep; exit status 1 where runs are left."""
    terminal.report(configs, table, results)
    left = runs.progress(configs, results).left()
    if left:
        states = ", ".join(f"{count} {state}" for state, count in left.items())
        print(
            f"{left.total()} of {len(configs)} runs are not done ({states}); `make status` "
            "says more, and the same command goes on from here",
            file=sys.stderr,
        )
        raise typer.Exit(1)
    name = configs[0].sweep
    search = load_sweep(name).ranges is not None
    print(f"next: make report SWEEP={name}  (a page with figures)")
    if search:
        print(f"      make verdict SWEEP={name}")
    terminal.say(f"      make sweep LOSS=... SWEEP={name}  (`make losses` lists them)")


def collect_one(results: Path, sweep: str) -> pd.DataFrame:
    """Bring a sweep's finished runs into its table and its Optuna storage; returns the table."""
    from study.analysis import dashboard, scores
    from study.settings.config import sweep_names

    table = collect_runs(results, sweep)
    if sweep in sweep_names() and len(shown := scores.shown_now(sweep, table)):
        with files.alone(results / "runs"):  # others' collections end at the same time
            dashboard.record(results, load_sweep(sweep), shown)
    return table


def cancel(sweep: Annotated[list[str], typer.Option(help="Only this sweep.")] = []) -> None:
    """Take the SLURM jobs of the sweeps out of the queue; their runs can be sent again."""
    results = results_folder()
    for name in sweep:
        stands.require_sweep(name, results)
    names = sweep or sweeps_with_runs(results)
    if not names:
        terminal.say(f"no runs in {results / 'runs'}: no job to cancel")
    for name in names:
        jobs = slurm.cancel(orders.jobs_folder(results, name))
        print(f"{name}: {counted(jobs, 'job')} cancelled")


def status(
    sweep: Annotated[list[str], typer.Option(help="Only this sweep.")] = [],
    as_json: Json = False,
) -> None:
    """What is to do, running, done, failed and lost, from the files alone."""
    results = results_folder()
    for name in sweep:
        stands.require_sweep(name, results)
    found = stands.status(results, sweep)
    if as_json:
        content = found._asdict() | {
            name: [each._asdict() for each in getattr(found, name)] for name in ("running", "kept")
        }
        print(files.strict_json(content, indent=1))
        return
    for name in dict.fromkeys(entry["sweep"] for entry in found.groups):
        print(f"sweep {name}")
        groups = [entry for entry in found.groups if entry["sweep"] == name]
        terminal.console.print(terminal.overview(groups, terminal.console.width), highlight=False)
    for title, there in {"at work": found.running, "stopped, kept": found.kept}.items():
        if there:
            shown = terminal.runs_at_work(there, terminal.console.width, title)
            terminal.console.print(shown, highlight=False)
    for failure in found.failures:
        terminal.say(f"{failure['run']} failed: {failure['error']}; log: {failure['log']}")
    for line in found.warnings:
        terminal.say(line)
    if not found.groups:
        terminal.say("no runs and no table yet; `make sweep` trains some")


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
    results = results_folder()
    for name in sweep:
        stands.require_sweep(name, results)
    there, refused = False, Refused(asked=bool(sweep))
    for name in sweep or sweeps_with_runs(results):
        with refused.of(name):
            if sweep or holds_runs(results, name):
                there = True
                print(collected(results, name, common, winners))
    if not there and not refused.names:
        terminal.say(f"no runs in {results / 'runs'}: nothing to collect; `make sweep` trains some")
    refused.end()


def holds_runs(results: Path, sweep: str) -> bool:
    """Whether a folder of results/runs is a sweep's, with a run; OSError where it is unreadable."""
    if not re.fullmatch(NAME, sweep):  # lost+found, somebody's notes
        return False
    os.listdir(results / "runs" / sweep)  # a pattern finds nothing in what cannot be read
    return bool(folders_of(sweep, results))


def collected(results: Path, name: str, common: bool, winners: bool) -> str:
    """Collect one sweep; what its table then holds."""
    from study.analysis import examples, scores
    from study.analysis.tables import of_the_winners
    from study.runs.plan import best_settings
    from study.settings.config import sweep_names

    search = load_sweep(name).best_of if winners else None
    if search is not None:
        runs.set_overtaken_aside(results, name, best_settings(search))
    table = collect_one(results, name)
    if common:
        table = scores.common_settings(table)
    if search is not None:
        table = of_the_winners(table, read_table(results, search))
    if common or search is not None:
        write_table(results, name, table)
    if name in sweep_names():
        examples.keep(results, name)
    counts = f"{counted(table['config'].nunique(), 'run')}, {counted(len(table), 'row')}"
    return f"{table_path(results, name)}: {counts}"


def train(run_dir: Path) -> None:
    """Train the one run whose config.json lies in RUN_DIR, from its checkpoint if it has one."""
    run_dir = run_dir.absolute()
    config = read_config(run_dir / "config.json")
    wanted = ENVIRONMENT[config.arithmetic]
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        # Libraries read it as they are loaded, and some of them are: the same command again.
        os.execve(sys.executable, sys.orig_argv, os.environ | wanted)
    from study.runs import checks
    from study.training.loop import train as train_run
    from study.training.loop import training_images

    files.commit()
    checks.require_device(config.device)
    training_images(config.dataset, config.device)  # held from here on: to read them takes time
    checks.require_inputs([config])
    state = state_of(run_dir)
    last = last_claim(run_dir)
    if state == "running" and last is not None:
        record = last.read()
        raise StudyError(f"{run_dir} is at work: process {record.pid} on {record.host} trains it")
    forgive(run_dir)
    with Notice(*SIGNALS) as notice:
        attempted = attempt(run_dir, train_run, lambda: notice.given, retries=0)
    state = state_of(run_dir)
    said = state if attempted or state == "failed" else "not trained"
    print(f"{run_dir}: {said}; {run_dir / 'log.txt'}")
    if notice.given and state not in DONE:
        raise KeyboardInterrupt
    if state == "failed" or not attempted:
        raise typer.Exit(1)

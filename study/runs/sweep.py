"""A sweep: plan the runs, see what is done, launch what is missing, collect."""

import math
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Hashable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from study import datasets as data
from study import features
from study.analysis import plots
from study.errors import StudyError
from study.losses import load as load_loss
from study.losses import names
from study.runs import dashboard, slurm, view
from study.runs import folder as run
from study.runs import table as store
from study.runs import workers as launch
from study.runs.status import folders_of, planned_runs, results_folder
from study.settings.config import MACHINE, RunConfig, SweepConfig, load_sweep
from study.settings.space import setting
from study.training.loop import count_flops, train

SHARED = ("lr", "beta1", "disc_iters", "batch_norm")


def plan(
    sweep: SweepConfig,
    losses: Sequence[str] = (),
    datasets: Sequence[str] = (),
    trials: int | None = None,
    device: str = "cpu",
    threads: int = 1,
    cuda_graph: bool = False,
) -> list[RunConfig]:
    """Every run of a sweep, in the order in which they are to be trained.

    Numbers come first: after any part of a sweep, all losses have had the same settings.
    """
    if cuda_graph and not device.startswith("cuda"):
        raise StudyError(f"a CUDA graph needs device cuda, not {device}; leave --cuda-graph out")
    machine = {"device": device, "threads": threads, "cuda_graph": cuda_graph}
    losses = losses or sweep.losses or names()
    datasets = datasets or tuple(sweep.datasets)
    for dataset in datasets:
        if dataset not in sweep.datasets:
            allowed = ", ".join(sweep.datasets)
            if dataset not in data.NAMES:
                raise StudyError(f"unknown data set '{dataset}'; allowed: {', '.join(data.NAMES)}")
            raise StudyError(f"sweep {sweep.name} has no data set '{dataset}'; it has: {allowed}")
    for loss in losses:
        load_loss(loss)
    if sweep.features not in features.names():
        raise StudyError(
            f"sweeps/{sweep.name}.toml: unknown features '{sweep.features}'; "
            f"allowed: {', '.join(features.names())}"
        )
    best = best_settings(sweep.best_of) if sweep.best_of else None
    return [
        resolve(sweep, loss, dataset, number, machine, best)
        for dataset in datasets
        for number in range(trials or sweep.trials)
        for loss in losses
    ]


def resolve(
    sweep: SweepConfig,
    loss: str,
    dataset: str,
    number: int,
    machine: dict[str, Any],
    best: dict[tuple[str, str], dict[str, object]] | None,
) -> RunConfig:
    """The complete configuration of one run."""
    if best is None:
        values = setting(sweep.name, loss, number, sweep.ranges or "wide")
    elif (loss, dataset) in best:
        values = best[loss, dataset]
    else:
        raise StudyError(
            f"sweep {sweep.name} needs the best setting of {loss} on {dataset} from sweep "
            f"{sweep.best_of}, which has none yet: run that sweep first"
        )
    schedule = sweep.datasets[dataset]
    return RunConfig(
        sweep=sweep.name,
        loss=loss,
        dataset=dataset,
        number=number,
        seed=0 if best is None else number + 1,  # seed 0 is the search's own
        **{name: values[name] for name in SHARED},
        own={name: value for name, value in values.items() if name not in SHARED},
        d_steps=schedule.d_steps,
        evaluate_every=schedule.evaluate_every,
        width=sweep.width,
        bn_decay=sweep.bn_decay,
        features=sweep.features,
        num_images=sweep.num_images,
        precision=sweep.precision,
        **machine,
    )


def best_settings(sweep: str) -> dict[tuple[str, str], dict[str, object]]:
    """(loss, data set) -> the setting with the smallest distance in a sweep's table."""
    best: dict[tuple[str, str], dict[str, object]] = {}
    for _, row in store.winners(store.read_table(results_folder(), sweep)).iterrows():
        values = {n: row[n] for n in store.HYPERPARAMETERS if n in row and not pd.isna(row[n])}
        best[row["loss"], row["dataset"]] = values
    return best


class Progress(NamedTuple):
    """The state of every run of a plan, and where its folder lies."""

    configs: list[RunConfig]
    folders: list[Path]
    states: list[run.State]

    def open(self, retries: int) -> list[Path]:
        """Runs that a worker may take: to do, or failed or lost and to be tried once more."""
        return [
            folder
            for folder, state in zip(self.folders, self.states, strict=True)
            if state in ("to do", "lost", "failed") and run.is_open(folder, retries)
        ]

    def now(self) -> "Progress":
        """The same, looked at again; what is done stays so."""
        states = [
            state if state in run.DONE else run.state_of(folder)
            for folder, state in zip(self.folders, self.states, strict=True)
        ]
        return self._replace(states=states)

    def counts(self) -> Counter[run.State]:
        """How many runs are in each state."""
        return Counter(self.states)

    def left(self) -> Counter[run.State]:
        """How many runs are in each state that is no end: a full disk leaves them lost or to do."""
        return Counter(state for state in self.states if state not in run.DONE)


def progress(configs: list[RunConfig], results: Path) -> Progress:
    """Look at every run's files; one that the table holds with the same configuration is done."""
    recorded: dict[str, run.State] = {}
    for name in {config.sweep for config in configs}:
        table = store.read_table(results, name)
        recorded |= dict(zip(table["config"], table["status"], strict=True))
    folders = [store.folder_of(results, config) for config in configs]
    states = [
        recorded.get(config.hash) or run.state_of(folder)
        for config, folder in zip(configs, folders, strict=True)
    ]
    return Progress(configs, folders, states)


def prepare(configs: list[RunConfig], results: Path) -> Progress:
    """Write every run's configuration before anything trains; refuse a sweep that has changed.

    A run keeps the MACHINE fields it was first planned with. Failed runs get another chance.
    """
    run.require_writable(results)
    status = progress(configs, results)
    for name in {config.sweep for config in configs}:
        refuse_other_rows(configs, store.read_table(results, name), store.table_path(results, name))
    for config, folder, state in zip(*status, strict=True):
        # A run that only the table holds needs no folder; a torn file is mended in any state.
        if not is_planned(folder, config) and (state not in run.DONE or folder.exists()):
            run.write_json(folder / "config.json", config.model_dump())
        if state in ("failed", "lost"):
            run.forgive(folder)
    return status.now()


def is_planned(folder: Path, config: RunConfig) -> bool:
    """Whether the run's config.json is there; StudyError where it says something else.

    One that cannot be read is named on stderr. Fields of MACHINE may differ.
    """
    path = folder / "config.json"
    if not path.exists():
        return False
    planned = run.read_json(path)
    if planned is None:
        print(f"{path} cannot be read; it is written again", file=sys.stderr)
        return False
    now = config.model_dump()
    for name in now.keys() - MACHINE:
        if planned.get(name) != now[name]:
            raise StudyError(
                f"{folder} was planned with {name} {planned.get(name)}, the sweep now says "
                f"{now[name]}: copy the sweep under a new name, or delete the old runs {_OVERTAKEN}"
            )
    return True


def require_inputs(configs: Sequence[RunConfig]) -> None:
    """Find or fetch what the runs need; StudyError where data, images or weights are missing."""
    for name in {config.features for config in configs}:
        features.load(name)
    for dataset, num_images in {(config.dataset, config.num_images) for config in configs}:
        have = min(len(data.load(dataset, split)) for split in ("train", "held_out"))
        if num_images > have:
            raise StudyError(
                f"num_images = {num_images}: {dataset} has {have} held-out images; ask for fewer"
            )


def refuse_other_rows(configs: list[RunConfig], table: pd.DataFrame, path: Path) -> None:
    """StudyError where the table holds a planned run with another configuration."""
    keys = zip(table["loss"], table["dataset"], table["number"], strict=True)
    recorded = dict(zip(keys, table["config"], strict=True))
    for config in configs:
        if recorded.get((config.loss, config.dataset, config.number), config.hash) != config.hash:
            raise StudyError(
                f"{path} holds {config.path} with another configuration than the sweep now says: "
                f"copy the sweep under a new name, or move the table away {_OVERTAKEN}"
            )


_OVERTAKEN = (
    "(of re-runs whose search has found a better setting: `python -m study collect --winners`)"
)


def set_overtaken_aside(results: Path, sweep: SweepConfig) -> None:
    """Move the re-runs of what is no longer a search's best setting out of the new best's way.

    They go to results/runs/<sweep>/<loss>/<data set>/overtaken/, where nothing reads them; one that
    is being trained stays.
    """
    best = best_settings(sweep.best_of) if sweep.best_of else {}
    for folder, config in zip(*planned_runs(sweep.name, results), strict=True):
        values = config.hyperparameters()
        if best.get((config.loss, config.dataset), values) == values:
            continue
        if run.state_of(folder) != "running":
            aside = folder.parent / "overtaken" / f"{folder.name}.{config.hash}"
            aside.parent.mkdir(exist_ok=True)
            shutil.rmtree(aside, ignore_errors=True)  # the same configuration, overtaken before
            folder.rename(aside)


def run_here(
    status: Progress,
    results: Path,
    workers: int,
    gpus: Sequence[str],
    retries: int,
    max_failures: int,
) -> None:
    """Train what is open with workers on this machine, showing how it goes.

    Runs that another process has at work are waited for, and trained here should they be lost.
    """
    with (
        launch.Notice(signal.SIGINT, signal.SIGTERM) as notice,
        view.live(results, workers, status.configs[0].features) as show,
    ):

        def watch() -> None:
            nonlocal status
            status = status.now()
            show(*status)
            launch.stop_if_broken(status.states, max_failures)

        tried: list[Path] = []
        while not notice.given:
            watch()
            missing = status.open(retries)
            if missing and missing != tried:
                tried = missing
                dispatcher = launch.Dispatcher(missing, train, notice, workers, retries, gpus)
                dispatcher.carry(watch)
            elif "running" in status.states:
                time.sleep(launch.LOOK_S)
            else:
                return
    raise KeyboardInterrupt


def jobs_folder(results: Path, sweep: str) -> Path:
    """Where the orders and logs of a sweep's SLURM jobs lie."""
    return (results / "runs" / sweep / "jobs").absolute()


def send(
    status: Progress, jobs: Path, resources: slurm.Resources, retries: int, max_failures: int
) -> int:
    """Submit what is open and not yet in the queue; returns how many jobs that makes."""
    run.require_writable(jobs)
    with run.alone(jobs):  # two drivers at once submit nothing twice
        there = slurm.queued(jobs)
        missing = [path.absolute() for path in status.open(retries)]
        missing = [path for path in missing if path not in there]

        def job(order: Path, index: int) -> slurm.Job:
            at_once = resources.runs_at_once
            return slurm.Job(order, index, train, at_once, retries, max_failures)

        numbers = slurm.submit(missing, resources, jobs, job)
    print(f"{len(missing)} runs submitted in {len(numbers)} jobs; {len(there)} were in the queue")
    return len(numbers)


def run_on_slurm(
    status: Progress,
    results: Path,
    resources: slurm.Resources,
    retries: int,
    max_failures: int,
    wait: bool,
) -> None:
    """Submit what is missing; with `wait`, stay until every run has come to an end."""
    jobs = jobs_folder(results, status.configs[0].sweep)
    count = slurm.silent(jobs)
    if count:
        print(f"last time {silence(count, results)}", file=sys.stderr)
    send(status, jobs, resources, retries, max_failures)
    if wait:
        follow(status, results, resources, retries, max_failures)
    else:
        print("`make status` tells how it goes; `python -m study cancel` takes the jobs back")


def follow(
    status: Progress, results: Path, resources: slurm.Resources, retries: int, max_failures: int
) -> None:
    """Wait until the jobs have ended, and submit again what they leave open."""
    first = status.configs[0]
    jobs = jobs_folder(results, first.sweep)
    with view.live(results, resources.runs_together, first.features) as show:
        while True:
            status = status.now()
            show(*status)
            try:
                launch.stop_if_broken(status.states, max_failures)
            except StudyError:
                slurm.cancel(jobs)
                raise
            count = slurm.silent(jobs)
            if count:
                raise StudyError(silence(count, results))
            if not slurm.queued(jobs) and "running" not in status.states:
                status = status.now()
                if not status.open(retries):
                    return
                send(status, jobs, resources, retries, max_failures)
            time.sleep(slurm.LOOK_S)


def silence(count: int, results: Path) -> str:
    """What it means that so many jobs have ended without a word."""
    return (
        f"{count} jobs left the queue without a log: cancelled while they waited, or the nodes do "
        f"not see {results.absolute()}; results must lie on a disk that the nodes share "
        "(STUDY_RESULTS names the folder); the same command submits them again"
    )


def predicted_flops(configs: Sequence[RunConfig]) -> int:
    """FLOPs of training the runs, by torch's counter; evaluations are not in it."""

    @cache
    def per_step(key: Hashable) -> tuple[int, int]:
        return count_flops(examples[key], data.image_shape(examples[key].dataset))

    @cache
    def g_steps(key: Hashable, disc_iters: int, d_steps: int) -> int:
        loss = load_loss(examples[key].loss)(**examples[key].own)
        return sum(loss.g_turn(step, disc_iters) for step in range(d_steps))

    keys: list[Hashable] = [
        (c.loss, data.image_shape(c.dataset), c.batch_norm, c.width) for c in configs
    ]
    examples = dict(zip(keys, configs, strict=True))
    total = 0
    for key, config in zip(keys, configs, strict=True):
        d_flops, g_flops = per_step(key)
        g_times = g_steps(key, config.disc_iters, config.d_steps)
        total += config.d_steps * d_flops + g_times * g_flops
    return total


def flops_per_second(results: Path, sweep: str) -> float | None:
    """The rate of a sweep's finished runs, evaluations included in the time; None without any."""
    rows = store.read_table(results, sweep).drop_duplicates("config", keep="last")
    return float(rows["flops"].sum() / rows["wall_s"].sum()) if len(rows) else None


def describe(
    status: Progress, results: Path, at_once: int, resources: slurm.Resources | None
) -> None:
    """Say what would be launched: runs, jobs, FLOPs and hours, and what sbatch would be given."""
    there = slurm.queued(jobs_folder(results, status.configs[0].sweep)) if resources else {}
    configs = [
        config
        for config, folder, state in zip(*status, strict=True)
        if state not in (*run.DONE, "running") and folder.absolute() not in there
    ]
    states = ", ".join(f"{count} {state}" for state, count in status.counts().items())
    print(f"runs: {len(status.configs)} ({states}), of which {len(configs)} would be trained")
    with view.console.status("counting the FLOPs of a step of each network"):  # 40 s for `wide`
        flops = predicted_flops(configs)
    rate = flops_per_second(results, status.configs[0].sweep)
    print(f"training: {flops:.3g} FLOPs")
    if rate:
        hours = flops / rate / 3600
        print(
            f"time: {hours:.1f} hours at the {rate / 1e9:.1f} GFLOP/s of this sweep's finished runs"
            f", {hours / at_once:.1f} with {at_once} runs at once"
        )
    else:
        print("time: not known before a run of this sweep is done")
    if resources is not None and configs:
        jobs = math.ceil(len(configs) / resources.runs_per_job)
        limit = slurm.array_limit()
        print(f"jobs: {jobs}, in {math.ceil(jobs / limit)} arrays of {limit} at most")
        jobs_there = jobs_folder(results, status.configs[0].sweep)
        print(slurm.sbatch_text(resources, jobs_there, min(jobs, limit)))


def collect(results: Path, name: str) -> pd.DataFrame:
    """Bring a sweep's finished runs into its table and its Optuna storage; returns the table."""
    run.require_writable(results / "runs")
    with run.alone(results / "runs"):
        folders = folders_of(name, results)
        for folder in (results, *folders):
            run.remove_temporaries(folder)
        table = store.collect(results, name, folders)
        if len(table):
            dashboard.record(results, load_sweep(name), table)
    return table


def report(plan: list[RunConfig], table: pd.DataFrame, results: Path) -> None:
    """Print the trials, the best setting and the path of the budget curve, a group at a time."""
    for loss, dataset in dict.fromkeys((config.loss, config.dataset) for config in plan):
        rows = table[(table["loss"] == loss) & (table["dataset"] == dataset)]
        if rows.empty:
            continue
        features_name = rows["features"].iloc[0]
        view.console.print(f"\n{load_loss(loss).title} on {dataset}")
        view.console.print(view.trials_table(rows, features_name))
        good = rows[rows["status"] == "ok"].sort_values("fid", kind="stable")
        if good.empty:
            print(f"all {rows['number'].nunique()} settings diverged: no best setting")
            continue
        best = good.iloc[0]
        values = [
            f"{name} {view.value_text(best[name])}"
            for name in store.HYPERPARAMETERS
            if name in best and not pd.isna(best[name])
        ]
        stem = results / "runs" / plan[0].sweep / loss / dataset / "budget_curve"
        plots.save(plots.budget_curves(rows), stem)
        print(f"best setting: number {best['number']}: {', '.join(values)}")
        print(
            f"its samples: {results / 'runs' / plan[0].sweep / loss / dataset}"
            f"/{best['number']:03d}/samples/{best['step']:06d}.png"
        )
        print(f"budget curve: {stem}.png")
    print(f"table: {store.table_path(results, plan[0].sweep)}")

"""A sweep: plan the runs, see what is done, launch what is missing, collect."""

import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from study import data, features, launch, plots, run, store, view
from study.config import RunConfig, SweepConfig, read_config
from study.errors import StudyError
from study.losses import load as load_loss
from study.losses import names
from study.space import setting

SHARED = ("lr", "beta1", "disc_iters", "batch_norm")


def results_folder() -> Path:
    """STUDY_RESULTS, or results/ here."""
    return Path(os.environ.get("STUDY_RESULTS", "results"))


def plan(
    sweep: SweepConfig,
    losses: Sequence[str] = (),
    datasets: Sequence[str] = (),
    trials: int | None = None,
    device: str = "cpu",
    threads: int = 1,
) -> list[RunConfig]:
    """Every run of a sweep, in the order in which they are to be trained.

    Numbers come first: after any part of a sweep, all losses have had the same settings.
    """
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
        resolve(sweep, loss, dataset, number, device, threads, best)
        for dataset in datasets
        for number in range(trials or sweep.trials)
        for loss in losses
    ]


def resolve(
    sweep: SweepConfig,
    loss: str,
    dataset: str,
    number: int,
    device: str,
    threads: int,
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
        device=device,
        threads=threads,
    )


def best_settings(sweep: str) -> dict[tuple[str, str], dict[str, object]]:
    """(loss, data set) -> the setting with the smallest distance in a sweep's table."""
    table = store.read_table(results_folder(), sweep)
    good = table[table["status"] == "ok"].sort_values("fid", kind="stable")
    best: dict[tuple[str, str], dict[str, object]] = {}
    for _, row in good.iterrows():
        values = {n: row[n] for n in store.HYPERPARAMETERS if n in row and not pd.isna(row[n])}
        best.setdefault((row["loss"], row["dataset"]), values)
    return best


class Progress(NamedTuple):
    """The state of every run of a plan, and where its folder lies."""

    configs: list[RunConfig]
    folders: list[Path]
    states: list[run.State]

    @property
    def open(self) -> list[Path]:
        """Runs that a worker may take: to do, lost, or failed."""
        return [
            folder
            for folder, state in zip(self.folders, self.states, strict=True)
            if state in ("to do", "lost", "failed")
        ]

    def counts(self) -> Counter[run.State]:
        """How many runs are in each state."""
        return Counter(self.states)


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

    A run keeps the device and threads it was first planned with. Failed runs get another chance.
    """
    run.require_writable(results)
    status = progress(configs, results)
    for name in {config.sweep for config in configs}:
        refuse_other_rows(configs, store.read_table(results, name), store.table_path(results, name))
    for config, folder, state in zip(*status, strict=True):
        path = folder / "config.json"
        if path.exists():
            refuse_change(folder, config)
        elif state not in run.DONE:
            run.write_json(path, config.model_dump())
        last = run.last_claim(folder) if state == "failed" else None
        if last is not None:
            last.end("released")
    return progress(configs, results)


def refuse_change(folder: Path, now: RunConfig) -> None:
    """StudyError naming the first value in which a planned run and the sweep differ."""
    planned = read_config(folder / "config.json")
    if planned.hash == now.hash:
        return
    old, new = planned.model_dump(), now.model_dump()
    name = next(name for name in old if old[name] != new[name])
    raise StudyError(
        f"{folder} was planned with {name} {old[name]}, the sweep now says {new[name]}: "
        "copy the sweep under a new name, or delete the old runs"
    )


def refuse_other_rows(configs: list[RunConfig], table: pd.DataFrame, path: Path) -> None:
    """StudyError where the table holds a planned run with another configuration."""
    keys = zip(table["loss"], table["dataset"], table["number"], strict=True)
    recorded = dict(zip(keys, table["config"], strict=True))
    for config in configs:
        if recorded.get((config.loss, config.dataset, config.number), config.hash) != config.hash:
            raise StudyError(
                f"{path} holds {config.path} with another configuration than the sweep now says: "
                "copy the sweep under a new name, or move the table away"
            )


def run_here(status: Progress, results: Path, workers: int, gpus: int, max_failures: int) -> None:
    """Train what is open with workers on this machine, showing how it goes."""
    first = status.configs[0]
    log = results / "runs" / first.sweep / "workers.log"
    pool = launch.Pool(status.open, workers, gpus, log)
    try:
        with view.live(results, workers, first.features) as show:
            show(*status)
            while pool.is_working(len(status.open)):
                time.sleep(0.5)
                status = progress(status.configs, results)
                show(*status)
                if status.counts()["failed"] >= max_failures:
                    raise StudyError(
                        f"{max_failures} runs failed, the sweep stops; `make status` says why"
                    )
    finally:
        pool.stop()


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


def folders_of(sweep: str, results: Path) -> list[Path]:
    """Every run folder of a sweep that exists, sorted."""
    top = results / "runs" / sweep
    return sorted(path.parent for path in top.glob("*/*/*/config.json"))


def sweeps_with_runs(results: Path) -> list[str]:
    """Names of the sweeps that have run folders."""
    runs = results / "runs"
    return sorted(path.name for path in runs.iterdir() if path.is_dir()) if runs.exists() else []


def status(
    results: Path, sweeps: list[str] | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Groups (loss x data set) and failures of every planned run, from the files alone."""
    groups, failures = [], []
    for name in sweeps or sweeps_with_runs(results):
        folders = folders_of(name, results)
        configs = [read_config(folder / "config.json") for folder in folders]
        states = [run.state_of(folder) for folder in folders]
        groups += view.Overview(results, 1).groups(configs, folders, states)
        for folder, state in zip(folders, states, strict=True):
            last = run.last_claim(folder) if state == "failed" else None
            if last is not None:
                error = (run.read_json(last.path) or {}).get("error")
                log = str(folder / "log.txt")
                failures.append({"run": str(folder), "error": error, "log": log})
    return groups, failures

"""What is to be trained: a sweep's runs, each with its complete configuration."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from study import datasets as data
from study import features
from study.errors import StudyError
from study.losses import load as load_loss
from study.losses import names
from study.runs import table as store
from study.runs.folder import results_folder
from study.settings.config import RunConfig, SweepConfig
from study.settings.space import setting

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

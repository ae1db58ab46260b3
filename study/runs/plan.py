"""What is to be trained: a sweep's runs, each with its complete configuration."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from pydantic import ValidationError

from study import datasets as data
from study import features
from study.errors import StudyError
from study.losses import about, names
from study.runs.folder import results_folder
from study.runs.table import DECLARED, hyperparameters, read_table, setting_of, winners
from study.settings.arithmetic import require_avx2
from study.settings.config import RunConfig, SweepConfig, load_sweep
from study.settings.frozen import first_problem
from study.settings.hyperparameters import SHARED_NAMES
from study.settings.space import setting, space_of

Source = Callable[[str, str, int], tuple[dict[str, Any], int]]
"""(loss, data set, number) -> the hyperparameters and the seed of that run."""


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
    if sweep.arithmetic == "avx2":
        require_avx2(f"sweeps/{sweep.name}.toml")
    if cuda_graph and not device.startswith("cuda"):
        raise StudyError(f"a CUDA graph needs device cuda, not {device}; leave --cuda-graph out")
    machine = {"device": device, "threads": threads, "cuda_graph": cuda_graph}
    losses = tuple(dict.fromkeys(losses or sweep.losses or names()))
    datasets = tuple(dict.fromkeys(datasets or sweep.datasets))
    for dataset in datasets:
        data.find(dataset)
    for loss in losses:
        require_free_names(loss)
    for name in (sweep.features, sweep.second_features):
        if name is not None and name not in features.names():
            raise StudyError(
                f"sweeps/{sweep.name}.toml: unknown features '{name}'; "
                f"allowed: {', '.join(features.names())}"
            )
    drawn = source_of(sweep)
    return [
        resolve(sweep, loss, dataset, number, machine, *drawn(loss, dataset, number))
        for dataset in datasets
        for number in range(trials or sweep.settings(dataset))
        for loss in losses
    ]


def resolve(
    sweep: SweepConfig,
    loss: str,
    dataset: str,
    number: int,
    machine: dict[str, Any],
    values: dict[str, Any],
    seed: int,
) -> RunConfig:
    """The complete configuration of one run; StudyError where a hyperparameter cannot be so."""
    schedule = sweep.schedule(dataset)
    fields = dict(
        sweep=sweep.name,
        loss=loss,
        dataset=dataset,
        number=number,
        seed=seed,
        **{name: value for name, value in values.items() if name in SHARED_NAMES},
        own={name: value for name, value in values.items() if name not in SHARED_NAMES},
        d_steps=schedule.d_steps,
        evaluate_every=schedule.evaluate_every,
        batch_size=sweep.batch_size,
        width=sweep.width,
        bn_decay=sweep.bn_decay,
        features=sweep.features,
        num_images=num_images(sweep, dataset),
        second_features=sweep.second_features,
        precision=sweep.precision,
        arithmetic=sweep.arithmetic,
        **machine,
    )
    try:
        return RunConfig.model_validate(fields)
    except ValidationError as error:
        raise StudyError(
            f"sweeps/{sweep.name}.toml: {loss}, setting {number}: {first_problem(error, RunConfig)}"
        ) from error


def num_images(sweep: SweepConfig, dataset: str) -> int:
    """Images a side: the sweep's; of a data set that it does not state, at most what there is."""
    if dataset in sweep.datasets:
        return sweep.num_images
    return min(sweep.num_images, *data.sizes(dataset))


def as_others(sweep: SweepConfig, dataset: str) -> str:
    """How runs on a data set that the sweep does not state are trained and measured."""
    first, like = next(iter(sweep.datasets.items()))
    text = f"{dataset}: trained as long as {first} in sweep {sweep.name}, {like.d_steps:,} D steps"
    count = num_images(sweep, dataset)
    if count < sweep.num_images:
        text += (
            f", and measured with {count:,} images a side, all there are, for "
            f"{sweep.num_images:,}: the fewer, the larger every distance"
        )
    return text


def require_free_names(loss: str) -> None:
    """StudyError where an own hyperparameter has the name of what every row says."""
    own = {name for space in about(loss).space.values() for name in space} - {*SHARED_NAMES}
    for name in own & DECLARED.keys():
        raise StudyError(
            f"study/losses/{loss}.py: hyperparameter '{name}' has the name of a column of the "
            "results; give it another"
        )


def source_of(sweep: SweepConfig) -> Source:
    """Where the settings and seeds of a sweep's runs come from."""
    if sweep.best_of is not None:
        return again(sweep.name, load_sweep(sweep.best_of))
    if sweep.longer_of is not None:
        return trained_on(sweep.name, load_sweep(sweep.longer_of))
    # The named ranges alone lead to the paper's settings; a sweep's own ones are drawn.
    own = bool(sweep.space) or sweep.draws == "shared"

    def search(loss: str, _: str, number: int) -> tuple[dict[str, Any], int]:
        """Drawn; the seed is the number, or 0, the paper's."""
        space = (space_of(sweep, loss) if own else sweep.ranges) or "wide"
        values = setting(sweep.name, loss, number, space, sweep.draws)
        return values, number if sweep.seed == "number" else 0

    return search


def again(sweep: str, search: SweepConfig) -> Source:
    """The best setting of `search`, with seeds other than the search's own.

    They are 1, 2, ..., where the search's is 0, the paper's; and where a search's setting has its
    number for a seed, those from its number of settings on. Of a search that is judged once all
    settings must be there.
    """
    table = read_table(results_folder(), search.name)
    best = best_settings(search.name)

    def source(loss: str, dataset: str, number: int) -> tuple[dict[str, Any], int]:
        if search.draws == "shared":
            require_finished(sweep, search, table, loss, dataset)
        if (loss, dataset) not in best:
            raise StudyError(
                f"sweep {sweep} needs the best setting of {loss} on {dataset} from sweep "
                f"{search.name}, which has none yet: run that sweep first"
            )
        first = search.settings(dataset) if search.seed == "number" else 1
        return best[loss, dataset], first + number

    return source


def trained_on(sweep: str, search: SweepConfig) -> Source:
    """The best settings of `search`, 0 the best of all, with the seeds that they had there.

    All of its settings must be there: which are the best is not known before.
    """
    table = read_table(results_folder(), search.name)
    names = hyperparameters(table)
    least = winners(table, ["dataset", "loss", "number"]).groupby(["loss", "dataset"])
    ranked = dict(iter(least))

    def source(loss: str, dataset: str, number: int) -> tuple[dict[str, Any], int]:
        require_finished(sweep, search, table, loss, dataset)
        rows = ranked.get((loss, dataset), table[:0])
        if number >= len(rows):
            raise StudyError(
                f"sweep {sweep} asks for the {number + 1} best settings of {loss} on {dataset} "
                f"from sweep {search.name}, where {len(rows)} did not diverge; state trials = "
                f"{len(rows)} at most, or leave {loss} out"
            )
        row = rows.iloc[number]
        return setting_of(row, names), int(row["seed"])

    return source


def require_finished(
    sweep: str, search: SweepConfig, table: pd.DataFrame, loss: str, dataset: str
) -> None:
    """StudyError unless a search's table has all the settings of a loss that it states."""
    own = table[(table["loss"] == loss) & (table["dataset"] == dataset)]
    there, stated = own["number"].nunique(), search.settings(dataset)
    if there < stated:
        raise StudyError(
            f"sweep {sweep} needs the best settings of {loss} on {dataset} from sweep "
            f"{search.name}, which has {there} of its {stated}: finish that sweep first"
        )


def best_settings(sweep: str) -> dict[tuple[str, str], dict[str, Any]]:
    """(loss, data set) -> the setting with the smallest distance in a sweep's table."""
    table = read_table(results_folder(), sweep)
    names = hyperparameters(table)
    return {
        (row["loss"], row["dataset"]): setting_of(row, names)
        for _, row in winners(table).iterrows()
    }

"""Rows of a committed table, trained again: equal to the last digit, or how far apart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from pandas.api.types import is_numeric_dtype

from study.check.disk import scratch
from study.errors import StudyError
from study.files import write_json
from study.runs import checks, claim
from study.runs.table import rows_of
from study.runs.workers import SIGNALS, Dispatcher, Notice, Train
from study.settings.arithmetic import ENVIRONMENT
from study.settings.config import RunConfig, SweepConfig, load_sweep
from study.settings.hyperparameters import SHARED_NAMES
from study.settings.space import space_of

NO_RESULTS = ("wall_s", "flops", "rounding")
"""What a row says of its costs, and of the code, is no result of its training."""


class Again(NamedTuple):
    """A run as the table has it, as it came out here, and with another seed where these differ."""

    config: RunConfig
    recorded: pd.DataFrame
    found: pd.DataFrame
    other_seed: pd.DataFrame | None = None

    @property
    def is_equal(self) -> bool:
        """Whether every number of every evaluation is the same to the last digit."""
        return not differing(self.recorded, self.found)

    @property
    def should_be_equal(self) -> bool:
        """Whether the same digits are promised.

        They are by the same order of operations and the same torch, on the same kind of processor;
        not of a run that had several, one after another. `avx2` makes no two kinds one: torch's
        libraries choose by more than the instruction set, and Intel's digits are not AMD's.
        """
        then, now = self.recorded.iloc[0], self.found.iloc[0]
        return all(then[name] == now[name] for name in ("torch", "rounding", "processor"))

    @property
    def is_off(self) -> bool:
        """Whether a promise is broken."""
        return self.should_be_equal and not self.is_equal


def chosen(table: pd.DataFrame, count: int, seed: int) -> list[str]:
    """`count` runs of a table by their configurations' hashes, drawn without replacement."""
    runs = sorted(table["config"].unique())
    if count > len(runs):
        raise StudyError(f"--rows {count}: the table has {len(runs)} runs; ask for fewer")
    return [str(each) for each in np.random.default_rng(seed).choice(runs, count, replace=False)]


def config_of(rows: pd.DataFrame) -> RunConfig:
    """The configuration of a run's rows; what they do not say is the sweep's.

    StudyError where it is not the one whose hash the rows carry.
    """
    row = rows.sort_values("step").iloc[-1]
    sweep = load_sweep(row["sweep"])
    if row["dataset"] not in sweep.datasets:
        raise StudyError(f"sweep {sweep.name} has no data set '{row['dataset']}', the table has")
    values = sweep.model_dump(include=RunConfig.model_fields.keys() & type(sweep).model_fields)
    values |= {name: plain(row[name]) for name in RunConfig.model_fields.keys() & set(row.index)}
    schedule = sweep.datasets[row["dataset"]]  # a row's own d_steps are those it has taken
    values |= schedule.model_dump(include={"d_steps", "evaluate_every"})
    values["own"] = own_values(row, sweep)
    known = {name: value for name, value in values.items() if value is not None}
    config = RunConfig(**known)
    if config.hash != row["config"]:
        raise StudyError(
            f"{config.path}: its row is of configuration {row['config']}, but with sweeps/"
            f"{sweep.name}.toml as it is now it would be {config.hash}: take the commit that made "
            f"it, {row['commit']}"
        )
    return config


def own_values(row: "pd.Series[Any]", sweep: SweepConfig) -> dict[str, Any]:
    """A row's own hyperparameters, in the types that its sweep, or the one it is of, draws."""
    while sweep.search is not None:
        sweep = load_sweep(sweep.search)
    space = space_of(sweep, row["loss"])
    own = space.keys() - set(SHARED_NAMES)
    return {name: as_drawn(plain(row[name]), space[name]) for name in own & set(row.index)}


def as_drawn(value: Any, distribution: BaseDistribution) -> Any:
    """A value in its distribution's type: a table's column has one for all that losses mean by it.

    One that the distribution has not, or None, is left as it is.
    """
    if isinstance(distribution, CategoricalDistribution):
        return next((each for each in distribution.choices if each == value), value)
    kind = int if isinstance(distribution, IntDistribution) else float
    return kind(value) if isinstance(value, int | float) and kind(value) == value else value


def plain(value: Any) -> Any:
    """A cell as Python has it; None where it is empty."""
    return None if pd.isna(value) else getattr(value, "item", lambda: value)()


def differing(recorded: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """The measured columns in which two tables of one run's evaluations differ in any digit."""
    measured = [
        name
        for name in recorded.columns
        if name in found and name not in NO_RESULTS and is_numeric_dtype(recorded[name])
    ]
    names = ["step", "status", *(name for name in measured if name != "step")]
    one, other = (rows.sort_values("step")[names] for rows in (recorded, found))
    if len(one) != len(other):
        return ["step"]
    return [name for name in names if not same(one[name], other[name])]


def same(one: "pd.Series[Any]", other: "pd.Series[Any]") -> bool:
    """Whether two columns hold the same values, an empty cell being like another."""
    a, b = one.to_numpy(), other.to_numpy()
    empty = pd.isna(a) & pd.isna(b)
    return bool(((a == b) | empty).all())


def verify(
    table: pd.DataFrame, count: int, seed: int, results: Path, train: Train, device: str | None
) -> Iterator[Again]:
    """Train runs of a table again, one after another, below a scratch folder of `results`."""
    rows = {each: table[table["config"] == each] for each in chosen(table, count, seed)}
    configs = {each: config_of(recorded) for each, recorded in rows.items()}
    for each, config in configs.items():
        here = placed(config, device_for(config, device))
        again = Again(config, rows[each], trained(here, results, train))
        if not again.is_equal:
            other = here.model_copy(update={"seed": config.seed + 1})
            again = again._replace(other_seed=trained(other, results, train))
        yield again


def placed(config: RunConfig, device: str) -> RunConfig:
    """The run on a device; without its CUDA graph where that is no GPU."""
    graph = config.cuda_graph and device.startswith("cuda")
    return config.model_copy(update={"device": device, "cuda_graph": graph})


def device_for(config: RunConfig, asked: str | None) -> str:
    """The device asked for, or the row's where this machine has it, or what there is."""
    if asked is not None:
        checks.require_device(asked)
        return asked
    try:
        checks.require_device(config.device)
        return config.device
    except StudyError:
        return checks.default_device()


def trained(config: RunConfig, results: Path, train: Train) -> pd.DataFrame:
    """The rows that a run comes to on this machine; StudyError where it fails."""
    checks.require_inputs([config])
    with scratch(results) as root, Notice(*SIGNALS) as notice:
        folder = root / "runs" / config.path
        write_json(folder / "config.json", config.model_dump())
        environment = ENVIRONMENT[config.arithmetic]
        gpus = checks.local_gpus() if config.device == "cuda" else []
        dispatcher = Dispatcher(train, notice, 1, 0, gpus, environment)
        dispatcher.carry([folder], lambda: None)
        if notice.given:
            raise KeyboardInterrupt
        rows = pd.DataFrame(rows_of(folder))
        if rows.empty:
            last = claim.last_claim(folder)
            raise StudyError(f"{config.path} failed here: {last.read().error if last else 'why?'}")
        return rows


def score(rows: pd.DataFrame) -> float:
    """A run's least distance; infinity where it diverged."""
    return float(rows["fid"].min()) if (rows["status"] == "ok").all() else float("inf")


def line(again: Again) -> str:
    """What came of one run, in a sentence."""
    recorded, found = score(again.recorded), score(again.found)
    where = f"{again.config.path}: "
    if again.is_equal:
        return f"{where}equal to the last digit ({recorded:.6g}, {len(again.found)} evaluations)"
    said = f"{where}{found:.6g} where the table has {recorded:.6g}{times(found, recorded)}"
    if again.other_seed is not None:
        other = score(again.other_seed)
        said += f"; with seed {again.config.seed + 1} it is {other:.6g}{times(other, recorded)}"
    if differing(again.recorded, again.found) != ["fid"]:
        said += f"; differing: {', '.join(differing(again.recorded, again.found))}"
    then, now = again.recorded.iloc[0], again.found.iloc[0]
    for name in ("processor", "torch"):
        if then[name] != now[name]:
            said += f"; {name} then {then[name]}, now {now[name]}"
    if then["rounding"] != now["rounding"]:
        said += (
            f"; rounding {then['rounding']} then, {now['rounding']} now: "
            f"the code of commit {then['commit']} has the table's digits"
        )
    return f"{said}; the same digits were promised" if again.is_off else said


def times(found: float, recorded: float) -> str:
    """How many times a distance is of another, where that says anything."""
    if not (np.isfinite(found) and np.isfinite(recorded) and recorded):
        return ""
    return f" ({found / recorded:.3f} times)"

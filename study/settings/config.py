"""What a sweep says (TOML in sweeps/) and what a run is (config.json): frozen pydantic models.

A run is a pure function of its configuration: it is resolved and complete before training starts.
"""

import hashlib
import json
import os
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import ConfigDict, Field, ValidationError, model_validator

from study import files
from study.errors import StudyError, unknown
from study.settings import shipped
from study.settings.arithmetic import Arithmetic
from study.settings.columns import Column
from study.settings.frozen import NO_SWEEPS, Frozen, Name, first_problem
from study.settings.hyperparameters import SHARED_NAMES

# Raised by one whenever the numbers of an unchanged configuration change: rows and runs of an
# older definition are never taken for, or mixed with, new ones.
DEFINITION = 1

BATCH_SIZE = 64

SWEEPS_FOLDER = Path(os.environ.get("STUDY_SWEEPS") or shipped.SWEEPS)

# Of a run folder (study/runs/folder.py describes all that lies there).
RESULT, WAITING, PAUSE = "result.json", "waiting.json", "pause.json"

Precision = Literal["fp32", "tf32", "bf16"]
Normalisation = Literal["none", "batch", "spectral"]


# What a run is trained with, which its results do not depend on but for rounding: not in its hash.
MACHINE = {"device", "threads", "cuda_graph"}

# What a configuration says since later, at the value that every earlier run had: not in its hash,
# so that those runs keep theirs. (Normalisation was told by `batch_norm` alone.)
AS_BEFORE: dict[str, tuple[str | int | None, ...]] = {
    "batch_size": (BATCH_SIZE,),
    "normalisation": ("none", "batch"),
    "arithmetic": ("native",),
    "second_features": (None,),
}


def normalisation_in_both_words(values: dict[str, Any]) -> dict[str, Any]:
    """Fields with `normalisation` and `batch_norm`, the one from the other where it is missing."""
    values = dict(values)
    if "normalisation" not in values and "batch_norm" in values:
        values["normalisation"] = "batch" if values["batch_norm"] else "none"
    values.setdefault("batch_norm", values.get("normalisation") == "batch")
    return values


class RunConfig(Frozen):
    """Everything that one run's numbers depend on; what a field says is its column's meaning."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    definition: int = DEFINITION
    """version of the numerics; tables of different ones are not mixed"""
    sweep: Name
    """the experiment: sweeps/<sweep>.toml"""
    loss: Name
    """the loss: study/losses/<loss>.py"""
    dataset: Name
    """the data set: study/datasets/<dataset>.py, or a folder of images that was added"""
    number: int = Field(ge=0)
    """0, 1, …: the setting (0 is the authors' default where a sweep's draws are its own); of
    re-runs, which of them"""
    seed: int = Field(ge=0)
    """0, 1, …: of initial weights, z and the penalties' draws"""
    lr: float = Field(gt=0)
    """Adam's learning rate, of both networks unless the loss says otherwise"""
    beta1: float = Field(ge=0, lt=1)
    """Adam's β1, in [0, 1)"""
    disc_iters: int = Field(ge=1)
    """D steps a G step"""
    batch_norm: bool
    """whether D has batch normalisation: `normalisation` is `batch`"""
    normalisation: Normalisation
    """`none`, `batch` or `spectral`: of D's layers (tables from before there were three have
    `batch_norm` alone)"""
    own: dict[str, bool | int | float | str] = {}
    """the loss's own hyperparameters, each a column of its name; null for losses without it"""
    d_steps: int = Field(ge=1)
    """D steps of the whole run"""
    evaluate_every: int = Field(ge=1)
    """D steps between evaluations; the last step is always evaluated"""
    batch_size: int = Field(default=BATCH_SIZE, ge=2)
    """real images, and generated ones, of a step"""
    width: float = Field(ge=1 / 64, le=16)  # the narrowest layer has 64 channels
    """factor on every hidden width; 1 is the paper's"""
    bn_decay: float = Field(ge=0, lt=1)
    """of the moving averages of G's batch norm, in [0, 1)"""
    features: str
    """the extractor of `fid`; rows with different ones must not be compared"""
    num_images: int = Field(ge=2)
    """images on each side of the distances, which are biased by it"""
    second_features: str | None = None
    """the extractor of `fid_second`; null without one"""
    precision: Precision = "fp32"
    """`fp32`, `tf32`, `bf16`: the arithmetic's width; the latter two are other numerics"""
    arithmetic: Arithmetic = "native"
    """`avx2`: trained with the instruction set that x86 processors share, and no newer one; else
    `native`"""
    device: str = "cpu"
    """`cpu` or `cuda`"""
    threads: int = Field(default=1, ge=1)
    """threads of a CPU"""
    cuda_graph: bool = False
    """whether steps were replayed as a CUDA graph"""

    @model_validator(mode="before")
    @classmethod
    def fill_normalisation(cls, values: Any) -> Any:
        """Where only one of `normalisation` and `batch_norm` is stated, the other."""
        return normalisation_in_both_words(values) if isinstance(values, dict) else values

    @classmethod
    def in_todays_words(cls, content: dict[str, Any]) -> dict[str, Any]:
        """The fields of an older configuration, with the defaults of those that came later."""
        later = {name: field.default for name, field in cls.model_fields.items()}
        return later | normalisation_in_both_words(content)

    @property
    def all_features(self) -> tuple[str, ...]:
        """The extractors that the run measures with."""
        second = () if self.second_features is None else (self.second_features,)
        return (self.features, *second)

    @model_validator(mode="after")
    def one_normalisation(self) -> Self:
        """`batch_norm` and `normalisation` agree; a second extractor is another one."""
        if self.batch_norm != (self.normalisation == "batch"):
            raise ValueError(
                f"normalisation = {self.normalisation!r} with batch_norm = {self.batch_norm}: "
                "state one of the two"
            )
        return self

    @property
    def hash(self) -> str:
        """Identity of the run: all fields but MACHINE's and AS_BEFORE's, 16 hex digits."""
        fields = self.model_dump(exclude=MACHINE)
        for name, before in AS_BEFORE.items():
            if fields[name] in before:
                del fields[name]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def path(self) -> Path:
        """Where the run lies below results/runs."""
        return Path(self.sweep, self.loss, self.dataset, f"{self.number:03d}")

    def hyperparameters(self) -> dict[str, Any]:
        """The searched values, the shared ones and the loss's own."""
        return {name: getattr(self, name) for name in SHARED_NAMES} | self.own


class Schedule(Frozen):
    """How long a data set is trained on."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    d_steps: int = Field(ge=1, le=10_000_000)
    """D steps of a run"""
    evaluate_every: int = Field(ge=1)
    """D steps between evaluations; the last step is always evaluated"""
    trials: int | None = Field(default=None, ge=1, le=100_000)
    """settings (or re-runs) a loss on this data set, where they are others than the sweep's"""


class Range(Frozen):
    """Where a hyperparameter is drawn from: `low` and `high` (and `log`), or `choices`."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    low: int | float | None = None
    """least value; whole numbers are drawn where both ends are"""
    high: int | float | None = None
    """greatest value"""
    log: bool = False
    """whether the logarithm is drawn uniformly"""
    choices: tuple[bool | int | float | str, ...] = ()
    """instead of an interval: the values, each as likely"""

    @model_validator(mode="after")
    def one_kind(self) -> Self:
        """Either both ends of an interval, in order, or choices."""
        ends = (self.low, self.high)
        if self.choices and ends == (None, None) and not self.log:
            return self
        if self.choices or self.low is None or self.high is None:
            raise ValueError("state low and high (and log = true), or choices alone")
        if self.low > self.high or (self.log and self.low <= 0):
            raise ValueError(f"low = {self.low}, high = {self.high}: low must not exceed high")
        return self


class Halving(Frozen):
    """Where a search stops its worse settings: after each rung a share of them goes on."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    rungs: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(min_length=1)
    """shares of the D steps, ascending: there a loss's settings are compared by their least
    distance so far; each is a step at which runs are evaluated"""
    keep: tuple[Annotated[float, Field(gt=0, lt=1)], ...]
    """the share of those at a rung that goes on, rounded up; as many as there are rungs"""

    @model_validator(mode="after")
    def one_share_a_rung(self) -> Self:
        """Rungs ascend, and each has its share."""
        if len(self.keep) != len(self.rungs) or list(self.rungs) != sorted(set(self.rungs)):
            raise ValueError("state ascending rungs, and as many shares to keep")
        return self

    def steps(self, d_steps: int) -> list[int]:
        """The D steps of the rungs of a run of `d_steps`."""
        return [round(share * d_steps) for share in self.rungs]

    def require_fit(self, schedule: Schedule) -> None:
        """ValueError where the rungs are no evaluations of such runs, one after the other."""
        steps, d_steps = self.steps(schedule.d_steps), schedule.d_steps
        if steps != sorted(set(steps)) or steps[-1] >= d_steps:
            raise ValueError(
                f"halving: rungs at D steps {', '.join(map(str, steps))} of {d_steps}, which must "
                f"ascend and lie below {d_steps}"
            )
        for step in steps:
            if step == 0 or step % schedule.evaluate_every:
                raise ValueError(
                    f"halving: a rung at D step {step} of {d_steps}, where no evaluation is: they "
                    f"are made every {schedule.evaluate_every}"
                )


class SweepConfig(Frozen):
    """One experiment: sweeps/<name>.toml."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: Name
    title: str
    """one line that says what it is for"""
    ranges: Literal["wide", "narrow"] | None = None
    """a search: the ranges that settings are drawn from, the paper's own where its search goes"""
    space: dict[Name, Range] = {}
    """ranges of the sweep's own, by hyperparameter, in place of those that `ranges` names; with
    `normalisation` among them `batch_norm` is none"""
    draws: Literal["own", "shared"] = "own"
    """`own`: every loss draws its settings for itself; the first ones are the paper's, number 0 the
    authors' default. `shared`: a number has one value of a hyperparameter for all losses, and no
    defaults are among them"""
    seed: Literal["fixed", "number"] = "fixed"
    """seed of a search's runs: 0, the paper's, or the setting's number, for all losses"""
    best_of: Name | None = None
    """instead of a search: the best setting of this sweep (which must be complete where draws are
    shared), trained again with other seeds"""
    longer_of: Name | None = None
    """instead of a search: the best settings of this sweep, which must be complete, with the seeds
    that they had, trained for as long as `datasets` says"""
    trials: int = Field(ge=1, le=100_000)
    """settings (or re-runs) a loss; a verdict waits for all of them"""
    losses: tuple[Name, ...] = ()
    """which losses; all in study/losses/ where none is named"""
    batch_size: int = Field(default=BATCH_SIZE, ge=2)
    """real images of a D step; the paper's are 64"""
    width: float = Field(default=1.0, ge=1 / 64, le=16)
    """factor on every hidden width; 1 is the paper's"""
    bn_decay: float = Field(default=0.999, ge=0, lt=1)
    """of the moving averages of G's batch norm"""
    features: str = "inception"
    """the extractor of the distance"""
    num_images: int = Field(default=10_000, ge=2)
    """images on each side of the distance"""
    second_features: str | None = None
    """a second extractor: another distance, KID, precision and recall at each run's best
    checkpoint"""
    precision: Precision = "fp32"
    """`fp32`, `tf32` or `bf16`; the latter two are other numerics"""
    arithmetic: Arithmetic = "native"
    """`avx2`: the instruction set that x86 processors share, and no newer one"""
    halving: Halving | None = None
    """a search that stops its worse settings early (successive halving); without it all of them
    are trained to the end"""
    datasets: dict[Name, Schedule] = Field(min_length=1)
    """the data sets, a table each"""

    def schedule(self, dataset: str) -> Schedule:
        """How long to train on a data set: as the sweep says, or else as on its first one."""
        return self.datasets.get(dataset) or next(iter(self.datasets.values()))

    def settings(self, dataset: str) -> int:
        """Settings (or re-runs) a loss that the sweep states for a data set."""
        return self.schedule(dataset).trials or self.trials

    @property
    def search(self) -> str | None:
        """The sweep that its settings are the best of; None of a search itself."""
        return self.best_of or self.longer_of

    @model_validator(mode="after")
    def one_source_of_settings(self) -> Self:
        """Either `ranges` or `best_of` or `longer_of`."""
        if [self.ranges, self.best_of, self.longer_of].count(None) != 2:
            raise ValueError("a sweep states either ranges or best_of or longer_of")
        drawn = [name for name in ("space", "draws", "seed") if name in self.model_fields_set]
        if self.ranges is None and drawn:
            raise ValueError(
                f"{drawn[0]} is of a search: settings and seeds of this sweep are those of "
                f"{self.search}"
            )
        if self.second_features == self.features:
            raise ValueError(f"second_features = {self.features!r} are the first; name others")
        if self.halving is not None and self.ranges is None:
            raise ValueError("halving stops the worse settings of a search, which states ranges")
        if self.halving is not None:
            for schedule in self.datasets.values():
                self.halving.require_fit(schedule)
        return self


def config_columns() -> tuple[Column, ...]:
    """The columns that a run's configuration gives to its rows, as its fields say."""
    types = {int: "int64", float: "float64", bool: "bool"}
    return tuple(
        Column(
            name,
            types.get(cast(type, field.annotation), "str"),
            " ".join((field.description or "").split()),
        )
        for name, field in RunConfig.model_fields.items()
        if name not in ("own", "d_steps", "evaluate_every")
    )


def sweep_names(folder: Path | None = None) -> list[str]:
    """The sweeps there are, sorted."""
    return sorted(path.stem for path in (folder or SWEEPS_FOLDER).glob("*.toml"))


def load_sweep(name: str, folder: Path | None = None) -> SweepConfig:
    """Read sweeps/<name>.toml; StudyError on an unknown sweep, key or value."""
    known = sweep_names(folder)
    if name not in known:
        raise unknown("sweep", name, known, "sweeps/ has")
    path = (folder or SWEEPS_FOLDER) / f"{name}.toml"
    if name in NO_SWEEPS:
        raise StudyError(f"sweeps/{name}.toml: {name} is a table of another kind; rename the sweep")
    try:
        content = tomllib.loads(files.read_text(path))
        if "name" in content:
            raise StudyError(f"sweeps/{name}.toml: unknown key 'name': the file's name is it")
        return SweepConfig.model_validate({**content, "name": name})
    except OSError as error:
        raise StudyError(f"sweeps/{name}.toml: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise StudyError(f"sweeps/{name}.toml: not valid TOML: {error}") from error
    except ValidationError as error:
        raise StudyError(
            f"sweeps/{name}.toml: {first_problem(error, SweepConfig, Schedule)}"
        ) from error


def load_sweeps() -> list[SweepConfig]:
    """Every sweep that can be read; the others are named on stderr, once a process."""
    found = []
    for name in sweep_names():
        try:
            found.append(load_sweep(name))
        except StudyError as error:
            say_once(f"{error}; this sweep is left out")
    return found


@cache
def say_once(line: str) -> None:
    """Print a line on stderr, unless it was printed before."""
    print(line, file=sys.stderr)


def read_config(path: Path) -> RunConfig:
    """Read a run's config.json; StudyError where it is missing or not one."""
    try:
        return RunConfig.model_validate_json(files.read_bytes(path))
    except FileNotFoundError as error:
        raise StudyError(f"{path}: no such file; a run folder holds a config.json") from error
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise StudyError(f"{path}: {first_problem(error, RunConfig)}") from error

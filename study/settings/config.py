"""What a sweep says (TOML in sweeps/) and what a run is (config.json): frozen pydantic models.

A run is a pure function of its configuration: it is resolved and complete before training starts.
"""

import contextlib
import difflib
import hashlib
import json
import os
import platform
import re
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from study import files
from study.errors import StudyError, unknown
from study.settings import shipped

# Raised by one whenever the numbers of an unchanged configuration change: rows and runs of an
# older definition are never taken for, or mixed with, new ones.
DEFINITION = 1

BATCH_SIZE = 64

SWEEPS_FOLDER = Path(os.environ.get("STUDY_SWEEPS") or shipped.SWEEPS)

Precision = Literal["fp32", "tf32", "bf16"]
Normalisation = Literal["none", "batch", "spectral"]
Arithmetic = Literal["native", "avx2"]

# What a worker's environment says before torch is loaded, so that processors which differ in their
# instruction sets compute the same digits (with one thread).
ENVIRONMENT: dict[Arithmetic, dict[str, str]] = {
    "native": {},
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",  # NumPy's and SciPy's, for the distances
    },
}

# Names become paths below results/ and analysis/: wherever a sweep, a table or a configuration is
# read, which may come from other hands, they are held to this alphabet.
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
NAME_RULE = "names have 1 to 64 letters, digits, _ or -, and begin with a letter or digit"
Name = Annotated[str, StringConstraints(pattern=NAME)]


def cpu_flags() -> set[str]:
    """What this processor can do, in Linux's words; empty where it cannot be told."""
    with contextlib.suppress(OSError):
        found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        return set(found[1].split()) if found else set()
    return set()


def require_avx2(who: str) -> None:
    """StudyError where this processor has no AVX2, or does not say so."""
    if "avx2" not in cpu_flags():
        raise StudyError(
            f'{who}: arithmetic = "avx2", which this processor ({platform.machine()}) does not '
            'have; train on an x86 processor of 2013 or later, or state arithmetic = "native"'
        )


# What a run is trained with, which its results do not depend on but for rounding: not in its hash.
MACHINE = {"device", "threads", "cuda_graph"}

# What a configuration says since later, at the value that every earlier run had: not in its hash,
# so that those runs keep theirs. (Normalisation was told by `batch_norm` alone.)
AS_BEFORE: dict[str, tuple[str | None, ...]] = {
    "normalisation": ("none", "batch"),
    "arithmetic": ("native",),
    "second_features": (None,),
}


class Frozen(BaseModel):
    """An immutable model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def normalisation_in_both_words(values: dict[str, Any]) -> dict[str, Any]:
    """Fields with `normalisation` and `batch_norm`, the one from the other where it is missing."""
    values = dict(values)
    if "normalisation" not in values and "batch_norm" in values:
        values["normalisation"] = "batch" if values["batch_norm"] else "none"
    values.setdefault("batch_norm", values.get("normalisation") == "batch")
    return values


# The hyperparameters that every loss has. `batch_norm` is `normalisation` in the paper's words.
SHARED_NAMES = ("lr", "beta1", "disc_iters", "batch_norm", "normalisation")


class RunConfig(Frozen):
    """Everything that one run's numbers depend on."""

    definition: int = DEFINITION
    sweep: Name
    loss: Name
    dataset: Name
    number: int = Field(ge=0)
    seed: int = Field(ge=0)
    lr: float = Field(gt=0)
    beta1: float = Field(ge=0, lt=1)
    disc_iters: int = Field(ge=1)
    batch_norm: bool
    normalisation: Normalisation
    """Of D's layers; `batch_norm` says the same of "batch", and either is filled from the other."""
    own: dict[str, float] = {}
    """The loss's own hyperparameters (lambda_gp, clip, gamma, lambda_k)."""
    d_steps: int = Field(ge=1)
    evaluate_every: int = Field(ge=1)
    """D steps between evaluations; the last step is always evaluated."""
    width: float = Field(gt=0)
    bn_decay: float = Field(ge=0, lt=1)
    features: str
    num_images: int = Field(ge=2)
    """Images on each side of the Fréchet distance."""
    second_features: str | None = None
    """Features of a second distance, taken at the best checkpoint with KID, precision, recall."""
    precision: Precision = "fp32"
    arithmetic: Arithmetic = "native"
    device: str = "cpu"
    threads: int = Field(default=1, ge=1)
    cuda_graph: bool = False
    """Whether the training step is replayed as a CUDA graph; on a GPU only."""

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

    d_steps: int = Field(ge=1)
    evaluate_every: int = Field(ge=1)


class Range(Frozen):
    """Where a hyperparameter is drawn from: `low` and `high` (and `log`), or `choices`."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: tuple[bool | int | float | str, ...] = ()

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


class SweepConfig(Frozen):
    """One experiment: sweeps/<name>.toml."""

    name: Name
    title: str
    ranges: Literal["wide", "narrow"] | None = None
    """The search: trial number -> setting."""
    space: dict[Name, Range] = {}
    """Ranges of the sweep's own, by hyperparameter, instead of those that `ranges` names."""
    draws: Literal["own", "shared"] = "own"
    """`own`: every loss draws its settings for itself; the first ones are the paper's, number 0 the
    authors' default. `shared`: a number has one value of a hyperparameter for all losses, and no
    defaults are among them."""
    seed: Literal["fixed", "number"] = "fixed"
    """The seed of a search's runs: 0, the paper's, or the setting's number, for all losses."""
    best_of: Name | None = None
    """Instead of a search: the best setting of this sweep, trained again with fresh seeds."""
    trials: int = Field(ge=1)
    losses: tuple[Name, ...] = ()
    """Empty: every loss in study/losses."""
    width: float = Field(default=1.0, gt=0)
    bn_decay: float = Field(default=0.999, ge=0, lt=1)
    features: str = "inception"
    num_images: int = Field(default=10_000, ge=2)
    second_features: str | None = None
    """Features of a second distance, taken at each run's best checkpoint."""
    precision: Precision = "fp32"
    arithmetic: Arithmetic = "native"
    """`avx2`: the instruction set that processors share, for digits that others can repeat."""
    datasets: dict[Name, Schedule] = Field(min_length=1)

    def schedule(self, dataset: str) -> Schedule:
        """How long to train on a data set: as the sweep says, or else as on its first one."""
        return self.datasets.get(dataset) or next(iter(self.datasets.values()))

    @model_validator(mode="after")
    def one_source_of_settings(self) -> Self:
        """Either `ranges` or `best_of`."""
        if (self.ranges is None) == (self.best_of is None):
            raise ValueError("a sweep states either ranges or best_of")
        if self.second_features == self.features:
            raise ValueError(f"second_features = {self.features!r} are the first; name others")
        return self


def sweep_names() -> list[str]:
    """The sweeps there are, sorted."""
    return sorted(path.stem for path in SWEEPS_FOLDER.glob("*.toml"))


def load_sweep(name: str) -> SweepConfig:
    """Read sweeps/<name>.toml; StudyError on an unknown sweep, key or value."""
    if name not in sweep_names():
        raise unknown("sweep", name, sweep_names(), "sweeps/ has")
    path = SWEEPS_FOLDER / f"{name}.toml"
    try:
        content = tomllib.loads(files.read_text(path))
        return SweepConfig.model_validate({**content, "name": name})
    except OSError as error:
        raise StudyError(f"sweeps/{name}.toml: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise StudyError(f"sweeps/{name}.toml: not valid TOML: {error}") from error
    except ValidationError as error:
        raise StudyError(f"sweeps/{name}.toml: {first_problem(error, SweepConfig)}") from error


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


def first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    """One problem that pydantic found, in one line of ours."""
    # A misspelt key is also a missing one: name what is there before what is not.
    problem = min(error.errors(), key=lambda found: found["type"] == "missing")
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = sorted({*model.model_fields, *Schedule.model_fields} - {"name"})
        close = difflib.get_close_matches(key.split(".")[-1], known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"allowed: {', '.join(known)}"
        return f"unknown key '{key}'; {hint}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    if problem["type"] == "string_pattern_mismatch":
        return f"{key} = {problem['input']!r}: {NAME_RULE}"
    if not key:
        return problem["msg"]
    return f"{key} = {problem['input']!r}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"

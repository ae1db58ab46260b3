"""What a sweep says (TOML in sweeps/) and what a run is (config.json): frozen pydantic models.

A run is a pure function of its configuration: it is resolved and complete before training starts.
"""

import difflib
import hashlib
import json
import os
import tomllib
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

from study.errors import StudyError
from study.settings import shipped

# Raised by one whenever the numbers of an unchanged configuration change: rows and runs of an
# older definition are never taken for, or mixed with, new ones.
DEFINITION = 1

BATCH_SIZE = 64

SWEEPS_FOLDER = Path(os.environ.get("STUDY_SWEEPS") or shipped.SWEEPS)

Precision = Literal["fp32", "tf32", "bf16"]

# Names become paths below results/ and analysis/: wherever a sweep, a table or a configuration is
# read, which may come from other hands, they are held to this alphabet.
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
NAME_RULE = "names have 1 to 64 letters, digits, _ or -, and begin with a letter or digit"
Name = Annotated[str, StringConstraints(pattern=NAME)]

# What a run is trained with, which its results do not depend on but for rounding: not in its hash.
MACHINE = {"device", "threads", "cuda_graph"}


class Frozen(BaseModel):
    """An immutable model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
    precision: Precision = "fp32"
    device: str = "cpu"
    threads: int = Field(default=1, ge=1)
    cuda_graph: bool = False
    """Whether the training step is replayed as a CUDA graph; on a GPU only."""

    @property
    def hash(self) -> str:
        """Identity of the run: all fields but MACHINE's, 16 hex digits."""
        fields = self.model_dump(exclude=MACHINE)
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def path(self) -> Path:
        """Where the run lies below results/runs."""
        return Path(self.sweep, self.loss, self.dataset, f"{self.number:03d}")

    def hyperparameters(self) -> dict[str, Any]:
        """The searched values, the shared ones and the loss's own."""
        shared = ("lr", "beta1", "disc_iters", "batch_norm")
        return {name: getattr(self, name) for name in shared} | self.own


class Schedule(Frozen):
    """How long a data set is trained on."""

    d_steps: int = Field(ge=1)
    evaluate_every: int = Field(ge=1)


class SweepConfig(Frozen):
    """One experiment: sweeps/<name>.toml."""

    name: Name
    title: str
    ranges: Literal["wide", "narrow"] | None = None
    """The search: trial number -> setting."""
    best_of: Name | None = None
    """Instead of a search: the best setting of this sweep, trained again with fresh seeds."""
    trials: int = Field(ge=1)
    losses: tuple[Name, ...] = ()
    """Empty: every loss in study/losses."""
    width: float = Field(default=1.0, gt=0)
    bn_decay: float = Field(default=0.999, ge=0, lt=1)
    features: str = "inception"
    num_images: int = Field(default=10_000, ge=2)
    precision: Precision = "fp32"
    datasets: dict[Name, Schedule] = Field(min_length=1)

    @model_validator(mode="after")
    def one_source_of_settings(self) -> Self:
        """Either `ranges` or `best_of`."""
        if (self.ranges is None) == (self.best_of is None):
            raise ValueError("a sweep states either ranges or best_of")
        return self


def sweep_names() -> list[str]:
    """The sweeps there are, sorted."""
    return sorted(path.stem for path in SWEEPS_FOLDER.glob("*.toml"))


def load_sweep(name: str) -> SweepConfig:
    """Read sweeps/<name>.toml; StudyError on an unknown sweep, key or value."""
    if name not in sweep_names():
        raise StudyError(f"unknown sweep '{name}'; sweeps/ has: {', '.join(sweep_names())}")
    path = SWEEPS_FOLDER / f"{name}.toml"
    try:
        return SweepConfig(name=name, **tomllib.loads(path.read_text()))
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"sweeps/{name}.toml: not valid TOML: {error}") from error
    except ValidationError as error:
        raise StudyError(f"sweeps/{name}.toml: {first_problem(error, SweepConfig)}") from error


def read_config(path: Path) -> RunConfig:
    """Read a run's config.json; StudyError where it is missing or not one."""
    try:
        return RunConfig.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise StudyError(f"{path}: no such file; a run folder holds a config.json") from error
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

"""What one job may use on one cluster: a TOML file of slurm/."""

import inspect
import math
import re
import tomllib
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin

import submitit
from pydantic import ConfigDict, TypeAdapter, ValidationError
from submitit.slurm.slurm import _make_sbatch_string

from study import files
from study.errors import StudyError, meant
from study.settings import shipped

RESOURCES_FOLDER = shipped.SLURM

OURS = {"runs_per_job": 1, "runs_at_once": 1, "max_jobs": 100}
CONSTRUCTOR = {"slurm_python": str, "slurm_max_num_timeout": int}
AT_LEAST = {
    **dict.fromkeys((*OURS, "timeout_min", "cpus_per_task", "nodes", "tasks_per_node"), 1),
    **dict.fromkeys(("gpus_per_node", "mem_gb", "signal_delay_s", "max_num_timeout"), 0),
}
KINDS = {
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
    bool: "true or false",
    list: 'a list of texts, as ["module load cuda"]',
    dict: "a table, as { nice = 100 }",
}


class Resources(NamedTuple):
    """What slurm/<cluster>.toml says."""

    runs_per_job: int
    runs_at_once: int
    max_jobs: int
    constructor: dict[str, Any]
    """AutoExecutor's own arguments."""
    parameters: dict[str, Any]
    """What AutoExecutor.update_parameters takes."""
    stated_device: str | None = None

    @property
    def runs_together(self) -> int:
        """Runs at one time, where the cluster has room for every job."""
        return self.max_jobs * self.runs_at_once

    @property
    def asks_for_gpu(self) -> bool:
        """Whether a job asks for a GPU, as far as sbatch's options tell: a partition may, too."""
        options = dict(self.parameters)
        options |= options.pop("slurm_additional_parameters", None) or {}
        options |= dict(argument_of(each) for each in options.pop("slurm_srun_args", None) or ())
        return any(is_gpu(key, value) for key, value in options.items())

    @property
    def device(self) -> str:
        """Where runs train in such a job: what the file says, else "cuda" where it asks for one."""
        return self.stated_device or ("cuda" if self.asks_for_gpu else "cpu")

    @property
    def warning(self) -> str | None:
        """What is wrong with such jobs although SLURM takes them, in a line."""
        life_min = self.parameters.get("slurm_time", self.parameters.get("timeout_min", 5))
        delay_s = self.parameters.get("slurm_signal_delay_s", 90)
        if delay_s >= 60 * life_min:
            return (
                f"slurm_signal_delay_s = {delay_s} is no less than a job's life of {life_min} min: "
                "every job is warned as it starts, and goes back into the queue with no step done"
            )
        return None


def argument_of(argument: str) -> tuple[str, str]:
    """--key=value of a command line."""
    key, _, value = argument.partition("=")
    return key, value


def is_gpu(key: str, value: object) -> bool:
    """Whether an option of sbatch asks for a GPU or a share of one."""
    key, text = key.lower().replace("-", "_"), str(value).lower()
    if "gpus" in key:
        return not re.fullmatch(r"|none|false|(.*:)?0", text)
    return bool(re.search(r"gres|tres", key) and re.search(r"(gpu|shard)(?!\S*[:=]0\b)", text))


def read_resources(path: Path) -> Resources:
    """Read a file of slurm/; StudyError on an unknown file, key or value."""
    try:
        given = tomllib.loads(files.read_text(path))
    except OSError as error:
        there = ", ".join(sorted(each.name for each in RESOURCES_FOLDER.glob("*.toml")))
        raise StudyError(f"{path}: {error.strerror}; slurm/ has: {there}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise StudyError(f"{path}: not valid TOML: {error}") from error
    types = types_of_keys()
    for key, value in given.items():
        if key not in types:
            hint = meant(key, types) or f"allowed: {', '.join(sorted(types))}"
            raise StudyError(f"{path}: unknown key '{key}'; {hint.strip()}")
        problem = wrong_with(key, value, types[key])
        if problem:
            raise StudyError(f"{path}: {key} = {value!r}: {problem}")
    ours = {key: given.pop(key, default) for key, default in OURS.items()}
    device = given.pop("device", None)
    constructor = {key: given.pop(key) for key in CONSTRUCTOR if key in given}
    return Resources(**ours, constructor=constructor, parameters=given, stated_device=device)


def types_of_keys() -> dict[str, Any]:
    """Every key that a file may have, with its type: ours, and what the installed submitit takes.

    Its AutoExecutor has some for all clusters, and slurm_KEY for each of sbatch's.
    """
    ours = {"name", "slurm_name", "slurm_job_name", "slurm_array_parallelism", "slurm_map_count"}
    shared = submitit.AutoExecutor._typed_parameters()
    signature = inspect.signature(_make_sbatch_string).parameters
    own = {key: signature[key].annotation for key in submitit.SlurmExecutor._valid_parameters()}
    slurm = {f"slurm_{key}": kind for key, kind in (shared | own).items()}
    slurm |= dict.fromkeys(
        ("slurm_gpus_per_node", "slurm_gpus_per_task", "slurm_num_gpus"), int | str
    )
    slurm["slurm_srun_args"] = list[str]
    known = {**shared, **slurm, **CONSTRUCTOR, **dict.fromkeys(OURS, int), "device": str}
    return {key: kind for key, kind in known.items() if key not in ours}


def _named(kind: Any) -> str:
    """A kind of value in words: a whole number or text."""
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return " or ".join(KINDS[get_origin(each) or each] for each in kinds if each is not type(None))


def wrong_with(key: str, value: object, kind: Any) -> str | None:
    """What is wrong with a key's value; None where nothing is."""
    least = AT_LEAST.get(key.removeprefix("slurm_"))
    try:
        TypeAdapter(kind, config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError:
        hint = '; a kind of GPU is slurm_gpus_per_node = "a100:1"' if "gpus" in key else ""
        more = f", {least} or more" if least is not None else ""
        return f"must be {_named(kind)}{more}{hint}"
    if least is not None and isinstance(value, int | float) and not least <= value < math.inf:
        return f"must be {_named(kind)}, {least} or more"
    return None

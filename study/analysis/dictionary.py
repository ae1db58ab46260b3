"""What the columns of a table and the keys of a sweep mean, from where each is stated.

results/README.md and sweeps/README.md hold these tables between two marks; a test compares them,
and `python -m study columns` prints the first.
"""

from collections.abc import Iterable

import pandas as pd
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from study.losses import about, names
from study.runs.table import DECLARED, dtype_of
from study.settings.config import Halving, Range, Schedule, SweepConfig
from study.settings.hyperparameters import SHARED_NAMES, Hyperparameter
from study.settings.space import described

BEGIN, END = "<!-- generated -->", "<!-- end of what is generated -->"


def columns(losses: Iterable[str] | None = None) -> str:
    """Every column of results/<sweep>.parquet: name, type, meaning; as Markdown.

    With the own hyperparameters of these losses, or of all.
    """
    declared = [(column.name, column.dtype, column.meaning) for column in DECLARED.values()]
    own: dict[str, list[str]] = {}
    values: dict[str, list[object]] = {}
    for loss in names() if losses is None else losses:
        for name, each in described(loss).items():
            if name not in SHARED_NAMES:
                own.setdefault(name, []).append(f"{each.label} of {about(loss).title}")
                values.setdefault(name, []).extend(values_of(each))
    of_losses = [
        (
            name,
            dtype_of(pd.Series(values[name], name=name, dtype=object)),
            f"{'; '.join(said)}; null for other losses",
        )
        for name, said in own.items()
    ]
    at = 1 + [name for name, _, _ in declared].index("normalisation")
    return markdown(("column", "type", "meaning"), [*declared[:at], *of_losses, *declared[at:]])


def values_of(hyperparameter: Hyperparameter) -> list[object]:
    """Some of its values, which have all of its types: the choices, or the ends of its range."""
    values: list[object] = []
    for drawn_from in (hyperparameter.wide, hyperparameter.narrow):
        if isinstance(drawn_from, CategoricalDistribution):
            values += drawn_from.choices
        elif isinstance(drawn_from, FloatDistribution | IntDistribution):
            values += (drawn_from.low, drawn_from.high)
    return values


def sweep_keys() -> str:
    """Every key of sweeps/<name>.toml: name, default, meaning; as Markdown."""
    rows = [
        *keys(SweepConfig),
        *keys(Schedule, "[datasets.NAME] "),
        *keys(Range, "[space] NAME."),
        *keys(Halving, "[halving] "),
    ]
    return markdown(("key", "default", "meaning"), rows)


def keys(model: type[BaseModel], prefix: str = "") -> list[tuple[str, str, str]]:
    """A model's fields as rows: key, default, meaning."""
    return [
        (
            f"{prefix}{name}",
            "" if field.default in (PydanticUndefined, None, (), {}) else str(field.default),
            " ".join((field.description or "").split()),
        )
        for name, field in model.model_fields.items()
        if name != "name"
    ]


def markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table, its first column as code."""
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join((f"`{first}`", *rest)) for first, *rest in rows]
    return "\n".join(f"| {line} |" for line in lines)

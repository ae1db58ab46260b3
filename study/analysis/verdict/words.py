"""What the verdict's questions share: how tables are grouped, and numbers put into words."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from study.analysis import scores
from study.analysis import statistics as st


class Finding(NamedTuple):
    """A question of the study, its answer in words, and the numbers behind it."""

    question: str
    answer: str
    table: pd.DataFrame


def groups(runs: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """(data set, loss) and their runs, in the study's order."""
    for dataset, panel in panels(runs):
        for loss, own in scores.by_loss(panel):
            yield (dataset, loss), own


def panels(runs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each data set and its runs."""
    for dataset in scores.dataset_order(runs):
        yield dataset, runs[runs["dataset"] == dataset]


def by_dataset(result: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each data set of a table of numbers, and its rows."""
    for dataset in dict.fromkeys(map(str, result.index.get_level_values("dataset"))):
        yield dataset, result.loc[[dataset]]


def frame(rows: dict[Any, list[Any]], columns: list[str], second: str = "loss") -> pd.DataFrame:
    """A table of numbers by data set and loss."""
    index = pd.MultiIndex.from_tuples(list(rows), names=["dataset", second])
    return pd.DataFrame(list(rows.values()), index=index, columns=columns)


def named(rows: pd.DataFrame, how: Callable[[Any], str] = lambda row: "") -> str:
    """The losses of a table's rows, each with a clause; "none" where there is none."""
    return listed(f"{title_of(row)}{how(row)}" for _, row in rows.iterrows())


def listed(parts: Iterable[str]) -> str:
    """Parts with commas; "none" where there is none."""
    return ", ".join(parts) or "none"


def title_of(row: Any) -> str:
    """The loss of a row of a table of numbers, as sentences write it."""
    return scores.title(row.name[1])


def in_a_row(numbers: Sequence[int]) -> str:
    """1, 2 and 5."""
    *before, last = map(str, numbers)
    return f"{', '.join(before)} and {last}" if before else last


def extremes(rows: pd.DataFrame, column: str) -> str:
    """The least and the largest of a column, with their losses."""
    known = rows[rows[column].notna()].sort_values(column, kind="stable")
    ends = [f"{row[column]:.2g} ({title_of(row)})" for _, row in known.iterrows()]
    return " to ".join(dict.fromkeys(ends[:1] + ends[-1:])) or "unknown"


def between(values: Any, form: str = ".0f") -> str:
    """A range of values, or the one that all are."""
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return "unknown"
    low, high = (format(end, form) for end in (min(known), max(known)))
    return low if low == high else f"{low} to {high}"


def cells(table: pd.DataFrame) -> list[dict[str, str]]:
    """A table of numbers as rows of text: three digits, nothing where there is no value."""
    rows: list[dict[Any, Any]] = table.reset_index().to_dict("records")
    return [{str(name): _cell(value) for name, value in row.items()} for row in rows]


def _cell(value: Any) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float) and np.isfinite(value):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def probability(p: float) -> str:
    """p = 0.03; p < 0.001."""
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"


def correlated(x: Any, y: Any) -> list[float]:
    """Number of pairs, Spearman's correlation and interval; NaN where a side has one value only."""
    if min(len(np.unique(x)), len(np.unique(y))) < 2:
        return [len(x), np.nan, np.nan, np.nan]
    return [len(x), *map(float, st.spearman(x, y))]


def correlation(row: Any) -> str:
    """A correlation with its interval."""
    if np.isnan(row["correlation"]):
        return "undefined, one side has no order"
    return f"{row['correlation']:.2f} (95 % interval {row['low']:.2f} to {row['high']:.2f})"

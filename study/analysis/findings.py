"""What the verdict finds, question by question, as a page of Markdown: results/FINDINGS.md."""

import itertools
import math
from typing import Any

import pandas as pd

from study.analysis import scores, verdict
from study.analysis.dictionary import markdown
from study.analysis.report import main_table
from study.analysis.tables import Tables


def page(tables: Tables) -> str:
    """Three sentences a data set, the best of each loss, every question's answer and numbers."""
    sweep, headline = tables.search["sweep"].iloc[0], verdict.headline(tables)
    lines = [
        f"# What the numbers of `{sweep}` say",
        "",
        f"Written by `python -m study verdict --sweep {sweep} --markdown`; a test compares.",
        "",
        *(f"- {sentence}" for sentence in headline),
    ]
    for dataset in scores.dataset_order(tables.search):
        title = f"{scores.dataset_title(dataset)}, the best of each loss"
        lines += ["", f"## {title}", "", main_table_in_markdown(tables, dataset)]
    for finding in verdict.findings(tables):
        answer = finding.answer.removeprefix(" ".join(headline)).lstrip()  # which stand above
        lines += ["", f"## {finding.question}", "", answer]
        if len(finding.table):
            lines += ["", in_markdown(finding.table)]
    return "\n".join(lines) + "\n"


def in_markdown(table: pd.DataFrame) -> str:
    """A table with its index as first columns and three digits a number."""
    flat = table.reset_index()
    rows = [tuple(cell(value) for value in row) for row in flat.itertuples(index=False)]
    return markdown(tuple(map(str, flat.columns)), rows)


def cell(value: Any) -> str:
    """A value in a few characters; nothing where there is none."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.3g}"
    return "" if value is None or value is pd.NA else str(value)


def main_table_in_markdown(tables: Tables, dataset: str) -> str:
    """A row a loss, the least median of the re-runs first, one decimal a number.

    Of defaults, re-runs and the paper's losses where there are any.
    """
    rows, seeds = main_table(tables, dataset), len(tables.seeds) and tables.seeds["seed"].nunique()
    columns = {
        "default": "authors' default",
        "best": f"best of {rows['settings'].max()}",
        "again": f"that setting, {seeds} other seeds: median ± sd",
        "paper: FID": "the paper's best of 100: FID, 50 seeds",
    }
    spread = {"again": "±", "paper: FID": "paper: ±"}
    there = [name for name in columns if name in rows]
    lines = [
        (str(loss), *(number(row[name], row.get(spread.get(name))) for name in there))
        for loss, row in rows.iterrows()
    ]
    return markdown(("loss", *(columns[name] for name in there)), lines).replace("`", "")


def effects_in_markdown(tables: Tables, dataset: str) -> str:
    """README's table: each loss's ratio of expected bests to the reference's, with its 95 %
    interval, at the least and the largest judged budget; the least at the largest first."""
    first, second = (found.table for found in itertools.islice(verdict.findings(tables), 2))
    judged, effects = first.loc[dataset], second.loc[dataset].set_index("budget", append=True)
    budgets = effects.index.unique("budget")
    ends = [budgets.min(), budgets.max()]
    order = effects["ratio"].xs(ends[-1], level="budget").sort_values(kind="stable").index
    lines = [
        (
            scores.title(loss),
            *(_ratio(effects.loc[(loss, budget)]) for budget in ends),
            cell(judged.loc[loss, "p_holm"]),
        )
        for loss in order
    ]
    names = ("loss", *(f"budget {budget}" for budget in ends), "p")
    return markdown(names, lines).replace("`", "")


def _ratio(row: "pd.Series[Any]") -> str:
    return f"{row['ratio']:.2f} ({row['low']:.2f}–{row['high']:.2f})"


def number(value: Any, spread: Any) -> str:
    """A distance with one decimal (two below 1) and its spread; nothing where there is none."""
    if pd.isna(value):
        return ""
    told = f"{value:.{1 if value >= 1 else 2}f}"
    return told if pd.isna(spread) else f"{told} ± {spread:.1f}"

"""results/FINDINGS.md: what the verdict finds, question by question, as a page of Markdown."""

import math
from typing import Any

import pandas as pd

from study.analysis import verdict
from study.analysis.dictionary import markdown
from study.analysis.report import main_table
from study.analysis.tables import Tables


def page(tables: Tables) -> str:
    """The three sentences, then every question with its answer and the numbers behind it."""
    sweep, headline = tables.search["sweep"].iloc[0], verdict.headline(tables)
    lines = [
        f"# What the numbers of `{sweep}` say",
        "",
        f"Written by `python -m study verdict --sweep {sweep} --markdown`; a test compares.",
        "",
        *(f"- {sentence}" for sentence in headline),
    ]
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
    """README's table: a row a loss, the least median of the re-runs first, one decimal a number.

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


def number(value: Any, spread: Any) -> str:
    """A distance with one decimal (two below 1) and its spread; nothing where there is none."""
    if pd.isna(value):
        return ""
    told = f"{value:.{1 if value >= 1 else 2}f}"
    return told if pd.isna(spread) else f"{told} ± {spread:.1f}"

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
    """README's table: a row a loss, the least median of the re-runs first, one decimal a number."""
    rows = main_table(tables, dataset)

    def number(value: Any, spread: Any = None) -> str:
        if pd.isna(value):
            return ""
        return f"{value:.{1 if value >= 1 else 2}f}" + (
            "" if pd.isna(spread) else f" ± {spread:.1f}"
        )

    lines = [
        (
            str(name),
            number(row["default"]),
            number(row["best"]),
            number(row["again"], row["±"]),
            number(row["paper: FID"], row["paper: ±"]),
        )
        for name, row in rows.iterrows()
    ]
    head = (
        "loss",
        "authors' default",
        "best of 100",
        "that setting, 10 other seeds: median ± sd",
        "the paper's best of 100: FID, 50 seeds",
    )
    return markdown(head, lines).replace("`", "")

"""What the study finds, in numbers and in words made from the numbers.

`against` asks the study's question and holds its rule; the other modules ask what else the tables
can answer. Scores are as in `scores.search`: the least distance of a run, +inf where it diverged.
README, report and terminal print `headline`.
"""

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from study.analysis import scores
from study.analysis.tables import Tables, other_searches, paper
from study.analysis.verdict import (
    against,
    agreement,
    halved,
    interim,
    measures,
    reruns,
    search,
    variance,
)
from study.analysis.verdict.against import ALPHA, REFERENCE
from study.analysis.verdict.words import Finding, cells
from study.runs.folder import is_paired
from study.settings.config import load_sweep

__all__ = ["ALPHA", "REFERENCE", "Finding", "as_json", "cells", "findings", "headline"]


def headline(tables: Tables, reference: str = REFERENCE) -> list[str]:
    """Who beats the reference: three sentences a data set, or what is missing to say so; and as
    much of losses that the sweep does not state."""
    return [line for lines, _ in _judged(tables, reference) for line in lines]


def findings(
    tables: Tables, reference: str = REFERENCE, *, at_any_look: bool = False
) -> Iterator[Finding]:
    """The study's questions that these tables can answer, one after another.

    The first is whether any loss beats the reference: judged once, or `at_any_look`. Of a paired
    search the others are asked on data sets that are complete. Refused as by the figures: an empty
    table, unlike rows, all runs diverged.
    """
    table, sweep = tables.search, load_sweep(tables.sweep)
    if halved.is_halved(table):
        yield halved.finding(table)
        return
    judged = _judged(tables, reference)
    if judged:
        question = f"Which losses beat {scores.title(reference)}?"
        compared = [row for _, rows in judged for row in rows]
        said = [line for lines, _ in judged for line in lines]
        by_budget = against.by_how_much(compared, reference)
        said += [against.WIN_K] if by_budget else []
        yield Finding(question, " ".join(said), against.table_of(compared))
        if by_budget:
            yield by_budget
    if at_any_look and judged:
        yield interim.finding(_panels(tables, reference))
    if is_paired(sweep) and (table := scores.complete(sweep, table)).empty:
        return
    runs = scores.search(table)
    asked = [search.diverged(runs), search.untrained(runs, tables.untrained)]
    asked.append(search.defaults(runs))
    if len(tables.full):
        asked.append(search.full_length(runs, tables.full))
    if sweep.draws == "shared":
        asked.append(variance.finding(runs[runs["loss"].isin(sweep.losses or runs["loss"])]))
    asked += [search.edges(runs, sweep), search.stopping(table)]
    if len(tables.seeds):
        asked.append(reruns.seed_or_setting(runs, tables.seeds))
        asked.append(reruns.who_is_first(tables.seeds))
    if len(tables.longer):
        asked.append(reruns.after_more_steps(runs, tables.longer))
    asked += [
        agreement.with_paper(runs, paper("wide_quartiles"), tables.seeds, paper("best_fid")),
        *agreement.between_datasets(runs),
        measures.between_measures(table),
        measures.judged_otherwise(table, sweep, reference),
        agreement.between_studies(runs, other_searches(tables)),
    ]
    if "fid_report" in table and table["fid_report"].notna().any():
        asked.append(search.flattery(table))
    for found in (finding for finding in asked if finding is not None):
        words = f"Secondary. {found.answer}" if is_paired(sweep) else found.answer
        yield found._replace(answer=words)


def as_json(
    tables: Tables, reference: str = REFERENCE, *, at_any_look: bool = False
) -> dict[str, Any]:
    """The verdict's numbers for a program; what is infinite or undefined is None.

    sweep, reference, alpha, paired, stated_settings (a loss, by data set), sentences, comparisons
    (see `against.comparisons`), with `at_any_look` also looks (see `interim.looks`), questions
    (question, answer, rows).
    """
    sweep, judged = load_sweep(tables.sweep), _judged(tables, reference)
    content: dict[str, Any] = {
        "sweep": tables.sweep,
        "reference": reference,
        "alpha": ALPHA,
        "paired": is_paired(sweep),
        "stated_settings": {
            dataset: sweep.settings(dataset) for dataset in scores.dataset_order(tables.search)
        },
        "sentences": [line for lines, _ in judged for line in lines],
        "comparisons": [row for _, rows in judged for row in rows],
    }
    if at_any_look:
        content["looks"] = [
            row for each in _panels(tables, reference) for row in interim.looks(each)
        ]
    content["questions"] = [
        {
            "question": finding.question,
            "answer": finding.answer,
            "rows": finding.table.reset_index().to_dict("records"),
        }
        for finding in findings(tables, reference, at_any_look=at_any_look)
    ]
    plain: dict[str, Any] = _plain(content)
    return plain


def _judged(tables: Tables, reference: str) -> list[tuple[list[str], list[dict[str, Any]]]]:
    """Sentences and comparisons of each panel."""
    judged = []
    for panel in _panels(tables, reference):
        rows = against.comparisons(panel)
        judged.append((against.sentences(panel, rows), rows))
    return judged


def _panels(tables: Tables, reference: str) -> list[against.Panel]:
    """What is judged together; nothing of a search that stopped settings early."""
    if halved.is_halved(tables.search):
        return []
    runs = scores.search(tables.search)
    if reference != REFERENCE:
        against.require_reference(runs, reference)
    return list(against.panels_of(runs, load_sweep(tables.sweep), reference))


def _plain(value: Any) -> Any:
    """Python's own types; None for what JSON has no word for."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value

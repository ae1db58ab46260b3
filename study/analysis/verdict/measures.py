"""Do other measures of the same images say what the distance says?

A run's other measures stand in the row of its best evaluation by the distance, and nothing was
selected by them. A diverged run is as bad as can be by each.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from study.analysis import scores
from study.analysis.verdict import against
from study.analysis.verdict.words import (
    Finding,
    correlated,
    correlation,
    frame,
    in_a_row,
    listed,
    probability,
)
from study.settings.config import SweepConfig

COLUMNS = ["runs", "correlation", "low", "high"]
MEASURES = {
    "fid_second": "the distance in a second extractor's features",
    "kid": "the kernel distance",
}


def measured(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The runs of a search (`scores.search`) with another measure, `other`; those that have it."""
    value = table.groupby(scores.RUN)[measure].min().rename("other")
    runs = scores.search(table).drop(columns="other", errors="ignore").join(value, on=scores.RUN)
    there = scores.dataset_order(runs.dropna(subset="other"))
    runs["other"] = runs["other"].where(runs["status"] == "ok", np.inf)
    return runs[runs["dataset"].isin(there) & runs["other"].notna()]


def known(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """The other measures that a table has: name, words, and `measured` runs."""
    for measure, words in MEASURES.items():
        if measure in table and len(runs := measured(table, measure)):
            yield measure, words, runs


def between_measures(table: pd.DataFrame) -> Finding | None:
    """Whether the losses rank alike by another measure of the same images."""
    said, rows = [], {}
    for measure, words, runs in known(table):
        for dataset in scores.dataset_order(runs):
            own = runs[runs["dataset"] == dataset]
            medians = own.groupby("loss")[["fid", "other"]].median()
            over_runs = pd.Series(correlated(own["fid"], own["other"]), COLUMNS)
            rows[dataset, measure] = over_runs.tolist()
            text = (
                f"{scores.dataset_title(dataset)}, {words}: over {len(own):,} runs "
                f"{correlation(over_runs)}"
            )
            if len(medians) > 2:
                order = pd.Series(correlated(*medians.to_numpy().T), COLUMNS)
                text += f", the order of {len(medians)} losses by their median {correlation(order)}"
            said.append(f"{text}.")
    if not rows:
        return None
    text = f"Spearman's rank correlation with the distance. {' '.join(said)}"
    result = frame(rows, COLUMNS, "measure").astype({"runs": int})
    return Finding("Do other measures rank the losses alike?", text, result)


def judged_otherwise(table: pd.DataFrame, sweep: SweepConfig, reference: str) -> Finding | None:
    """Which losses beat the reference by another measure: the same rule, where it judges.

    5 % are spent on each measure anew. A ratio of expected bests is not given, since the kernel
    distance's estimate may be negative.
    """
    said, parts = [], []
    for measure, words, runs in known(table):
        asked = runs.assign(fid=runs["other"])
        for panel in against.panels_of(asked, sweep, reference):
            rows = against.comparisons(panel)
            if all(row["verdict"] == "not judged" for row in rows):
                continue
            result = against.table_of(rows).drop(columns=["power"])
            parts.append(pd.concat({measure: result}, names=["measure"]))
            better, worse = (
                listed(_claim(row, side) for row in rows if row[side])
                for side in ("better_at", "worse_at")
            )
            same = [row for row in rows if row["verdict"] == "not told apart"]
            said.append(
                f"{panel.where}, {words}: better than "
                f"{scores.title(reference)}: {better}; worse: {worse}; not told apart: "
                f"{listed(scores.title(row['loss']) for row in same)}."
            )
    if not said:
        return None
    said.append("The first question's rule, 5 % for each measure and data set anew.")
    question = f"Which losses beat {scores.title(reference)} by other measures?"
    return Finding(question, " ".join(said), pd.concat(parts).swaplevel(0, 1).swaplevel(1, 2))


def _claim(row: dict[str, Any], side: str) -> str:
    """VAE (budgets 1 and 2, p < 0.001)."""
    budgets = f"budget{'s' * (len(row[side]) > 1)} {in_a_row(row[side])}"
    return f"{scores.title(row['loss'])} ({budgets}, {probability(row['p_holm'])})"

"""A search that stopped its worse settings early: what it can tell is the best of each loss."""

import pandas as pd

from study.analysis import scores
from study.analysis.verdict.words import Finding, by_dataset, frame, groups, listed, title_of


def is_halved(table: pd.DataFrame) -> bool:
    """Whether settings of the search were stopped early."""
    return bool((table["status"] == "stopped").any())


def best_of_halved(table: pd.DataFrame) -> pd.DataFrame:
    """The best setting of each loss, and what finding it took.

    Columns: best (least distance), number, settings, to_the_end (settings trained to the end, or to
    their divergence), steps (share of the D steps that all settings would have taken).
    """
    rows: dict[tuple[str, str], list[float]] = {}
    for (dataset, loss), own in groups(scores.of_runs(scores.ended(table))):
        best = own.sort_values(["fid", "number"]).iloc[0]
        of_loss = table[(table["loss"] == loss) & (table["dataset"] == dataset)]
        taken = of_loss.groupby("number")["step"].max()
        rows[dataset, loss] = [
            float(best["fid"]),
            int(best["number"]),
            len(taken),
            len(own),
            float(taken.sum() / (len(taken) * taken.max())),
        ]
    return frame(rows, ["best", "number", "settings", "to_the_end", "steps"])


def finding(table: pd.DataFrame) -> Finding:
    """The best of each search, and no word on which loss is better."""
    result, said = best_of_halved(table), []
    for dataset, rows in by_dataset(result):
        best = [
            f"{title_of(row)} {row['best']:.4g} (number {row['number']:.0f})"
            for _, row in rows.sort_values("best", kind="stable").iterrows()
        ]
        said.append(
            f"{scores.dataset_title(dataset)}, {rows['settings'].max()} settings a loss, "
            f"{rows['to_the_end'].min()} to {rows['to_the_end'].max()} of them trained to the end, "
            f"with {rows['steps'].mean():.0%} of the D steps that all would take: {listed(best)}."
        )
    said.append(
        "Settings were stopped early, so that there is no distribution to test, and one best a "
        "loss tells of no loss that it is better: train the best settings again with other seeds "
        "(a sweep with best_of)."
    )
    return Finding("What is the best of each search?", " ".join(said), result)

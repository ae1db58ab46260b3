"""Do losses and settings rank alike: in the paper, on two data sets, in two extractors, studies?"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd

from study.analysis import scores
from study.analysis.verdict.words import (
    Finding,
    between,
    by_dataset,
    correlated,
    correlation,
    frame,
    groups,
    title_of,
)
from study.counts import counted
from study.errors import StudyError

COLUMNS = ["correlation", "low", "high"]
FEW = 10
"""Fewer settings than this say little of a correlation."""


def beside_the_paper(runs: pd.DataFrame, quartiles: pd.DataFrame) -> pd.DataFrame:
    """Minimum and median of the wide search beside the paper's (wide_quartiles.csv), by data set
    and loss. A paper's value beyond its figure's axis, and a median of diverged runs, is +inf."""
    theirs = quartiles.set_index(["dataset", "loss"])[["min", "median"]].fillna(np.inf)
    rows = {}
    for key, own in groups(runs):
        if key in theirs.index:
            least, middle = theirs.loc[key, "min"], theirs.loc[key, "median"]
            rows[key] = [own["fid"].min(), least, float(np.median(own["fid"])), middle]
    return frame(rows, ["minimum", "paper_minimum", "median", "paper_median"])


def agreement_with_paper(runs: pd.DataFrame, quartiles: pd.DataFrame) -> pd.DataFrame:
    """Spearman's correlation over the losses of our minima and medians with the paper's.

    Columns: losses, correlation, low, high. What lies beyond the axis of the paper's figure ties.
    """
    rows = {}
    for dataset, both in by_dataset(beside_the_paper(runs, quartiles)):
        for name in ("minimum", "median"):
            rows[dataset, name] = correlated(both[name], both[f"paper_{name}"])
    return frame(rows, ["losses", *COLUMNS], "of")


def reruns_with_paper(seeds: pd.DataFrame, best: pd.DataFrame) -> pd.DataFrame:
    """Spearman's correlation of the winners' median re-run with the paper's table 2 (best_fid.csv).

    Columns: losses, correlation, low, high.
    """
    theirs, rows = best.set_index(["dataset", "loss"])["fid_mean"], {}
    medians = {key: own["fid"].median() for key, own in groups(scores.checked(seeds))}
    both = pd.DataFrame({"ours": pd.Series(medians), "theirs": theirs}).dropna()
    for dataset in dict.fromkeys(both.index.get_level_values(0)):
        own = both.loc[dataset]
        rows[dataset, "re-runs"] = correlated(own["ours"], own["theirs"])
    return frame(rows, ["losses", *COLUMNS], "of")


def with_paper(
    runs: pd.DataFrame, quartiles: pd.DataFrame, seeds: pd.DataFrame, best: pd.DataFrame
) -> Finding | None:
    """Whether the losses rank as in the paper: in its box plots, and re-run in its table 2."""
    both = beside_the_paper(runs, quartiles)
    if len(both) < 3:
        return None
    numbers = [agreement_with_paper(runs, quartiles)]
    if len(seeds):
        numbers.append(reruns_with_paper(seeds, best))
    words = {
        "minimum": "minimum of each of {} losses",
        "median": "median of each of {} losses",
        "re-runs": "the winners' median re-run of {} losses beside the paper's table 2",
    }
    said = [
        f"{scores.dataset_title(dataset)}, {words[str(name)].format(round(row['losses']))}: "
        f"{correlation(row)}."
        for dataset, rows in by_dataset(pd.concat(numbers))
        for name, row in rows.droplevel("dataset").iterrows()
    ]
    compared = runs[runs["dataset"].isin(both.index.get_level_values("dataset"))]
    settings = compared.groupby(["dataset", "loss"])["number"].nunique()
    like_theirs = (
        "have 100 settings, as the paper's"
        if (settings == 100).all()
        else f"have {between(settings)} settings, the paper's 100 (which minima feel)"
    )
    text = (
        f"Spearman's rank correlation. {' '.join(said)} So few losses leave wide intervals; ours "
        f"{like_theirs}; its values are digitised, and those beyond its axis tie."
    )
    return Finding("Do the losses rank as in the paper?", text, both)


def agreement_between(runs: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """Spearman's correlation, setting by setting, of each loss's scores on two data sets.

    Columns: settings, correlation, low, high.
    """
    wide = runs.pivot_table(index=["loss", "number"], columns="dataset", values="fid")
    for name in (one, other):
        if name not in wide:
            there = ", ".join(scores.dataset_order(runs))
            raise StudyError(f"no rows of {name!r}; the table has {there}")
    both = wide[[one, other]].dropna()
    present = both.index.get_level_values("loss")
    rows = {
        (f"{one}, {other}", loss): correlated(*both[present == loss].to_numpy().T)
        for loss in scores.losses(runs)
        if loss in present
    }
    return frame(rows, ["settings", *COLUMNS])


def between_datasets(runs: pd.DataFrame) -> Iterator[Finding]:
    """Whether a setting that is good on one data set helps on another, and the losses' order."""
    for one, other in combinations(scores.dataset_order(runs), 2):
        result = agreement_between(runs, one, other)
        known = result.dropna().sort_values("correlation", kind="stable")
        if known.empty:
            continue
        least, most = known.iloc[0], known["correlation"].max()
        titles = f"{scores.dataset_title(one)} and {scores.dataset_title(other)}"
        text = (
            f"Setting by setting, {titles}: "
            f"Spearman's rank correlation from {least['correlation']:.2f} ({title_of(least)}, 95 % "
            f"interval {least['low']:.2f} to {least['high']:.2f}) to {most:.2f}, "
            f"{known['correlation'].median():.2f} in the median over losses."
        )
        if (fewest := int(result["settings"].min())) < FEW:
            text += f" With {counted(fewest, 'setting')} a loss that is too early to say."
        medians = common_medians(runs, one, other)
        if len(medians) > 2:
            row = pd.Series(correlated(*medians.to_numpy().T), ["losses", *COLUMNS])
            text += (
                f" The order of {len(medians)} losses by their median over the settings of both: "
                f"{correlation(row)}."
            )
        yield Finding("Does a setting that is good on one data set help on another?", text, result)


def common_medians(runs: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """Each loss's median score on two data sets, over the settings that it has on both."""
    wide = runs.pivot_table(index=["loss", "number"], columns="dataset", values="fid")
    return wide[[one, other]].dropna().groupby("loss").median()


def between_studies(runs: pd.DataFrame, others: dict[str, pd.DataFrame]) -> Finding | None:
    """Whether the losses rank as in other searches (their `scores.search`, by name).

    Spearman's correlation of their medians.
    """
    said, rows = [], {}
    for name, theirs in others.items():
        for dataset in scores.dataset_order(runs):
            medians = [
                own[own["dataset"] == dataset].groupby("loss")["fid"].median()
                for own in (runs, theirs)
            ]
            both = pd.concat(medians, axis=1, join="inner")
            if len(both) > 2:
                row = pd.Series(correlated(*both.to_numpy().T), ["losses", *COLUMNS])
                rows[dataset, name] = row.tolist()
                said.append(
                    f"{scores.dataset_title(dataset)}, medians of {len(both)} losses beside those "
                    f"of {name}: {correlation(row)}."
                )
    if not rows:
        return None
    text = f"Spearman's rank correlation. {' '.join(said)}"
    result = frame(rows, ["losses", *COLUMNS], "study")
    return Finding("Do the losses rank as in other searches?", text, result)

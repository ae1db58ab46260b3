"""Is mine better? The verdict's test on tables of runs that this program need not have trained.

A table has columns loss, number (of the setting) and fid (any distance: the smaller the better),
one row a run or one row a checkpoint; more columns are welcome. A run that diverged is infinite, or
has status "diverged".
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.tables import shown
from study.analysis.verdict.words import in_a_row, probability
from study.errors import StudyError, meant
from study.settings.config import load_sweep, sweep_names

NEEDED = ("loss", "number", "fid")
MUST_AGREE = ("dataset", *scores.ALIKE, "data_digest", "batch_size")


class Side(NamedTuple):
    """A loss's runs: a score by the number of its setting."""

    name: str
    scores: "pd.Series[float]"


class Found(NamedTuple):
    """One loss beside another: one row a budget, and what it says in words."""

    words: str
    table: pd.DataFrame


def read(source: str, dataset: str | None = None) -> pd.DataFrame:
    """The rows of FILE or FILE:LOSS (Parquet or CSV)."""
    path, _, loss = source.partition(":") if not Path(source).exists() else (source, "", "")
    try:
        is_csv = path.lower().endswith(".csv")
        table = pd.read_csv(path) if is_csv else pd.read_parquet(path)
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file") from None
    except Exception as error:  # whatever a file from other hands makes the readers raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StudyError(f"{path} cannot be read: {reason[:200]}") from error
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise StudyError(f"{path} has no column {missing[0]}; needed: {', '.join(NEEDED)}")
    if table.empty:
        raise StudyError(f"{path} has no rows; needed is one a run")
    for name in ("loss", "number", "dataset"):
        if name in table and table[name].isna().any():
            raise StudyError(f"{path}: rows without {name}: {table[name].isna().sum()}")
    if dataset is not None and "dataset" in table:
        table = only(table, "dataset", "data set", dataset, path)
    refuse_unjudged(table, path)
    if loss:
        table = only(table, "loss", "loss", loss, path)
    return table


def refuse_unjudged(table: pd.DataFrame, path: str) -> None:
    """StudyError of a paired search that is not complete, and of re-runs, which are no search.

    Before a loss is picked: a data set is complete when all losses are there.
    """
    known = set(table["sweep"].dropna()) & set(sweep_names()) if "sweep" in table else set()
    for name in sorted(known):
        config, rows = load_sweep(name), table[table["sweep"] == name]
        if config.search is not None:
            raise StudyError(
                f"{path}: {name} trains the best settings of {config.search} again, which is no "
                f"search; compare tables of searches, as {config.search}"
            )
        if "dataset" in rows:
            shown(config, rows)


def only(table: pd.DataFrame, column: str, what: str, value: str, path: str) -> pd.DataFrame:
    """The rows that have this value; StudyError where none has."""
    there = sorted(table[column].astype(str).unique())
    if value not in there:
        raise StudyError(
            f"{path} has no {what} '{value}';{meant(value, there)} it has: {', '.join(there)}"
        )
    return table[table[column].astype(str) == value]


def sides(table: pd.DataFrame, source: str) -> list[Side]:
    """Each loss's scores: the least of a setting's rows, infinite where it diverged."""
    if "status" in table:
        scores.refuse_stopped(table)
        strange = sorted(set(table["status"].dropna().astype(str)) - {"ok", "diverged"})
        if strange:
            raise StudyError(f"{source}: status '{strange[0]}'; allowed: ok, diverged")
    for name in ("sweep", *MUST_AGREE):
        values = sorted(map(str, table[name].dropna().unique())) if name in table else []
        if len(values) > 1:
            hint = "; --dataset names one" if name == "dataset" else "; keep one"
            raise StudyError(f"{source}: rows of {name} {', '.join(values)}{hint}")
    fid = pd.to_numeric(table["fid"], errors="coerce")
    diverged = table["status"].eq("diverged") if "status" in table else fid.isna() & False
    diverged = diverged.groupby([table["loss"], table["number"]]).transform("any")
    bad = fid.isna() & ~diverged
    if bad.any():
        raise StudyError(
            f"{source}: rows without fid: {bad.sum()}; a diverged run is inf, or of status diverged"
        )
    rows = table.assign(fid=fid.where(~diverged, np.inf))
    if "seed" in rows and (rows.groupby(["loss", "number"])["seed"].nunique() > 1).any():
        raise StudyError(f"{source}: settings with several seeds; give one seed a setting")
    least = rows.groupby(["loss", "number"])["fid"].min()
    return [Side(str(loss), least.loc[loss]) for loss in dict.fromkeys(rows["loss"])]


def length(table: pd.DataFrame) -> int | None:
    """The D steps of the longest run; None where the table has no such column."""
    if "d_steps" not in table or table["d_steps"].isna().all():
        return None
    return int(table["d_steps"].max())


def compare(one: str, other: str, dataset: str | None = None, paired: bool = False) -> list[Found]:
    """The one loss of A beside each of B; StudyError where A has several, or they are unlike.

    With `paired` a number is the same setting and seed on both sides, and only common numbers
    count: the test is sharper where settings are what makes distances differ.
    """
    mine, theirs = read(one, dataset), read(other, dataset)
    first, others = sides(mine, one), sides(theirs, other)
    for name in MUST_AGREE:
        a, b = (set(table[name].dropna()) if name in table else set() for table in (mine, theirs))
        if a and b and a != b:
            raise StudyError(
                f"{one} is of {name} {a.pop()}, {other} of {b.pop()}: they cannot be compared"
            )
    steps = length(mine), length(theirs)
    if None not in steps and steps[0] != steps[1]:
        raise StudyError(
            f"{one} is trained for {steps[0]:,} D steps a run, {other} for {steps[1]:,}: they "
            "cannot be compared"
        )
    if len(first) > 1:
        names = ", ".join(side.name for side in first)
        raise StudyError(f"{one} has losses {names}; name one: {one}:{first[0].name}")
    against = {side.name: matched(first[0], side, paired) for side in others}
    judgements = judged(against, paired)
    return [
        found(first[0].name, name, *pair, judgements[name], paired, len(against))
        for name, pair in against.items()
    ]


def matched(mine: Side, theirs: Side, paired: bool) -> tuple[Any, Any]:
    """Both sides' scores; of the common numbers, in one order, where they are paired."""
    if not paired:
        return mine.scores.to_numpy(), theirs.scores.to_numpy()
    common = mine.scores.index.intersection(theirs.scores.index)
    if common.empty:
        raise StudyError(f"{mine.name} and {theirs.name} have no number in common; not paired then")
    return mine.scores.loc[common].to_numpy(), theirs.scores.loc[common].to_numpy()


def judged(against: dict[str, tuple[Any, Any]], paired: bool) -> dict[str, st.Judgement]:
    """Mine beside each of theirs, by the verdict's rule: named wrongly in 5 % of studies at most.

    Of several losses each gets an equal share of the 5 % (Bonferroni).
    """
    return {
        name: st.judge(
            theirs, {name: mine}, budgets(mine, theirs), paired, alpha=0.05 / len(against)
        )[name]
        for name, (mine, theirs) in against.items()
    }


def budgets(mine: Any, theirs: Any) -> list[int]:
    """The budgets that there are settings for."""
    return [k for k in st.BUDGETS if k <= min(len(mine), len(theirs))]


def found(
    mine_name: str,
    name: str,
    mine: Any,
    theirs: Any,
    judgement: st.Judgement,
    paired: bool,
    comparisons: int,
) -> Found:
    """What the comparison of two losses says, one of so many."""
    comparison, tried = judgement.comparison, budgets(mine, theirs)
    p = min(1.0, comparisons * comparison.p_any)
    judged_by = "over all budgets" + f" and {comparisons} comparisons" * (comparisons > 1)
    ratio = st.ratio_interval(mine, theirs, tried, paired)
    table = pd.DataFrame(
        {
            "budget": tried,
            "chance": comparison.chance,
            "p": comparison.p,
            "p_adjusted": comparison.p_adjusted,
            "judged": comparison.judged,
            "ratio": ratio.value,
            "ratio_low": ratio.low,
            "ratio_high": ratio.high,
        }
    )
    one, other = scores.title(mine_name), scores.title(name)
    if mine_name == name:
        one, other = f"{one} (A)", f"{other} (B)"
    counted = f"{len(mine)} settings of it, {len(theirs)} of the other{', paired' * paired}"
    if not comparison.judged.any():
        words = f"{one} beside {other}: too few to judge ({counted}; 8 of each are needed)."
    elif judgement.better or judgement.worse:
        sentences = [
            f"{one} is {how} than {other} at a budget of {in_a_row(at)} settings"
            for how, at in (("better", judgement.better), ("worse", judgement.worse))
            if at
        ]
        words = f"{', '.join(sentences)} ({probability(p)} {judged_by}; {counted})."
    else:
        words = (
            f"{one} is not told apart from {other} at any budget ({probability(p)} {judged_by}; "
            f"{counted})."
        )
    return Found(words, table)

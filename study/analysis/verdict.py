"""What the study finds, in numbers and in words made from the numbers.

Every function takes a sweep's table (one row an evaluation) and gives a table; `findings` asks the
study's questions and answers each in words. A score (`scores.of_runs`) is the least distance of a
run, +inf where it diverged.
"""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from study.analysis import scores
from study.analysis import statistics as st
from study.errors import StudyError

REFERENCE = "ns"
ENOUGH = 10
"""Fewer settings than this say little of a correlation."""


class Finding(NamedTuple):
    """A question of the study, its answer in words, and the numbers behind it."""

    question: str
    answer: str
    table: pd.DataFrame


# Numbers


def runs_by_status(table: pd.DataFrame) -> pd.DataFrame:
    """Runs of each data set and loss: settings, ok, diverged, share diverged and its interval."""
    rows = {}
    for key, own in _groups(scores.search(table)):
        share = st.diverged_share(own["fid"])
        diverged = int(np.isinf(own["fid"]).sum())
        rows[key] = [len(own), len(own) - diverged, diverged, *map(float, share)]
    return _frame(rows, ["settings", "ok", "diverged", "share", "low", "high"])


BUDGETS = (1, 2, 5, 10)


def against(table: pd.DataFrame, reference: str = REFERENCE) -> pd.DataFrame:
    """Every loss against the reference, by data set.

    Columns: settings (the fewer of the two), and a judged budget k at a time chance_k, p_k; p_holm
    (over budgets and losses); better and worse, the budgets at which it is.
    """
    rows = {}
    for dataset, panel in _panels(table):
        fids = _by_loss(panel)
        if reference not in fids:
            raise StudyError(f"no rows of {reference!r} on {dataset}; train it to compare with it")
        others = {loss: fid for loss, fid in fids.items() if loss != reference}
        fewest = min(map(len, fids.values()))
        budgets = [k for k in BUDGETS if st.judged(k, fewest)] or [1]
        for loss, found in st.judge(fids[reference], others, budgets).items():
            said = [", ".join(map(str, side)) for side in (found.better, found.worse)]
            chances = dict(zip(budgets, found.comparison.chance, strict=True))
            p = dict(zip(budgets, found.comparison.p, strict=True))
            numbers = [part.get(k, np.nan) for k in BUDGETS for part in (chances, p)]
            rows[dataset, loss] = [len(others[loss]), *numbers, found.p_holm, *said]
    names = [f"{part}_{k}" for k in BUDGETS for part in ("chance", "p")]
    return _frame(rows, ["settings", *names, "p_holm", "better", "worse"])


def defaults(table: pd.DataFrame) -> pd.DataFrame:
    """The authors' defaults (setting 0) beside the search: default, best, ratio (default / best),
    share_better (of the other settings, those below the default)."""
    rows = {}
    for key, own in _groups(scores.search(table)):
        if (own["number"] == 0).any():
            default = float(own.loc[own["number"] == 0, "fid"].iloc[0])
            searched = own.loc[own["number"] != 0, "fid"]
            best = own["fid"].min()
            ratio = default / best if np.isfinite(best) else np.nan
            rows[key] = [default, best, ratio, (searched < default).mean()]
    return _frame(rows, ["default", "best", "ratio", "share_better"])


def at_full_length(table: pd.DataFrame, full: pd.DataFrame) -> pd.DataFrame:
    """The authors' defaults as the search trains them, and at full width and length.

    Columns: search (the default's score there), first_step and first (of the long run's first
    evaluation), full (its score), fall (first / full). `search` and `full` are of different
    networks, and may be on different numbers of images: compare their ranks, not their values.
    """
    searched = {key: own for key, own in _groups(scores.search(table)) if 0 in set(own["number"])}
    rows = {}
    for key, own in _groups(scores.checked(full)):
        if key in searched:
            default = searched[key].set_index("number")["fid"][0]
            run = full[(full["dataset"] == key[0]) & (full["loss"] == key[1])]
            first, score = run.sort_values("step").iloc[0], own["fid"].iloc[0]
            fall = first["fid"] / score if np.isfinite(score) else np.nan
            rows[key] = [default, first["step"], first["fid"], score, fall]
    return _frame(rows, ["search", "first_step", "first", "full", "fall"])


def noise(table: pd.DataFrame, seeds: pd.DataFrame) -> pd.DataFrame:
    """Noise of the seed beside that of the setting, as the ratio of upper to lower quartile.

    Columns: best (of the search), reseeds, reseeded_median, seeds_factor, settings_factor. A factor
    is infinite where more than a quarter of the runs diverged.
    """
    again = dict(_groups(scores.checked(seeds)))
    rows = {}
    for key, own in _groups(scores.search(table)):
        if key in again:
            fid = again[key]["fid"].to_numpy()
            middle = np.quantile(fid, 0.5, method="inverted_cdf")
            factors = _quartile_factor(fid), _quartile_factor(own["fid"].to_numpy())
            rows[key] = [own["fid"].min(), len(fid), middle, *factors]
    return _frame(rows, ["best", "reseeds", "reseeded_median", "seeds_factor", "settings_factor"])


def _quartile_factor(fid: Any) -> float:
    low, high = np.quantile(fid, [0.25, 0.75], method="inverted_cdf")
    return float(high / low) if np.isfinite(high) else np.inf


def beside_the_paper(table: pd.DataFrame, quartiles: pd.DataFrame) -> pd.DataFrame:
    """Minimum and median of the wide search beside the paper's (wide_quartiles.csv), by data set
    and loss. A paper's value beyond its figure's axis, and a median of diverged runs, is +inf."""
    theirs = quartiles.set_index(["dataset", "loss"])[["min", "median"]].fillna(np.inf)
    rows = {}
    for key, own in _groups(scores.search(table)):
        if key in theirs.index:
            median = np.quantile(own["fid"], 0.5, method="inverted_cdf")
            rows[key] = [
                own["fid"].min(),
                theirs.loc[key, "min"],
                median,
                theirs.loc[key, "median"],
            ]
    return _frame(rows, ["minimum", "paper_minimum", "median", "paper_median"])


def agreement_with_paper(table: pd.DataFrame, quartiles: pd.DataFrame) -> pd.DataFrame:
    """Spearman's correlation over the losses of our minima and medians with the paper's.

    Columns: losses, correlation, low, high. What lies beyond the axis of the paper's figure ties.
    """
    rows = {}
    for dataset, both in _by_dataset(beside_the_paper(table, quartiles)):
        for name in ("minimum", "median"):
            rows[dataset, name] = _correlated(both[name], both[f"paper_{name}"])
    return _frame(rows, ["losses", "correlation", "low", "high"], "of")


def agreement_between(table: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """Spearman's correlation, setting by setting, of each loss's scores on two data sets."""
    runs = scores.search(table)
    wide = runs.pivot_table(index=["loss", "number"], columns="dataset", values="fid")
    for name in (one, other):
        if name not in wide:
            there = ", ".join(scores.dataset_order(runs))
            raise StudyError(f"no rows of {name!r}; the table has {there}")
    both = wide[[one, other]].dropna()
    present = both.index.get_level_values("loss")
    rows = {
        (f"{one}, {other}", loss): _correlated(*both[present == loss].to_numpy().T)
        for loss in scores.losses(runs)
        if loss in present
    }
    return _frame(rows, ["settings", "correlation", "low", "high"])


def _correlated(x: Any, y: Any) -> list[float]:
    """Number of pairs, correlation and interval; NaN where either side has one value only."""
    if min(len(np.unique(x)), len(np.unique(y))) < 2:
        return [len(x), np.nan, np.nan, np.nan]
    return [len(x), *map(float, st.spearman(x, y))]


def flattery(table: pd.DataFrame) -> pd.DataFrame:
    """By how much choosing setting and checkpoint flatters the least distance.

    Columns: best, best_report (the same evaluation, to images on which nothing was selected),
    ratio (best_report / best), usual_ratio (its median over all runs that are ok: what the other
    images cost without a choice of the setting).
    """
    rows = {}
    for key, own in _groups(scores.search(table, "fid_report")):
        ok = own[own["status"] == "ok"]
        if len(ok):
            best = int(ok["selected"].to_numpy().argmin())
            selected, reported = ok["selected"].iloc[best], ok["fid"].iloc[best]
            usual = (ok["fid"] / ok["selected"]).median()
            rows[key] = [selected, reported, reported / selected, usual]
    return _frame(rows, ["best", "best_report", "ratio", "usual_ratio"])


# Words


def findings(
    table: pd.DataFrame,
    seeds: pd.DataFrame | None = None,
    quartiles: pd.DataFrame | None = None,
    full: pd.DataFrame | None = None,
) -> Iterator[Finding]:
    """The study's questions that these tables can answer, one after another.

    `seeds`: the winners trained again; `quartiles`: the paper's; `full`: the defaults at full
    width and length.

    Refused as by the figures: an empty table, unlike rows, all runs diverged.
    """
    scores.search(table)
    yield Finding("How many runs diverged?", *_say_diverged(table))
    if REFERENCE in set(table["loss"]) and table["loss"].nunique() > 1:
        yield Finding("Does any loss beat NS GAN?", *_say_against(table))
    yield Finding("How far are the authors' defaults from the best?", *_say_defaults(table))
    if full is not None and len(full):
        yield Finding("What do full width and length change?", *_say_full_length(table, full))
    if seeds is not None and len(seeds):
        yield Finding("Is it the seed or the setting?", *_say_noise(table, seeds))
    if quartiles is not None:
        yield from _with_paper(table, quartiles)
    yield from _between(table)
    if "fid_report" in table and table["fid_report"].notna().any():
        yield Finding("Does the choice flatter the winner?", *_say_flattery(table))


def _say_diverged(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    result = runs_by_status(table)
    said = [
        f"{scores.dataset_title(dataset)}: {rows['diverged'].sum()} of "
        f"{rows['settings'].sum()} runs."
        for dataset, rows in _by_dataset(result)
    ]
    return " ".join([*said, "Each counts as infinite distance."]), result


def _say_against(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    result, said = against(table), []
    for dataset, rows in _by_dataset(result):
        parts = [
            _names(rows[rows["better"] != ""], lambda row: f" (budget {row['better']})"),
            _names(rows[rows["worse"] != ""], lambda row: f" (budget {row['worse']})"),
        ]
        apart = (rows["better"] != "") | (rows["worse"] != "")
        said.append(
            f"{scores.dataset_title(dataset)}, {_range(rows['settings'])} settings a loss: better "
            f"than NS GAN: {parts[0]}; worse: {parts[1]}; not told apart: {_names(rows[~apart])}."
        )
    said.append(
        "Permutation tests with Holm's correction over losses and budgets: 5 % for all together; "
        f"a budget is judged with {st.SETTINGS_A_BUDGET} times as many settings."
    )
    return " ".join(said), result


def _say_defaults(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    result, said = defaults(table), []
    for dataset, rows in _by_dataset(result):
        finite = rows[np.isfinite(rows["ratio"])]
        if finite.empty:
            continue
        said.append(
            f"{scores.dataset_title(dataset)}: the defaults' distance is "
            f"{_extremes(finite, 'ratio')} times the best found, "
            f"{finite['ratio'].median():.2g} times in the median; "
            f"{rows['share_better'].min():.0%} to {rows['share_better'].max():.0%} of the searched "
            f"settings beat them."
        )
        if len(finite) < len(rows):
            said.append(f"Diverged with its defaults: {_names(rows.drop(finite.index))}.")
    return " ".join(said) or "The defaults (setting 0) are not in the table.", result


def _say_full_length(table: pd.DataFrame, full: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    result, said = at_full_length(table, full), []
    for dataset, rows in _by_dataset(result):
        run = full[full["dataset"] == dataset]
        correlation = _correlated(rows["search"], rows["full"])
        ranks = pd.Series(correlation, ["losses", "correlation", "low", "high"])
        lacking = [loss for loss in scores.losses(table) if loss not in set(run["loss"])]
        said.append(
            f"{scores.dataset_title(dataset)}, {run['step'].max():,} D steps at width "
            f"{run['width'].max():g}: the defaults end at {_extremes(rows, 'full')}; the distance "
            f"falls by a factor of {_extremes(rows, 'fall')} from the first evaluation, at "
            f"{run['step'].min():,} steps. Spearman's rank correlation of {len(rows)} losses' "
            f"defaults with those of the search: {_correlation(ranks)}. "
            f"Not trained so: {', '.join(map(scores.title, lacking)) or 'none'}."
        )
    return " ".join([*said, "One seed; values of the two recipes are not comparable."]), result


def _say_noise(table: pd.DataFrame, seeds: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    result, said = noise(table, seeds), []
    for dataset, rows in _by_dataset(result):
        above = (rows["reseeded_median"] > rows["best"]).sum()
        said.append(
            f"{scores.dataset_title(dataset)}: trained again with another seed, the middle half of "
            f"a loss's distances spans a factor of {rows['seeds_factor'].median():.3g} in the "
            f"median over losses (at most {rows['seeds_factor'].max():.3g}); over settings it is "
            f"{rows['settings_factor'].median():.3g} (at least "
            f"{rows['settings_factor'].min():.3g}). For {above} of {len(rows)} losses the median "
            f"re-run is worse than the run that won the search."
        )
    return " ".join(said), result


def _with_paper(table: pd.DataFrame, quartiles: pd.DataFrame) -> Iterator[Finding]:
    both = beside_the_paper(table, quartiles)
    if len(both) < 3:
        return
    said = [
        f"{scores.dataset_title(dataset)}, {row.name[1]} of each of {row['losses']:.0f} losses: "
        f"{_correlation(row)}."
        for dataset, rows in _by_dataset(agreement_with_paper(table, quartiles))
        for _, row in rows.iterrows()
    ]
    compared = table[table["dataset"].isin(both.index.get_level_values("dataset"))]
    settings = compared.groupby(["dataset", "loss"])["number"].nunique()
    like_theirs = (
        "have 100 settings, as the paper's"
        if (settings == 100).all()
        else f"have {_range(settings)} settings, the paper's 100 (which minima feel)"
    )
    text = (
        f"Spearman's rank correlation. {' '.join(said)} So few losses leave wide intervals; ours "
        f"{like_theirs}; its values are digitised, and those beyond its axis tie."
    )
    yield Finding("Do the losses rank as in the paper?", text, both)


def _between(table: pd.DataFrame) -> Iterator[Finding]:
    for one, other in combinations(scores.dataset_order(table), 2):
        result = agreement_between(table, one, other)
        known = result.dropna().sort_values("correlation", kind="stable")
        if known.empty:
            continue
        least, most = known.iloc[0], known["correlation"].max()
        text = (
            f"Setting by setting, {scores.dataset_title(one)} and {scores.dataset_title(other)}: "
            f"Spearman's rank correlation from {least['correlation']:.2f} ({_title(least)}, 95 % "
            f"interval {least['low']:.2f} to {least['high']:.2f}) to {most:.2f}, "
            f"{known['correlation'].median():.2f} in the median over losses."
        )
        if (fewest := int(result["settings"].min())) < ENOUGH:
            text += f" With {_settings(fewest)} a loss that is too early to say."
        yield Finding("Does a setting that is good on one data set help on another?", text, result)


def _say_flattery(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    recorded = table.groupby("dataset")["fid_report"].transform(lambda fid: fid.notna().any())
    result, said = flattery(table[recorded]), []
    for dataset, rows in _by_dataset(result):
        said.append(
            f"{scores.dataset_title(dataset)}: on images on which nothing was selected the "
            f"winners' distances are {rows['ratio'].min():.3g} to {rows['ratio'].max():.3g} times "
            f"those that they were selected by, over all runs "
            f"{rows['usual_ratio'].median():.3g} times."
        )
    return " ".join(said), result


# What they share


def _groups(runs: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    for dataset in scores.dataset_order(runs):
        panel = runs[runs["dataset"] == dataset]
        for loss in scores.losses(panel):
            yield (dataset, loss), panel[panel["loss"] == loss]


def _panels(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    runs = scores.search(table)
    for dataset in scores.dataset_order(runs):
        yield dataset, runs[runs["dataset"] == dataset]


def _by_dataset(result: Any) -> Iterator[tuple[str, Any]]:
    for dataset in dict.fromkeys(map(str, result.index.get_level_values("dataset"))):
        yield dataset, result.loc[[dataset]]


def _by_loss(panel: pd.DataFrame) -> dict[str, Any]:
    return {loss: own["fid"].to_numpy() for (_, loss), own in _groups(panel)}


def _frame(rows: dict[Any, list[Any]], columns: list[str], second: str = "loss") -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples(list(rows), names=["dataset", second])
    return pd.DataFrame(list(rows.values()), index=index, columns=columns)


def _names(rows: pd.DataFrame, how: Callable[[Any], str] = lambda row: "") -> str:
    return ", ".join(f"{_title(row)}{how(row)}" for _, row in rows.iterrows()) or "none"


def _title(row: Any) -> str:
    return scores.title(row.name[1])


def _extremes(rows: pd.DataFrame, column: str) -> str:
    known = rows[rows[column].notna()].sort_values(column, kind="stable")
    ends = [f"{row[column]:.2g} ({_title(row)})" for _, row in known.iloc[[0, -1]].iterrows()]
    return " to ".join(ends)


def _settings(count: float) -> str:
    return f"{count:.0f} setting{'s' * (count != 1)}"


def _range(values: "pd.Series[Any]") -> str:
    low, high = values.min(), values.max()
    return f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}"


def _correlation(row: Any) -> str:
    if np.isnan(row["correlation"]):
        return "undefined, one side has no order"
    return f"{row['correlation']:.2f} (95 % interval {row['low']:.2f} to {row['high']:.2f})"

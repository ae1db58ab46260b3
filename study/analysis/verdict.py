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
LEVEL = 0.95


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


def duels(table: pd.DataFrame, loss: str, other: str, level: float = LEVEL) -> pd.DataFrame:
    """Of one data set: chance that the best of k of `loss` is below that of `other`, by budget k.

    Columns chance, low, high (bootstrap over the settings). Budgets go to half of the settings
    that both have: nearer to all of them every interval is too narrow.
    """
    fids = _by_loss(scores.search(table))
    k = judged_budgets(min(len(fids[loss]), len(fids[other])))
    estimate = st.win_interval(fids[loss], fids[other], k, rng=0, level=level)
    columns = dict(zip(("chance", "low", "high"), estimate, strict=True))
    return pd.DataFrame(columns, index=pd.Index(k, name="budget"))


def judged_budgets(settings: int) -> Any:
    """About a dozen budgets from 1 to half of the settings, evenly spaced on a log axis."""
    return np.unique(np.geomspace(1, max(1, settings // 2), 12).round().astype(int))


def against(table: pd.DataFrame, reference: str = REFERENCE) -> pd.DataFrame:
    """Every loss against the reference, by data set.

    Columns: settings (the fewer of the two), budget (the largest judged), chance, low, high
    (of the loss's win there), better_from and worse_from (the least budget from which on the
    interval excludes 1/2), better_until and worse_until (the largest budget at which it does),
    more_settings (how many more each would need to be told apart at the largest). A budget is
    missing where there is none, or for fewer than st.ENOUGH settings. The intervals hold for all
    losses of a data set together (Bonferroni): 95 % in all.
    """
    rows = {}
    for dataset, panel in _panels(table):
        fids = _by_loss(panel)
        if reference not in fids:
            raise StudyError(f"no rows of {reference!r} on {dataset}; train it to compare with it")
        others = [loss for loss in fids if loss != reference]
        for loss in others:
            level = 1 - (1 - LEVEL) / len(others)
            rows[dataset, loss] = _against_one(panel, loss, reference, level)
    columns = ["settings", "budget", "chance", "low", "high"]
    ends = ["better_from", "better_until", "worse_from", "worse_until"]
    return _frame(rows, [*columns, *ends, "more_settings"]).astype(dict.fromkeys(ends, "Int64"))


def _against_one(panel: pd.DataFrame, loss: str, reference: str, level: float) -> list[Any]:
    x, y = (panel.loc[panel["loss"] == name, "fid"].to_numpy() for name in (loss, reference))
    duel = duels(panel, loss, reference, level)
    budget = duel.index[-1]
    enough = min(len(x), len(y)) >= st.ENOUGH
    better = _holds((duel["low"] > 0.5) & enough)
    worse = _holds((duel["high"] < 0.5) & enough)
    more = st.settings_to_separate(x, y, int(budget), rng=0, level=level)
    told_apart = budget in (better[1], worse[1])
    at_last = duel.iloc[-1].tolist()
    return [min(len(x), len(y)), budget, *at_last, *better, *worse, 0.0 if told_apart else more]


def _holds(at: "pd.Series[bool]") -> tuple[int | None, int | None]:
    """The first budget from which on it holds at every larger one, and the last where it does."""
    fails, holds = np.flatnonzero(~at.to_numpy()), np.flatnonzero(at.to_numpy())
    first = fails[-1] + 1 if len(fails) else 0
    since = None if first == len(at) else int(at.index[first])
    return since, int(at.index[holds[-1]]) if len(holds) else None


def crossings(table: pd.DataFrame) -> pd.DataFrame:
    """Pairs of losses whose order at some budget is not that at another, by data set.

    Columns: first and then (who is more likely ahead at small and at large budgets), from (the
    budget at which the order turns), sure (whether a 95 % interval excludes 1/2 in each direction).
    """
    rows = []
    for dataset, panel in _panels(table):
        for x, y in combinations(_by_loss(panel), 2):
            duel = duels(panel, x, y)
            ahead = np.sign(duel["chance"].round(12) - 0.5)
            ahead = ahead[ahead != 0]
            if ahead.nunique() < 2:
                continue
            turn = int(ahead.index[np.flatnonzero(np.diff(ahead))[-1] + 1])
            first, then = (x, y) if ahead.iloc[-1] < 0 else (y, x)
            enough = panel["loss"].value_counts()[[x, y]].min() >= st.ENOUGH
            sure = enough and (duel["low"] > 0.5).any() and (duel["high"] < 0.5).any()
            rows.append([dataset, first, then, turn, bool(sure)])
    return pd.DataFrame(rows, columns=["dataset", "first", "then", "from", "sure"])


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
    return [len(x), *map(float, st.spearman(x, y, rng=0))]


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
    if table["loss"].nunique() > 1:
        yield Finding("Do the budget curves cross?", *_say_crossings(table))
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
    result = against(table)
    said = []
    for dataset, rows in _by_dataset(result):
        better, worse = rows["better_from"].notna(), rows["worse_from"].notna()
        named: list[tuple[pd.DataFrame, Callable[[Any], str]]] = [
            (rows[better], lambda row: f" from {_settings(row['better_from'])}{_aside(row)}"),
            (rows[worse], lambda row: f" from {_settings(row['worse_from'])}{_aside(row)}"),
            (
                rows[~better & ~worse],
                lambda row: _aside(row, f"chance to win {row['chance']:.0%}"),
            ),
        ]
        parts = [_names(group, how) for group, how in named]
        said.append(
            f"{scores.dataset_title(dataset)}, {_range(rows['settings'])} settings a loss, budgets "
            f"up to {_range(rows['budget'])}: better than NS GAN: {parts[0]}; worse: {parts[1]}; "
            f"not told apart at the largest: {parts[2]}."
        )
    said.append(
        "Intervals of 95 % for all losses together; larger budgets, and losses with fewer than "
        f"{st.ENOUGH} settings, are not judged."
    )
    return " ".join(said), result


def _aside(row: Any, *clauses: str) -> str:
    """In brackets the clauses, and what holds at small budgets only."""
    early = [
        f"{word} up to {_settings(row[f'{word}_until'])}"
        for word in ("better", "worse")
        if pd.isna(row[f"{word}_from"]) and pd.notna(row[f"{word}_until"])
    ]
    said = "; ".join([*clauses, *early])
    return f" ({said})" if said else ""


def _say_crossings(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    result, said = crossings(table), []
    for dataset, panel in _panels(table):
        rows = result[result["dataset"] == dataset]
        pairs, sure = len(list(combinations(_by_loss(panel), 2))), rows[rows["sure"]]
        turns = [
            f"{scores.title(row['then'])} overtakes {scores.title(row['first'])} "
            f"at {_settings(row['from'])}"
            for _, row in sure.iterrows()
        ]
        said.append(
            f"{scores.dataset_title(dataset)}: {len(rows)} of {pairs} pairs change places; "
            f"beyond their 95 % intervals {len(sure)}{': ' * bool(turns)}{', '.join(turns)}."
        )
    return " ".join(said), result.set_index(["dataset", "first"])


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
        if (fewest := int(result["settings"].min())) < st.ENOUGH:
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

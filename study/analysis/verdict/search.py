"""Questions about one search: what its runs came to, and where its winners lie."""

from typing import Any

import numpy as np
import pandas as pd

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.statistics.samples import Array
from study.analysis.verdict.words import (
    Finding,
    between,
    by_dataset,
    correlated,
    correlation,
    extremes,
    frame,
    groups,
    listed,
    named,
    title_of,
)
from study.losses import names as losses_there
from study.settings.config import SweepConfig

NEAR_UNTRAINED = 0.9
EDGE = 0.02


def runs_by_status(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs of each data set and loss: settings, ok, diverged, share diverged and its interval."""
    rows = {}
    for key, own in groups(runs):
        share = st.diverged_share(own["fid"])
        diverged = int(np.isinf(own["fid"]).sum())
        rows[key] = [len(own), len(own) - diverged, diverged, *map(float, share)]
    return frame(rows, ["settings", "ok", "diverged", "share", "low", "high"])


def diverged(runs: pd.DataFrame) -> Finding:
    """How many runs diverged."""
    result = runs_by_status(runs)
    said = [
        f"{scores.dataset_title(dataset)}: {rows['diverged'].sum()} of "
        f"{rows['settings'].sum():,} runs."
        for dataset, rows in by_dataset(result)
    ]
    answer = " ".join([*said, "Each counts as infinite distance."])
    return Finding("How many runs diverged?", answer, result)


def beside_untrained(runs: pd.DataFrame, untrained: pd.DataFrame) -> pd.DataFrame:
    """Runs of each data set and loss beside a generator that was not trained.

    Columns: settings, untrained (the median distance over its seeds), no_better (runs at that or
    above, diverged ones among them), near (at NEAR_UNTRAINED of it or above), share (near /
    settings) and its interval. Rows of another recipe are left out.
    """
    alike, rows = scores.measured_alike(untrained, runs), {}
    for (dataset, loss), own in groups(runs):
        start = alike[(alike["dataset"] == dataset) & (alike["loss"] == loss)]["fid"]
        if len(start):
            level = float(start.median())
            near = int((own["fid"] >= NEAR_UNTRAINED * level).sum())
            share = map(float, st.share_interval(near, len(own)))
            no_better = int((own["fid"] >= level).sum())
            rows[dataset, loss] = [len(own), level, no_better, near, *share]
    return frame(rows, ["settings", "untrained", "no_better", "near", "share", "low", "high"])


def untrained(runs: pd.DataFrame, start: pd.DataFrame) -> Finding | None:
    """How many runs are no better than a generator that was not trained."""
    result = beside_untrained(runs, start) if len(start) else start
    if result.empty:
        return None
    said = []
    for dataset, rows in by_dataset(result):
        count, near, no_better = (rows[name].sum() for name in ("settings", "near", "no_better"))
        said.append(
            f"{scores.dataset_title(dataset)}: a generator before training is at "
            f"{between(rows['untrained'], '.1f')}; {no_better} of {count:,} runs "
            f"({no_better / count:.0%}) are no better, {near} ({near / count:.0%}) at "
            f"{NEAR_UNTRAINED:.0%} of that or above; by loss {_least_and_most(rows, 'share')}."
        )
    return Finding("How many runs learned next to nothing?", " ".join(said), result)


def _least_and_most(rows: pd.DataFrame, column: str) -> str:
    ordered = rows.sort_values(column, kind="stable")
    ends = [f"{row[column]:.0%} ({title_of(row)})" for _, row in ordered.iloc[[0, -1]].iterrows()]
    return " to ".join(ends)


def defaults_beside_search(runs: pd.DataFrame) -> pd.DataFrame:
    """The authors' defaults beside the search: default, best, ratio (default / best),
    share_better (of the other settings, those below the default)."""
    rows = {}
    for key, own in groups(runs):
        stated = scores.authors_defaults(own)
        if len(stated):
            default = float(stated["fid"].iloc[0])
            searched = own.drop(stated.index)["fid"]
            best = own["fid"].min()
            ratio = default / best if np.isfinite(best) and best > 0 else np.nan
            rows[key] = [default, best, ratio, (searched < default).mean()]
    return frame(rows, ["default", "best", "ratio", "share_better"])


def defaults(runs: pd.DataFrame) -> Finding | None:
    """How far the authors' defaults are from the best, where the search tried them."""
    if scores.authors_defaults(runs).empty:
        return None
    result, said = defaults_beside_search(runs), []
    for dataset, rows in by_dataset(result):
        finite = rows[np.isfinite(rows["ratio"])]
        if finite.empty:
            continue
        beaten, by = rows["share_better"].dropna(), ""  # of no setting there is no share
        if len(beaten):
            by = f"; {between(beaten, '.0%')} of the searched settings beat them"
        said.append(
            f"{scores.dataset_title(dataset)}: the defaults' distance is "
            f"{extremes(finite, 'ratio')} times the best found, "
            f"{finite['ratio'].median():.2g} times in the median{by}."
        )
        if np.isinf(rows["default"]).any():
            lost = named(rows[np.isinf(rows["default"])])
            said.append(f"Diverged with its defaults: {lost}.")
    said.append("One run a default; the best is the least of many, which flatters it.")
    return Finding("How far are the authors' defaults from the best?", " ".join(said), result)


def at_full_length(runs: pd.DataFrame, full: pd.DataFrame) -> pd.DataFrame:
    """The authors' defaults as the search trains them, and at full width and length.

    Columns: search (the default's score there), first_step and first (of the long run's first
    evaluation), full (its score), fall (first / full). `search` and `full` are of different
    networks, and may be on different numbers of images: compare their ranks, not their values.
    """
    searched = dict(groups(scores.authors_defaults(runs)))
    rows = {}
    for key, own in groups(scores.checked(full)):
        if key in searched:
            default = searched[key]["fid"].iloc[0]
            run = full[(full["dataset"] == key[0]) & (full["loss"] == key[1])]
            first, score = run.sort_values("step").iloc[0], own["fid"].iloc[0]
            fall = first["fid"] / score if np.isfinite(score) else np.nan
            rows[key] = [default, first["step"], first["fid"], score, fall]
    return frame(rows, ["search", "first_step", "first", "full", "fall"])


def full_length(runs: pd.DataFrame, full: pd.DataFrame) -> Finding | None:
    """What full width and length change for the defaults, where the search tried them."""
    if scores.authors_defaults(runs).empty:
        return None
    result, said = at_full_length(runs, full), []
    for dataset, rows in by_dataset(result):
        run = full[full["dataset"] == dataset]
        numbers = correlated(rows["search"], rows["full"])
        ranks = pd.Series(numbers, ["losses", "correlation", "low", "high"])
        lacking = [loss for loss in scores.losses(runs) if loss not in set(run["loss"])]
        said.append(
            f"{scores.dataset_title(dataset)}, {run['step'].max():,} D steps at width "
            f"{run['width'].max():g}: the defaults come to {extremes(rows, 'full')}; the distance "
            f"falls by a factor of {extremes(rows, 'fall')} from the first evaluation, at "
            f"{run['step'].min():,} steps. Spearman's rank correlation of {len(rows)} losses' "
            f"defaults with those of the search: {correlation(ranks)}. "
            f"Not trained so: {listed(map(scores.title, lacking))}."
        )
    said.append("One default and one seed a loss: it says nothing of the best of a search.")
    return Finding("What do full width and length change?", " ".join(said), result)


def winners_in_their_ranges(runs: pd.DataFrame, sweep: SweepConfig) -> pd.DataFrame:
    """Where the best setting of each loss lies in the range of each numeric hyperparameter.

    Columns: hyperparameter, value, low, high, log (whether the range is drawn on a log scale),
    place (0 to 1 between the ends, on that scale). None of a loss that is no file of study/losses
    any more: its ranges went with it.
    """
    from optuna.distributions import FloatDistribution, IntDistribution  # noqa: PLC0415

    from study.settings.space import space_of  # noqa: PLC0415

    rows: list[list[Any]] = []
    for (dataset, loss), own in groups(runs[runs["loss"].isin(losses_there())]):
        best = own.iloc[int(own["fid"].to_numpy().argmin())]
        for name, drawn in space_of(sweep, loss).items() if np.isfinite(best["fid"]) else ():
            if not isinstance(drawn, (FloatDistribution, IntDistribution)) or name not in best:
                continue
            value, ends = float(best[name]), np.array([drawn.low, drawn.high], dtype=float)
            low, high = np.log(ends) if drawn.log else ends
            place = ((np.log(value) if drawn.log else value) - low) / (high - low)
            rows.append([dataset, loss, name, value, *ends, drawn.log, place])
    columns = ["dataset", "loss", "hyperparameter", "value", "low", "high", "log", "place"]
    return pd.DataFrame(rows, columns=columns).set_index(["dataset", "loss"])


def edges(runs: pd.DataFrame, sweep: SweepConfig) -> Finding:
    """Which winners lie at the edge of a range."""
    result = winners_in_their_ranges(runs, sweep)
    at_edge = result[(result["place"] <= EDGE) | (result["place"] >= 1 - EDGE)]
    said = []
    for dataset, rows in by_dataset(result):
        own = at_edge.loc[[dataset]] if dataset in at_edge.index else at_edge.iloc[:0]
        clauses = named(
            own,
            lambda row: (
                f" ({row['hyperparameter']} {row['value']:.3g} of {row['low']:g} to "
                f"{row['high']:g})"
            ),
        )
        count = len(rows.index.unique())
        said.append(
            f"{scores.dataset_title(dataset)}: {len(own.index.unique())} of {count} winners lie "
            f"within {EDGE:.0%} of an end of a range, on the scale it is drawn on: {clauses}."
        )
    said.append("Beyond an end there may be better settings; a best at the middle is no proof.")
    return Finding("Do the winners lie at the edge of their ranges?", " ".join(said), result)


def flattery_of_choice(table: pd.DataFrame) -> pd.DataFrame:
    """By how much choosing setting and checkpoint flatters the least distance.

    Columns: best, best_report (the same evaluation, to images on which nothing was selected),
    ratio (best_report / best), usual_ratio (its median over all runs that are ok: what the other
    images cost without a choice of the setting).
    """
    rows = {}
    for key, own in groups(scores.search(table, "fid_report")):
        ok = own[own["status"] == "ok"]
        if len(ok):
            best = int(ok["selected"].to_numpy().argmin())
            selected, reported = ok["selected"].iloc[best], ok["fid"].iloc[best]
            usual = (ok["fid"] / ok["selected"].where(ok["selected"] > 0)).median()
            ratio = reported / selected if selected > 0 else np.nan
            rows[key] = [selected, reported, ratio, usual]
    return frame(rows, ["best", "best_report", "ratio", "usual_ratio"])


def flattery(table: pd.DataFrame) -> Finding:
    """Whether the choice flatters the winner."""
    recorded = table.groupby("dataset")["fid_report"].transform(lambda fid: fid.notna().any())
    result, said = flattery_of_choice(table[recorded]), []
    for dataset, rows in by_dataset(result):
        said.append(
            f"{scores.dataset_title(dataset)}: on images on which nothing was selected the "
            f"winners' distances are {between(rows['ratio'], '.3g')} times those that they were "
            f"selected by, over all runs {rows['usual_ratio'].median():.3g} times."
        )
    return Finding("Does the choice flatter the winner?", " ".join(said), result)


def stopped_early(table: pd.DataFrame, block: int = 10) -> pd.DataFrame:
    """What it had cost to stop the worse half of a search at half of the steps.

    A search of `block` consecutive settings; those whose least distance up to half of the D steps
    is above the median stop there, and count with that. From the recorded evaluations, nothing is
    trained, and with what was known at half alone: a run that diverges later has its distance, one
    that had diverged is infinite. Columns: searches (blocks of the loss), lost (of which the best
    found is worse for it), ratio (of the bests found, the mean over blocks), worst, saved (share of
    the seconds), steps (share of the D steps), left_out (whole blocks with a run that was not
    evaluated by half, and those in which all diverged).
    """
    length = table.groupby(["sweep", "dataset"])["step"].transform("max")
    half = table.loc[table["step"] <= length / 2, [*scores.RUN, "step", "fid", *_SAVED]]
    finite = half.assign(fid=half["fid"].where(np.isfinite(half["fid"])))
    reached = finite.groupby(scores.RUN)[["step", "fid", *_SAVED]].agg(
        {"step": "max", "fid": "min", **dict.fromkeys(_SAVED, "max")}
    )
    ended = table.groupby(scores.RUN)["step"].max().rename("ended")
    runs = scores.search(table)[[*scores.RUN, "status", "fid", *_SAVED]]
    runs = runs.join(reached.add_suffix("_half"), on=scores.RUN).join(ended, on=scores.RUN)
    lost = (runs["status"] == "diverged") & (runs["ended"] == runs["step_half"])
    runs["fid_half"] = runs["fid_half"].mask(lost, np.inf).fillna(np.inf)
    rows = {}
    for key, own in groups(runs):
        ratio, seconds, steps, left_out = _stop_half(own, block)
        if len(ratio):
            worse = int((ratio > 1).sum())
            means = ratio.mean(), ratio.max(), seconds.mean(), steps.mean()
            rows[key] = [len(ratio), worse, *map(float, means), left_out]
    return frame(rows, ["searches", "lost", "ratio", "worst", "saved", "steps", "left_out"])


_SAVED = ["wall_s", "d_steps"]


def _stop_half(runs: pd.DataFrame, block: int) -> tuple[Array, Array, Array, int]:
    """(best found / best of all, share of seconds saved, share of D steps saved) of each search,
    and how many whole blocks were left out."""
    search = runs["number"] // block
    whole = runs.groupby(search)["number"].transform("size") == block
    known = runs["step_half"].notna().groupby(search).transform("all")
    own = runs[whole & known].sort_values("number")

    def of(column: str) -> Array:
        return own[column].to_numpy(dtype=float).reshape(-1, block)

    fid, at_half = of("fid"), of("fid_half")
    best = fid.min(axis=1)
    places = at_half.argsort(axis=1, kind="stable").argsort(axis=1)
    worse = places >= block // 2
    kept = np.where(worse, at_half, fid).min(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # a best of 0, or none
        found = [np.where(kept == best, 1.0, kept / best)]
    for cost in _SAVED:
        paid = np.where(worse, of(f"{cost}_half"), of(cost))
        found.append(1 - paid.sum(axis=1) / of(cost).sum(axis=1))
    ratio, seconds, steps = (column[np.isfinite(best)] for column in found)
    return ratio, seconds, steps, int(whole.sum()) // block - len(ratio)


def stopping(table: pd.DataFrame) -> Finding | None:
    """What stopping the worse half early would have cost and saved."""
    result, said = stopped_early(table), []
    if result.empty:
        return None
    for dataset, rows in by_dataset(result):
        searches, lost = rows["searches"].sum(), rows["lost"].sum()
        mean = (rows["ratio"] * rows["searches"]).sum() / searches
        said.append(
            f"{scores.dataset_title(dataset)}, {searches} searches of ten consecutive settings: "
            f"stopping the five that are worse at half of the steps had saved "
            f"{rows['steps'].mean():.0%} of the D steps and {rows['saved'].mean():.0%} of the "
            f"seconds; in {lost} of them ({lost / searches:.0%}) the best was stopped, the best "
            f"found would be {mean:.3g} times as large in the mean, {extremes(rows, 'worst')} at "
            "worst"
            + (
                f"; {left:.0f} more had no run that lived, or one that was not evaluated by then"
                if (left := rows["left_out"].sum())
                else ""
            )
            + "."
        )
    return Finding("What had stopping the worse half early cost?", " ".join(said), result)

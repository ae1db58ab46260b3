"""The winners trained again: is it the seed or the setting, who is first, and who after longer?"""

from typing import Any

import numpy as np
import pandas as pd

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.verdict.words import (
    Finding,
    between,
    by_dataset,
    correlated,
    correlation,
    extremes,
    frame,
    groups,
    named,
    panels,
    title_of,
)
from study.runs.table import hyperparameters


def noise(runs: pd.DataFrame, seeds: pd.DataFrame) -> pd.DataFrame:
    """Noise of the seed beside that of the setting, as the ratio of upper to lower quartile.

    Columns: best (of the search), reseeds, reseeded_median, seeds_factor, settings_factor. A factor
    is infinite where more than a quarter of the runs diverged.
    """
    scores.alike(pd.concat([runs, seeds]))
    again = dict(groups(scores.checked(seeds)))
    rows = {}
    for key, own in groups(runs):
        if key in again:
            fid = again[key]["fid"].to_numpy()
            factors = _quartile_factor(fid), _quartile_factor(own["fid"].to_numpy())
            rows[key] = [own["fid"].min(), len(fid), float(np.median(fid)), *factors]
    return frame(rows, ["best", "reseeds", "reseeded_median", "seeds_factor", "settings_factor"])


def _quartile_factor(fid: Any) -> float:
    low, high = np.quantile(fid, [0.25, 0.75], method="inverted_cdf")
    return float(high / low) if np.isfinite(high) else np.inf


def seed_or_setting(runs: pd.DataFrame, seeds: pd.DataFrame) -> Finding:
    """Whether the seed or the setting makes the difference."""
    result, said = noise(runs, seeds), []
    for dataset, rows in by_dataset(result):
        above = (rows["reseeded_median"] > rows["best"]).sum()
        said.append(
            f"{scores.dataset_title(dataset)}: trained again with another seed, the middle half of "
            f"a loss's distances spans a factor of {rows['seeds_factor'].median():.3g} in the "
            f"median over losses (at most {rows['seeds_factor'].max():.3g}); over settings it is "
            f"{rows['settings_factor'].median():.3g} (at least "
            f"{rows['settings_factor'].min():.3g}). For {above} of {len(rows)} losses the median "
            f"re-run is worse than the run that won the search."
        )
    return Finding("Is it the seed or the setting?", " ".join(said), result)


def order_of_winners(seeds: pd.DataFrame) -> pd.DataFrame:
    """The winners by their re-runs on the seeds that all losses have, the least first.

    Columns: seeds, mean (geometric), ratio (to the first's mean, paired by seed), low, high,
    chance_first (that its mean is the least, were the seeds drawn again).
    """
    rows = {}
    for dataset, panel in panels(scores.checked(seeds)):
        wide = panel.pivot_table(index="seed", columns="loss", values="fid").dropna()
        if wide.shape[1] < 2 or wide.empty:
            continue
        means = np.exp(np.log(wide).mean()).sort_values(kind="stable")
        first = st.chance_to_be_first({str(loss): wide[loss] for loss in wide})
        for loss, mean in means.items():
            ratio = st.ratio_of_reruns(wide[loss], wide[means.index[0]])
            rows[dataset, loss] = [len(wide), mean, *map(float, ratio), first[str(loss)]]
    return frame(rows, ["seeds", "mean", "ratio", "low", "high", "chance_first"])


def who_is_first(seeds: pd.DataFrame) -> Finding | None:
    """Whose winner is first when trained again."""
    result, said = order_of_winners(seeds), []
    for dataset, rows in by_dataset(result):
        lost = named(rows[np.isinf(rows["mean"])])
        where = f"{scores.dataset_title(dataset)}, {rows['seeds'].iloc[0]:.0f} seeds that all share"
        if np.isinf(rows["mean"]).all():
            said.append(f"{where}: every loss's winner diverged with some seed; there is no order.")
            continue
        first, others = rows.iloc[0], rows[np.isfinite(rows["mean"])].iloc[1:]
        beside = named(
            others[others["low"] <= 1],
            lambda row: (
                f" ({row['ratio']:.2f} times, 95 % interval {row['low']:.2f} to "
                f"{row['high']:.2f}; first with chance {row['chance_first']:.2f})"
            ),
        )
        said.append(
            f"{where}: {title_of(first)}'s winner has the least geometric mean, "
            f"{first['mean']:.1f}, and is first with chance {first['chance_first']:.2f}. Not told "
            f"from it: {beside}."
            + (f" Diverged with some seed: {lost}." if np.isinf(rows["mean"]).any() else "")
        )
    if not said:
        return None
    said.append("One setting a loss, each selected by its score: an order of winners, not losses.")
    return Finding("Whose winner is first when trained again?", " ".join(said), result)


def after_longer(runs: pd.DataFrame, longer: pd.DataFrame) -> pd.DataFrame:
    """A search's best settings beside what became of them when they were trained for longer.

    Columns: settings (a loss), diverged (of the longer runs), search and longer (the least distance
    of those settings, then and now), fall (the one by the other), kept (whether the setting that
    was best still is): of a loss whose longer runs all diverged NaN, and not.
    """
    scores.alike(pd.concat([runs, longer]))
    varied = [name for name in hyperparameters(runs) if name in longer]
    now = scores.search(longer)[["dataset", "loss", "number", "seed", *varied, "fid"]]
    both = now.merge(
        runs[["dataset", "loss", "seed", *varied, "fid"]],
        on=["dataset", "loss", "seed", *varied],
        suffixes=("", "_search"),
    )
    rows = {}
    for key, own in groups(both):
        before, after = own["fid_search"].to_numpy(), own["fid"].to_numpy()
        least = before.min(), after.min()
        lives = bool(np.isfinite(least[1]))
        fall = least[0] / least[1] if lives else np.nan
        kept = lives and bool(before.argmin() == after.argmin())
        rows[key] = [len(own), int(np.isinf(after).sum()), *least, fall, kept]
    return frame(rows, ["settings", "diverged", "search", "longer", "fall", "kept"])


def after_more_steps(runs: pd.DataFrame, longer: pd.DataFrame) -> Finding | None:
    """Whether the best settings of the losses rank as before when they are trained for longer."""
    result, said = after_longer(runs, longer), []
    for dataset, rows in by_dataset(result):
        steps = [table.loc[table["dataset"] == dataset, "step"].max() for table in (longer, runs)]
        lives = rows[np.isfinite(rows["longer"])]
        first = [named(lives[lives[when] == lives[when].min()]) for when in ("search", "longer")]
        first[0] = named(rows[rows["search"] == rows["search"].min()])
        alone = rows["settings"].max() == 1
        which, kept = "best setting of each loss with the seed that it had", ""
        if not alone:
            which = f"{between(rows['settings'])} best settings of each loss with their seeds"
            kept = f"; for {rows['kept'].sum()} of {len(rows)} losses the best one still is"
        text = (
            f"{scores.dataset_title(dataset)}, the {which}, {steps[0]:,} D steps for at most "
            f"{steps[1]:,}: the least distance falls by a factor of {extremes(rows, 'fall')}{kept}"
            f". The least of all was that of {first[0]}, and now is that of {first[1]}."
        )
        if (lost := rows[rows["diverged"] > 0]).size:
            counts = named(lost, lambda row: f" ({row['diverged']:.0f})")
            text += f" Longer runs that diverged: {counts}."
        if len(rows) > 2:
            numbers = correlated(rows["search"], rows["longer"])
            ranks = pd.Series(numbers, ["losses", "correlation", "low", "high"])
            text += (
                f" Spearman's rank correlation of {len(rows)} losses' least distances, then and "
                f"now: {correlation(ranks)}."
            )
        said.append(text)
    if not said:
        return None
    said.append("Settings selected by their score, one run each: no loss is judged by it.")
    return Finding("What does longer training change?", " ".join(said), result)

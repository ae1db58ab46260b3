"""What a run's score is, and the tables made from the scores: table in, table out.

A table holds one row an evaluation (results/README.md); `of_runs` makes one row a run of it, and
verdict, figures and report start there. Unlike rows are refused: a comparison holds one distance
(features, images, width, precision) and one sweep. A diverged run counts as +inf and never drops
out.
"""

from collections.abc import Iterator
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd

from study import datasets
from study.errors import StudyError
from study.losses import about
from study.losses import names as losses_there
from study.measures.columns import distance_name
from study.runs.folder import is_judged_once
from study.runs.table import hyperparameters
from study.settings.config import SweepConfig, load_sweep
from study.settings.hyperparameters import SHARED_NAMES

RUN = ["sweep", "loss", "dataset", "number", "seed"]
DISTANCE = ["features", "num_images", "width", "precision"]
ALIKE = [*DISTANCE, "definition", "features_digest"]
"""What rows that are compared agree in, where they say it; of one data set in data_digest, too."""
COSTS = {
    "d_steps": "D steps",
    "g_steps": "G steps",
    "images": "images shown",
    "flops": "FLOPs",
    "wall_s": "seconds",
}
REPORTS = {
    "fid": "the least of a run's checkpoints",
    "fid_report": "to held-out images on which nothing was selected",
}
F1 = {"f1": "F1", "manifold_precision": "precision", "manifold_recall": "recall"}
PAPERS = ("mm", "ns", "ls", "wgan", "wgan_gp", "dragan", "began", "vae")
"""The paper's losses in its order. Others follow by name: this is the study's order of losses."""


# The table


def of_runs(table: pd.DataFrame, report: str = "fid") -> pd.DataFrame:
    """One row a run, sorted: its best evaluation (least `fid`, the paper's rule), its whole cost.

    A diverged run scores +inf. Losses come in the study's order. `report` (a key of REPORTS):
    with "fid_report", column `fid` holds the selected evaluation's distance to held-out images on
    which nothing was selected; column `selected` holds the distance that was minimised. Refused:
    an empty table, one that lacks columns, a status other than ok and diverged, an ok evaluation
    without a distance.
    """
    if report not in REPORTS:
        raise StudyError(f"unknown report {report!r}; there are {', '.join(REPORTS)}")
    require(table, [*RUN, *DISTANCE, "step", "status", "fid", report])
    if table.empty:
        raise StudyError("the table has no rows; run a sweep and collect it first")
    refuse_stopped(table)
    strange = sorted(set(table["status"].astype(str)) - {"ok", "diverged"})
    if strange:
        raise StudyError(f"status {strange[0]!r} in the table; only ok and diverged are results")
    for name in dict.fromkeys(("fid", report)):
        missing = table[name].isna() & (table["status"] == "ok")
        if missing.any():
            raise StudyError(
                f"{missing.sum()} ok rows have no {name}; collect the table again, or keep the "
                "data sets that have it"
            )
    runs = table.groupby(RUN, observed=True)
    diverged = (table["status"] == "diverged").groupby([table[c] for c in RUN]).transform("any")
    rows = table.assign(fid=table["fid"].where(~diverged, np.inf).astype(float))
    rows["reported"] = table[report].where(~diverged, np.inf).astype(float)
    for cost in [c for c in COSTS if c in table]:
        rows[cost] = runs[cost].transform("max")
    rows = rows.assign(status=np.where(diverged, "diverged", "ok"))
    best = rows.sort_values([*RUN, "fid", "step"], kind="stable").drop_duplicates(RUN)
    order = {loss: place for place, loss in enumerate(losses(best))}
    keys = best.assign(place=best["loss"].map(order)).sort_values([*RUN[:1], "place", *RUN[2:]])
    named = keys.drop(columns="place").rename(columns={"fid": "selected", "reported": "fid"})
    return named.reset_index(drop=True)


def refuse_stopped(table: pd.DataFrame) -> None:
    """StudyError where runs were stopped early by halving."""
    stopped = table.loc[table["status"] == "stopped", "config" if "config" in table else "number"]
    if len(stopped):
        raise StudyError(
            f"{stopped.nunique()} runs were stopped early by halving: scores of unlike lengths are "
            "not compared; such a search tells its best settings (study verdict, best_of)"
        )


def ended(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of runs that were not stopped early by halving."""
    return table[table["status"] != "stopped"]


def common_settings(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the first settings, 0 up to the first that some loss of the data set lacks."""
    kept = []
    for _, rows in table.groupby("dataset", sort=False):
        have = [set(own["number"]) for _, own in rows.groupby("loss")]
        lacking = set(range(rows["number"].max() + 2)) - set.intersection(*have)
        kept.append(rows[rows["number"] < min(lacking)])
    return pd.concat(kept).sort_index() if kept else table


def complete(config: SweepConfig, table: pd.DataFrame) -> pd.DataFrame:
    """The rows on data sets on which every loss has all the settings that the sweep states.

    Of the losses that the sweep states, or where it states none of those that the table has.
    A loss beyond them is among the rows where it has all settings, too.
    """
    settings = table.groupby(["dataset", "loss"])["number"].nunique().unstack(fill_value=0)
    stated = pd.Series({dataset: config.settings(dataset) for dataset in settings.index})
    has_all = settings.ge(stated, axis=0)
    needed = has_all.reindex(columns=list(config.losses or has_all), fill_value=False)
    has_all = has_all[needed.all(axis=1)]
    whole = {(dataset, loss) for dataset, row in has_all.iterrows() for loss in row.index[row]}
    return table[[key in whole for key in zip(table["dataset"], table["loss"], strict=True)]]


def shown_now(sweep: str, table: pd.DataFrame) -> pd.DataFrame:
    """The rows that anybody may see today: of a search that is judged once, what is complete."""
    return complete(load_sweep(sweep), table) if is_judged_once(sweep) else table


def losses(table: pd.DataFrame) -> list[str]:
    """The losses of a table in the study's order."""
    present = set(table["loss"])
    return [name for name in PAPERS if name in present] + sorted(present - set(PAPERS))


def place(loss: str) -> int:
    """The place of a loss among all that there are, in the study's order.

    One that is no file of study/losses any more has a place behind them, by its name alone.
    """
    order = [*PAPERS, *(name for name in losses_there() if name not in PAPERS)]
    return order.index(loss) if loss in order else len(order) + crc32(loss.encode()) % 97


def authors_defaults(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs whose hyperparameters are those that the loss's authors state (`GANLoss.defaults`).

    Known by their values: number 0 is a draw like all others where losses share their draws, or a
    sweep states ranges of its own. None of a loss that is no file of study/losses.
    """
    chosen = np.zeros(len(runs), bool)
    names = runs["loss"].to_numpy()
    for loss in set(names) & set(losses_there()):
        own = names == loss
        for name, value in about(loss).defaults.items():
            if name in runs:
                own = own & (runs[name].to_numpy() == value)
        chosen |= own
    return runs[chosen]


def share_settings(runs: pd.DataFrame) -> bool:
    """Whether a number means one seed and one value of each shared hyperparameter for all losses.

    Then scores are compared pair by pair: so is a sweep that shares its draws and numbers seeds.
    """
    shared = ["seed", *(name for name in SHARED_NAMES if name in runs)]
    seeds = runs.groupby("number")["seed"].first()
    return bool(
        seeds.nunique() == len(seeds) > 1
        and (runs.groupby("number")[shared].nunique(dropna=False) == 1).all(axis=None)
    )


def require(table: pd.DataFrame, columns: list[str]) -> None:
    """StudyError where the table lacks one of the columns."""
    missing = [column for column in columns if column not in table]
    if missing:
        raise StudyError(
            f"the table lacks {', '.join(missing)}; it may be from an older version or another "
            "sweep: collect it again"
        )


def checked(table: pd.DataFrame, report: str = "fid") -> pd.DataFrame:
    """Scores (`of_runs`) of rows of one distance, of which not all diverged; else StudyError."""
    runs = of_runs(table, report)
    alike(runs)
    if np.isinf(runs["fid"]).all():
        raise StudyError(f"all {len(runs)} runs diverged: there is no distance to show")
    return runs


def search(table: pd.DataFrame, report: str = "fid") -> pd.DataFrame:
    """`checked` scores of one sweep, each setting once; else StudyError."""
    runs = checked(table, report)
    one(runs, "sweep")
    twice = runs.duplicated(["loss", "dataset", "number"])
    if twice.any():
        raise StudyError(f"{twice.sum()} settings have several seeds; give one seed a setting")
    return runs


def one(runs: pd.DataFrame, column: str) -> None:
    """StudyError where a column has more than one value; rows of before there was it have none."""
    values = sorted(runs[column].dropna().unique().tolist(), key=str)
    if len(values) > 1:
        raise StudyError(
            f"rows that differ in {column} ({', '.join(map(str, values))}) in one figure; keep "
            f"one: table[table.{column} == {values[0]!r}]"
        )


def alike(runs: pd.DataFrame) -> None:
    """StudyError where the rows hold more than one kind of distance, or images of two kinds."""
    for column in (name for name in ALIKE if name in runs):
        one(runs, column)
    if "data_digest" in runs:
        for _, same_set in runs.groupby("dataset"):
            one(same_set, "data_digest")


def comparable(runs: pd.DataFrame) -> bool:
    """Whether the rows measure what the paper measured: FID on 10,000 images, full width."""
    features, images, width = runs[["features", "num_images", "width"]].iloc[0]
    return bool(features == "inception" and images == 10_000 and width == 1)


def by_loss(runs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each loss of the rows, in the study's order, with its rows."""
    for loss in losses(runs):
        own = np.flatnonzero(runs["loss"] == loss)
        first, end = own[0], own[-1] + 1
        # Scores lie sorted, and a slice takes a tenth of the time.
        yield loss, runs.iloc[first:end] if len(own) == end - first else runs.iloc[own]


def dataset_title(name: str) -> str:
    """A data set's name as figures and sentences write it."""
    return datasets.title(name)


def title(loss: str) -> str:
    """A loss's name as figures and sentences write it."""
    return about(loss).title if loss in losses_there() else loss


def dataset_order(runs: pd.DataFrame) -> list[str]:
    """The data sets of a table in the paper's order; others follow alphabetically."""
    return sorted(set(runs["dataset"]), key=datasets.place)


# Tables


def best_settings(table: pd.DataFrame) -> pd.DataFrame:
    """The best setting of each data set and loss: score, number, hyperparameters, seed."""
    runs = search(table)
    names = hyperparameters(table)
    best = runs.sort_values("fid", kind="stable").drop_duplicates(["dataset", "loss"]).sort_index()
    best = best[np.isfinite(best["fid"])].sort_values("dataset", kind="stable")
    shown: pd.DataFrame = best.set_index(["dataset", "loss"])[["fid", "number", *names, "seed"]]
    return shown.rename(columns={"fid": distance_name(runs["features"].iloc[0])})


def best_table(
    table: pd.DataFrame, seeds: pd.DataFrame | None = None, paper: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Best score of each data set and loss, beside its re-runs and the paper's table 2.

    Columns: distance (its name), settings, diverged (share), best, number; where the table has
    fid_report, best_report (of the same evaluation, on other images); with `seeds` reseeds,
    reseeds_diverged (share), reseeded_median, reseeded_mean, reseeded_std (infinite and undefined
    if a re-run diverged; the paper left such runs out); with `paper` (best_fid.csv) paper_mean,
    paper_std, FID in Inception features, whatever ours is.
    """
    runs = search(table)
    groups = runs.groupby(["dataset", "loss"], sort=False)
    first = runs.loc[groups["fid"].idxmin()].set_index(["dataset", "loss"])
    result = pd.DataFrame(
        {
            "distance": distance_name(runs["features"].iloc[0]),
            "settings": groups.size(),
            "diverged": groups["fid"].agg(lambda fid: np.isinf(fid).mean()),
            "best": first["fid"],
            "number": first["number"],
        }
    )
    if "fid_report" in runs and runs["fid_report"].notna().any():
        result["best_report"] = first["fid_report"].where(np.isfinite(first["fid"]), np.inf)
    if seeds is not None:
        again = checked(seeds)
        alike(pd.concat([runs, again]))
        result = result.join(_reseeded(again))
    if paper is not None:
        named = paper.rename(columns={"fid_mean": "paper_mean", "fid_std": "paper_std"})
        result = result.join(named.set_index(["dataset", "loss"]))
    order = sorted(result.index, key=lambda key: (key[0], losses(runs).index(key[1])))
    ordered: pd.DataFrame = result.loc[order]
    return ordered


def _reseeded(runs: pd.DataFrame) -> pd.DataFrame:
    groups = runs.groupby(["dataset", "loss"])["fid"]
    columns: dict[str, Any] = {
        "reseeds": "size",
        "reseeds_diverged": lambda fid: np.isinf(fid).mean(),
        "reseeded_median": np.median,
        "reseeded_mean": lambda fid: fid.to_numpy().mean(),
        "reseeded_std": lambda fid: fid.where(~np.isinf(fid)).std(skipna=False),
    }
    return pd.DataFrame({name: groups.agg(how) for name, how in columns.items()})


# Levels to compare with


def untrained_distance(untrained: pd.DataFrame, runs: pd.DataFrame) -> float | None:
    """The distance of generators before any training, measured as these runs were; their median."""
    return _level(untrained, runs, "fid")


def untrained_ratio(untrained: pd.DataFrame, runs: pd.DataFrame, column: str) -> float | None:
    """Another distance of generators before any training over `fid`: what training did not make."""
    over, fid = (_level(untrained, runs, name) for name in (column, "fid"))
    return over / fid if over and fid else None


def real_distance(real: pd.DataFrame, runs: pd.DataFrame) -> float | None:
    """The median distance of as many training images to held-out ones, in the same features."""
    return _level(real, runs, "distance")


def _level(table: pd.DataFrame, runs: pd.DataFrame, column: str) -> float | None:
    same = measured_alike(table, runs)
    return float(same[column].median()) if len(same) else None


def measured_alike(table: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table that were measured as some run was, in all that both say of it."""
    for name in ("dataset", "features", "features_digest", "num_images", "width", "data_digest"):
        if name in table and name in runs and runs[name].notna().any():
            table = table[table[name].isna() | table[name].isin(runs[name])]
    return table

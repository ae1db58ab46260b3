"""From run folders to one table a sweep.

The run folders are the truth. The table results/<sweep>.parquet is derived from them, and stands
for runs whose folders are gone (a fresh clone has the table only). One row an evaluation, sorted;
results/README.md describes every column.
"""

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from study import files
from study.errors import StudyError
from study.runs.folder import DONE, folders_of, read_result
from study.settings.config import NAME, NAME_RULE, read_config

HYPERPARAMETERS = [
    "lr",
    "beta1",
    "disc_iters",
    "batch_norm",
    "normalisation",
    "lambda_gp",
    "clip",
    "gamma",
    "lambda_k",
]
COLUMNS = [
    *["sweep", "loss", "dataset", "number", "seed", "step", "d_steps", "g_steps", "images"],
    *["flops", "wall_s", "status", "fid", "fid_train", "fid_report", "features", "num_images"],
    *HYPERPARAMETERS,
    *["width", "bn_decay", "device", "threads", "cuda_graph", "precision"],
    *["processor", "torch", "commit", "definition", "config"],
]
DTYPES = {
    **dict.fromkeys(["number", "seed", "step", "d_steps", "g_steps", "images", "flops"], "int64"),
    **dict.fromkeys(["num_images", "disc_iters", "threads", "definition"], "int64"),
    **dict.fromkeys(
        ["wall_s", "fid", "fid_train", "fid_report", "lr", "beta1", "width", "bn_decay"], "float64"
    ),
    **dict.fromkeys(["lambda_gp", "clip", "gamma", "lambda_k"], "float64"),
    "batch_norm": "bool",
}
KEY = ["sweep", "loss", "dataset", "number", "step"]


def table_path(results: Path, sweep: str) -> Path:
    """Where a sweep's table lies."""
    return results / f"{sweep}.parquet"


def read_table(results: Path, sweep: str) -> pd.DataFrame:
    """A sweep's table; empty where there is none.

    StudyError where there is one that cannot be read: it is kept, and nothing takes its place.
    """
    path = table_path(results, sweep)
    if not os.path.lexists(path):
        return pd.DataFrame(columns=COLUMNS)
    table = files.read_parquet(path)
    require_columns(path, table)
    require_names(path, table)
    if "normalisation" not in table:  # before there were three, `batch_norm` said it
        table["normalisation"] = np.where(table["batch_norm"], "batch", "none")
    return table


def require_columns(path: Path, table: pd.DataFrame) -> None:
    """StudyError where a table lacks what every row says, or says it in another type."""
    problem = None
    for name in (*KEY, "status", "fid", "wall_s", "definition", "config"):
        if name not in table:
            problem = f"it has no column {name}"
        elif name in DTYPES and not table.empty and table[name].dtype != DTYPES[name]:
            problem = f"{name} is {table[name].dtype}"
        if problem:
            break
    if problem is None and not table["status"].isin(DONE).all():
        problem = "a status is neither ok nor diverged"
    if problem:
        raise StudyError(f"{path} is no table of results: {problem}; {files.KEPT}")


def require_names(path: Path, table: pd.DataFrame) -> None:
    """StudyError where a table names what is no name: such a one could lead out of results/."""
    for column in ("sweep", "loss", "dataset"):
        for value in table[column].unique() if column in table else ():
            if not (isinstance(value, str) and re.fullmatch(NAME, value)):
                raise StudyError(
                    f"{path}: {column} {str(value)[:80]!r}; {NAME_RULE}; nothing of this table is "
                    "used: move it away, or take one whose rows you trust"
                )


def winners(table: pd.DataFrame) -> pd.DataFrame:
    """The evaluation of least distance of each data set and loss, the least first."""
    ok = table[table["status"] == "ok"].sort_values("fid", kind="stable")
    return ok.drop_duplicates(["dataset", "loss"])


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of one finished run; none where it is not finished.

    A folder whose config.json is that of another place is named on stderr and gives no rows.
    """
    path = folder / "result.json"
    try:
        result = read_result(folder)
        if result is None:
            if os.path.lexists(path):
                print(f"{path} cannot be read; the run is left out", file=sys.stderr)
            return []
        configuration = read_config(folder / "config.json")
    except (StudyError, OSError) as error:
        print(f"{error}; the run is left out", file=sys.stderr)
        return []
    if folder.parts[-4:] != configuration.path.parts:
        print(
            f"{folder}: its config.json is that of {configuration.path}; the run is left out",
            file=sys.stderr,
        )
        return []
    if result["config"] != configuration.hash:
        print(
            f"{folder}: its result.json is of another configuration; the run is left out",
            file=sys.stderr,
        )
        return []
    config = configuration.model_dump()
    made_by = result["provenance"]
    shared = (
        config
        | config["own"]
        | {
            "status": result["status"],
            "config": result["config"],
        }
        | {name: value for name, value in made_by.items() if name not in ("python", "host")}
    )
    for name in ("own", "evaluate_every"):
        del shared[name]
    # d_steps of the configuration is the run's length, of a row the steps taken so far.
    return [shared | evaluation for evaluation in result["evaluations"]]


def collect(results: Path, sweep: str) -> pd.DataFrame:
    """Bring a sweep's finished runs into its table; returns the table."""
    files.require_writable(results / "runs")
    with files.alone(results / "runs"):
        folders = folders_of(sweep, results)
        for folder in (results, *folders):
            files.remove_temporaries(folder)
        return merge(results, sweep, folders)


def merge(results: Path, sweep: str, folders: Sequence[Path]) -> pd.DataFrame:
    """Bring the finished runs among `folders` into the sweep's table, write and return it."""
    fresh = pd.DataFrame([row for folder in folders for row in rows_of(folder)])
    old = read_table(results, sweep)
    if not fresh.empty and not old.empty:
        fresh = fresh[~is_stale(fresh, old)]
    if not fresh.empty:
        runs = KEY[:-1]
        again = old.set_index(runs).index.isin(fresh.set_index(runs).index)
        kept = old[~again]
        old = pd.concat([kept, fresh]) if not kept.empty else fresh
    more = [name for name in old.columns if name not in COLUMNS]
    table = old.reindex(columns=COLUMNS + sorted(more)).sort_values(KEY, ignore_index=True)
    table["cuda_graph"] = table["cuda_graph"].eq(True)  # rows of before there was one have no value
    if "arithmetic" in table:
        table["arithmetic"] = table["arithmetic"].fillna("native")  # likewise
    table = table.astype({name: kind for name, kind in DTYPES.items() if name in table})
    write_table(results, sweep, table)
    record_untrained(results, [row for folder in folders for row in untrained_of(folder)])
    return table


def untrained_of(folder: Path) -> list[dict[str, Any]]:
    """What a run has measured of a generator before any training: one row, or none."""
    row = (read_result(folder) or {}).get("untrained")
    return [row] if isinstance(row, dict) else []


def record_untrained(results: Path, rows: list[dict[str, Any]]) -> None:
    """Put rows into results/untrained.parquet, one a sweep, loss and data set."""
    if not rows:
        return
    key = ["sweep", "loss", "dataset"]
    path = results / "untrained.parquet"
    table = pd.DataFrame(rows)
    if path.exists():
        table = pd.concat([files.read_parquet(path), table]).drop_duplicates(key, keep="last")
    table = table.sort_values(key, ignore_index=True)
    files.write_atomically(path, lambda temporary: table.to_parquet(temporary, index=False))


def is_stale(fresh: pd.DataFrame, old: pd.DataFrame) -> "pd.Series[bool]":
    """Which fresh rows must not take the place of the table's, which are named on stderr.

    A row gives way to one of the same configuration, or of a newer definition.
    """
    runs = KEY[:-1]
    recorded = old.drop_duplicates(runs).set_index(runs)[["definition", "config"]]
    both = fresh[runs].join(recorded, on=runs)
    stale = (
        both["config"].notna()
        & (both["config"] != fresh["config"])
        & (both["definition"] >= fresh["definition"])
    )
    for run in fresh[stale][runs].drop_duplicates().itertuples(index=False):
        print(
            f"{run.sweep}/{run.loss}/{run.dataset}/{run.number:03d}: the table holds it with "
            "another configuration of the same or a newer definition; the folder's is left out",
            file=sys.stderr,
        )
    return stale


def write_table(results: Path, sweep: str, table: pd.DataFrame) -> None:
    """Write a sweep's table whole; byte for byte the same where nothing changed."""
    about = {"sweep": sweep, "rows": len(table), "commits": sorted(set(table["commit"].dropna()))}
    content = pa.Table.from_pandas(table, preserve_index=False)
    content = content.replace_schema_metadata(
        {**(content.schema.metadata or {}), b"study": json.dumps(about).encode()}
    )
    path = table_path(results, sweep)
    files.write_atomically(path, lambda temporary: pq.write_table(content, temporary))

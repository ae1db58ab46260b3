"""From run folders to one table a sweep.

The run folders are the truth. The table results/<sweep>.parquet is derived from them, and stands
for runs whose folders are gone (a fresh clone has the table only). One row an evaluation, sorted;
results/README.md describes every column.
"""

import json
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api.types import (
    is_bool_dtype,
    is_integer_dtype,
    is_numeric_dtype,
    is_string_dtype,
)

from study import files
from study.errors import StudyError
from study.measures import at_best, columns
from study.runs.folder import DONE, State, folders_of, read_result, state_of
from study.settings.columns import Column
from study.settings.config import BATCH_SIZE, config_columns, read_config
from study.settings.frozen import NAME, NAME_RULE
from study.settings.hyperparameters import SHARED_NAMES

RECORDED = (
    Column(
        "status",
        "str",
        "`ok`, `diverged` or `stopped`, of the whole run. Diverged: a loss, weight or image was "
        "not finite; its last row has infinite distances. Stopped: at a rung of its search",
    ),
    Column(
        "processor",
        "str",
        "the GPU, or the CPU with the instruction set that torch used; `A; then B` where the run "
        "was interrupted and went on with another",
    ),
    Column("torch", "str", "its version, likewise"),
    Column(
        "rounding",
        "int64",
        "version of the order of the step's operations: with one torch and one kind of processor, "
        "rows of the same have the same digits",
    ),
    Column("commit", "str", "of the code as the worker loaded it (+ where it was changed)"),
    Column("data_digest", "str", "of the images trained on and held out, 16 hex digits"),
    Column("features_digest", "str", "of the extractor's weights and recipe, 16 hex digits"),
    Column("second_features_digest", "str", "likewise of `second_features`"),
    Column(
        "config",
        "str",
        "16 hex digits: hash of all that the run's numbers depend on, `device`, `threads` and "
        "`cuda_graph` apart",
    ),
)
MEASURED = (*columns.COSTS, *columns.DISTANCES, *at_best.COLUMNS)
DECLARED = {column.name: column for column in (*config_columns(), *MEASURED, *RECORDED)}
# The order in which a new table has them; a loss's own hyperparameters follow the shared ones.
BEFORE_OWN = [
    *["sweep", "loss", "dataset", "number", "seed", "step", "d_steps", "g_steps", "images"],
    *["flops", "wall_s", "status", "fid", "fid_train", "fid_report", "features", "num_images"],
    *SHARED_NAMES,
]
AFTER_OWN = [
    *["width", "bn_decay", "device", "threads", "cuda_graph", "precision"],
    *["processor", "torch", "rounding", "commit", "definition", "config"],
]
KEY = ["sweep", "loss", "dataset", "number", "step"]
MEASURED_ALWAYS = ("d_steps", "g_steps", "images", "flops", "wall_s", "fid", "fid_train")
KINDS = {"int64": (int,), "float64": (int, float), "str": (str,), "bool": (bool,)}


def table_path(results: Path, sweep: str) -> Path:
    """Where a sweep's table lies."""
    return results / f"{sweep}.parquet"


def read_table(results: Path, sweep: str) -> pd.DataFrame:
    """A sweep's table; empty where there is none.

    StudyError where there is one that cannot be read: it is kept, and nothing takes its place.
    """
    path = table_path(results, sweep)
    if not os.path.lexists(path):
        return pd.DataFrame(columns=BEFORE_OWN + AFTER_OWN)
    table = files.read_parquet(path)
    require_columns(path, table)
    require_names(path, table)
    if "definition" not in table:
        table["definition"] = 1  # the first
    if "rounding" not in table:
        table["rounding"] = 1  # likewise
    if "normalisation" not in table:  # before there were three, `batch_norm` said it
        table["normalisation"] = np.where(table["batch_norm"], "batch", "none")
    return table


def require_columns(path: Path, table: pd.DataFrame) -> None:
    """StudyError where a table lacks what every row says, or says something in another type."""
    needed = (*KEY, *MEASURED_ALWAYS, "status", "features", "commit", "config")
    lacking = [name for name in needed if name not in table]
    other = [name for name in table if name in DECLARED and not is_as_declared(table[name])]
    if lacking:
        problem = f"it has no column {lacking[0]}"
    elif other:
        problem = f"{other[0]} is {table[other[0]].dtype}"
    elif not table["status"].isin(DONE).all():
        problem = "a status is neither ok, stopped nor diverged"
    else:
        return
    raise StudyError(f"{path} is no table of results: {problem}; {files.KEPT}")


def is_as_declared(column: "pd.Series[Any]") -> bool:
    """Whether a column holds the type that it is declared with, or nothing at all."""
    declared, kind = DECLARED[str(column.name)].dtype, column.dtype
    if column.isna().all():
        return declared not in ("int64", "bool") or column.empty
    if declared in ("int64", "float64"):
        is_kind = is_integer_dtype if declared == "int64" else is_numeric_dtype
        return is_kind(kind) and not is_bool_dtype(kind)
    return is_bool_dtype(kind) if declared == "bool" else is_string_dtype(column)


def require_names(path: Path, table: pd.DataFrame) -> None:
    """StudyError where a table names what is no name: such a one could lead out of results/."""
    for column in ("sweep", "loss", "dataset"):
        for value in table[column].unique() if column in table else ():
            if not (isinstance(value, str) and re.fullmatch(NAME, value)):
                raise StudyError(
                    f"{path}: {column} {str(value)[:80]!r}; {NAME_RULE}; nothing of this table is "
                    "used: move it away, or take one whose rows you trust"
                )


def winners(table: pd.DataFrame, of: Sequence[str] = ("dataset", "loss")) -> pd.DataFrame:
    """The evaluation of least distance of each data set and loss, the least first; or `of` what."""
    ok = table[table["status"] == "ok"].sort_values("fid", kind="stable")
    return ok.drop_duplicates([*of])


def recorded_state(recorded: Mapping[str, State], config: str, folder: Path) -> State:
    """The state of the run of that hash: done where the table holds it, whatever its folder says.

    `recorded`: the states of the table's runs, by hash. What the table has needs no folder, which
    may be gone, or be what a later attempt has left behind.
    """
    return recorded.get(config) or state_of(folder, config)


def results_in(table: pd.DataFrame, configs: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """What a table tells of the runs of these hashes, in the words of their result.json."""
    rows = table[table["config"].isin(configs)]
    return {
        str(config): {
            "status": own["status"].iloc[0],
            "evaluations": own[["step", "fid"]].to_dict("records"),
        }
        for config, own in rows.groupby("config")
    }


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
    # d_steps of the configuration is the run's length, of a row the steps taken so far.
    config = configuration.model_dump(exclude={"own", "evaluate_every", "d_steps"})
    made_by = {"rounding": 1} | result["provenance"]  # the first, where it says nothing
    made_by = {name: value for name, value in made_by.items() if name not in ("python", "host")}
    ended = {"status": result["status"], "config": result["config"]}
    # What a result says never takes the place of what the configuration says.
    rows = [
        made_by | evaluation | configuration.own | config | ended
        for evaluation in result["evaluations"]
    ]
    problem = next(filter(None, map(wrong_with, rows)), None)
    if taken := sorted(configuration.own.keys() & DECLARED.keys()):
        problem = f"its own hyperparameter {taken[0]} has the name of a column"
    if problem is not None:
        print(f"{path}: {problem}; the run is left out", file=sys.stderr)
        return []
    return rows


def wrong_with(row: dict[str, Any]) -> str | None:
    """What a row lacks or says in another type than is declared; None where nothing is wrong."""
    for name in (*KEY, *MEASURED_ALWAYS):
        if row.get(name) is None:
            return f"an evaluation has no {name}"
    for name, value in row.items():
        kinds = KINDS.get(DECLARED[name].dtype) if name in DECLARED else None
        if kinds is not None and value is not None and type(value) not in kinds:
            return f"{name} = {str(value)[:80]!r} is no {DECLARED[name].dtype}"
        if type(value) is int and abs(value) >= 2**63:
            return f"{name} has {len(str(value))} digits"
    return None


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
    fresh = frame([row for folder in folders for row in rows_of(folder)])
    old = read_table(results, sweep)
    if not fresh.empty and not old.empty:
        fresh = fresh[~is_stale(fresh, old)]
    if not fresh.empty:
        runs = KEY[:-1]
        again = old.set_index(runs).index.isin(fresh.set_index(runs).index)
        kept = old[~again]
        old = pd.concat([kept, fresh]) if not kept.empty else fresh
    table = old.reindex(columns=in_order(old)).sort_values(KEY, ignore_index=True)
    table["cuda_graph"] = table["cuda_graph"].eq(True)  # rows of before there was one have no value
    for name, before in (("arithmetic", "native"), ("batch_size", BATCH_SIZE)):  # likewise
        if name in table:
            table[name] = table[name].fillna(before)
    kinds = {name: dtype_of(table[name]) for name in table}
    table = table.astype({name: kind for name, kind in kinds.items() if kind != "str"})
    write_table(results, sweep, table)
    taken = {(*run, f"{number:03d}") for *run, number in fresh.reindex(columns=KEY[:-1]).values}
    there = [folder for folder in folders if folder.parts[-4:] in taken]
    record_untrained(results, [row for folder in there for row in untrained_of(folder)])
    return table


def in_order(table: pd.DataFrame) -> list[str]:
    """A table's columns as they are written: what all have, with own hyperparameters among it."""
    first = [*BEFORE_OWN, *own_hyperparameters(table), *AFTER_OWN]
    return first + sorted(name for name in map(str, table) if name not in first)


def own_hyperparameters(table: pd.DataFrame) -> list[str]:
    """The columns that are losses' own hyperparameters: all that nothing else declares."""
    return [name for name in map(str, table) if name not in DECLARED]


def hyperparameters(table: pd.DataFrame) -> list[str]:
    """The columns that were varied, the shared ones first, of those that have a value.

    Of `batch_norm` and `normalisation`, which say the same, the one that says it all.
    """
    spectral = "normalisation" in table and table["normalisation"].eq("spectral").any()
    unsaid = "batch_norm" if spectral else "normalisation"
    names = [name for name in SHARED_NAMES if name in table and name != unsaid]
    return [*names, *(n for n in own_hyperparameters(table) if table[n].notna().any())]


def setting_of(row: "pd.Series[Any]", names: Sequence[str]) -> dict[str, Any]:
    """The hyperparameters `names` of a row that has them, as Python's own values."""
    values = {name: row[name] for name in names if not pd.isna(row[name])}
    return {name: getattr(value, "item", lambda v=value: v)() for name, value in values.items()}


def dtype_of(column: "pd.Series[Any]") -> str:
    """A column's type: as declared, or what holds an own hyperparameter's values and their lack."""
    declared = DECLARED.get(str(column.name))
    if declared is not None:
        return declared.dtype
    kinds = {bool if isinstance(v, bool | np.bool_) else type(v) for v in column.dropna()}
    if kinds <= {bool}:
        return "boolean" if kinds else "float64"
    if all(issubclass(kind, int | np.integer) for kind in kinds):
        return "Int64"
    if all(issubclass(kind, int | float | np.number) for kind in kinds):
        return "float64"
    return "str" if kinds == {str} else "string"  # two losses may mean different things by a name


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a table in which a whole number stays one where other rows have none."""
    table = pd.DataFrame(rows, dtype=object)
    own = {name: dtype_of(table[name]) for name in own_hyperparameters(table)}
    return table.astype(own).infer_objects()


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
    if os.path.lexists(path):
        former = files.read_parquet(path)
        if not {*key, "fid"} <= {*former}:
            raise StudyError(f"{path} is no table of untrained generators; {files.KEPT}")
        table = pd.concat([former, table]).drop_duplicates(key, keep="last")
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

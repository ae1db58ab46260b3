"""What the terminal shows of a sweep: the live table, the status, the trials."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from study.runs import folder as run
from study.runs import table as store
from study.settings.config import RunConfig

STATES: tuple[run.State, ...] = ("to do", "running", "ok", "diverged", "failed", "lost")

console = Console(width=None if sys.stdout.isatty() else 120)


class Cost(NamedTuple):
    """What a finished run came to."""

    fid: float
    wall_s: float


def finished(status: str, distances: Iterable[float], wall_s: float) -> Cost:
    """The cost of a run that is done: its smallest distance, infinity where it diverged."""
    return Cost(min(distances) if status == "ok" else float("inf"), wall_s)


class Overview:
    """Loss x data set: how many runs are in each state, the best distance, time spent and left.

    Finished runs are read once and remembered.
    """

    def __init__(self, results: Path, workers: int) -> None:
        self.results, self.workers = results, max(workers, 1)
        self.finished: dict[str, Cost] = {}
        self.tables: set[str] = set()

    def cost(self, config: RunConfig, folder: Path) -> Cost | None:
        """What a finished run came to, from its sweep's table or from its folder."""
        if config.sweep not in self.tables:
            self.tables.add(config.sweep)
            for hash_, rows in store.read_table(self.results, config.sweep).groupby("config"):
                status, wall_s = rows["status"].iloc[0], rows["wall_s"].max()
                self.finished[str(hash_)] = finished(status, rows["fid"], wall_s)
        identity = config.hash
        if identity not in self.finished:
            result = run.read_result(folder)
            if result is not None:
                rows = result["evaluations"]
                distances = [row["fid"] for row in rows]
                self.finished[identity] = finished(result["status"], distances, rows[-1]["wall_s"])
        return self.finished.get(identity)

    def groups(
        self, configs: list[RunConfig], folders: list[Path], states: list[run.State]
    ) -> list[dict[str, Any]]:
        """One entry a loss and data set."""
        groups: dict[tuple[str, str, str], dict[str, Any]] = {}
        for config, folder, state in zip(configs, folders, states, strict=True):
            key = (config.sweep, config.loss, config.dataset)
            empty = {"best": None, "spent_s": 0.0, "runs": 0} | dict.fromkeys(STATES, 0)
            group = groups.setdefault(key, empty)
            group[state] += 1
            group["runs"] += 1
            cost = self.cost(config, folder) if state in run.DONE else None
            if cost is not None:
                group["spent_s"] += cost.wall_s
                if cost.fid < (group["best"] or float("inf")):
                    group["best"] = cost.fid
        for group in groups.values():
            done = group["ok"] + group["diverged"]
            left = group["runs"] - done
            group["left_s"] = group["spent_s"] / done * left / self.workers if done else None
        names = ("sweep", "loss", "dataset")
        return [dict(zip(names, key, strict=True)) | group for key, group in groups.items()]


def overview_table(groups: list[dict[str, Any]], features: str) -> Table:
    """The overview as a table for the terminal."""
    table = Table(
        caption=f"best: smallest Fréchet distance ({features} features)",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in ("loss", "dataset", *STATES, "best", "spent", "left"):
        table.add_column(name, justify="left" if name in ("loss", "dataset") else "right")
    for group in groups:
        counts = [str(group[state] or "") for state in STATES]
        best = "" if group["best"] is None else f"{group['best']:.4g}"
        times = [duration(group["spent_s"]), duration(group["left_s"])]
        table.add_row(group["loss"], group["dataset"], *counts, best, *times)
    return table


def duration(seconds: float | None) -> str:
    """Seconds as hours:minutes:seconds; a dash where they are not known."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


Show = Callable[[list[RunConfig], list[Path], list[run.State]], None]


@contextlib.contextmanager
def live(results: Path, workers: int, features: str) -> Iterator[Show]:
    """A function that shows the state of a sweep, in place on a terminal.

    Elsewhere (a log, a pipe) it prints a line whenever a run has come to an end.
    """
    overview = Overview(results, workers)
    last: dict[Path, run.State] = {}
    started = time.monotonic()
    with (
        Live(console=console, auto_refresh=False)
        if console.is_terminal
        else (contextlib.nullcontext()) as screen
    ):

        def show(configs: list[RunConfig], folders: list[Path], states: list[run.State]) -> None:
            if screen is not None:
                groups = overview.groups(configs, folders, states)
                screen.update(overview_table(groups, features), refresh=True)
                return
            overview.groups(configs, folders, states)
            for config, folder, state in zip(configs, folders, states, strict=True):
                if state in (*run.DONE, "failed") and last.get(folder, state) != state:
                    cost = overview.finished.get(config.hash)
                    distance = f", distance {cost.fid:.4g}" if cost else ""
                    done = sum(s in run.DONE for s in states)
                    console.print(
                        f"{duration(time.monotonic() - started)}  {config.path}: {state}{distance}"
                        f"  ({done} of {len(states)} done)",
                        highlight=False,
                    )
                last[folder] = state

        yield show


def trials_table(table: pd.DataFrame, features: str) -> Table:
    """One row a trial of one loss and data set, best first; on triangles with F1."""
    measured = [name for name in ("f1",) if name in table and table[name].notna().any()]
    own = [name for name in store.HYPERPARAMETERS if table[name].notna().any()]
    best = table.sort_values("fid", kind="stable").drop_duplicates("number")
    out = Table(
        caption=f"fid: smallest Fréchet distance of the run ({features} features)",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in ("number", "fid", "fid_train", *measured, "status", "step", *own):
        out.add_column(name, justify="right", no_wrap=True)
    ok = best["status"] == "ok"
    for _, row in pd.concat([best[ok], best[~ok]]).iterrows():
        distance = [
            f"{row[n]:.4g}" if row["status"] == "ok" else "inf" for n in ("fid", "fid_train")
        ]
        measures, values = (
            ["-" if pd.isna(row[name]) else value_text(row[name]) for name in names]
            for names in (measured, own)
        )
        out.add_row(
            str(row["number"]), *distance, *measures, row["status"], str(row["step"]), *values
        )
    return out


def value_text(value: Any) -> str:
    """A hyperparameter's value with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)

"""What the terminal shows of a sweep: the live table, the status, the trials."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from study.runs import table as store
from study.runs.folder import DONE, State
from study.runs.progress import STATES, Overview, Progress
from study.settings.config import RunConfig

console = Console(width=None if sys.stdout.isatty() else 120)


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


Show = Callable[[Progress], None]


@contextlib.contextmanager
def live(results: Path, workers: int, features: str) -> Iterator[Show]:
    """A function that shows the state of a sweep, in place on a terminal.

    Elsewhere (a log, a pipe) it prints a line whenever a run has come to an end.
    """
    overview = Overview(results, workers)
    last: dict[Path, State] = {}
    started = time.monotonic()
    with (
        Live(console=console, auto_refresh=False)
        if console.is_terminal
        else (contextlib.nullcontext()) as screen
    ):

        def show(progress: Progress) -> None:
            configs, folders, states = progress
            if screen is not None:
                groups = overview.groups(configs, folders, states)
                screen.update(overview_table(groups, features), refresh=True)
                return
            overview.groups(configs, folders, states)
            for config, folder, state in zip(configs, folders, states, strict=True):
                if state in (*DONE, "failed") and last.get(folder, state) != state:
                    cost = overview.finished.get(config.hash)
                    distance = f", distance {cost.fid:.4g}" if cost else ""
                    done = sum(s in DONE for s in states)
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


def report(plan: list[RunConfig], table: pd.DataFrame, results: Path) -> None:
    """Print the trials, the best setting and the path of the budget curve, a group at a time."""
    from study.analysis.figures.budget import budget_curves  # noqa: PLC0415 (it takes seconds)
    from study.analysis.figures.style import save  # noqa: PLC0415
    from study.losses import load as load_loss  # noqa: PLC0415

    for loss, dataset in dict.fromkeys((config.loss, config.dataset) for config in plan):
        rows = table[(table["loss"] == loss) & (table["dataset"] == dataset)]
        if rows.empty:
            continue
        features_name = rows["features"].iloc[0]
        console.print(f"\n{load_loss(loss).title} on {dataset}")
        console.print(trials_table(rows, features_name))
        good = rows[rows["status"] == "ok"].sort_values("fid", kind="stable")
        if good.empty:
            print(f"all {rows['number'].nunique()} settings diverged: no best setting")
            continue
        best = good.iloc[0]
        values = [
            f"{name} {value_text(best[name])}"
            for name in store.HYPERPARAMETERS
            if name in best and not pd.isna(best[name])
        ]
        stem = results / "runs" / plan[0].sweep / loss / dataset / "budget_curve"
        save(budget_curves(rows), stem)
        print(f"best setting: number {best['number']}: {', '.join(values)}")
        print(
            f"its samples: {results / 'runs' / plan[0].sweep / loss / dataset}"
            f"/{best['number']:03d}/samples/{best['step']:06d}.png"
        )
        print(f"budget curve: {stem}.png")
    print(f"table: {store.table_path(results, plan[0].sweep)}")

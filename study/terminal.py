"""What the terminal shows of a sweep: the live view, the status, the trials.

No number is ever cut: what does not fit beside one another stands in lines of words. Text from
files is shown as it is, and never taken for markup.
"""

import contextlib
import os
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from study.counts import counted
from study.runs.driver import Show
from study.runs.folder import DONE, State, is_judged_once
from study.runs.progress import Progress
from study.runs.status import STATES, AtWork, Costs, at_work, groups_of, is_kept
from study.runs.table import hyperparameters, table_path
from study.settings.config import RunConfig

console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)

MOST_RUNS = 12
"""Runs at work that are shown one by one."""

Record = dict[str, str]


def say(line: str) -> None:
    """Print a line; on a terminal it breaks between words, so that no number is cut in two."""
    if console.is_terminal and cell_len(line) > console.width:
        line = textwrap.fill(
            line, console.width, subsequent_indent="  ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
    print(line, flush=True)


def records(
    rows: Sequence[Record], width: int, left: Sequence[str] = (), settings: Sequence[str] = ()
) -> RenderableType:
    """Rows of text under their names, as a table where that fits into `width` columns.

    Where room is short, `settings` that are the same in all rows stand below it; if that is not
    enough, a row is a line of words. Columns without any text are left out; those named in `left`
    are aligned so.
    """
    names = [name for name in rows[0] if any(row[name] for row in rows)] if rows else []
    if width_of(rows, names) <= width:
        return table_of(rows, names, left)
    same = [name for name in names if name in settings and len({row[name] for row in rows}) == 1]
    others = [name for name in names if name not in same]
    if others and width_of(rows, others) <= width:
        in_all = ", ".join(f"{name} {rows[0][name]}" for name in same)
        return Group(table_of(rows, others, left), Text(f"in all: {in_all}"))
    return Text("\n".join(line for row in rows for line in in_words(row, names, width)))


def width_of(rows: Sequence[Record], names: Sequence[str]) -> int:
    """How many columns of a terminal a table of these names takes."""
    return sum(2 + max(cell_len(text) for text in (name, *(row[name] for row in rows)))
               for name in names)  # fmt: skip


def table_of(rows: Sequence[Record], names: Sequence[str], left: Sequence[str]) -> Table:
    """A table of these names' texts."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name in names:
        table.add_column(Text(name), justify="left" if name in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(row[name]) for name in names))
    return table


def in_words(row: Record, names: Sequence[str], width: int) -> list[str]:
    """A row as words, in lines of `width` that break between its texts alone."""
    lines: list[str] = []
    for part in (f"{name} {row[name]}" for name in names if row[name]):
        if lines and cell_len(lines[-1]) + 2 + cell_len(part) <= width:
            lines[-1] += f", {part}"
        else:
            lines.append(f"  {part}" if lines else part)
    return lines


def overview(groups: list[dict[str, Any]], width: int) -> RenderableType:
    """Loss x data set: how many runs are in each state, the best distance, time spent and left."""
    datasets = {group["dataset"] for group in groups}
    rows = [
        {
            "loss": group["loss"],
            "data": group["dataset"] if len(datasets) > 1 else "",
            **{state: str(group[state] or "") for state in STATES},
            "best": "" if group["best"] is None else f"{group['best']:.4g}",
            "spent": duration(group["spent_s"]),
            "left": "" if not group["left_s"] else duration(group["left_s"]),
        }
        for group in groups
    ]
    features = ", ".join(sorted({group["features"] for group in groups}))
    where = f"on {datasets.pop()}; " if len(datasets) == 1 else ""
    best = "best: smallest " if any(row["best"] for row in rows) else ""
    caption = Text(f"{where}{best}Fréchet distance ({features} features)", style="dim")
    return Group(records(rows, width, left=("loss", "data")), caption)


def duration(seconds: float | None) -> str:
    """Seconds as hours:minutes:seconds; a dash where they are not known."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


# ---- runs at work --------------------------------------------------------------------------------


def runs_at_work(found: Sequence[AtWork], width: int, title: str = "at work") -> RenderableType:
    """A line a run."""
    rows = [
        {
            title: each.run,
            "step": f"{each.step:,} of {each.steps:,}",
            "steps/s": f"{each.rate:.3g}" if each.rate else "",
            "best": f"{each.best:.4g}" if each.best is not None else "",
            "left": duration(each.left_s) if each.left_s is not None else "",
        }
        for each in found[:MOST_RUNS]
    ]
    more = [Text(f"and {len(found) - MOST_RUNS} more")] if len(found) > MOST_RUNS else []
    return Group(records(rows, width, left=(title,)), *more)


def left_in_order(progress: Progress) -> list[AtWork]:
    """The runs that were stopped and checkpointed, with the step at which they go on."""
    return [at_work(*run[:2]) for run in progress.runs() if is_kept(*run[1:])]


# ---- while it goes on ----------------------------------------------------------------------------


@contextlib.contextmanager
def live(results: Path, workers: int) -> Iterator[Show]:
    """A function that shows the state of a sweep, in place on a terminal.

    Elsewhere (a log, a pipe) it prints a line whenever a run has come to an end.
    """
    costs = Costs(results)
    last: dict[Path, State] = {}
    started = time.monotonic()
    screen = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def show(progress: Progress) -> None:
        runs = progress.runs()
        if screen is not None:
            groups = groups_of(costs, workers, progress)
            running = [
                at_work(config, folder) for config, folder, state in runs if state == "running"
            ]
            parts = [overview(groups, console.width)]
            parts += [runs_at_work(running, console.width)] if running else []
            screen.update(Group(*parts), refresh=True)
            return
        for hash_, (config, folder, state) in zip(progress.hashes, runs, strict=True):
            if state in (*DONE, "failed") and last.get(folder, state) != state:
                told = state in DONE and not is_judged_once(config.sweep)
                cost = costs.of(config.sweep, hash_, folder) if told else None
                distance = f", distance {cost.fid:.4g}" if cost else ""
                done = sum(each in DONE for each in progress.states)
                line = f"{duration(time.monotonic() - started)}  {config.path}: {state}{distance}"
                print(f"{line}  ({done} of {len(runs)} done)", flush=True)
            last[folder] = state

    with screen or contextlib.nullcontext():
        yield show


# ---- at the end ----------------------------------------------------------------------------------


def trials(table: pd.DataFrame, width: int) -> RenderableType:
    """One row a trial of one loss and data set, best first; on triangles with F1."""
    measured = [name for name in ("f1",) if name in table and table[name].notna().any()]
    varied = hyperparameters(table)
    best = table.sort_values("fid", kind="stable").drop_duplicates("number")
    ok = best["status"] == "ok"
    rows = []
    for _, row in pd.concat([best[ok], best[~ok]]).iterrows():
        good = row["status"] != "diverged"
        rows.append(
            {
                "no.": str(row["number"]),
                "fid": f"{row['fid']:.4g}" if good else "inf",
                "train": f"{row['fid_train']:.4g}" if good else "",
                **{name: "" if pd.isna(row[name]) else value_text(row[name]) for name in measured},
                "ended": "" if ok.all() else row["status"],
                "step": f"{row['step']:,}",
                **{name: "" if pd.isna(row[name]) else value_text(row[name]) for name in varied},
            }
        )
    features = table["features"].iloc[0]
    caption = f"fid: smallest Fréchet distance of the run ({features} features); train: to the "
    shown = records(rows, width, settings=["step", *varied])
    return Group(shown, Text(f"{caption}training images at that step", style="dim"))


def value_text(value: Any) -> str:
    """A hyperparameter's value with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def report(plan: list[RunConfig], table: pd.DataFrame, results: Path) -> None:
    """Print the trials and the best setting, a group at a time, what they cost, and what is next.

    Draws the budget curve beside the runs. Of an unfinished search that is judged once it prints
    what they cost alone.
    """
    from study.analysis import scores  # noqa: PLC0415
    from study.analysis.figures.budget import budget_curves  # noqa: PLC0415 (it takes seconds)
    from study.analysis.figures.style import save  # noqa: PLC0415

    sweep = plan[0].sweep
    told = scores.shown_now(sweep, table)
    if len(told) < len(table):
        say(f"{sweep} is judged once: distances are told when all its settings are there")
    for loss, dataset in dict.fromkeys((config.loss, config.dataset) for config in plan):
        rows = told[(told["loss"] == loss) & (told["dataset"] == dataset)]
        if rows.empty:
            continue
        say(f"\n{scores.title(loss)} on {dataset}")
        console.print(trials(rows, console.width), highlight=False)
        good = rows[rows["status"] == "ok"].sort_values("fid", kind="stable")
        if good.empty:
            ended = rows.drop_duplicates("number")["status"].value_counts()
            said = ", ".join(f"{count} {status}" for status, count in ended.items())
            say(f"no best setting: none was trained to the end ({said})")
            continue
        best = good.iloc[0]
        values = [
            f"{name} {value_text(best[name])}"
            for name in hyperparameters(table)
            if not pd.isna(best[name])
        ]
        folder = results / "runs" / sweep / loss / dataset
        say(f"best setting: number {best['number']}: {', '.join(values)}")
        samples = folder / f"{best['number']:03d}/samples/{best['step']:06d}.png"
        if samples.exists():
            say(f"its samples: {samples}")
        if folder.exists() and "stopped" not in set(rows["status"]):
            save(budget_curves(rows), folder / "budget_curve")
            say(f"budget curve: {folder / 'budget_curve'}.png")
    runs = table["config"].nunique()
    costs = table.groupby("config")[["wall_s", "flops"]].max().sum()
    say(f"table: {table_path(results, sweep)}")
    say(
        f"cost so far: {duration(costs['wall_s'])} of training and evaluation, "
        f"{costs['flops']:.3g} FLOPs, {counted(runs, 'run')}"
    )

"""A few small files of single runs, kept beside the tables: samples and training curves.

Run folders are not committed. results/examples/<sweep>/<data set>/ holds, for the best run of each
loss and for one collapsed run, <loss>_<number>.png (the grid of 64 samples of its best evaluation)
and <loss>_<number>.parquet (its training curves): some 30 kB a run; and real.png, 64 held-out
images.
"""

import contextlib
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from study import files
from study.analysis import scores
from study.errors import StudyError
from study.runs.table import read_table
from study.settings.config import load_sweep, read_config

EXAMPLE = re.compile(r"\w[\w-]*_\d{3,}\.(png|parquet)")


REAL = "real.png"


class Example(NamedTuple):
    """A run whose samples and curves are kept."""

    loss: str
    number: int
    step: int
    config: str
    score: float
    words: str
    samples: Path
    curves: Path


def best(results: Path, sweep: str, dataset: str) -> list[Example]:
    """The best run of each loss that has one, in the study's order."""
    return _best(results, _of(_runs(results, sweep), dataset))


def collapsed(results: Path, sweep: str, dataset: str) -> Example:
    """The longest of the diverged runs or, where none diverged, the run of greatest distance."""
    return _collapsed(results, _of(_runs(results, sweep), dataset))


def table(results: Path, sweep: str) -> pd.DataFrame:
    """A row an example of a sweep: of each data set that has some, the best runs, then `collapsed`.

    Columns: dataset, collapsed (a bool), and those of Example.
    """
    rows = _rows(results, sweep)
    if rows.empty:
        return pd.DataFrame()
    runs = scores.of_runs(rows)
    examples = [
        {"dataset": dataset, "collapsed": bad} | example._asdict()
        for dataset in scores.dataset_order(runs)
        if folder(results, sweep, dataset).exists()
        for own in [_of(runs, dataset)]
        for bad, chosen in ((False, _best(results, own)), (True, [_collapsed(results, own)]))
        for example in chosen
    ]
    return pd.DataFrame(examples)


def keep(results: Path, sweep: str) -> int:
    """Copy the examples of a search's table out of its run folders; returns how many were copied.

    What is no example any more is removed; an example whose run folder is gone stays. Of a search
    that is judged once, those of data sets that are complete.
    """
    rows = _rows(results, sweep)
    if rows.empty or load_sweep(sweep).ranges is None:
        return 0
    copied = 0
    for dataset in scores.dataset_order(rows):
        if not is_among_examples(results, folder(results, sweep, dataset)):
            continue
        chosen = [*best(results, sweep, dataset), collapsed(results, sweep, dataset)]
        fresh = sum(
            _copy(results / "runs" / sweep / example.loss / dataset, example) for example in chosen
        )
        if fresh:
            _keep_real(dataset, folder(results, sweep, dataset) / REAL)
        copied += fresh
        names = {path for example in chosen for path in (example.samples, example.curves)}
        remove_stale(results, folder(results, sweep, dataset), names)
    return copied


def remove_stale(results: Path, there: Path, keep: set[Path]) -> None:
    """Remove what once was an example: files of an example's name below results/examples alone."""
    if not (there.is_dir() and is_among_examples(results, there)):
        return
    for path in set(there.iterdir()) - keep:
        if EXAMPLE.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink()


def is_among_examples(results: Path, there: Path) -> bool:
    """Whether a folder lies below results/examples, and no link leads out of it."""
    return (results / "examples").resolve() in there.resolve().parents


def _copy(runs: Path, example: Example) -> bool:
    run = runs / f"{example.number:03d}"
    if (
        not (run / "config.json").exists()
        or read_config(run / "config.json").hash != example.config
        or files.links_in(run)  # they could lead anywhere
    ):
        return False
    pairs = {
        run / "samples" / f"{example.step:06d}.png": example.samples,
        run / "curves.parquet": example.curves,
    }
    found = {source: target for source, target in pairs.items() if source.is_file()}
    for source, target in found.items():
        files.write_atomically(target, partial(shutil.copyfile, source))
    return bool(found)


def _keep_real(dataset: str, path: Path) -> None:
    """The first 64 held-out images; none where only the runs are, and not the data."""
    if path.exists():
        return
    # Each loads torch, which reading examples need not.
    from study import datasets  # noqa: PLC0415
    from study.measures.of_a_generator import save_grid  # noqa: PLC0415

    with contextlib.suppress(StudyError):
        images = datasets.load(dataset, "held_out")[:64]
        files.write_atomically(path, lambda temporary: save_grid(images, temporary))


def _rows(results: Path, sweep: str) -> pd.DataFrame:
    """What examples are chosen among: runs that were trained to the end, and that may be shown."""
    return scores.ended(scores.shown_now(sweep, read_table(results, sweep)))


def _runs(results: Path, sweep: str) -> pd.DataFrame:
    return scores.of_runs(_rows(results, sweep))


def _of(runs: pd.DataFrame, dataset: str) -> pd.DataFrame:
    chosen = runs[runs["dataset"] == dataset]
    if chosen.empty:
        raise StudyError(
            f"no rows of {dataset!r} in {', '.join(runs['sweep'].unique())}; there are "
            f"{', '.join(scores.dataset_order(runs))}"
        )
    return chosen


def _best(results: Path, runs: pd.DataFrame) -> list[Example]:
    first = runs.sort_values("fid", kind="stable").drop_duplicates("loss").sort_index()
    return [_example(results, row) for row in first[np.isfinite(first["fid"])].itertuples()]


def _collapsed(results: Path, runs: pd.DataFrame) -> Example:
    worst = runs.sort_values(["fid", "d_steps"], ascending=False, kind="stable")
    return _example(results, next(worst.itertuples()))


def _example(results: Path, row: Any) -> Example:
    stem = folder(results, row.sweep, row.dataset) / f"{row.loss}_{row.number:03d}"
    score = f"distance {row.fid:.1f}" if np.isfinite(row.fid) else "diverged"
    words = f"{scores.title(row.loss)}, setting {row.number}, {score}"
    pair = stem.with_suffix(".png"), stem.with_suffix(".parquet")
    return Example(row.loss, row.number, row.step, row.config, row.fid, words, *pair)


def folder(results: Path, sweep: str, dataset: str) -> Path:
    """Where the examples of a sweep and data set lie."""
    return results / "examples" / sweep / dataset

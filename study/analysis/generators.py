"""Generators kept beside the tables: those of each loss's best run, to draw images from.

results/generators/<sweep>/<loss>/<data set>/<number>/ holds config.json and best.pt, as the run's
own folder does. Weights are rounded to half precision where that changes the run's distance by at
most `TOLERANCE` of itself: half of the bytes.
"""

import math
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from study import files
from study.analysis import examples, scores
from study.analysis.tables import shown
from study.errors import StudyError
from study.measures.of_a_generator import best_generator, evaluator
from study.runs.folder import is_judged_once
from study.runs.table import read_table
from study.settings.config import RunConfig, load_sweep, read_config
from study.training.records import evaluation_z

TOLERANCE = 1e-3


class Kept(NamedTuple):
    """A generator that is kept, and what rounding it changed."""

    folder: Path
    bytes: int
    distance: float
    """of the kept weights, as the run's own evaluations measure it"""
    change: float
    """the distance of weights in half precision by that of the run's own, less 1; inf where they
    draw an image that is not finite"""
    half: bool
    """whether it is kept in half precision"""


def folder(results: Path, run: Path) -> Path:
    """Where the generator of a run lies; `run` is the run's path below results/runs."""
    return results / "generators" / run


def keep(results: Path, sweep: str) -> Iterator[Kept]:
    """Keep the generator of each data set's and loss's best run, one after another.

    A sweep without a table, a search that is judged once and not complete, and a best run whose own
    folder is not there: StudyError.
    """
    rows = scores.ended(read_table(results, sweep))
    if is_judged_once(sweep):
        rows = shown(load_sweep(sweep), rows)
    if rows.empty:
        raise StudyError(f"no rows of {sweep} in {results}; `make sweep SWEEP={sweep}` trains it")
    sets = scores.dataset_order(rows)
    for run, config in [each for name in sets for each in best_runs(results, sweep, name)]:
        yield _keep(run, config, folder(results, config.path))


def best_runs(results: Path, sweep: str, dataset: str) -> Iterator[tuple[Path, RunConfig]]:
    """The folder and configuration of each loss's best run, all looked at before any is kept."""
    for example in examples.best(results, sweep, dataset):
        run = results / "runs" / sweep / example.loss / dataset / f"{example.number:03d}"
        if not (run / "best.pt").is_file() or files.links_in(run):
            raise StudyError(
                f"{run}: no generator there, and it is the best run of {example.loss} on "
                f"{dataset}; generators are kept where the runs were trained"
            )
        config = read_config(run / "config.json")
        if config.hash != example.config:
            raise StudyError(f"{run} is another run than {sweep}'s table has there: see config")
        yield run, config


def _keep(run: Path, config: RunConfig, to: Path) -> Kept:
    if (kept := to.parents[len(config.path.parts) - 1]).resolve() not in to.resolve().parents:
        raise StudyError(f"{to} leads out of {kept} by a link; remove it")
    config = config.model_copy(update={"device": "cpu"})
    generator, z = best_generator(run, config), evaluation_z(config)
    evaluate = evaluator(config.dataset, config.features, config.num_images, config.device)

    def distance(weights: dict[str, Tensor]) -> float:
        generator.load_state_dict(weights)
        found = evaluate(generator, z)
        return math.inf if found is None else found["fid"]

    own = {name: weight.clone() for name, weight in generator.state_dict().items()}
    halves = {name: w.half() if w.is_floating_point() else w for name, w in own.items()}
    whole, rounded = distance(own), distance(halves)
    change = rounded / whole - 1
    half = abs(change) <= TOLERANCE
    files.write_atomically(to / "best.pt", partial(torch.save, halves if half else own))
    files.write_atomically(to / "config.json", partial(shutil.copyfile, run / "config.json"))
    size = (to / "best.pt").stat().st_size
    return Kept(to, size, rounded if half else whole, change, half)

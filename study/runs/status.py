"""Where every sweep stands, from the files alone. Imports no torch: it answers at once."""

import glob
import os
import sys
from pathlib import Path
from typing import Any

from study.errors import StudyError
from study.runs import folder as run
from study.runs import view
from study.settings.config import RunConfig, read_config


def results_folder() -> Path:
    """STUDY_RESULTS, or results/ here."""
    return Path(os.environ.get("STUDY_RESULTS", "results"))


def folders_of(sweep: str, results: Path) -> list[Path]:
    """Every run folder of a sweep that exists, sorted."""
    paths = glob.glob(f"{glob.escape(str(results / 'runs' / sweep))}/*/*/*/config.json")
    return [Path(path).parent for path in sorted(paths)]


def planned_runs(sweep: str, results: Path) -> tuple[list[Path], list[RunConfig]]:
    """A sweep's run folders and configurations; one that cannot be read is named on stderr."""
    folders, configs = [], []
    for folder in folders_of(sweep, results):
        try:
            configs.append(read_config(folder / "config.json"))
            folders.append(folder)
        except StudyError as error:
            print(f"{error}; `make sweep` writes it again", file=sys.stderr)
    return folders, configs


def sweeps_with_runs(results: Path) -> list[str]:
    """Names of the sweeps that have run folders."""
    runs = results / "runs"
    return sorted(path.name for path in runs.iterdir() if path.is_dir()) if runs.exists() else []


def status(
    results: Path, sweeps: list[str] | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Groups (loss x data set) and failures of every planned run, from the files alone."""
    groups, failures = [], []
    for name in sweeps or sweeps_with_runs(results):
        folders, configs = planned_runs(name, results)
        states = [run.state_of(folder) for folder in folders]
        groups += view.Overview(results, 1).groups(configs, folders, states)
        for folder, state in zip(folders, states, strict=True):
            last = run.last_claim(folder) if state == "failed" else None
            if last is not None:
                error = (run.read_json(last.path) or {}).get("error")
                log = str(folder / "log.txt")
                failures.append({"run": str(folder), "error": error, "log": log})
    return groups, failures

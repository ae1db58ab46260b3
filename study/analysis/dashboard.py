"""A sweep's table as an Optuna storage, for optuna-dashboard."""

import errno
import os
import sys
import warnings
from pathlib import Path

import optuna
import pandas as pd
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from study import files, losses
from study.errors import StudyError
from study.measures.columns import distance_name
from study.runs.table import hyperparameters
from study.settings.config import SweepConfig
from study.settings.space import space_of

NO_FILE = (errno.ELOOP, errno.EISDIR)


def record(results: Path, sweep: SweepConfig, table: pd.DataFrame) -> Path:
    """Add the table's runs that it lacks to the sweep's Optuna storage (a journal file).

    One study a loss and data set; a trial's value is its smallest distance, infinity where it
    diverged. Only the driver writes here, so a lock on the file is that of a driver that died. The
    file can be made again at any time; one that cannot be read is kept under another name.
    """
    path = (results / "optuna" / f"{sweep.name}.log").absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    try:
        if os.path.lexists(path):
            files.read_bytes(path)  # no link, no folder: what is appended stays here
        add_trials(path, sweep, table)
    except Exception as error:  # a driver died while it wrote, or somebody else has written
        if isinstance(error, OSError) and error.errno not in NO_FILE:
            raise
        aside = files.set_aside(path)
        print(f"{path} cannot be read ({error!r}); it is kept as {aside.name}", file=sys.stderr)
        add_trials(path, sweep, table)
    return path


def add_trials(path: Path, sweep: SweepConfig, table: pd.DataFrame) -> None:
    """Append the runs that the journal file `path` lacks."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(path)))
    for (loss, dataset), rows in table.groupby(["loss", "dataset"]):
        study = optuna.create_study(
            storage=storage, study_name=f"{sweep.name}/{loss}/{dataset}", load_if_exists=True
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # on every use of metrics' names
            study.set_metric_names([distance_name(rows["features"].iloc[0])])
        known = {trial.user_attrs["config"] for trial in study.get_trials(deepcopy=False)}
        for config, evaluations in rows.groupby("config", sort=False):
            if config not in known:
                study.add_trial(trial_of(sweep, str(loss), evaluations))


def trial_of(sweep: SweepConfig, loss: str, rows: pd.DataFrame) -> optuna.trial.FrozenTrial:
    """An Optuna trial of one run's rows; values outside the ranges stand among its attributes."""
    first = rows.iloc[0]
    space = space_of(sweep, loss) if sweep.ranges and loss in losses.names() else {}
    varied = [name for name in hyperparameters(rows) if not pd.isna(first[name])]
    values = {name: first[name] for name in varied}
    values = {name: getattr(value, "item", lambda v=value: v)() for name, value in values.items()}
    inside = {
        name: value
        for name, value in values.items()
        if name in space and space[name]._contains(space[name].to_internal_repr(value))
    }
    diverged = first["status"] == "diverged"
    return create_trial(
        state=TrialState.PRUNED if first["status"] == "stopped" else TrialState.COMPLETE,
        value=float("inf") if diverged else float(rows["fid"].min()),
        params=inside,
        distributions={name: space[name] for name in inside},
        intermediate_values={int(r["step"]): float(r["fid"]) for _, r in rows.iterrows()},
        user_attrs={"number": int(first["number"]), "config": first["config"]}
        | {name: value for name, value in values.items() if name not in inside},
    )


def serve(path: Path, host: str, port: int) -> None:
    """Show a storage in the browser until interrupted."""
    try:
        from optuna_dashboard import run_server  # noqa: PLC0415 (for development only)
    except ImportError as error:
        raise StudyError(
            "optuna-dashboard is not installed: pip install optuna-dashboard"
        ) from error
    name = f"[{host}]" if ":" in host else host
    print(f"http://{name}:{port}/ shows {path}; Ctrl-C ends it", flush=True)
    try:
        run_server(JournalStorage(JournalFileBackend(str(path))), host=host, port=port)
    except OSError as error:
        raise StudyError(
            f"cannot listen on {name}:{port} ({error.strerror}); --host and --port (of make, HOST= "
            "and PORT=) name another address"
        ) from error

"""What kills, torn files and full disks do to a sweep: nothing (`make faults` is the long form)."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import tiny
import toy
from typer.testing import CliRunner

from study import files
from study.cli import app
from study.commands import sweeps
from study.errors import StudyError
from study.losses import load as load_loss
from study.runs import checks, forecast, progress
from study.runs.claim import TakenOver
from study.runs.folder import state_of
from study.runs.plan import plan
from study.runs.progress import Progress
from study.runs.status import status
from study.settings import config

HERE = Path(__file__).parent


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results folder of a tiny sweep of three runs."""
    for name, value in tiny.environment(tmp_path, trials=3, steps=20, every=10).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(config, "SWEEPS_FOLDER", tmp_path / "sweeps")
    return tmp_path / "results"


def prepare(results: Path) -> Progress:
    return progress.prepare(plan(config.load_sweep("tiny")), results)


def tear(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def test_the_sweep_survives_random_kills_and_torn_files() -> None:
    command = [sys.executable, f"{HERE}/faults.py", "--kills", "20", "--trials", "2", "--seed", "1"]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": f"{HERE}:{HERE.parent}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "20 signals: " in done.stdout
    assert done.stdout.endswith(
        "all complete, none trained twice, every number equal, nothing left behind\n"
    )


def test_an_interrupted_run_goes_on_bit_for_bit_and_a_lost_one_writes_nothing(
    results: Path,
) -> None:
    import json
    import shutil

    import torch

    def train_to(
        folder: Path, stop_at: int, require_held: Callable[[], None] = lambda: None
    ) -> str:
        steps = iter(range(1, 100))
        return tiny.train(folder, lambda: next(steps) >= stop_at, require_held)

    def numbers(folder: Path) -> list[dict[str, Any]]:
        evaluations = json.loads((folder / "result.json").read_text())["evaluations"]
        return [{n: v for n, v in row.items() if n != "wall_s"} for row in evaluations]

    def refuse() -> NoReturn:
        raise TakenOver("taken over")

    threads = torch.get_num_threads()
    whole, cut, lost = prepare(results).folders
    for folder in (cut, lost):
        shutil.copy(whole / "config.json", folder / "config.json")
    assert train_to(whole, 99) == "ok"
    assert train_to(cut, 13) == "interrupted"
    assert (cut / "checkpoint.pt").exists()
    assert train_to(cut, 99) == "ok"
    assert numbers(cut) == numbers(whole)
    for stop_at in (1, 99):
        with pytest.raises(TakenOver):
            train_to(lost, stop_at, refuse)
    assert os.listdir(lost) == ["config.json"]
    torch.set_num_threads(threads)


@pytest.mark.parametrize("done", [False, True])
def test_a_torn_configuration_is_named_and_written_again(
    results: Path, capsys: pytest.CaptureFixture[str], done: bool
) -> None:
    found = prepare(results)
    path = found.folders[1] / "config.json"
    if done:  # its rows would be missing from a table made anew
        files.write_json(path.with_name("result.json"), toy.result(1.0))
    whole = path.read_bytes()
    tear(path)
    groups = status(results).groups
    assert groups[0]["runs"] == 2
    assert f"{path}: " in capsys.readouterr().err
    prepare(results)
    assert (
        capsys.readouterr().err == f"{path} cannot be read; it is kept as config.json.unreadable\n"
    )
    assert path.read_bytes() == whole


def test_a_changed_sweep_is_refused(results: Path) -> None:
    found = prepare(results)
    path = found.folders[0] / "config.json"
    path.write_text(path.read_text().replace('"d_steps": 20', '"d_steps": 30'))
    files.write_json(path.with_name("claim.1.json"), {"state": "released"})
    with pytest.raises(StudyError, match=r"000 was planned with d_steps 30, the sweep now says 20"):
        prepare(results)


def test_failed_and_lost_runs_are_open_again_after_a_new_plan(results: Path) -> None:
    folder = prepare(results).folders[0]
    for number in (1, 2):
        files.write_json(folder / f"claim.{number}.json", {"state": "failed", "error": "no"})
    assert state_of(folder) == "failed"
    assert folder not in progress.progress(plan(config.load_sweep("tiny")), results).open(1)
    groups, failures = status(results)[:2]
    assert groups[0]["failed"] == 1
    assert failures == [{"run": str(folder), "error": "no", "log": str(folder / "log.txt")}]
    assert folder in prepare(results).open(0)


@pytest.mark.parametrize("state", ["failed", "lost"])
def test_a_sweep_that_leaves_runs_undone_says_so_and_fails(
    results: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """A full disk has no room even for the word that a run has failed: it is lost."""
    dead = {"state": "running", "machine": files.machine(), "pid": 2**30, "started": "1"}
    claim = {"failed": {"state": "failed", "error": "no"}, "lost": dead}[state]

    def drive(found: Progress, *_: object) -> None:
        files.write_json(found.folders[0] / "claim.1.json", claim)

    monkeypatch.setattr(sweeps, "drive", drive)
    monkeypatch.setattr(checks, "require_inputs", lambda plan: None)
    result = CliRunner().invoke(app, ["sweep", "--sweep", "tiny", "--device", "cpu"])
    assert result.exit_code == 1
    assert f"3 of 3 runs are not done (1 {state}, 2 to do); `make status`" in result.output


def test_predicted_flops_are_the_steps_times_the_counted_ones(results: Path) -> None:
    from study.training.flops import count_flops

    configs = plan(config.load_sweep("tiny"))
    total = 0
    for one in configs:
        d_flops, g_flops = count_flops(one, (1, 28, 28))
        g_steps = sum(step == 0 or (step - 1) % one.disc_iters == 0 for step in range(20))
        total += 20 * d_flops + g_steps * g_flops
    assert forecast.predicted_flops(configs) == total


def test_a_loss_of_which_no_step_can_be_counted_is_one_line(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_loss("ns"), "d_loss_real", lambda self, d_real: -d_real)  # no mean
    with pytest.raises(StudyError, match=r"^ns: no step can be taken, .*: RuntimeError: grad can"):
        forecast.counted_flops(plan(config.load_sweep("tiny")))


def test_what_was_counted_is_kept_for_the_same_runs(
    results: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    configs = plan(config.load_sweep("tiny"))
    counted = forecast.predicted_flops(configs)
    longer = [configs[0].model_copy(update={"d_steps": 40}), *configs[1:]]
    monkeypatch.setattr(forecast, "count_flops", lambda *_: (1, 0))
    assert forecast.predicted_flops(configs) == counted
    assert forecast.predicted_flops(longer) == 20 * (len(configs) + 1)


def test_the_status_needs_no_torch() -> None:
    code = "import sys, study.commands.sweeps, study.terminal; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Successive halving: who goes on is decided by what was measured, and changes no number."""

import contextlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
from rich.console import Console
from test_sweep import finish
from there import there
from typer.testing import CliRunner

from study import cli, files, terminal
from study.analysis import scores
from study.analysis.verdict import halved
from study.errors import StudyError
from study.runs import halving
from study.runs.folder import folder_of, state_of, take
from study.runs.halving import Member
from study.runs.plan import plan
from study.runs.progress import prepare, progress
from study.runs.table import collect
from study.settings import config as configs
from study.settings.config import Halving, RunConfig, load_sweep

HASH = "0123456789abcdef"
HALVING = "\n[halving]\nrungs = [0.25, 0.5]\nkeep = [0.5, 0.4]\n"


def put(
    folder: Path, distances: dict[int, float], status: str | None = None, config: str = HASH
) -> Path:
    """A run that has been evaluated so far; it waits there, or has ended with that status."""
    rows: list[dict[str, Any]] = [
        {"step": step, "fid": fid, "wall_s": 1.0} for step, fid in distances.items()
    ]
    lines = "".join(files.strict_json(row) + "\n" for row in rows)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text(lines)
    content = {"status": status or "stopped", "evaluations": rows, "provenance": {}}
    content["config"] = config
    files.write_json(folder / ("result.json" if status else "waiting.json"), content)
    return folder


def members(root: Path, *runs: dict[int, float] | None) -> list[Member]:
    found = []
    for number, distances in enumerate(runs):
        folder = root / f"{number:03d}"
        if distances is not None:
            put(folder, distances)
        found.append(Member(number, folder, HASH))
    return found


def states(group: list[Member]) -> list[str]:
    return [state_of(member.folder, HASH) for member in group]


def test_the_best_go_on_when_all_have_come(tmp_path: Path) -> None:
    rule = Halving(rungs=(0.5,), keep=(0.3,))
    group = members(tmp_path, {5: 9.0, 10: 4.0}, {5: 3.0, 10: 8.0}, {10: 5.0}, {10: 4.0}, None)
    halving.judge_group(rule, 20, group)
    assert states(group) == ["waiting"] * 4 + ["to do"]  # the last has not come
    put(group[4].folder, {5: 1.0}, "diverged")
    halving.judge_group(rule, 20, group)
    # ceil(0.3 * 5) = 2 go on: least so far are 3 (number 1, earlier) and 4 (0, of the equal ones).
    assert states(group) == ["to do", "to do", "stopped", "stopped", "diverged"]
    assert not (group[0].folder / "pause.json").exists()


@pytest.mark.parametrize(("share", "of", "kept"), [(0.07, 100, 7), (0.28, 25, 7), (0.3, 5, 2)])
def test_a_share_is_the_number_as_it_is_written(
    tmp_path: Path, share: float, of: int, kept: int
) -> None:
    """0.07 * 100 is a little more than 7 in binary."""
    group = members(tmp_path, *({5: float(number)} for number in range(of)))
    halving.judge_group(Halving(rungs=(0.25,), keep=(share,)), 20, group)
    assert states(group).count("to do") == kept


def test_a_driver_that_dies_in_the_middle_decides_the_same_again(tmp_path: Path) -> None:
    rule = Halving(rungs=(0.25, 0.5), keep=(0.5, 0.5))
    runs = [{5: fid} for fid in (4.0, 1.0, 3.0, 2.0)]
    for done in ([], [1], [2], [1, 2], [0, 1, 2], [3]):
        group = members(tmp_path / f"{done}", *runs)
        for number in done:
            folder = group[number].folder
            if number in (1, 3):
                halving.let_go_on(folder, 10)
            else:
                (folder / "waiting.json").rename(folder / "result.json")
        halving.judge_group(rule, 20, group)
        assert states(group) == ["stopped", "to do", "stopped", "to do"]
        assert json.loads((group[3].folder / "pause.json").read_text()) == {"step": 10}
        put(group[3].folder, {5: 2.0, 10: 0.5})
        halving.judge_group(rule, 20, group)
        assert states(group)[3] == "waiting"  # number 1 is on its way to the second rung
        put(group[1].folder, {5: 1.0, 10: 3.0})
        halving.judge_group(rule, 20, group)
        assert states(group) == ["stopped", "stopped", "stopped", "to do"]
        assert not (group[3].folder / "pause.json").exists()


def test_who_was_stopped_is_not_waited_for_by_those_that_go_on(tmp_path: Path) -> None:
    """A share that was raised lets on a setting that has ended: it never comes to the next rung."""
    group = members(tmp_path, {10: 1.0, 20: 9.0}, {10: 2.0, 20: 3.0}, None)
    put(group[2].folder, {10: 3.0}, "stopped")
    halving.judge_group(Halving(rungs=(0.25, 0.5), keep=(0.9, 0.3)), 40, group)
    # ceil(0.9 * 3) = 3 are compared at step 20, of which ceil(0.3 * 3) = 1 goes on.
    assert states(group) == ["to do", "stopped", "stopped"]


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """Three settings of 40 steps, evaluated every 10."""
    (tmp_path / "tiny.toml").write_text(tiny.SWEEP.format(trials=3, steps=40, every=10))
    monkeypatch.setattr(configs, "SWEEPS_FOLDER", tmp_path)
    return plan(load_sweep("tiny"))


AT_20 = Halving(rungs=(0.5,), keep=(0.34,))


@pytest.mark.parametrize(
    ("status", "fids", "expected"),
    [
        # ceil(0.34 * 3) = 2 go on.
        ("ok", [9.0, 5.0, 1.0, 1.0], ["ok", "stopped", "to do"]),  # 5 and 3 before 6
        ("ok", [9.0, 7.0, 1.0, 1.0], ["ok", "to do", "to do"]),  # 3 and 6 before 7; 1 came later
        ("diverged", [9.0, 1.0, math.inf], ["diverged", "to do", "to do"]),
        ("stopped", [1.0], ["stopped", "to do", "to do"]),  # before the rung
    ],
)
def test_a_run_that_the_table_alone_holds_is_judged_by_its_rows(
    planned: list[RunConfig], tmp_path: Path, status: str, fids: list[float], expected: list[str]
) -> None:
    folder = finish(tmp_path, planned[0], fids, status)
    collect(tmp_path, "tiny")
    shutil.rmtree(folder)
    for config, fid in zip(planned[1:], (6.0, 3.0), strict=True):
        files.write_json(folder_of(tmp_path, config) / "config.json", config.model_dump())
        put(folder_of(tmp_path, config), {10: 8.0, 20: fid}, config=config.hash)
    found = halving.judge(progress(planned, tmp_path), AT_20)
    assert found.states == expected
    assert not folder.exists()


def test_what_the_table_holds_is_not_stopped_by_what_its_folder_holds(
    planned: list[RunConfig], tmp_path: Path
) -> None:
    """Rows to the end would give way to those of a run that was stopped."""
    folder = finish(tmp_path, planned[0], [9.0, 9.0, 9.0, 9.0])
    collect(tmp_path, "tiny")
    (folder / "result.json").unlink()
    for config, fid in zip(planned, (9.0, 6.0, 3.0), strict=True):
        put(folder_of(tmp_path, config), {10: 9.0, 20: fid}, config=config.hash)
    found = halving.judge(progress(planned, tmp_path), AT_20)
    assert found.states == ["ok", "to do", "to do"]
    assert not (folder / "result.json").exists()
    assert len(collect(tmp_path, "tiny")) == 4


def test_another_driver_may_be_quicker(
    planned: list[RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It judges between this one's look at waiting.json and its renaming it."""
    for config, fid in zip(planned, (4.0, 2.0, 3.0), strict=True):
        folder = put(folder_of(tmp_path, config), {20: fid}, config=config.hash)
        (folder / "checkpoint.pt").touch()
    found = progress(planned, tmp_path)
    stopped: list[Path] = []

    def stop(folder: Path) -> None:
        stopped.append(folder)
        if len(stopped) == 1:
            halving.judge(found, AT_20)  # the other's
        really(folder)

    really = halving.stop
    monkeypatch.setattr(halving, "stop", stop)
    states = halving.judge(found, AT_20).states
    assert states == ["stopped", "to do", "to do"]
    assert stopped == [found.folders[0]] * 2
    left = [(folder / "checkpoint.pt").exists() for folder in found.folders]
    assert left == [False, True, True]


def test_a_checkpoint_stays_where_another_driver_has_let_the_run_go_on(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").touch()
    halving.stop(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_what_cannot_be_read_is_not_taken_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that takes it so ends, with runs that wait for one that has come."""
    [member] = members(tmp_path, {20: 1.0})
    (member.folder / "waiting.json").unlink()  # it trains on

    def broken(path: Path) -> bytes:
        if path.name == "metrics.jsonl":
            raise OSError(5, "Input/output error", str(path))
        return read(path)

    assert halving.least_by(member, 20) == 1.0
    read = files.read_bytes
    monkeypatch.setattr(files, "read_bytes", broken)
    with pytest.raises(OSError, match="Input/output error"):
        halving.least_by(member, 20)


AT_10 = Halving(rungs=(0.25,), keep=(0.34,))


@pytest.mark.parametrize("today", [None, AT_10])
@pytest.mark.parametrize(
    ("how", "collected"),
    [("waits", False), ("is to wait", False), ("was stopped", False), ("was stopped", True)],
)
def test_other_rungs_than_those_that_runs_began_with_are_refused(
    planned: list[RunConfig], tmp_path: Path, how: str, collected: bool, today: Halving | None
) -> None:
    """They would wait for ever, or count as done where all others are trained to the end."""
    folder = prepare(planned, tmp_path, AT_20).folders[1]
    if how == "waits":
        put(folder, {20: 1.0}, config=planned[1].hash)
    elif how == "is to wait":
        there(take(folder)).end("released")
    else:
        finish(tmp_path, planned[1], [8.0, 7.0], "stopped")
    if collected:
        collect(tmp_path, "tiny")
        shutil.rmtree(folder)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(StudyError) as refused:
        prepare(planned, tmp_path, today)
    assert str(refused.value) == (
        f"{folder} {how} at step 20, which is no rung that sweeps/tiny.toml states "
        "today: put its [halving] back as it was, delete the sweep's old runs and table, or copy "
        "the sweep under a new name"
    )
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    prepare(planned, tmp_path, AT_20)  # put back


def test_rungs_may_change_before_a_run_is_begun_and_where_it_has_ended(
    planned: list[RunConfig], tmp_path: Path
) -> None:
    folders = prepare(planned, tmp_path, AT_20).folders
    finish(tmp_path, planned[0], [8.0, math.inf], "diverged")
    finish(tmp_path, planned[1], [8.0, 7.0, 6.0, 5.0])
    assert prepare(planned, tmp_path, AT_10).states == ["diverged", "ok", "to do"]
    assert files.read_json(folders[2] / "pause.json") == {"step": 10}
    prepare(planned, tmp_path)
    assert not (folders[2] / "pause.json").exists()


def run(root: Path, halved: bool, *options: str, trials: int = 5) -> pd.DataFrame:
    """A tiny sweep's table, trained with or without rungs."""
    environment = tiny.environment(root, trials, steps=40, every=10) | {"FORK": ""}
    if halved:
        with (root / "sweeps/tiny.toml").open("a") as file:
            file.write(HALVING)
    command = [sys.executable, tiny.__file__, "sweep", "--sweep", "tiny", *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(root / "results/tiny.parquet").drop(columns=["wall_s", "commit"])
    return table.set_index(["number", "step"])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The table of a sweep with rungs that nothing has disturbed."""
    return run(tmp_path_factory.mktemp("undisturbed"), True, "--workers", "1")


def test_what_goes_on_is_the_run_that_it_would_have_been(
    tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    whole, found = run(tmp_path, False, "--workers", "1"), undisturbed
    same = [name for name in found if name != "status"]
    pd.testing.assert_frame_equal(found[same], whole.loc[found.index, same])
    steps = found.reset_index().groupby("number")["step"].max()
    at_rung = whole["fid"].unstack()[[10]].min(axis=1).sort_values(kind="stable").index[:3]
    at_next = whole["fid"].unstack().loc[at_rung, [10, 20]].min(axis=1)
    last = at_next.sort_values(kind="stable").index[:2]
    expected = {n: 40 if n in last else 20 if n in at_rung else 10 for n in range(5)}
    assert steps.to_dict() == expected
    status = found.groupby("number")["status"].first()
    assert status.to_dict() == {n: "ok" if n in last else "stopped" for n in range(5)}


def left_alone(driver: int) -> None:
    """End the forked workers of a driver that was killed: one waits on a pipe that it holds."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(driver, signal.SIGKILL)


def test_interrupted_in_the_middle_it_comes_to_the_same(
    tmp_path: Path, undisturbed: pd.DataFrame, request: pytest.FixtureRequest
) -> None:
    """Whatever the number of workers."""
    environment = tiny.environment(tmp_path, 5, steps=40, every=10) | {"FORK": ""}
    with (tmp_path / "sweeps/tiny.toml").open("a") as file:
        file.write(HALVING)
    command = [sys.executable, tiny.__file__, "sweep", "--sweep", "tiny", "--workers", "2"]
    for wanted in ("waiting.json", "result.json"):  # at the first rung; when some have stopped
        driver = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
        )
        request.addfinalizer(partial(left_alone, driver.pid))
        end = time.monotonic() + 60
        while not list((tmp_path / "results").rglob(wanted)) and time.monotonic() < end:
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    pd.testing.assert_frame_equal(run(tmp_path, True), undisturbed)


@pytest.mark.parametrize(
    ("halving", "message"),
    [
        ("rungs = [0.5]\nkeep = [0.5, 0.5]", "state ascending rungs, and as many shares to keep"),
        ("rungs = [0.5, 0.25]\nkeep = [0.5, 0.5]", "state ascending rungs"),
        ("rungs = []\nkeep = []", "halving.rungs = []: tuple should have at least 1 item"),
        ("rungs = [0.5]\nkeep = [1.5]", "halving.keep.0 = 1.5: input should be less than 1"),
        ("rungs = [0.3]\nkeep = [0.5]", "a rung at D step 12 of 40, where no evaluation is"),
        ("rungs = [0.5]\nshare = [0.5]", "unknown key 'halving.share'"),
        (
            "rungs = [0.5, 0.501]\nkeep = [0.5, 0.5]",
            "rungs at D steps 20, 20 of 40, which must ascend and lie below 40",
        ),
        ("rungs = [0.99]\nkeep = [0.5]", "rungs at D steps 40 of 40, which must ascend and lie b"),
    ],
)
def test_bad_rungs_are_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, halving: str, message: str
) -> None:
    text = tiny.SWEEP.format(trials=3, steps=40, every=10)
    (tmp_path / "tiny.toml").write_text(f"{text}\n[halving]\n{halving}\n")
    monkeypatch.setattr(configs, "SWEEPS_FOLDER", tmp_path)
    with pytest.raises(StudyError) as error:
        load_sweep("tiny")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_all_settings_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tiny.SWEEP.format(trials=3, steps=40, every=10)
    (tmp_path / "tiny.toml").write_text(text + HALVING)
    monkeypatch.setattr(configs, "SWEEPS_FOLDER", tmp_path)
    halving.require_all(load_sweep("tiny"), None)
    halving.require_all(load_sweep("tiny"), 3)
    with pytest.raises(StudyError, match="stops the worse of its 3 settings"):
        halving.require_all(load_sweep("tiny"), 2)


def halved_table() -> pd.DataFrame:
    rows = []
    for loss, offset in (("ns", 0.0), ("mm", 1.0)):
        for number in range(4):
            for step in (1000, 2000) if number == 2 else (1000,):
                rows.append(
                    {
                        **{"sweep": "mini", "loss": loss, "dataset": "fashion_mnist"},
                        **{"number": number, "seed": 0, "step": step, "d_steps": step},
                        "status": "ok" if number == 2 else "stopped",
                        "fid": 20.0 - number - step / 1000 + offset,
                        **{"features": "lite0", "num_images": 5000, "width": 0.25},
                        **{"precision": "fp32", "config": f"{loss}{number}"},
                    }
                )
    return pd.DataFrame(rows)


def test_a_verdict_tells_the_best_and_judges_nobody() -> None:
    found = halved.finding(halved_table())
    assert "NS GAN 16 (number 2), MM GAN 17 (number 2)" in found.answer
    assert "4 settings a loss, 1 to 1 of them trained to the end, with 62% of" in found.answer
    assert found.table["steps"].tolist() == [0.625, 0.625]
    with pytest.raises(StudyError, match="6 runs were stopped early by halving"):
        scores.search(halved_table())


def test_the_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = halved_table().assign(commit="c", g_steps=1, images=1, flops=1, wall_s=1.0)
    table = table.assign(fid_train=1.0, batch_norm=True, lr=1e-3, beta1=0.5, disc_iters=1)
    table.to_parquet(tmp_path / "mini.parquet")
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path))
    done = CliRunner().invoke(cli.app, ["verdict", "--sweep", "mini"])
    assert done.exit_code == 0, done.output
    assert "What is the best of each search?" in done.stdout
    assert "better" in done.stdout
    assert "beats" not in done.stdout


def test_stopped_runs_are_shown_with_what_they_came_to() -> None:
    table = halved_table().query("loss == 'ns'").assign(fid_train=1.0, lr=1e-3)
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        console.print(terminal.trials(table, 80))
    shown = captured.get()
    assert "inf" not in shown
    for number, distance in enumerate(("19", "18", "16", "16")):  # 20 - number - step / 1000
        assert re.search(rf"^ *{number} +{distance} ", shown, re.MULTILINE)
    assert shown.count("stopped") == 3

"""A run's folder: who may take it, what its files say, and what is left behind."""

import json
import math
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import toy
from there import there

from study import files
from study.errors import StudyError
from study.runs import claim
from study.runs.claim import Claim, TakenOver, failures, forgive, heartbeat, record_of
from study.runs.folder import is_open, read_result, state_of, take

FORK = multiprocessing.get_context("fork")
DEAD_PID = 2**22 - 1  # above what a process may have here


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "runs/sweep/loss/data/000"
    files.write_json(path / "config.json", {})
    return path


def claim_of(folder: Path, number: int = 1, age_s: float = 0.0, **content: object) -> Claim:
    """Write a claim by hand, last touched `age_s` ago; by default one of another machine."""
    path = folder / f"claim.{number}.json"
    content = {"state": "running", "machine": "elsewhere", "started": "1", "pid": 1} | content
    path.write_text(json.dumps(content))
    os.utime(path, (time.time() - age_s,) * 2)
    return Claim(folder, number)


def here(pid: int, started: str | None) -> dict[str, Any]:
    return {"machine": files.machine(), "pid": pid, "started": started}


def test_states_follow_the_files(folder: Path) -> None:
    assert state_of(folder / "nowhere") == "to do"
    assert state_of(folder) == "to do"
    mine = there(take(folder))
    assert state_of(folder) == "running"
    mine.end("released")
    assert state_of(folder) == "to do"
    again = there(take(folder))
    assert again.number == 2
    again.end("failed", "ValueError: no")
    assert state_of(folder) == "failed"
    assert take(folder) is None
    assert there(take(folder, retries=1)).number == 3
    files.write_json(folder / "result.json", toy.result(1.0, status="diverged"))
    assert state_of(folder) == "diverged"
    assert take(folder, retries=9) is None


@pytest.mark.parametrize(
    ("age_s", "state"), [(5, "running"), (100, "running"), (130, "lost"), (-100, "running")]
)
def test_elsewhere_the_heartbeat_tells(folder: Path, age_s: float, state: str) -> None:
    claim_of(folder, age_s=age_s)
    assert state_of(folder) == state


def test_a_run_may_lie_near_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder of a sweep is above it, whose clock could be asked."""
    claim = Claim(Path("/r"), 1)
    monkeypatch.setattr(Claim, "read", lambda self: record_of({"state": "running", "host": "h"}))
    monkeypatch.setattr(Path, "lstat", lambda self: SimpleNamespace(st_mtime=0.0))
    monkeypatch.setattr("study.runs.claim.file_system_time", lambda folder: 30.0)
    assert claim.is_alive()


def test_a_heartbeat_far_in_the_future_is_dead(folder: Path) -> None:
    claim_of(folder, age_s=-3600)  # the clock was set back by an hour
    assert state_of(folder) == "lost"
    assert there(take(folder, retries=1)).number == 2


def test_a_live_worker_is_not_lost_when_its_clock_is_set_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim_of(folder, age_s=-3600)
    monkeypatch.setattr(claim, "HEARTBEAT_S", 0.01)
    with heartbeat(Claim(folder, 1)):
        time.sleep(0.2)
    assert state_of(folder) == "running"


def test_here_the_process_tells_whatever_the_clock_says(folder: Path) -> None:
    own = here(os.getpid(), files.process_start(os.getpid()))
    claim_of(folder, age_s=10_000, **own)
    assert state_of(folder) == "running"
    claim_of(folder, **own | {"started": "1"})  # its number was given to another process
    assert state_of(folder) == "lost"
    claim_of(folder, **here(DEAD_PID, "1"))
    assert state_of(folder) == "lost"


def test_a_job_put_back_into_the_queue_takes_its_own_run_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_JOB", "7")
    own = here(os.getpid(), files.process_start(os.getpid()))
    claim_of(folder, job="7", job_start="0", **own)
    assert state_of(folder) == "running"
    assert take(folder) is None
    monkeypatch.setenv("STUDY_JOB_START", "1")
    assert state_of(folder) == "lost"
    assert there(take(folder, retries=0)).number == 2  # no failure of the run
    assert failures(folder) == 1  # the new attempt alone, were it to die
    monkeypatch.setenv("STUDY_JOB", "8")
    assert state_of(folder) == "running"  # another job's process, still alive
    assert take(folder) is None


def test_deaths_and_failures_count_and_are_forgiven(folder: Path) -> None:
    claim_of(folder, 1, **here(DEAD_PID, "1"))
    claim_of(folder, 2, state="released")
    claim_of(folder, 3, state="failed", error="ValueError: no")
    (folder / "claim.4.json").write_text("{")
    os.utime(folder / "claim.4.json", (0, 0))
    assert failures(folder) == 3
    assert not is_open(folder, retries=2)
    assert is_open(folder, retries=3)
    forgive(folder)
    assert failures(folder) == 0
    assert is_open(folder)
    assert there(files.read_json(folder / "claim.3.json"))["error"] == "ValueError: no"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"status": "o', "{}", '{"status": "no"}'])
def test_a_result_that_cannot_be_read_is_named_and_made_again(folder: Path, content: str) -> None:
    (folder / "result.json").write_text(content)
    assert state_of(folder) == "to do"
    assert take(folder) is not None
    assert not (folder / "result.json").exists()
    assert (folder / "result.json.unreadable").read_text() == content
    assert "result.json cannot be read" in (folder / "log.txt").read_text()


@pytest.mark.parametrize("content", ["", "{", "3"])
def test_a_claim_that_cannot_be_read_dies_with_its_heartbeat(folder: Path, content: str) -> None:
    (folder / "claim.1.json").write_text(content)
    assert state_of(folder) == "running"
    os.utime(folder / "claim.1.json", (time.time() - 1000,) * 2)
    assert state_of(folder) == "lost"
    assert there(take(folder, retries=1)).number == 2
    assert "claim.1.json cannot be read" in (folder / "log.txt").read_text()


def test_an_attempt_that_was_taken_over_knows_it(folder: Path) -> None:
    old = claim_of(folder, age_s=1000)
    old.require_held()
    new = there(take(folder, retries=1))
    new.require_held()
    with pytest.raises(TakenOver, match="attempt 1"):
        old.require_held()


def race(folders: list[Path], start: Event, won: "Queue[str]") -> None:
    start.wait()
    for folder in folders:
        mine = take(folder)
        if mine is not None:
            won.put(folder.name)


def test_32_processes_claim_every_run_once(tmp_path: Path) -> None:
    folders = [tmp_path / f"runs/sweep/loss/data/{number:03d}" for number in range(25)]
    for folder in folders:
        folder.mkdir(parents=True)
    start, won = FORK.Event(), FORK.Queue()
    processes = [FORK.Process(target=race, args=(folders, start, won)) for _ in range(32)]
    for process in processes:
        process.start()
    start.set()
    names = sorted(won.get(timeout=30) for _ in folders)
    for process in processes:
        process.join()
    assert won.empty()
    assert names == [folder.name for folder in folders]
    assert [len(os.listdir(folder)) for folder in folders] == [1] * 25


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(folder: Path) -> None:
    def fill(path: Path) -> NoReturn:
        path.write_text("half")
        raise OSError("disk full")

    before = (folder / "config.json").read_text()
    with pytest.raises(OSError, match="disk full"):
        files.write_atomically(folder / "config.json", fill)
    assert os.listdir(folder) == ["config.json"]
    assert (folder / "config.json").read_text() == before


def test_temporary_files_of_the_dead_are_removed(folder: Path) -> None:
    dies = (
        "import os, sys; from pathlib import Path\n"
        "from study import files\n"
        "files.write_atomically(Path(sys.argv[1]), lambda path: os.kill(os.getpid(), 9))"
    )
    subprocess.run([sys.executable, "-c", dies, folder / "checkpoint.pt"], check=False)
    assert len(list(folder.glob(".checkpoint.pt.*"))) == 1
    old, new = folder / ".a.json.7@elsewhere.x", folder / ".b.json.7@elsewhere.x"
    own = folder / f".c.json.{os.getpid()}@{files.machine_key()}.x"
    for path in (old, new, own, folder / ".hidden"):
        path.touch()
    os.utime(old, (0, 0))
    take(folder)
    kept = {"config.json", "claim.1.json", new.name, own.name, ".hidden"}
    assert set(os.listdir(folder)) == kept


def refused(folder: Path, answer: "Queue[str]") -> None:
    os.setuid(65534)
    try:
        files.require_writable(folder)
    except StudyError as error:
        answer.put(str(error))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_read_only_results_folder_is_refused_and_can_be_read(
    folder: Path, tmp_path: Path
) -> None:
    top = tmp_path.parents[1]
    modes = {path: path.stat().st_mode for path in (top, tmp_path.parent, tmp_path)}
    for path in modes:
        path.chmod(0o755)
    answer = FORK.Queue()
    process = FORK.Process(target=refused, args=(tmp_path, answer))
    process.start()
    message = answer.get(timeout=10)
    process.join()
    for path, mode in modes.items():
        path.chmod(mode)
    assert message == (
        f"cannot write to the results folder {tmp_path}: Permission denied; "
        "set STUDY_RESULTS to a folder that you may write to"
    )


def alone_for_a_moment(folder: Path, name: str) -> None:
    with files.alone(folder), (folder / "order").open("a", buffering=1) as order:
        order.write(f"{name}\n")
        time.sleep(0.1)
        order.write(f"{name}\n")


def test_only_one_process_at_a_time_is_alone(tmp_path: Path) -> None:
    processes = [FORK.Process(target=alone_for_a_moment, args=(tmp_path, name)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "order").read_text().split() in (["a", "a", "b", "b"], ["b", "b", "a", "a"])


def test_numbers_that_json_has_not_are_null(tmp_path: Path) -> None:
    content = {"a": [1.5, math.inf, (-math.inf, {"b": math.nan})], "c": True, "d": "Infinity"}
    assert json.loads(files.strict_json(content), parse_constant=pytest.fail) == {
        "a": [1.5, None, [None, {"b": None}]],
        "c": True,
        "d": "Infinity",
    }
    files.write_json(tmp_path / "x.json", {"fid": math.inf})
    assert files.read_json(tmp_path / "x.json") == {"fid": None}


def test_only_a_diverged_run_may_lack_a_distance(tmp_path: Path) -> None:
    for status, found in (("diverged", math.inf), ("ok", None)):
        evaluations = [{"step": 1, "fid": None, "wall_s": 1.0}]
        files.write_json(
            tmp_path / "result.json",
            {"status": status, "config": "x", "provenance": {}, "evaluations": evaluations},
        )
        result = read_result(tmp_path)
        assert (result and result["evaluations"][0]["fid"]) == found


# ---- claims of jobs that were put back into the queue --------------------------------------------


def test_an_old_start_never_takes_the_run_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node's daemon was killed, and the job's old process lives on beside the new one."""
    own = here(os.getpid(), files.process_start(os.getpid()))
    claim_of(folder, 1, job="7", job_start="1", **own)
    monkeypatch.setenv("STUDY_JOB", "7")
    monkeypatch.setenv("STUDY_JOB_START", "0")
    assert state_of(folder) == "running"
    assert take(folder, retries=9) is None
    claim_of(folder, 1, job="7", job_start="1", state="released", **own)
    assert take(folder, retries=9) is None
    monkeypatch.setenv("STUDY_JOB_START", "2")
    assert there(take(folder, retries=9)).number == 2
    assert Claim(folder, 2).read().job_start == 2


def test_starts_are_numbers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_JOB", "7")
    monkeypatch.setenv("STUDY_JOB_START", "10")
    claim_of(folder, job="7", job_start="9")
    assert there(take(folder)).number == 2


def test_a_claim_says_who_holds_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_JOB", "7_2")
    mine = there(take(folder))
    content = there(files.read_json(mine.path))
    assert content.pop("since")[:2] == "20"
    assert content == {
        "state": "running", "host": socket.gethostname(), "machine": files.machine(),
        "pid": os.getpid(), "started": files.process_start(os.getpid()),
        "job": "7_2", "job_start": "0",
    }  # fmt: skip


def test_a_live_claim_is_never_forgiven(folder: Path) -> None:
    claim_of(folder, 1, state="failed")
    claim_of(folder, 2, **here(os.getpid(), files.process_start(os.getpid())))
    forgive(folder)
    assert [Claim(folder, n).read().state for n in (1, 2)] == ["forgiven", "running"]
    assert take(folder, retries=9) is None
    claim_of(folder, 2, **here(DEAD_PID, "1"))
    forgive(folder)
    assert Claim(folder, 2).read().state == "forgiven"


@pytest.mark.parametrize(
    "content",
    [{}, {"pid": "x"}, {"state": 3, "job_start": -1}, {"state": "running", "machine": None},
     {"job_start": [1]}, {"error": {"a": 1}, "state": "failed"}],
)  # fmt: skip
def test_claims_from_other_hands_are_read(folder: Path, content: dict[str, Any]) -> None:
    (folder / "claim.1.json").write_text(json.dumps(content))
    record = Claim(folder, 1).read()
    assert record.state in ("running", "failed")
    assert isinstance(record.pid, int)
    state_of(folder)
    forgive(folder)


def test_what_is_no_process_number_is_no_process() -> None:
    assert claim.record_of({"pid": "7"}).pid == 0
    assert claim.record_of({"pid": 7}).pid == 7


def test_a_heartbeat_touches_nothing_through_a_link(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "HEARTBEAT_S", 0.01)
    mine = there(take(folder))
    (tmp_path / "victim").touch()
    for path in (tmp_path / "victim", mine.path):
        os.utime(path, (0, 0))
    with claim.heartbeat(mine):
        until_touched = time.monotonic() + 10
        while mine.path.stat().st_mtime == 0 and time.monotonic() < until_touched:
            time.sleep(0.01)
        assert mine.path.stat().st_mtime > 0
        mine.path.unlink()
        mine.path.symlink_to(tmp_path / "victim")
        time.sleep(0.1)
    assert (tmp_path / "victim").stat().st_mtime == 0


@pytest.mark.parametrize("name", ["log.txt", "samples", "events"])
def test_a_folder_with_links_is_not_worked_in(folder: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (folder / name).symlink_to(victim)
    assert take(folder) is None
    assert state_of(folder) == "failed"
    assert Claim(folder, 1).read().error == (
        f"{folder / name} is a link: nothing is written through it; remove it"
    )
    assert os.listdir(victim) == []


def test_a_result_of_another_configuration_is_none(folder: Path) -> None:
    files.write_json(folder / "result.json", toy.result(1.0, config="a" * 16))
    assert state_of(folder) == "ok"
    assert state_of(folder, "a" * 16) == "ok"
    assert state_of(folder, "b" * 16) == "to do"


@pytest.mark.parametrize(
    "changes",
    [{"evaluations": []}, {"evaluations": None}, {"evaluations": [{"step": 1}]},
     {"evaluations": [[1]]}, {"evaluations": [{"step": 1, "fid": "x", "wall_s": 1}]},
     {"config": None}, {"provenance": None}, {"status": "failed"}, {"status": ["ok"]}],
)  # fmt: skip
def test_a_result_that_lacks_something_is_none(folder: Path, changes: dict[str, Any]) -> None:
    files.write_json(folder / "result.json", toy.result(1.0, **changes))
    assert state_of(folder) == "to do"

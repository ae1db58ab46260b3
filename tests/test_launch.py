"""Workers and their dispatcher: what dies, fails or is interrupted harms nothing else."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import pytest
import toy
from there import there

from study import files
from study.errors import StudyError
from study.runs import steps
from study.runs.claim import forgive, last_claim
from study.runs.folder import State, state_of
from study.runs.workers import Dispatcher, Notice, attempt, stop_if_broken

Limit = Callable[[int], None]

HERE = Path(__file__).parent


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def states(folders: list[Path]) -> list[State]:
    return [state_of(folder) for folder in folders]


def numbers(folders: list[Path]) -> list[float]:
    return [json.loads((folder / "result.json").read_text())["x"] for folder in folders]


def log(folder: Path) -> str:
    return (folder / "log.txt").read_text()


def claim_of(folder: Path) -> dict[str, Any]:
    return there(files.read_json(there(last_claim(folder)).path))


def error(folder: Path) -> str:
    return str(claim_of(folder)["error"])


def start_driver(
    results: Path, environment: Mapping[str, str] | None = None, **options: Any
) -> subprocess.Popen[Any]:
    return subprocess.Popen(
        [sys.executable, HERE / "toy.py", results, "2"],
        env=os.environ | {"PYTHONPATH": f"{HERE}:{HERE.parent}"} | dict(environment or {}),
        start_new_session=True,
        **options,
    )


def at_step(folder: Path, step: int) -> bool:
    state = files.read_json(folder / "checkpoint.json")
    return state is not None and state["step"] >= step


def test_one_run_that_raises_and_one_that_kills_its_process_harm_no_other(tmp_path: Path) -> None:
    folders = toy.plan(
        tmp_path, a={}, b={"raises": "no such thing\nat all"}, c={"dies": True}, d={}, e={}
    )
    assert toy.drive(folders, workers=2, retries=1)
    assert states(folders) == ["ok", "failed", "failed", "ok", "ok"]
    assert numbers([folders[0], *folders[3:]]) == [toy.expected()] * 3
    assert [there(last_claim(folder)).number for folder in folders] == [1, 2, 2, 1, 1]
    assert error(folders[1]) == "ValueError: no such thing"
    assert "Traceback" in log(folders[1])
    assert error(folders[2]) == "its process ended by SIGKILL (out of memory?)"
    toy.drive(folders)
    assert states(folders)[1:3] == ["failed", "failed"]
    assert [there(last_claim(folder)).number for folder in folders] == [1, 2, 2, 1, 1]


def test_a_worker_whose_run_failed_makes_room_for_a_new_process(tmp_path: Path) -> None:
    folders = toy.plan(tmp_path, a={}, b={"raises": "no"}, c={}, d={})
    assert toy.drive(folders, workers=1, retries=0)
    a, b, c, d = (claim_of(folder)["pid"] for folder in folders)
    assert (a == b, b == c, c == d) == (True, False, True)


def test_forgiven_runs_have_all_their_chances_again(tmp_path: Path) -> None:
    [folder] = toy.plan(tmp_path, a={"raises": "no"})
    toy.drive([folder], retries=1)
    forgive(folder)
    toy.drive([folder], retries=2)
    assert there(last_claim(folder)).number == 5
    forgive(folder)
    toy.plan(tmp_path, a={})
    toy.drive([folder])
    assert states([folder]) == ["ok"]


def test_workers_share_the_gpus_by_turns(tmp_path: Path) -> None:
    folders = toy.plan(tmp_path, **{name: {"step_s": 0.1} for name in "abcd"})
    toy.drive(folders, workers=4, gpus=["5", "7"])
    gpus = sorted(log(folder).split("on GPU ")[1][0] for folder in folders)
    assert gpus == ["5", "5", "7", "7"]


def test_nothing_that_a_run_prints_reaches_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [folder] = toy.plan(tmp_path, a={})

    def train(
        folder: Path, interrupted: Callable[[], bool], require_held: Callable[[], None]
    ) -> str:
        print("to stdout")
        print("to stderr", file=sys.stderr)
        return "ok"

    attempt(folder, train, lambda: False, retries=0)
    assert capsys.readouterr() == ("", "")
    assert "to stdout\nto stderr\n" in log(folder)


def test_an_attempt_that_was_taken_over_writes_nothing(tmp_path: Path) -> None:
    [folder] = toy.plan(tmp_path, a={})

    def taken_over() -> bool:
        claim = there(last_claim(folder))
        if at_step(folder, 3) and claim.number == 1:
            (folder / "claim.2.json").write_text("{}")
        return False

    attempt(folder, toy.train, taken_over, retries=0)
    assert there(files.read_json(folder / "checkpoint.json"))["step"] == 3
    assert not (folder / "result.json").exists()
    assert there(files.read_json(folder / "claim.1.json"))["state"] == "running"
    assert (folder / "claim.2.json").read_text() == "{}"
    assert "attempt 1 has been taken over; it writes nothing more" in log(folder)


def test_a_run_that_cannot_be_read_now_goes_to_a_worker_that_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [folder] = toy.plan(tmp_path, a={})
    dispatcher = Dispatcher(toy.train, Notice(), 1, 1)
    dispatcher.add([folder])
    assert dispatcher.goes_again(folder)

    def stale(path: Path) -> NoReturn:
        raise OSError(116, "Stale file handle", str(path))

    monkeypatch.setattr(files, "read_bytes", stale)
    dispatcher.handed[folder] = 1
    assert dispatcher.goes_again(folder)
    dispatcher.handed[folder] = 2
    assert not dispatcher.goes_again(folder)


def test_a_broken_sweep_is_stopped() -> None:
    stop_if_broken(["failed", "ok", "lost"], 2)
    with pytest.raises(StudyError, match=r"^2 runs failed, the sweep stops"):
        stop_if_broken(["failed", "ok", "failed"], 2)


def test_what_stops_the_dispatcher_lets_the_workers_checkpoint(tmp_path: Path) -> None:
    folders = toy.plan(tmp_path, a={"steps": 5000}, b={"steps": 5000})

    def watch() -> None:
        if at_step(folders[0], 1):
            raise StudyError("enough")

    with Notice() as notice, pytest.raises(StudyError, match="enough"):
        Dispatcher(toy.train, notice, 2, 1).carry(folders, watch)
    assert states(folders) == ["to do", "to do"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_driver_that_is_stopped_leaves_everything_to_go_on_with(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C reaches driver and workers, SIGTERM and SIGKILL here the driver alone."""
    folders = toy.plan(tmp_path, a={"steps": 150}, b={"steps": 150}, c={"steps": 150})
    driver = start_driver(tmp_path, stderr=subprocess.PIPE, text=True)
    until(lambda: at_step(folders[0], 5) and at_step(folders[1], 5))
    workers = [there(files.read_json(folder / "claim.1.json"))["pid"] for folder in folders[:2]]
    if number == signal.SIGINT:
        os.killpg(driver.pid, number)
    else:
        os.kill(driver.pid, number)
    _, errors = driver.communicate(timeout=20)
    assert driver.returncode == (-9 if number == signal.SIGKILL else 130)
    assert "Traceback" not in errors
    until(lambda: not any(files.process_start(pid) for pid in workers), 5)
    assert states(folders) == ["to do"] * 3
    assert toy.drive(folders, workers=3)
    assert numbers(folders) == [toy.expected(150)] * 3
    assert "from step 0 " not in log(folders[0]).split("attempt 2 starts")[1]


def test_a_killed_worker_is_replaced_and_its_run_goes_on(tmp_path: Path) -> None:
    folders = toy.plan(tmp_path, a={"steps": 150}, b={"steps": 150}, c={})
    driver = start_driver(tmp_path)
    until(lambda: at_step(folders[0], 5))
    os.kill(there(files.read_json(folders[0] / "claim.1.json"))["pid"], signal.SIGKILL)
    assert driver.wait(timeout=30) == 0
    assert numbers(folders) == [toy.expected(150), toy.expected(150), toy.expected()]
    assert there(last_claim(folders[0])).number == 2
    assert "attempt 1 failed: its process ended by SIGKILL" in log(folders[0])
    assert [there(last_claim(folder)).number for folder in folders[1:]] == [1, 1]


def test_a_job_takes_its_run_back_from_a_process_that_outlived_it(tmp_path: Path) -> None:
    """As after the death of a node's daemon: the former start's process still trains."""
    [folder] = toy.plan(tmp_path, a={"steps": 300})
    outlived = start_driver(tmp_path, {"STUDY_JOB": "1"})
    until(lambda: at_step(folder, 5))
    again = start_driver(tmp_path, {"STUDY_JOB": "1", "STUDY_JOB_START": "1"})
    assert [process.wait(timeout=60) for process in (outlived, again)] == [0, 0]
    assert numbers([folder]) == [toy.expected(300)]
    assert log(folder).count("ends: ok") == 1
    assert "attempt 1 has been taken over; it writes nothing more" in log(folder)


def test_two_drivers_train_nothing_twice(tmp_path: Path) -> None:
    folders = toy.plan(tmp_path, **{f"r{number}": {} for number in range(12)})
    drivers = [start_driver(tmp_path) for _ in range(2)]
    assert [driver.wait(timeout=30) for driver in drivers] == [0, 0]
    assert numbers(folders) == [toy.expected()] * 12
    assert [log(folder).count("ends: ok") for folder in folders] == [1] * 12


@pytest.fixture
def limit_file_size() -> Iterator[Limit]:
    """A function that limits how large a file may get, in bytes: a full disk's stand-in."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, former)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_fails_the_run_and_leaves_nothing_half_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], limit_file_size: Limit
) -> None:
    folders = toy.plan(tmp_path, a={}, b={})

    def train(
        folder: Path, interrupted: Callable[[], bool], require_held: Callable[[], None]
    ) -> str:
        files.write_atomically(folder / "checkpoint.pt", lambda path: path.write_bytes(bytes(9999)))
        return "ok"

    limit_file_size(4096)  # the claim fits, the checkpoint does not
    attempt(folders[0], train, lambda: False, retries=0)
    limit_file_size(0)
    attempt(folders[1], train, lambda: False, retries=0)
    limit_file_size(2**40)
    assert states(folders) == ["failed", "to do"]
    path = folders[0] / "checkpoint.pt"
    assert error(folders[0]) == f"OSError: [Errno 27] File too large: '{path}'"
    assert capsys.readouterr().err.startswith(f"{folders[1]}: [Errno 27] File too large")
    kept = ["claim.1.json", "config.json", "log.txt", "progress.json"]
    assert sorted(os.listdir(folders[0])) == kept
    assert os.listdir(folders[1]) == ["config.json"]
    forgive(folders[0])
    assert toy.drive(folders)
    assert numbers(folders) == [toy.expected()] * 2


# ---- workers that wait, that never were, and that are interrupted at birth -----------------------


def test_a_driver_that_gives_up_does_not_wait_for_a_worker_that_waits_for_it(
    tmp_path: Path,
) -> None:
    """A worker has asked for its next run, and the driver stops before it has answered."""
    folders = toy.plan(tmp_path, a={"raises": "no"}, b={}, c={})

    def watch() -> None:
        if state_of(folders[0]) == "failed":
            raise StudyError("too many")

    class Slow(Dispatcher):
        def hand_out(self, line: Connection) -> None:
            if self.handed[folders[0]]:  # the second worker is left waiting
                return
            super().hand_out(line)

    started = time.monotonic()
    with Notice() as notice, pytest.raises(StudyError, match="too many"):
        Slow(toy.train, notice, 2, 0).carry(folders, watch)
    assert time.monotonic() - started < 60
    assert states(folders)[1:] == ["to do", "to do"]


class Unborn:
    """Cannot be unpickled: as a training whose imports fail."""

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        return (unborn, ())


def unborn() -> NoReturn:
    raise ImportError("libcudart.so: cannot open shared object file")


def test_workers_that_die_before_they_take_a_run_stop_the_sweep(tmp_path: Path) -> None:
    folders = toy.plan(tmp_path, a={}, b={})
    match = r"^3 workers ended with exit status 1 before they took a run: ImportError: libcudart"
    train: Any = Unborn()
    with Notice() as notice, pytest.raises(StudyError, match=match):
        Dispatcher(train, notice, 2, 1).carry(folders, lambda: None)
    assert states(folders) == ["to do"] * 2


def test_what_a_worker_says_is_passed_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    [folder] = toy.plan(tmp_path, a={})
    (folder / "log.txt").mkdir()  # nothing can be logged
    assert toy.drive([folder], workers=1, retries=0)
    said = capfd.readouterr().err
    assert str(folder) in said
    assert "Traceback" not in said


@pytest.mark.parametrize("wait_s", [0.0, 0.1, 0.2, 0.4])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_interrupt_in_the_first_seconds_is_silent(
    tmp_path: Path, wait_s: float, number: signal.Signals
) -> None:
    toy.plan(tmp_path, **{name: {"steps": 3000} for name in "abcd"})
    driver = start_driver(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: children(driver.pid))  # the resource tracker or a worker is there
    time.sleep(wait_s)
    os.killpg(driver.pid, number)
    output, errors = driver.communicate(timeout=30)
    assert (driver.returncode, output, errors) == (130, "", "")


def children(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


def test_signals_stay_blocked_while_the_first_worker_is_started() -> None:
    """In a process that has started none: whatever else is started then could let them through."""
    code = (
        "import signal, toy\n"
        "from study.runs import workers as launch\n"
        "start, seen = launch.SPAWN.Process.start, []\n"
        "def started(process):\n"
        "    start(process)\n"
        "    seen.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
        "launch.SPAWN.Process.start = started\n"
        "with launch.Notice() as notice:\n"
        "    dispatcher = launch.Dispatcher(toy.train, notice, 1, 1)\n"
        "    with dispatcher.closing():\n"
        "        dispatcher.start_worker()\n"
        "print(set(launch.SIGNALS) <= seen[0], signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": f"{HERE}:{HERE.parent}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True set()\n"


def test_what_is_ignored_stays_ignored() -> None:
    """nohup, and a shell's &."""
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Notice(signal.SIGHUP, signal.SIGUSR2) as notice:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not notice.given
        os.kill(os.getpid(), signal.SIGUSR2)
        assert notice.given
    assert signal.signal(signal.SIGHUP, former) is signal.SIG_IGN


def test_a_run_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [folder] = toy.plan(tmp_path, a={"steps": 500})
    monkeypatch.setattr(steps, "WRITE_EVERY_S", 0.0)
    attempt(folder, toy.train, lambda: at_step(folder, 5), retries=0)
    assert steps.reached(folder).step == 5
    assert there(steps.reached(folder).rate) > 1

    def goes_on(
        folder: Path, interrupted: Callable[[], bool], require_held: Callable[[], None]
    ) -> str:
        files.write_json(folder / "progress.json", {"step": 40})  # as training does, at its start
        assert not interrupted()
        assert interrupted()
        return "interrupted"

    answers = iter([False, True])
    attempt(folder, goes_on, lambda: next(answers), retries=0)
    assert steps.reached(folder).step == 42
    assert there(last_claim(folder)).read().state == "released"
    (folder / "progress.json").write_text("[")
    assert steps.reached(folder) == (0, None)

"""Sweeps on a real SLURM, started on this machine; what needs none comes first."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
import tiny
import toy
from there import there

from study import files
from study.errors import StudyError
from study.runs import orders, slurm
from study.runs.claim import JOB, JOB_START, last_claim
from study.runs.driver import NotNow
from study.runs.folder import State, is_open, state_of, take
from study.runs.resources import Resources, read_resources
from study.runs.workers import Dispatcher, Train

HERE = Path(__file__).parent
ONE_MACHINE = HERE.parent / "slurm/one_machine.sh"
RESOURCES = read_resources(HERE.parent / "slurm/one_machine.toml")


# ---- without SLURM -------------------------------------------------------------------------------


def resources(tmp_path: Path, text: str) -> Resources:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return read_resources(path)


def test_a_resource_file_is_read(tmp_path: Path) -> None:
    found = resources(
        tmp_path, 'runs_per_job = 8\nruns_at_once = 4\ngpus_per_node = 1\nslurm_python = "py"\n'
    )
    assert found == Resources(8, 4, 100, {"slurm_python": "py"}, {"gpus_per_node": 1})
    assert found.runs_together == 400


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("", "cpu"),
        ("gpus_per_node = 0", "cpu"),
        ("gpus_per_node = 1", "cuda"),
        ("slurm_gpus_per_task = 1", "cuda"),
        ('slurm_gpus_per_node = "a100:2"', "cuda"),
        ("slurm_num_gpus = 1", "cuda"),
        ("slurm_cpus_per_gpu = 4", "cpu"),
        ('slurm_gres = "gpu:a100:1"', "cuda"),
        ('slurm_gres = "gpu"', "cuda"),
        ('slurm_gres = "gpu:0"', "cpu"),
        ('slurm_gres = "license:1"', "cpu"),
        ('slurm_gres = "shard:2"', "cuda"),
        ("slurm_additional_parameters = { gpus = 1 }", "cuda"),
        ('slurm_additional_parameters = { gres = "gpu:1" }', "cuda"),
        ('slurm_additional_parameters = { "gpus-per-task" = "v100:1" }', "cuda"),
        ('slurm_additional_parameters = { tres_per_task = "gres/gpu:1" }', "cuda"),
        ('slurm_additional_parameters = { "tres-per-node" = "gres/shard:1" }', "cuda"),
        ("slurm_additional_parameters = { nice = 100 }", "cpu"),
        ('slurm_srun_args = ["--gpus=1"]', "cuda"),
        ('slurm_srun_args = ["--gres=gpu:1"]', "cuda"),
        ('slurm_partition = "gpu"', "cpu"),
        ('slurm_partition = "gpu"\ndevice = "cuda"', "cuda"),
        ('gpus_per_node = 1\ndevice = "cpu"', "cpu"),
        ('slurm_constraint = "a100"', "cpu"),
    ],
)
def test_jobs_that_ask_for_a_gpu_train_on_it(tmp_path: Path, text: str, device: str) -> None:
    assert resources(tmp_path, text).device == device


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runs_per_jobs = 2", "unknown key 'runs_per_jobs'; did you mean 'runs_per_job'?"),
        ("slurm_partiton = 'x'", "unknown key 'slurm_partiton'; did you mean 'slurm_partition'?"),
        ("runs_per_job = 0", "runs_per_job = 0: must be a whole number, 1 or more"),
        ("slurm_cpus_per_task = 0", "slurm_cpus_per_task = 0: must be a whole number, 1 or more"),
        ("slurm_gpus_per_node = -1", "slurm_gpus_per_node = -1: must be a whole number or a text"),
        ("max_jobs = true", "max_jobs = True: must be a whole number, 1 or more"),
        ("runs_at_once = 1.5", "runs_at_once = 1.5: must be a whole number, 1 or more"),
        (
            'gpus_per_node = "a100:1"',
            "gpus_per_node = 'a100:1': must be a whole number, 0 or more; a kind of GPU is "
            'slurm_gpus_per_node = "a100:1"',
        ),
        ('timeout_min = "08:00:00"', "timeout_min = '08:00:00': must be a whole number, 1 or more"),
        ("timeout_min = 0", "timeout_min = 0: must be a whole number, 1 or more"),
        ('slurm_time = "1-0"', "slurm_time = '1-0': must be a whole number"),
        ('mem_gb = "24GB"', "mem_gb = '24GB': must be a number, 0 or more"),
        ("mem_gb = -1", "mem_gb = -1: must be a number, 0 or more"),
        ('cpus_per_task = "4"', "cpus_per_task = '4': must be a whole number, 1 or more"),
        (
            'slurm_setup = "module load cuda"',
            "slurm_setup = 'module load cuda': must be a list of texts, as [\"module load cuda\"]",
        ),
        ("slurm_setup = [1]", "slurm_setup = [1]: must be a list of texts"),
        ("slurm_partition = 3", "slurm_partition = 3: must be a text in quotes"),
        ("slurm_exclusive = 2", "slurm_exclusive = 2: must be true or false or a text in quotes"),
        ('slurm_use_srun = "no"', "slurm_use_srun = 'no': must be true or false"),
        ("slurm_additional_parameters = 3", "slurm_additional_parameters = 3: must be a table"),
        ("slurm_python = 3", "slurm_python = 3: must be a text in quotes"),
        ("slurm_signal_delay_s = -1", "slurm_signal_delay_s = -1: must be a whole number, 0 or"),
        ("device = 1", "device = 1: must be a text in quotes"),
        ("name = 'x'", "unknown key 'name'"),
        ("x =", "not valid TOML: "),
        ("x = " + 3000 * "[", "not valid TOML: "),
        ("mem_gb = nan", "mem_gb = nan: must be a number, 0 or more"),
        ("mem_gb = inf", "mem_gb = inf: must be a number, 0 or more"),
    ],
)
def test_a_wrong_resource_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        resources(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/mine.toml: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_resource_file_in_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "mine.toml").write_bytes("# für".encode(encoding))
    with pytest.raises(StudyError, match=r"mine.toml: not UTF-8 .*; save it with that encoding"):
        read_resources(tmp_path / "mine.toml")


def test_what_submitit_refuses_is_not_accepted_here(tmp_path: Path) -> None:
    """Every key that the shipped files name goes through submitit as it is."""
    for path in (HERE.parent / "slurm").glob("*.toml"):
        found = read_resources(path)
        slurm.sbatch_text(found, tmp_path, 2)


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("timeout_min = 30\nslurm_signal_delay_s = 1800", True),
        ("timeout_min = 30\nslurm_signal_delay_s = 1799", False),
        ("slurm_time = 1", True),  # submitit's own warning comes 90 s before the end
        ("slurm_time = 2", False),
        ("", False),
    ],
)
def test_a_warning_longer_than_a_jobs_life_is_said(tmp_path: Path, text: str, warned: bool) -> None:
    warning = resources(tmp_path, text).warning
    assert (warning is not None) == warned
    if warned:
        assert "goes back into the queue with no step done" in there(warning)


def test_what_is_wrong_with_jobs_is_told_while_they_are_there(
    pretended: Path, tmp_path: Path
) -> None:
    parameters = {"timeout_min": 1, "slurm_signal_delay_s": 60}
    submit(tmp_path, some_runs(tmp_path), parameters=parameters)
    orders.write_order(tmp_path / "jobs/study-00000000", orders.Order([], {}))
    [warning] = orders.warnings(tmp_path / "jobs")
    assert warning.startswith("slurm_signal_delay_s = 60 is no less than a job's life of 1 min")


def test_an_order_of_before_there_was_a_word_for_it_was_sent(tmp_path: Path) -> None:
    (tmp_path / "order.json").write_text('{"jobs": [["a", "b"], ["c"]]}')
    found = orders.read_order(tmp_path)
    assert found == orders.Order([[Path("a"), Path("b")], [Path("c")]], {}, True, None)
    orders.write_order(tmp_path, found._replace(sent=False))
    assert not orders.read_order(tmp_path).sent


def test_a_missing_resource_file_is_named() -> None:
    with pytest.raises(StudyError, match=r"nowhere.toml: No such file .*has: gpu.toml, one_mach"):
        read_resources(Path("nowhere.toml"))


def test_no_slurm_on_the_path_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StudyError, match=r"no 'scontrol' on this machine's PATH: .*CLUSTER=local"):
        slurm.array_limit()


def test_slurms_own_message_is_passed_on() -> None:
    with pytest.raises(StudyError, match=r"'ls /nowhere' failed: ls: cannot access"):
        slurm.ask("ls", "/nowhere")


def test_an_order_that_a_node_cannot_see_is_said(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"order.json cannot be read on .*disk that the nodes sha"):
        orders.read_order(tmp_path)


# ---- with commands that pretend to be SLURM's ----------------------------------------------------


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands: what each prints lies in NAME.out, its exit status in NAME.code.

    sbatch puts one job into the queue; squeue fails as often as squeue.fails says.
    """
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {
        "squeue": f"""
n=$(cat {folder}/squeue.fails 2>/dev/null || echo 0)
if [ "$n" -gt 0 ]; then echo $((n - 1)) >{folder}/squeue.fails
echo "slurm_load_jobs error: Socket timed out on send/recv operation" >&2; exit 1; fi
cat {folder}/squeue.out 2>/dev/null || true""",
        "scontrol": f"cat {folder}/scontrol.out",
        "sbatch": f"""
echo "$@" >>{folder}/sbatch.log
[ -s {folder}/sbatch.err ] && {{ cat {folder}/sbatch.err >&2; exit 1; }}
name=$(grep -h -- "--job-name" "${{@: -1}}" | cut -d= -f2)
size=$(grep -h -- "--array" "${{@: -1}}" | sed -E "s/.*0-([0-9]+)%.*/\\1/")
if [ -n "$size" ]; then for i in $(seq 0 $size); do echo "$name|7_$i|PENDING|None"; done
else echo "$name|7|PENDING|None"; fi >>{folder}/squeue.out
echo 'Submitted batch job 7'""",
        "scancel": f'echo "$@" >>{folder}/scancel.log; rm -f {folder}/squeue.out',
        "srun": "exit 0",
    }
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
        (folder / name).chmod(0o755)
    (folder / "scontrol.out").write_text("MaxArraySize            = 1001\n")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    (tmp_path / "jobs").mkdir()
    return folder


def some_runs(tmp_path: Path, count: int = 3) -> list[Path]:
    return toy.plan(tmp_path, **{f"{number:03d}": {} for number in range(count)})


def order_of(tmp_path: Path) -> Path:
    [path] = (tmp_path / "jobs").glob("study-*")
    return path


def empty_queue(pretended: Path) -> None:
    (pretended / "squeue.out").unlink()


@pytest.mark.parametrize(("size", "limit"), [("0", 1), ("1", 1), ("4", 4), ("100001", 1000)])
def test_arrays_are_as_long_as_the_cluster_lets_them(
    pretended: Path, size: str, limit: int
) -> None:
    (pretended / "scontrol.out").write_text(f"MaxArraySize            = {size}\n")
    assert slurm.array_limit() == limit


@pytest.mark.parametrize(("size", "batches"), [("0", 3), ("2", 2), ("4", 1)])
def test_without_arrays_jobs_go_out_one_by_one(
    pretended: Path, tmp_path: Path, size: str, batches: int
) -> None:
    (pretended / "scontrol.out").write_text(f"MaxArraySize            = {size}\n")
    folders = some_runs(tmp_path)
    submit(tmp_path, folders)
    assert len((pretended / "sbatch.log").read_text().splitlines()) == batches
    assert set(jobs_of(tmp_path).queued()) == set(folders)


def test_each_order_is_read_once(
    pretended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(tmp_path, some_runs(tmp_path, 24), runs_per_job=8)
    reads = []

    def read_order(path: Path) -> orders.Order:
        reads.append(path)
        return orders.read_order(path)

    monkeypatch.setattr(slurm, "read_order", read_order)
    jobs = jobs_of(tmp_path)
    for _ in range(3):
        assert len(jobs.queued()) == 24
    assert len(reads) == 1


def test_an_order_is_for_its_user_alone(pretended: Path, tmp_path: Path) -> None:
    former = os.umask(0o002)
    submit(tmp_path, some_runs(tmp_path))
    os.umask(former)
    assert order_of(tmp_path).stat().st_mode & 0o777 == 0o700


def test_a_second_driver_submits_nothing_twice_and_takes_nothing_away(
    pretended: Path, tmp_path: Path
) -> None:
    folders = some_runs(tmp_path)
    first, second = jobs_of(tmp_path), jobs_of(tmp_path)
    first.submit(folders)
    second.report_former()
    second.submit(folders)
    assert len((pretended / "sbatch.log").read_text().splitlines()) == 1
    assert (order_of(tmp_path) / "order.json").exists()


def test_submitting_is_one_block_for_all_drivers(pretended: Path, tmp_path: Path) -> None:
    """A driver that looks while another is between its order and sbatch's answer waits."""
    folders = some_runs(tmp_path)
    (pretended / "sbatch").write_text(
        (pretended / "sbatch").read_text().replace("\necho", f"\nsleep 1; ls {tmp_path}/jobs/*/"
                                                   f" >{tmp_path}/seen\necho", 1)
    )  # fmt: skip
    code = (
        "import sys; from pathlib import Path; from test_slurm import jobs_of; import toy\n"
        "jobs_of(Path(sys.argv[1])).submit([Path(each) for each in sys.argv[2:]])"
    )
    environment = os.environ | {"PYTHONPATH": f"{HERE}:{HERE.parent}"}
    command: list[str | Path] = [sys.executable, "-c", code, tmp_path, *folders]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as other:
        until(lambda: list((tmp_path / "jobs").glob("study-*/order.json")))
        assert set(jobs_of(tmp_path).queued()) == set(folders)
        assert other.communicate()[0] == "3 runs submitted in 2 jobs; in the queue before: 0\n"
    assert "order.json" in (tmp_path / "seen").read_text()


def test_a_squeue_that_fails_is_no_end(pretended: Path, tmp_path: Path) -> None:
    submit(tmp_path, some_runs(tmp_path))
    jobs = jobs_of(tmp_path)
    (pretended / "squeue.fails").write_text("1")
    with pytest.raises(NotNow, match=r"squeue.* failed: Socket timed out on send/recv operation"):
        jobs.queued()
    assert len(jobs.queued()) == 3


def test_an_sbatch_that_times_out_may_have_been_heard(pretended: Path, tmp_path: Path) -> None:
    folders = some_runs(tmp_path)
    jobs = jobs_of(tmp_path)
    (pretended / "sbatch.err").write_text("sbatch: error: Batch job submission failed: Socket "
                                          "timed out on send/recv operation")  # fmt: skip
    with pytest.raises(NotNow, match="Socket timed out"):
        jobs.submit(folders)
    name = order_of(tmp_path).name
    (pretended / "squeue.out").write_text(f"{name}|8_0|RUNNING|None\n{name}|8_1|PENDING|None\n")
    assert len(jobs.queued()) == 3
    empty_queue(pretended)
    assert jobs.queued() == {}  # nothing is missed: whether it was sent was never known
    assert not list((tmp_path / "jobs").glob("study-*/order.json"))


def test_jobs_that_died_before_they_took_a_run_are_heard(
    pretended: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = some_runs(tmp_path)
    submit(tmp_path, folders)
    for task in range(3):
        (order_of(tmp_path) / f"7_{task}_0_log.out").write_text("")
    (order_of(tmp_path) / "7_1_0_log.err").write_text(
        "bash: line 3: modul: command not found\nslurmstepd: error: task exited\n\n"
    )
    empty_queue(pretended)
    jobs_of(tmp_path).report_former()
    said = capsys.readouterr().err
    assert said.startswith(
        "last time no run of some jobs was taken: slurmstepd: error: task exited ("
    )
    jobs_of(tmp_path).report_former()
    assert capsys.readouterr().err == ""  # each is told once


def test_jobs_that_took_a_run_are_not_complained_of(
    pretended: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = some_runs(tmp_path)
    submit(tmp_path, folders)
    for task in range(3):
        (order_of(tmp_path) / f"7_{task}_0_log.out").write_text("")
    there(take(folders[2])).end("released")
    empty_queue(pretended)
    jobs_of(tmp_path).report_former()
    assert capsys.readouterr().err == ""


def test_a_driver_heeds_that_the_sweep_was_cancelled(pretended: Path, tmp_path: Path) -> None:
    waiting = jobs_of(tmp_path)
    submit(tmp_path, some_runs(tmp_path))
    assert len(waiting.queued()) == 3
    assert slurm.cancel(tmp_path / "jobs") == 3
    assert (pretended / "scancel.log").read_text() == "7_0 7_1 7_2\n"
    with pytest.raises(StudyError, match="the sweep was cancelled"):
        waiting.queued()
    assert jobs_of(tmp_path).queued() == {}  # the same command, given again


def test_cancelling_while_slurm_is_silent_leaves_the_waiting_driver(
    pretended: Path, tmp_path: Path
) -> None:
    """Its jobs stay, and would have nobody to wait for them."""
    waiting = jobs_of(tmp_path)
    submit(tmp_path, some_runs(tmp_path))
    (pretended / "squeue.fails").write_text("1")
    with pytest.raises(NotNow, match="Socket timed out"):
        slurm.cancel(tmp_path / "jobs")
    assert not (tmp_path / "jobs/cancelled").exists()
    assert not (pretended / "scancel.log").exists()
    assert len(waiting.queued()) == 3
    assert slurm.cancel(tmp_path / "jobs") == 3
    with pytest.raises(StudyError, match="the sweep was cancelled"):
        waiting.queued()


def test_held_jobs_are_said_once_and_waited_for(
    pretended: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(tmp_path, some_runs(tmp_path))
    text = (pretended / "squeue.out").read_text()
    (pretended / "squeue.out").write_text(text.replace("|None", "|JobHeldUser"))
    jobs = jobs_of(tmp_path)
    assert len(jobs.queued()) == len(jobs.queued()) == 3
    said = capsys.readouterr().err
    assert said == "held jobs wait until `scontrol release`: 3 JobHeldUser\n"
    (pretended / "squeue.out").write_text(text)
    assert len(jobs.queued()) == 3
    assert capsys.readouterr().err == ""


def test_the_jobs_of_others_are_not_ours(pretended: Path, tmp_path: Path) -> None:
    (pretended / "squeue.out").write_text("a|b|1|RUNNING|None\nstudy-12345678|2|RUNNING|None\n\n")
    assert jobs_of(tmp_path).queued() == {}


def test_orders_from_other_hands_are_one_line(pretended: Path, tmp_path: Path) -> None:
    folder = tmp_path / "jobs/study-00000000"
    folder.mkdir()
    (pretended / "squeue.out").write_text(f"{folder.name}|7_3|RUNNING|None\n")
    for content in ("[]", '{"jobs": 3}', '{"jobs": [[3]]}', '{"jobs": [], "attempts": [1]}'):
        (folder / "order.json").write_text(content)
        with pytest.raises(StudyError, match=r"order.json cannot be read"):
            jobs_of(tmp_path).queued()
    (folder / "order.json").write_text('{"jobs": []}')
    assert jobs_of(tmp_path).queued() == {}


def test_a_job_looks_after_its_runs_while_it_carries_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops once too many of all runs of its array have failed, or it was started again."""
    folders = some_runs(tmp_path)
    orders.write_order(tmp_path, orders.Order([folders[:2], folders[2:]], {}))
    looks: list[Callable[[], None]] = []

    def carry(self: Dispatcher, runs: Sequence[Path], watch: Callable[[], None]) -> None:
        assert list(runs) == folders[:2]
        looks.append(watch)

    monkeypatch.setattr(Dispatcher, "carry", carry)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv(JOB, "")
    monkeypatch.setenv(JOB_START, "")
    slurm.Job(tmp_path, 0, toy.train, 1, 9, max_failures=2)()
    [look] = looks
    assert os.environ[JOB] == "7"
    attempts = [there(take(folder, retries=9)) for folder in folders]
    look()
    for number in (2, 0):
        attempts[number].end("failed", "no")
    with pytest.raises(StudyError, match=r"^2 runs failed, the sweep stops"):
        look()

    def stale(path: Path) -> NoReturn:
        raise OSError(116, "Stale file handle", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(files, "read_bytes", stale)
        look()  # one look that sees nothing is no end
    later = there(files.read_json(folders[1] / "claim.1.json")) | {"job_start": "3"}
    files.write_json(folders[1] / "claim.1.json", later)
    with pytest.raises(StudyError, match="this job has been started again elsewhere: it gives"):
        look()


def test_array_jobs_are_known_by_array_and_task(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    assert slurm.identity() == {"STUDY_JOB": "9", "STUDY_JOB_START": "0"}
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    assert slurm.identity() == {"STUDY_JOB": "7_2", "STUDY_JOB_START": "3"}


# ---- with SLURM ----------------------------------------------------------------------------------


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain\n{shell('squeue', '--array')}"
        time.sleep(0.2)


def shell(*command: str | Path) -> str:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=True
    ).stdout.strip()


@contextlib.contextmanager
def running_cluster(folder: Path, port: int, *options: str) -> Iterator[None]:
    """A SLURM of its own, which this process's environment points at."""
    if shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("slurmctld is not installed: apt-get install slurm-wlm")
    former = dict(os.environ)
    os.environ["STUDY_CLUSTER_DIR"], os.environ["STUDY_CLUSTER_PORT"] = str(folder), str(port)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    os.environ["PYTHONPATH"] = f"{HERE}:{HERE.parent}"
    try:
        shell(ONE_MACHINE, "start", *options)
        yield
    finally:
        shell(ONE_MACHINE, "stop")
        os.environ.clear()
        os.environ.update(former)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), 17200):
        yield


@pytest.fixture
def empty(cluster: None) -> Iterator[None]:
    """A cluster without jobs."""
    yield
    shell("scancel", "--me")
    until(lambda: not slurm.queue())


def submit(
    tmp_path: Path, folders: list[Path], train: Train = toy.train, retries: int = 1, **changes: Any
) -> Any:
    chosen = RESOURCES._replace(**{"runs_per_job": 1} | changes)
    (tmp_path / "jobs").mkdir(exist_ok=True)
    return slurm.Jobs(tmp_path / "jobs", chosen, train, retries, 100).send(folders)


def jobs_of(tmp_path: Path) -> slurm.Jobs:
    return slurm.Jobs(tmp_path / "jobs", RESOURCES, toy.train, 1, 100)


def silent(tmp_path: Path) -> Any:
    return jobs_of(tmp_path).settle(slurm.queue())


def states(folders: list[Path]) -> list[State]:
    return [state_of(folder) for folder in folders]


def numbers(folders: list[Path]) -> list[float]:
    return [json.loads((folder / "result.json").read_text())["x"] for folder in folders]


def log(folder: Path) -> str:
    return (folder / "log.txt").read_text() if (folder / "log.txt").exists() else ""


def at_step(folder: Path, step: int) -> bool:
    state = files.read_json(folder / "checkpoint.json")
    return state is not None and state["step"] >= step


def state_in_queue(job: str) -> str:
    return shell("squeue", "--me", "--noheader", "--array", f"--jobs={job}", "--format=%T")


def steps_run() -> bool:
    """Whether the nodes still hold a step of any job."""
    found = subprocess.run(["pgrep", "--full", "^slurmstepd"], capture_output=True, check=False)
    return found.returncode == 0


def start_now(job: str) -> None:
    """Not to wait the two minutes that SLURM holds a job after a requeue."""
    until(lambda: state_in_queue(job) == "PENDING")
    time.sleep(2.5)  # sooner, and SLURM fails the job
    shell("scontrol", "update", f"jobid={job}", "StartTime=now")


@pytest.mark.slurm
def test_arrays_longer_than_the_limit_and_a_run_that_raises(empty: None, tmp_path: Path) -> None:
    names = [f"{number:03d}" for number in range(26)]
    folders = toy.plan(tmp_path, **{name: {} for name in names} | {"003": {"raises": "no"}})
    jobs = submit(tmp_path, folders, runs_per_job=2, max_jobs=4)
    assert len(jobs) == 13
    assert len({job.split("_")[0] for job in jobs}) == 2
    assert set(jobs_of(tmp_path).queued()) == set(folders)
    until(lambda: not slurm.queue(), 120)
    assert states(folders) == ["failed" if name == "003" else "ok" for name in names]
    others = [folder for folder in folders if folder.name != "003"]
    assert numbers(others) == [toy.expected()] * 25
    assert [there(last_claim(folder)).number for folder in others] == [1] * 25
    assert there(last_claim(folders[3])).number == 2
    assert silent(tmp_path) == 0


@pytest.mark.slurm
def test_jobs_killed_from_outside_are_noticed_and_processes_killed_are_replaced(
    empty: None, tmp_path: Path
) -> None:
    folders = toy.plan(tmp_path, a={"steps": 9000}, b={"steps": 300}, c={"dies": True}, d={})
    one, _ = submit(tmp_path, folders, runs_per_job=2, runs_at_once=2, max_jobs=2)
    until(lambda: at_step(folders[0], 2) and at_step(folders[1], 2) and at_step(folders[3], 20))
    os.kill(there(files.read_json(folders[1] / "claim.1.json"))["pid"], signal.SIGKILL)
    until(lambda: states(folders) == ["running", "ok", "failed", "ok"])
    assert numbers([folders[1], folders[3]]) == [toy.expected(300), toy.expected()]
    assert there(last_claim(folders[2])).number == 2
    shell("scancel", "--signal=KILL", "--full", one)
    until(lambda: states(folders)[0] == "lost")
    until(lambda: not slurm.queue())
    assert is_open(folders[0], retries=1)


@pytest.mark.slurm
def test_cancel_takes_this_sweeps_jobs_alone(empty: None, tmp_path: Path) -> None:
    ours = toy.plan(tmp_path / "a", a={"steps": 9000}, b={"steps": 9000})
    theirs = toy.plan(tmp_path / "b", a={"steps": 9000})
    submit(tmp_path / "a", ours)
    [other] = submit(tmp_path / "b", theirs)
    until(lambda: at_step(ours[0], 2) and at_step(theirs[0], 2))
    assert slurm.cancel(tmp_path / "a/jobs") == 2
    until(lambda: [[each.number for each in jobs] for jobs in slurm.queue().values()] == [[other]])
    until(lambda: states(ours[:1]) == ["lost"])
    assert states(theirs) == ["running"]


@pytest.mark.slurm
def test_a_warned_job_checkpoints_goes_back_into_the_queue_and_goes_on(
    empty: None, tmp_path: Path
) -> None:
    folders = toy.plan(tmp_path, a={"steps": 400}, b={"steps": 400}, c={})
    [job] = submit(tmp_path, folders, runs_per_job=3, runs_at_once=2)
    until(lambda: at_step(folders[0], 5) and at_step(folders[1], 5))
    with subprocess.Popen(["scancel", "--signal=USR2", job]) as signalling:
        until(lambda: states(folders) == ["to do"] * 3)
        signalling.kill()  # it would repeat itself for a minute
    start_now(job)
    until(lambda: not slurm.queue())
    assert states(folders) == ["ok"] * 3
    assert numbers(folders[:2]) == [toy.expected(400)] * 2
    second = there(files.read_json(folders[0] / "claim.2.json"))
    assert (second["job"], second["job_start"]) == (job, "1")
    assert "from step 0 " not in log(folders[0]).split("attempt 2 starts")[1]


@pytest.mark.slurm
def test_a_node_that_goes_down_costs_its_runs_nothing(empty: None, tmp_path: Path) -> None:
    [folder] = toy.plan(tmp_path, a={"steps": 600})
    [job] = submit(tmp_path, [folder], retries=0)
    until(lambda: at_step(folder, 5))
    node = shell("squeue", "--me", "--noheader", "--format=%N")
    shell("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    until(lambda: states([folder]) == ["lost"])
    until(lambda: not steps_run())  # back sooner, the node would kill the job's next start too
    shell("scontrol", "update", f"nodename={node}", "state=resume")
    start_now(job)
    until(lambda: not slurm.queue())
    assert numbers([folder]) == [toy.expected(600)]
    assert there(files.read_json(folder / "claim.1.json"))["state"] == "released"
    assert there(files.read_json(folder / "claim.2.json"))["job_start"] == "1"
    assert "from step 0 " not in log(folder).split("attempt 2 starts")[1]


@pytest.mark.slurm
def test_a_controller_that_restarts_costs_nothing(empty: None, tmp_path: Path) -> None:
    folders = toy.plan(tmp_path, a={"waits_at": 5}, b={"waits_at": 5})
    submit(tmp_path, folders, max_jobs=2)
    until(lambda: at_step(folders[0], 5) and at_step(folders[1], 5))
    jobs, before = jobs_of(tmp_path), len(jobs_of(tmp_path).queued())
    controller = int((Path(os.environ["STUDY_CLUSTER_DIR"]) / "slurmctld.pid").read_text())
    os.kill(controller, signal.SIGTERM)
    until(lambda: files.process_start(controller) is None)
    try:
        with pytest.raises(NotNow):
            jobs.queued()
        assert states(folders) == ["running"] * 2
    finally:
        shell(ONE_MACHINE, "start")
    until(slurm.queue)
    assert before == len(jobs.queued()) == 2
    for folder in folders:
        (folder / "go").touch()
    until(lambda: not slurm.queue())
    assert states(folders) == ["ok"] * 2
    assert numbers(folders) == [toy.expected()] * 2
    assert [there(last_claim(folder)).number for folder in folders] == [1] * 2
    assert jobs.queued() == {}


@pytest.mark.slurm
def test_jobs_that_are_held_wait_until_they_are_released(
    empty: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = toy.plan(tmp_path, a={}, b={})
    parameters = RESOURCES.parameters | {"slurm_additional_parameters": {"hold": True}}
    one, other = submit(tmp_path, folders, parameters=parameters)
    jobs = jobs_of(tmp_path)
    until(lambda: jobs.queued() and "2 JobHeldUser" in capsys.readouterr().err)
    shell("scontrol", "release", other)
    until(lambda: states(folders) == ["to do", "ok"])
    until(lambda: list(jobs.queued()) == folders[:1])
    assert capsys.readouterr().err == "held jobs wait until `scontrol release`: 1 JobHeldUser\n"
    shell("scontrol", "release", one)
    until(lambda: not jobs.queued())
    assert states(folders) == ["ok", "ok"]
    assert capsys.readouterr().err == ""


@pytest.mark.slurm
def test_pretended_gpus_are_given_to_jobs_and_shared(empty: None, tmp_path: Path) -> None:
    folders = toy.plan(tmp_path, **{name: {"step_s": 0.1} for name in "abcd"})
    parameters = RESOURCES.parameters | {"gpus_per_node": 1}
    submit(tmp_path, folders, runs_per_job=2, runs_at_once=2, max_jobs=4, parameters=parameters)
    until(lambda: not slurm.queue())
    gpus = [log(folder).split("on GPU ")[1].splitlines()[0] for folder in folders]
    assert gpus[0] == gpus[1]
    assert gpus[2] == gpus[3]
    assert set(gpus) <= {"0", "1"}
    assert states(folders) == ["ok"] * 4


@pytest.mark.slurm
def test_what_sbatch_refuses_is_passed_on_and_leaves_nothing(empty: None, tmp_path: Path) -> None:
    folders = toy.plan(tmp_path, a={})
    parameters = RESOURCES.parameters | {"slurm_partition": "nope"}
    with pytest.raises(StudyError, match=r"^sbatch refused: .*invalid partition.*nope"):
        submit(tmp_path, folders, parameters=parameters)
    assert os.listdir(tmp_path / "jobs") == []


@pytest.mark.slurm
def test_a_results_folder_that_the_nodes_cannot_see_is_noticed(empty: None, tmp_path: Path) -> None:
    folders = toy.plan(tmp_path, a={})
    parameters = RESOURCES.parameters | {"slurm_additional_parameters": {"begin": "now+4"}}
    submit(tmp_path, folders, parameters=parameters)
    (tmp_path / "jobs").rename(tmp_path / "elsewhere")
    until(lambda: not slurm.queue())
    (tmp_path / "elsewhere").rename(tmp_path / "jobs")
    assert silent(tmp_path) == 1
    assert silent(tmp_path) == 0
    assert states(folders) == ["to do"]


@pytest.mark.slurm
def test_a_driver_dies_after_submitting_and_the_next_finishes_the_sweep(
    empty: None, tmp_path: Path
) -> None:
    """The command line and the real training: the table equals an undisturbed local sweep's.

    The jobs are held until the next driver has found them in the queue.
    """
    import pandas as pd

    held = tmp_path / "held.toml"
    held.write_text(ONE_MACHINE.with_suffix(".toml").read_text() +
                    "\nslurm_additional_parameters = { hold = true }\n")  # fmt: skip
    tables = []
    for name in ("slurm", "local"):
        environment = tiny.environment(tmp_path / name, trials=3, steps=40, every=20)
        command = [sys.executable, f"{HERE}/tiny.py", "sweep", "--sweep", "tiny", "--device", "cpu"]
        if name == "slurm":
            command += ["--cluster", "slurm", "--resources", str(held)]
            first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            assert (
                there(first.stdout).readline()
                == "3 runs submitted in 2 jobs; in the queue before: 0\n"
            )
            first.kill()
            first.wait()
            command += ["--wait"]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True
        ) as driver:
            if name == "slurm":
                assert there(driver.stdout).readline() == "in the queue already: 3\n"
                for job in set(shell("squeue", "--me", "-h", "-O", "ArrayJobID").split()):
                    shell("scontrol", "release", job)
            text, _ = driver.communicate()
        assert driver.returncode == 0
        assert "submitted in" not in text
        tables.append(pd.read_parquet(tmp_path / name / "results/tiny.parquet"))
    assert len(tables[0]) == 6
    one, other = (table.drop(columns="wall_s") for table in tables)
    pd.testing.assert_frame_equal(one, other)


@pytest.mark.slurm
def test_jobs_that_die_before_they_take_a_run_stop_the_waiting_driver(
    empty: None, tmp_path: Path
) -> None:
    environment = tiny.environment(tmp_path, trials=2, steps=40, every=20)
    broken = tmp_path / "broken.toml"
    broken.write_text(ONE_MACHINE.with_suffix(".toml").read_text() +
                      '\nslurm_setup = ["echo no such module >&2", "exit 3"]\n')  # fmt: skip
    command = [sys.executable, f"{HERE}/tiny.py", "sweep", "--sweep", "tiny", "--device", "cpu"]
    done = subprocess.run(
        [*command, "--cluster", "slurm", "--resources", str(broken), "--wait"],
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2
    assert re.search(r"error: no run was taken: no such module \(.*_log.err\)", done.stderr)
    assert done.stdout.count("submitted in") == 1


@pytest.mark.slurm
def test_cancel_ends_a_waiting_driver_too(empty: None, tmp_path: Path) -> None:
    environment = tiny.environment(tmp_path, trials=2, steps=40_000, every=40_000)
    command = [sys.executable, f"{HERE}/tiny.py"]
    options = ["--sweep", "tiny", "--device", "cpu", "--cluster", "slurm", "--wait"]
    waiting = subprocess.Popen([*command, "sweep", *options], env=environment, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    assert there(waiting.stdout).readline() == "2 runs submitted in 1 job; in the queue before: 0\n"
    cancel = [*command, "cancel", "--sweep", "tiny"]
    said = subprocess.run(cancel, env=environment, capture_output=True, text=True, check=True)
    assert said.stdout == "tiny: 1 job cancelled\n"
    output, errors = waiting.communicate(timeout=120)
    assert waiting.returncode == 2
    assert "error: the sweep was cancelled; `make sweep` goes on from here\n" in errors
    assert "submitted in" not in output
    until(lambda: not slurm.queue())


@pytest.mark.slurm
def test_with_accounting_it_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    if shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("mariadbd is not installed: apt-get install mariadb-server slurmdbd ...")
    with running_cluster(tmp_path_factory.mktemp("accounting"), 17300, "--accounting"):
        folders = toy.plan(tmp_path, a={}, b={})
        [first, _] = submit(tmp_path, folders)
        until(lambda: not slurm.queue())
        assert numbers(folders) == [toy.expected()] * 2
        until(lambda: "COMPLETED" in shell("sacct", "-nXj", first, "--format=State"))

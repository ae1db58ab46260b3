"""Sweeps on a real SLURM, started on this machine; what needs none comes first."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
import toy

from study import files
from study.errors import StudyError
from study.runs import orders, slurm
from study.runs.claim import last_claim
from study.runs.folder import is_open, state_of
from study.runs.resources import Resources, read_resources

HERE = Path(__file__).parent
ONE_MACHINE = HERE.parent / "slurm/one_machine.sh"
RESOURCES = read_resources(HERE.parent / "slurm/one_machine.toml")


# ---- without SLURM -------------------------------------------------------------------------------


def resources(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return read_resources(path)


def test_a_resource_file_is_read(tmp_path):
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
        ('slurm_gres = "gpu:a100:1"', "cuda"),
        ('slurm_gres = "license:1"', "cpu"),
    ],
)
def test_jobs_that_ask_for_a_gpu_train_on_it(tmp_path, text, device):
    assert resources(tmp_path, text).device == device


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runs_per_jobs = 2", "unknown key 'runs_per_jobs'; did you mean 'runs_per_job'?"),
        ("slurm_partiton = 'x'", "unknown key 'slurm_partiton'; did you mean 'slurm_partition'?"),
        ("runs_per_job = 0", "runs_per_job = 0: must be a whole number, 1 or more"),
        ("max_jobs = true", "max_jobs = True: must be a whole number, 1 or more"),
        ("x =", "not valid TOML: "),
    ],
)
def test_a_wrong_resource_file_is_refused(tmp_path, text, message):
    with pytest.raises(StudyError) as caught:
        resources(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/mine.toml: {message}")


def test_a_missing_resource_file_is_named():
    with pytest.raises(StudyError, match=r"nowhere.toml: No such file .*has: gpu.toml, one_mach"):
        read_resources(Path("nowhere.toml"))


def test_no_slurm_on_the_path_is_said(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StudyError, match=r"no 'scontrol' on this machine's PATH: .*CLUSTER=local"):
        slurm.array_limit()


def test_slurms_own_message_is_passed_on():
    with pytest.raises(StudyError, match=r"'ls /nowhere' failed: ls: cannot access"):
        slurm.ask("ls", "/nowhere")


def test_an_order_that_a_node_cannot_see_is_said(tmp_path):
    with pytest.raises(StudyError, match=r"order.json cannot be read on .*disk that the nodes sha"):
        orders.read_order(tmp_path)


# ---- with SLURM ----------------------------------------------------------------------------------


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain\n{shell('squeue', '--array')}"
        time.sleep(0.2)


def shell(*command):
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=True
    ).stdout.strip()


@contextlib.contextmanager
def running_cluster(folder, port, *options):
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
def cluster(tmp_path_factory):
    with running_cluster(tmp_path_factory.mktemp("cluster"), 17200):
        yield


@pytest.fixture
def empty(cluster):
    """A cluster without jobs."""
    yield
    shell("scancel", "--me")
    until(lambda: not slurm.queue())


def submit(tmp_path, folders, train=toy.train, retries=1, **changes):
    chosen = RESOURCES._replace(**{"runs_per_job": 1} | changes)
    (tmp_path / "jobs").mkdir(exist_ok=True)
    return slurm.Jobs(tmp_path / "jobs", chosen, train, retries, 100).send(folders)


def jobs_of(tmp_path):
    return slurm.Jobs(tmp_path / "jobs", RESOURCES, toy.train, 1, 100)


def silent(tmp_path):
    return jobs_of(tmp_path).settle(slurm.queue())


def states(folders):
    return [state_of(folder) for folder in folders]


def numbers(folders):
    return [json.loads((folder / "result.json").read_text())["x"] for folder in folders]


def log(folder):
    return (folder / "log.txt").read_text() if (folder / "log.txt").exists() else ""


def at_step(folder, step):
    state = files.read_json(folder / "checkpoint.json")
    return state is not None and state["step"] >= step


def state_in_queue(job):
    return shell("squeue", "--me", "--noheader", "--array", f"--jobs={job}", "--format=%T")


def steps_run():
    """Whether the nodes still hold a step of any job."""
    found = subprocess.run(["pgrep", "--full", "^slurmstepd"], capture_output=True, check=False)
    return found.returncode == 0


def start_now(job):
    """Not to wait the two minutes that SLURM holds a job after a requeue."""
    until(lambda: state_in_queue(job) == "PENDING")
    time.sleep(2.5)  # sooner, and SLURM fails the job
    shell("scontrol", "update", f"jobid={job}", "StartTime=now")


@pytest.mark.slurm
def test_arrays_longer_than_the_limit_and_a_run_that_raises(empty, tmp_path):
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
    assert [last_claim(folder).number for folder in others] == [1] * 25
    assert last_claim(folders[3]).number == 2
    assert silent(tmp_path) == 0


@pytest.mark.slurm
def test_jobs_killed_from_outside_are_noticed_and_processes_killed_are_replaced(empty, tmp_path):
    folders = toy.plan(tmp_path, a={"steps": 9000}, b={"steps": 300}, c={"dies": True}, d={})
    one, _ = submit(tmp_path, folders, runs_per_job=2, runs_at_once=2, max_jobs=2)
    until(lambda: at_step(folders[0], 2) and at_step(folders[1], 2) and at_step(folders[3], 20))
    os.kill(files.read_json(folders[1] / "claim.1.json")["pid"], signal.SIGKILL)
    until(lambda: states(folders) == ["running", "ok", "failed", "ok"])
    assert numbers([folders[1], folders[3]]) == [toy.expected(300), toy.expected()]
    assert last_claim(folders[2]).number == 2
    shell("scancel", "--signal=KILL", "--full", one)
    until(lambda: states(folders)[0] == "lost")
    until(lambda: not slurm.queue())
    assert is_open(folders[0], retries=1)


@pytest.mark.slurm
def test_cancel_takes_this_sweeps_jobs_alone(empty, tmp_path):
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
def test_a_warned_job_checkpoints_goes_back_into_the_queue_and_goes_on(empty, tmp_path):
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
    second = files.read_json(folders[0] / "claim.2.json")
    assert (second["job"], second["job_start"]) == (job, "1")
    assert "from step 0 " not in log(folders[0]).split("attempt 2 starts")[1]


@pytest.mark.slurm
def test_a_node_that_goes_down_costs_its_runs_nothing(empty, tmp_path):
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
    assert files.read_json(folder / "claim.1.json")["state"] == "released"
    assert files.read_json(folder / "claim.2.json")["job_start"] == "1"
    assert "from step 0 " not in log(folder).split("attempt 2 starts")[1]


@pytest.mark.slurm
def test_pretended_gpus_are_given_to_jobs_and_shared(empty, tmp_path):
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
def test_what_sbatch_refuses_is_passed_on_and_leaves_nothing(empty, tmp_path):
    folders = toy.plan(tmp_path, a={})
    parameters = RESOURCES.parameters | {"slurm_partition": "nope"}
    with pytest.raises(StudyError, match=r"^sbatch refused: .*invalid partition.*nope"):
        submit(tmp_path, folders, parameters=parameters)
    assert os.listdir(tmp_path / "jobs") == []


@pytest.mark.slurm
def test_a_results_folder_that_the_nodes_cannot_see_is_noticed(empty, tmp_path):
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
def test_a_driver_dies_after_submitting_and_the_next_finishes_the_sweep(empty, tmp_path):
    """The command line and the real training: the table equals an undisturbed local sweep's."""
    import pandas as pd

    tables = []
    for name in ("slurm", "local"):
        environment = tiny.environment(tmp_path / name, trials=3, steps=40, every=20)
        command = [sys.executable, HERE / "tiny.py", "sweep", "--sweep", "tiny", "--device", "cpu"]
        if name == "slurm":
            command += ["--cluster", "slurm"]
            first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            assert first.stdout.readline() == ("3 runs submitted in 2 jobs; 0 were in the queue\n")
            first.kill()
            first.wait()
            command += ["--wait"]
        text = subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        ).stdout
        if name == "slurm":
            assert text.startswith("0 runs submitted in 0 jobs; 3 were in the queue\n")
        tables.append(pd.read_parquet(tmp_path / name / "results/tiny.parquet"))
    assert len(tables[0]) == 6
    pd.testing.assert_frame_equal(*(table.drop(columns="wall_s") for table in tables))


@pytest.mark.slurm
def test_with_accounting_it_is_the_same(tmp_path_factory, tmp_path):
    if shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("mariadbd is not installed: apt-get install mariadb-server slurmdbd ...")
    with running_cluster(tmp_path_factory.mktemp("accounting"), 17300, "--accounting"):
        folders = toy.plan(tmp_path, a={}, b={})
        [first, _] = submit(tmp_path, folders)
        until(lambda: not slurm.queue())
        assert numbers(folders) == [toy.expected()] * 2
        until(lambda: "COMPLETED" in shell("sacct", "-nXj", first, "--format=State"))

"""The command line: what it says in little room, in the first minutes, and to what it cannot do."""

import io
import json
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.queues import Queue
from pathlib import Path
from typing import NoReturn

import pandas as pd
import pytest
import tiny
import torch
from rich.console import Console, RenderableType
from there import there

from study import cli, files, terminal
from study.commands import sweeps
from study.errors import StudyError
from study.runs import checks, status
from study.runs.folder import folder_of, take
from study.runs.plan import plan
from study.runs.progress import prepare, progress
from study.runs.table import collect, read_table, table_path
from study.settings import config as configs
from study.settings.arithmetic import ENVIRONMENT
from study.settings.config import RunConfig, load_sweep

Run = Callable[..., tuple[int | str | None, str, str]]

HERE = Path(__file__).parent
SHIPPED = HERE.parent / "results"
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny sweep's folders, which the environment names."""
    for name, value in tiny.environment(tmp_path, trials=3, steps=20, every=10).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(configs, "SWEEPS_FOLDER", tmp_path / "sweeps")
    monkeypatch.setattr("study.datasets.SETS", dict(sys.modules["study.datasets"].SETS))
    tiny.shrink_data()
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """A function that runs a command as `python -m study` does: exit status, stdout, stderr."""

    def run(*arguments: object, columns: int | None = None) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["study", *map(str, arguments)])
        width = columns or 120
        monkeypatch.setattr(terminal, "console", Console(width=width))
        capfd.readouterr()
        code: int | str | None = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        return code, *capfd.readouterr()

    return run


def finished(
    results: Path, config: RunConfig, fids: Sequence[float], result_of: RunConfig | None = None
) -> Path:
    """A finished run as training leaves it, without training."""
    folder = folder_of(results, config)
    files.write_json(folder / "config.json", config.model_dump())
    rows = [
        {"step": 10 * (i + 1), "d_steps": 10 * (i + 1), "g_steps": 10, "images": 640, "flops": 5}
        | {"wall_s": 1.5, "fid": fid, "fid_train": fid + 1}
        for i, fid in enumerate(fids)
    ]
    made_by = {"commit": "abc", "torch": "2", "python": "3", "host": "h", "processor": "p"}
    result = {"status": "ok", "reason": None, "evaluations": rows, "provenance": made_by}
    result |= {"config": (result_of or config).hash}
    files.write_json(folder / "result.json", result)
    return folder


def written(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- little room ---------------------------------------------------------------------------------


def rendered(what: RenderableType, width: int) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


GROUP = {
    "sweep": "wide", "loss": "wgan_gp", "dataset": "fashion_mnist", "features": "inception",
    "runs": 174, "to do": 12, "running": 8, "waiting": 31, "ok": 61, "stopped": 43, "diverged": 10,
    "failed": 7, "lost": 2,
    "best": 1234.5, "spent_s": 360_000.0, "left_s": 359_999.0,
}  # fmt: skip
NUMBERS = ["12", "8", "31", "61", "43", "10", "7", "2", "1234", "100:00:00", "99:59:59"]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("datasets", [["fashion_mnist"], ["fashion_mnist", "celeba"]])
def test_no_number_of_the_overview_is_cut(width: int, datasets: list[str]) -> None:
    groups = [GROUP | {"dataset": dataset} for dataset in datasets]
    text = rendered(terminal.overview(groups, width), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for number in NUMBERS:
        assert len(re.findall(rf"(?<![\d:]){number}(?![\d:])", text)) >= len(datasets)
    assert all(dataset in text.replace("\n", " ") for dataset in datasets)


def test_a_search_that_is_judged_once_tells_no_best_before_it_is_complete() -> None:
    """Who is ahead by chance is nobody's to see; counts are."""
    config, groups = load_sweep("paired"), status.Groups(2)
    for loss in config.losses:
        for _ in range(config.trials - (loss == "rp")):
            key = ("paired", loss, "fashion_mnist")
            groups.add(key, "lite0", "ok", status.Cost(fid=9.0, wall_s=1.0))
    groups.add(("mini", "rp", "fashion_mnist"), "lite0", "ok", status.Cost(fid=8.0, wall_s=1.0))
    told = {(each["sweep"], each["loss"]): each for each in groups.entries()}
    assert {each["best"] for (sweep, _), each in told.items() if sweep == "paired"} == {None}
    assert told["mini", "rp"]["best"] == 8.0
    assert told["paired", "rp"]["ok"] == 79
    groups.add(("paired", "rp", "fashion_mnist"), "lite0", "diverged", None)
    assert {each["best"] for each in groups.entries()} == {8.0, 9.0}


@pytest.mark.parametrize("sweep", ["mini", "paired"])
def test_what_ends_of_a_search_that_is_judged_once_tells_no_distance(
    sweep: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = read_table(SHIPPED, sweep).query("number < 2 and dataset == 'fashion_mnist'")
    table.to_parquet(tmp_path / f"{sweep}.parquet")
    planned = plan(load_sweep(sweep), ("ns",), ("fashion_mnist",), 2)
    found = progress(planned, tmp_path)
    with terminal.live(tmp_path, workers=2) as show:
        show(found._replace(states=["running", "running"]))
        show(found)
    terminal.report(planned, table, tmp_path)
    out = capsys.readouterr().out
    assert "ns/fashion_mnist/001: ok" in out
    assert "cost so far: " in out
    least = table.query("loss == 'ns'").groupby("number")["fid"].min()
    named = {f"{fid:.4g}" in out for fid in least}
    assert named == {sweep == "mini"}
    assert ("best setting: number" in out) == (sweep == "mini")


@pytest.mark.parametrize(
    "command",
    [
        ("figures", "--sweep", "paired"),
        ("report", "--sweep", "paired"),
        ("export", "paired", "--csv", "paired.csv"),
        ("keep", "paired"),
        ("dashboard", "--sweep", "paired"),
        ("compare", "results/paired.parquet:vae", "results/paired.parquet:ns"),
    ],
)
def test_no_command_shows_a_part_of_a_search_that_is_judged_once(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUDY_RESULTS", "results")
    Path("results").mkdir()
    read_table(SHIPPED, "paired").query("number < 2").to_parquet("results/paired.parquet")
    before = written(tmp_path)
    code, out, err = run(*command)
    assert (code, out) == (2, "")
    assert err.startswith("error: paired is judged once, and shown when all settings of each loss")
    assert written(tmp_path) == before


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_number_of_the_trials_is_cut(width: int) -> None:
    table = read_table(SHIPPED, "mini").query("dataset == 'triangles' and loss == 'wgan_gp'")
    text = rendered(terminal.trials(table, width), width)
    assert "…" not in text
    best = table.sort_values("fid").iloc[0]
    for value in (best["fid"], best["fid_train"], best["f1"]):
        assert re.search(rf"\b{re.escape(terminal.value_text(float(value)))[:4]}", text)
    assert len(re.findall(r"\d\.\d\d", text)) >= 40 * 4


@pytest.mark.parametrize("width", [60, 80])
def test_runs_at_work_are_shown_with_all_that_is_known(width: int) -> None:
    path = "wide/wgan_gp/fashion_mnist/099"
    found = [status.AtWork(path, 12_750, 15_625, 41.234, 33.219, 69.7)] * 20
    text = rendered(terminal.runs_at_work(found, width), width)
    for part in ("12,750 of 15,625", "41.2", "33.22", "0:01:10", path):
        assert text.count(part) == terminal.MOST_RUNS
    assert "and 8 more" in text
    assert max(map(len, text.splitlines())) <= width or width == 60


def test_what_is_the_same_in_all_rows_makes_room() -> None:
    rows = [{"no.": str(n), "fid": "12.5", "disc_iters": "1", "lr": f"0.00{n}"} for n in range(3)]
    wide, narrow = (
        rendered(terminal.records(rows, width, settings=["disc_iters", "lr"]), width)
        for width in (40, 24)
    )
    assert "disc_iters" in wide.splitlines()[0]
    assert narrow.splitlines()[0].split() == ["no.", "fid", "lr"]
    assert narrow.splitlines()[-1] == "in all: disc_iters 1"
    assert rendered(terminal.records(rows[:1], 12), 12).splitlines()[0] == "no. 0"


@pytest.mark.parametrize("terminal_there", [True, False])
def test_a_long_line_breaks_between_words_and_only_on_a_terminal(
    terminal_there: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "triangles: 60,000 train, 10,000 held_out, of results/runs/" + "x" * 60
    console = Console(width=40, force_terminal=terminal_there)
    monkeypatch.setattr(terminal, "console", console)
    terminal.say(line)
    printed = capsys.readouterr().out
    if terminal_there:
        assert printed == (
            "triangles: 60,000 train, 10,000\n  held_out, of\n  results/runs/" + "x" * 60 + "\n"
        )
    else:
        assert printed == line + "\n"


@pytest.mark.parametrize(
    ("encoding", "wanted"), [("ascii", "Frechet distance"), ("utf-8", "Fréchet distance")]
)
def test_an_output_without_accents_gets_letters_without(encoding: str, wanted: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "study", "status", "--sweep", "defaults"],
        cwd=HERE.parent, env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True, encoding=encoding, check=True,
    )  # fmt: skip
    assert f"smallest {wanted} (lite0 features)" in done.stdout
    assert done.stderr == ""


def test_names_are_shown_as_they_are() -> None:
    rows = [{"loss": "[bold]ns[/bold]", "x": "[/]"}]
    assert "[bold]ns[/bold]" in rendered(terminal.records(rows, 80), 80)
    assert "[/]" in rendered(terminal.records(rows, 10), 10).replace("\n", "")


# ---- the first minutes ---------------------------------------------------------------------------


def test_a_fresh_clone_shows_the_committed_tables(
    run: Run, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    monkeypatch.setenv("STUDY_RESULTS", str(SHIPPED))
    monkeypatch.setattr(configs, "SWEEPS_FOLDER", HERE.parent / "sweeps")
    code, out, err = run("status", columns=60)
    assert (code, err) == (0, "")
    mini = out[out.index("sweep mini\n") : out.index("sweep mini_seeds")]
    assert re.search(r"wgan_gp +fashion_mnist +100 +13\.39 +3:25:21", mini)
    groups = json.loads(run("status", "--json", "--sweep", "mini")[1])["groups"]
    assert len(groups) == 16
    assert {group["ok"] + group["diverged"] for group in groups} == {40, 100}


@pytest.mark.parametrize("command", ["collect", "cancel"])
def test_a_command_that_finds_nothing_to_do_says_so(run: Run, root: Path, command: str) -> None:
    code, out, err = run(command)
    assert (code, err) == (0, "")
    assert out.startswith(f"no runs in {root / 'results/runs'}: no")
    assert not (root / "results").exists()


def test_nothing_at_all_is_said_too(run: Run, root: Path) -> None:
    assert run("status") == (0, "no runs and no table yet; `make sweep` trains some\n", "")


def test_folders_and_table_are_counted_once(run: Run, root: Path) -> None:
    results = root / "results"
    found = plan(load_sweep("tiny"))
    finished(results, found[0], [9.0])
    collect(results, "tiny")
    prepare(found, results)
    [group] = json.loads(run("status", "--json")[1])["groups"]
    assert (group["ok"], group["to do"], group["best"]) == (1, 2, 9.0)


@pytest.mark.parametrize("command", ["status", "collect", "cancel"])
def test_a_misspelt_sweep_is_refused(run: Run, root: Path, command: str) -> None:
    code, out, err = run(command, "--sweep", "tinny")
    assert (code, out) == (2, "")
    assert err == "error: unknown sweep 'tinny'; did you mean 'tiny'? there are: tiny\n"
    assert not (root / "results").exists()


def test_a_run_at_work_is_shown_with_step_rate_best_and_time_left(run: Run, root: Path) -> None:
    results = root / "results"
    [folder, *_] = prepare(plan(load_sweep("tiny")), results).folders
    take(folder)
    files.write_json(folder / "progress.json", {"step": 12, "rate": 4.0})
    (folder / "metrics.jsonl").write_text('{"step": 5, "fid": 7.5}\n{"step": 10, "fid": 6.25}\n')
    code, out, err = run("status", columns=80)
    assert (code, err) == (0, "")
    assert re.search(r"tiny/ns/mnist/000 +12 of 20 +4 +6\.25 +0:00:02", out)
    [running] = json.loads(run("status", "--json")[1])["running"]
    assert (running["step"], running["left_s"]) == (12, 2.0)


def test_a_run_that_was_stopped_is_shown_with_the_step_at_which_it_goes_on(
    run: Run, root: Path
) -> None:
    results = root / "results"
    [folder, other, _] = prepare(plan(load_sweep("tiny")), results).folders
    files.write_json(folder / "progress.json", {"step": 12, "rate": 4.0})
    there(take(folder)).end("released")
    there(take(other)).end("released")  # before its first step
    code, out, err = run("status", columns=60)
    assert (code, err) == (0, "")
    assert re.search(r"^stopped, kept +step .*\n.*\ntiny/ns/mnist/000 +12 of 20 ", out, re.M)
    assert "tiny/ns/mnist/001" not in out
    [kept] = json.loads(run("status", "--json")[1])["kept"]
    assert (kept["run"], kept["step"]) == ("tiny/ns/mnist/000", 12)


def driver(root: Path, *options: str, trials: int = 2, steps: int = 4000) -> subprocess.Popen[str]:
    tiny.environment(root, trials=trials, steps=steps, every=steps)
    return subprocess.Popen(
        [sys.executable, HERE / "tiny.py", "sweep", "--sweep", "tiny", "--device", "cpu", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def test_ctrl_c_says_what_is_kept_and_the_next_start_where_it_goes_on(root: Path) -> None:
    first = driver(root, "--workers", "1")
    folder = root / "results/runs/tiny/ns/mnist/000"
    until(lambda: (files.read_json(folder / "progress.json") or {}).get("step", 0) > 0)
    os.killpg(first.pid, signal.SIGINT)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 130
    step = there(files.read_json(folder / "progress.json"))["step"]
    assert err == (
        f"tiny/ns/mnist/000: stopped at step {step:,}, kept\n"
        "interrupted; the same command goes on from here\n"
    )
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["step"] == step
    second = driver(root, "--workers", "1")
    assert there(second.stdout).readline() == f"tiny/ns/mnist/000: goes on at step {step:,}\n"
    until(lambda: f"goes on at step {step}" in (folder / "log.txt").read_text())
    os.killpg(second.pid, signal.SIGINT)
    assert second.communicate(timeout=60)[1].endswith("goes on from here\n")


@pytest.mark.parametrize("wait_s", [0.5, 1.0, 2.0, 4.0])
def test_ctrl_c_at_any_time_is_one_sentence(root: Path, wait_s: float) -> None:
    """While it imports, plans, or starts its workers."""
    path = root / "sweeps/tiny.toml"
    path.write_text(path.read_text().replace("mnist", "noise").replace("= 20", "= 4000"))
    process = subprocess.Popen(
        [sys.executable, "-X", "frozen_modules=on", "-m", "study", "sweep", "--sweep", "tiny"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
    )  # fmt: skip
    time.sleep(wait_s)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    # 130 to a shell either way: before Python has begun, the signal itself ends the process.
    assert process.returncode in (130, -signal.SIGINT)
    assert err == "" or err.endswith("interrupted; the same command goes on from here\n")
    assert all("stopped at step" in line for line in err.splitlines()[:-1])


def until(condition: Callable[[], object], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


# ---- what cannot be done -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", "no CUDA on this machine; leave DEVICE out, or DEVICE=cpu"),
        ("cuda:1", "no CUDA on this machine; leave DEVICE out, or DEVICE=cpu"),
        ("mps", "no MPS on this machine; leave DEVICE out, or DEVICE=cpu"),
        ("gpu", "no device 'gpu': write DEVICE=cuda; no CUDA on this machine; leave DEVICE out, or "
         "DEVICE=cpu"),
        ("tpu", "no device 'tpu'; allowed: cpu, cuda, cuda:0, cuda:1, …, mps"),
        ("cuda:x", "no device 'cuda:x'; allowed: cpu, cuda, cuda:0, cuda:1, …, mps"),
    ],
)  # fmt: skip
def test_a_device_that_is_not_there_is_one_line_and_nothing_is_written(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch, device: str, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, out, err = run("sweep", "--sweep", "tiny", "--device", device)
    assert (code, out, err) == (2, "", f"error: {message}\n")
    assert not (root / "results").exists()
    assert run("fid", "a", "b", "--device", device)[0::2] == (2, f"error: {message}\n")


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    checks.require_device("cuda:1")
    with pytest.raises(StudyError, match="no cuda:2 on this machine: it has 2 GPUs, counted from"):
        checks.require_device("cuda:2")


def test_on_a_gpu_the_faster_way_is_told_once(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    sweep = ["sweep", "--sweep", "tiny", "--dry-run", "--device", "cuda"]
    code, _, err = run(*sweep)
    assert (code, err) == (0, sweeps.WITHOUT_GRAPH + "\n")
    assert run(*sweep, "--cuda-graph")[0::2] == (0, "")
    assert run(*sweep[:-1], "cpu")[0::2] == (0, "")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            ("[datasets.mnist]", "[datasets.mnits]"),
            [],
            "unknown data set 'mnits'; did you mean 'mn",
        ),
        (("", ""), ["--dataset", "mnits"], "unknown data set 'mnits'; did you mean 'mnist'?"),
        (("num_images = 128", "num_images = 999"), [], "sweep tiny compares 999 images a side"),
        (
            ("num_images", "batch_size = 9999\nnum_images"),
            [],
            "sweep tiny shows 9,999 images a step; mnist has 256 to train on",
        ),
        (("", ""), ["--loss", "NS"], "unknown loss 'NS'; did you mean 'ns'?"),
        (("", ""), ["--cluster", "slurm"], "no 'sbatch' on this machine's PATH: work where SLURM"),
        (("", ""), ["--cluster", "slurm", "--resources", "x.toml"], "x.toml: No such file"),
        (('features = "random"', 'features = "inception"'), [], "no Inception weights at "),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    run: Run,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: tuple[str, str],
    options: list[str],
    message: str,
) -> None:
    path = root / "sweeps/tiny.toml"
    path.write_text(path.read_text().replace(*change))
    monkeypatch.setenv("PATH", str(root))
    monkeypatch.setenv("STUDY_INCEPTION", str(root / "weights.pth"))
    code, out, err = run("sweep", "--sweep", "tiny", *options)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert not (root / "results").exists()


def as_somebody_else(answers: "Queue[tuple[int | str | None, str]]", *arguments: str) -> None:
    os.setuid(65534)
    sys.argv = ["study", *arguments]
    sys.stderr = sys.stdout = said = io.StringIO()
    try:
        cli.main()
    except SystemExit as end:
        answers.put((end.code, said.getvalue()))
    else:
        answers.put((0, said.getvalue()))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("command", ["collect", "sweep", "cancel", "status"])
def test_a_results_folder_of_another_user_is_one_line(root: Path, command: str) -> None:
    results = root / "results"
    finished(results, plan(load_sweep("tiny"))[0], [9.0])
    collect(results, "tiny")
    (results / "runs/tiny/jobs").mkdir()
    # With several workers pytest puts a folder of each between its own.
    above = [path for path in root.parents if path.name.startswith(("pytest", "popen"))]
    modes = {path: path.stat().st_mode for path in (*above, root)}
    for path in modes:
        path.chmod(0o755)
    before = written(results)
    answers = FORK.Queue()
    process = FORK.Process(target=as_somebody_else, args=(answers, command, "--sweep", "tiny"))
    process.start()
    code, said = answers.get(timeout=60)
    process.join()
    for path, mode in modes.items():
        path.chmod(mode)
    assert written(results) == before
    if command == "status":
        assert code == 0
    else:
        assert code == 2
        assert re.fullmatch(r"error: cannot write to the results folder .*: Permission denied; set "
                            r"STUDY_RESULTS to a folder that you may write to\n", said)  # fmt: skip


def test_a_full_disk_at_the_table_is_one_line(run: Run, root: Path) -> None:
    finished(root / "results", plan(load_sweep("tiny"))[0], [9.0])
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, former[1]))
    try:
        code, out, err = run("collect", "--sweep", "tiny")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
        signal.signal(signal.SIGXFSZ, handler)
    assert (code, out) == (2, "")
    assert err == f"error: {root / 'results/tiny.parquet'}: File too large\n"


@pytest.mark.parametrize(
    "torn", [b"", b"PAR1", b"version https://git-lfs.github.com/spec/v1\n", 0.5]
)
@pytest.mark.parametrize("command", ["collect", "sweep"])
def test_a_table_that_cannot_be_read_is_kept(
    run: Run, root: Path, torn: bytes | float, command: str
) -> None:
    results = root / "results"
    found = plan(load_sweep("tiny"))
    for config in found[:2]:
        finished(results, config, [9.0])
    path = table_path(results, "tiny")
    collect(results, "tiny")
    whole = path.read_bytes()
    path.write_bytes(torn if isinstance(torn, bytes) else whole[: int(torn * len(whole))])
    before = written(results)
    code, out, err = run(command, "--sweep", "tiny")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {path} cannot be read: ")
    assert "it is kept as it is" in err
    assert err.count("\n") == 1
    assert written(results) == before
    path.rename(root / "torn.parquet")
    assert run("collect", "--sweep", "tiny")[0] == 0
    assert path.read_bytes() == whole


def test_an_error_of_the_disk_at_the_table_keeps_it(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = root / "results"
    finished(results, plan(load_sweep("tiny"))[0], [9.0])
    collect(results, "tiny")
    before = table_path(results, "tiny").read_bytes()

    def fail(path: Path) -> NoReturn:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(pd, "read_parquet", fail)
    code, _, err = run("collect", "--sweep", "tiny")
    assert code == 2
    assert "tiny.parquet cannot be read: [Errno 5] Input/output error" in err
    assert table_path(results, "tiny").read_bytes() == before


@pytest.mark.parametrize("command", ["report", "figures"])
def test_a_folder_of_ones_own_sweeps_alone_has_a_report_and_a_full_disk_is_named(
    run: Run, root: Path, command: str
) -> None:
    results, to = root / "results", root / "out"
    text = (root / "sweeps/tiny.toml").read_text()
    title = "title = '\"><script>alert(1)</script>'"
    (root / "sweeps/tiny.toml").write_text(text.replace('title = "tiny"', title))
    for number, config in enumerate(plan(load_sweep("tiny"))):
        finished(results, config, [5.0 + number])
    collect(results, "tiny")
    words = (command, "--sweep", "tiny", "--to", to)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (900, former[1]))
    try:
        code, _, err = run(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
        signal.signal(signal.SIGXFSZ, handler)
    assert code == 2
    assert re.fullmatch(rf"error: {to}/[\w/]+\.(svg|html).*: File too large\n", err)
    assert not [path for path in to.rglob("*") if path.is_file()]
    assert run(*words)[0] == 0
    assert not list(to.rglob(".*"))
    if command == "report":
        assert "<script>alert(1)" not in (to / "tiny.html").read_text()


@pytest.mark.parametrize("device", ["tpu", "gpu"])
def test_a_device_that_no_machine_has_is_refused_for_a_cluster_too(
    run: Run, root: Path, device: str
) -> None:
    words = ("sweep", "--sweep", "tiny", "--cluster", "slurm")
    code, _, err = run(*words, "--device", device)
    assert code == 2
    assert f"no device '{device}'" in err
    (root / "mine.toml").write_text(f'device = "{device}"\n')
    assert run(*words, "--resources", root / "mine.toml") == (2, "", err)
    assert not (root / "results").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fid a b --num-images 0", "Invalid value for '--num-images': "),
        ("swep", "No such command 'swep'. Did you mean 'sweep'?; `study --help` tells what"),
        ("sweep --trials x", "Invalid value for '--trials': "),
        ("sweep --cluster cloud", "Invalid value for '--cluster': "),
        ("sweep --losses ns", "No such option: --losses"),
        ("fid one", "Missing argument 'fake'; `study fid --help` tells what there is\n"),
    ],
)
def test_words_that_no_command_takes_are_one_line(run: Run, words: str, message: str) -> None:
    code, out, err = run(*words.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.endswith(" --help` tells what there is\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [(), ("--help",), ("data", "add", "--help")])
def test_help_is_printed_once_and_no_error(run: Run, words: tuple[str, ...]) -> None:
    code, out, err = run(*words)
    assert (code, err) == (0 if "--help" in words else 2, "")
    assert out.count("Usage: ") == 1


def test_collecting_removes_what_dead_processes_left_half_written(root: Path) -> None:
    results = root / "results"
    folder = finished(results, plan(load_sweep("tiny"))[0], [5.0])
    dead = [place / ".x.json.4194303@elsewhere.x" for place in (results, folder)]
    for path in dead:
        path.touch()
        os.utime(path, (0, 0))
    collect(results, "tiny")
    assert not any(path.exists() for path in dead)


def untrained_too(folder: Path, fid: float) -> None:
    """Has a finished run say what its generator came to before any training."""
    result = files.read_json(folder / "result.json") or {}
    row = {"sweep": "tiny", "loss": "ns", "dataset": "mnist", "fid": fid}
    files.write_json(folder / "result.json", result | {"untrained": row})


def test_a_stale_folder_gives_neither_rows_nor_an_untrained_generators_distance(
    root: Path,
) -> None:
    results = root / "results"
    config = plan(load_sweep("tiny"))[0]
    untrained_too(finished(results, config.model_copy(update={"definition": 2}), [5.0]), 50.0)
    collect(results, "tiny")
    untrained_too(finished(results, config, [1.0]), 10.0)
    assert collect(results, "tiny")["fid"].tolist() == [5.0]
    path = results / "untrained.parquet"
    assert pd.read_parquet(path)["fid"].tolist() == [50.0]
    untrained_too(finished(results, config.model_copy(update={"definition": 3}), [2.0]), 20.0)
    assert collect(results, "tiny")["fid"].tolist() == [2.0]
    assert pd.read_parquet(path)["fid"].tolist() == [20.0]


def test_of_the_page_of_findings_there_is_one(run: Run) -> None:
    for options in (["--json"], ["--interim"], ["--reference", "vae"]):
        code, out, err = run("verdict", "--markdown", *options)
        assert (code, out) == (2, "")
        assert err.startswith(
            "error: --markdown prints a page as results/FINDINGS.md; leave --json"
        )


@pytest.mark.parametrize("kind", ["empty", "another table", "folder", "link"])
def test_what_untrained_generators_came_to_is_never_replaced_unread(
    run: Run, root: Path, kind: str
) -> None:
    results = root / "results"
    untrained_too(finished(results, plan(load_sweep("tiny"))[0], [5.0]), 50.0)
    path = results / "untrained.parquet"
    if kind == "empty":
        path.touch()
    elif kind == "another table":
        pd.DataFrame({"fid": [1.0]}).to_parquet(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(root / "nowhere")
    before = written(results / "untrained.parquet") or (path.is_file() and path.read_bytes())
    code, _, err = run("collect", "--sweep", "tiny")
    assert code == 2
    assert err.startswith(f"error: {path}")
    assert err.count("\n") == 1
    assert before == (written(path) or (path.is_file() and path.read_bytes()))
    assert path.is_symlink() == (kind == "link")


@pytest.mark.parametrize(
    "content", [b"5\n", b"[]\n", b"null\n", b'{"op_code": 99}\n', b"\xff\n", "folder", "link"]
)
def test_a_storage_of_optunas_that_cannot_be_read_is_kept_and_made_again(
    run: Run, root: Path, content: bytes | str
) -> None:
    results = root / "results"
    finished(results, plan(load_sweep("tiny"))[0], [5.0])
    path = results / "optuna/tiny.log"
    path.parent.mkdir(parents=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "folder":
        path.mkdir()
    else:
        path.symlink_to(root / "elsewhere")
    code, _, err = run("collect", "--sweep", "tiny")
    assert code == 0
    assert re.fullmatch(rf"{path} cannot be read \(.*\); it is kept as tiny.log.unreadable\n", err)
    aside = path.with_name("tiny.log.unreadable")
    assert not isinstance(content, bytes) or aside.read_bytes() == content
    assert aside.is_symlink() == (content == "link")
    assert not (root / "elsewhere").exists()
    assert '"intermediate_values":{"10":5.0}' in path.read_text()


@pytest.mark.parametrize("change", [{"drop": "fid"}, {"number": "x"}, {"status": "fine"}])
def test_a_table_of_something_else_is_refused(run: Run, root: Path, change: dict[str, str]) -> None:
    results = root / "results"
    finished(results, plan(load_sweep("tiny"))[0], [9.0])
    table = collect(results, "tiny")
    table = table.drop(columns=change["drop"]) if "drop" in change else table.assign(**change)
    path = table_path(results, "tiny")
    table.to_parquet(path)
    before = path.read_bytes()
    code, _, err = run("collect", "--sweep", "tiny")
    assert code == 2
    assert f"{path} is no table of results: " in err
    assert path.read_bytes() == before


def test_each_sweep_stands_for_itself(run: Run, root: Path) -> None:
    """One TOML that is not valid, in another encoding, or gone: all others go on."""
    results, sweeps = root / "results", root / "sweeps"
    good = (sweeps / "tiny.toml").read_text()
    finished(results, plan(load_sweep("tiny"))[0], [9.0])
    for name, content in {
        "broken": b"title = ", "latin": "title = 'ü'".encode("latin-1"),
        "wide16": good.encode("utf-16"), "marked": good.encode("utf-8-sig"),
    }.items():  # fmt: skip
        (sweeps / f"{name}.toml").write_bytes(content)
    (sweeps / "folder.toml").mkdir()
    gone = plan(load_sweep("tiny").model_copy(update={"name": "gone"}))[0]
    finished(results, gone, [8.0])
    assert load_sweep("marked").trials == 3
    code, out, err = run("collect")
    assert (code, err) == (0, "")
    assert "tiny.parquet: 1 run, 1 row" in out
    assert "gone.parquet: 1 run, 1 row" in out
    code, out, err = run("status")
    assert (code, err) == (0, "")
    assert "sweep gone" in out
    assert "sweep tiny" in out
    configs.say_once.cache_clear()
    code, out, err = run("verdict", "--sweep", "tiny")
    for name, problem in {
        "broken": "not valid TOML", "latin": "not UTF-8", "wide16": "not UTF-8",
        "folder": "Is a directory",
    }.items():  # fmt: skip
        assert re.search(rf"{name}.toml: {problem}.*; this sweep is left out", err), name
    for name in ("broken", "latin", "wide16", "folder"):
        code, _, err = run("sweep", "--sweep", name)
        assert code == 2
        assert err.count("\n") == 1


# ---- plans and rows ------------------------------------------------------------------------------


def test_a_plan_of_which_nothing_was_trained_gives_way(root: Path) -> None:
    results = root / "results"
    sweep = load_sweep("tiny")
    prepare(plan(sweep), results)
    changed = plan(sweep.model_copy(update={"width": 0.0625}))
    assert prepare(changed, results).states == ["to do"] * 3
    folder = folder_of(results, changed[1])
    assert there(files.read_json(folder / "config.json"))["width"] == 0.0625
    for name, content in {"checkpoint.pt": "x", "result.json": "{", "claim.1.json": "{}"}.items():
        (folder / name).write_text(content)
        before = written(results)
        with pytest.raises(StudyError, match=r"001 was planned with width 0.0625, the sweep now"):
            prepare(plan(sweep), results)
        assert written(results) == before
        (folder / name).unlink()


def test_runs_not_yet_done_take_the_device_of_the_command_that_trains_them(root: Path) -> None:
    results = root / "results"
    sweep = load_sweep("tiny")
    _, at_work, _ = prepare(plan(sweep, device="cuda"), results).folders
    finished(results, plan(sweep, device="cuda")[0], [9.0])
    take(at_work)
    prepare(plan(sweep, device="cpu"), results)
    devices = [there(files.read_json(folder_of(results, config) / "config.json"))["device"]
               for config in plan(sweep)]  # fmt: skip
    assert devices == ["cuda", "cuda", "cpu"]


def test_a_row_gives_way_only_to_the_same_configuration_or_a_newer_definition(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = root / "results"
    [config, other, third] = plan(load_sweep("tiny"))
    newer = config.model_copy(update={"definition": 2})
    finished(results, newer, [5.0])
    finished(results, other, [7.0])
    finished(results, third, [8.0])
    collect(results, "tiny")
    # Stale folders: one of an older definition, one of another configuration, one trained again.
    finished(results, config, [1.0])
    finished(results, other.model_copy(update={"lr": 0.5}), [2.0])
    finished(results, third, [3.0])
    capsys.readouterr()
    table = collect(results, "tiny")
    assert table["fid"].tolist() == [5.0, 7.0, 3.0]
    assert table["definition"].tolist() == [2, 1, 1]
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in said] == ["tiny/ns/mnist/000", "tiny/ns/mnist/001"]
    finished(results, other.model_copy(update={"definition": 2, "lr": 0.5}), [4.0])
    assert collect(results, "tiny")["fid"].tolist() == [5.0, 4.0, 3.0]


def test_a_result_of_another_configuration_is_not_collected(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = root / "results"
    one, two, _ = plan(load_sweep("tiny"))
    finished(results, one, [9.0])
    folder = finished(results, two, [1.0], result_of=one)
    assert collect(results, "tiny")["fid"].tolist() == [9.0]
    assert f"{folder}: its result.json is of another configuration" in capsys.readouterr().err
    found = prepare(plan(load_sweep("tiny")), results)
    assert found.states == ["ok", "to do", "to do"]
    assert there(take(folder)).number == 1
    assert (folder / "result.json.unreadable").exists()


def test_a_run_at_work_is_not_taken_away(run: Run, root: Path) -> None:
    results = root / "results"
    [folder, *_] = prepare(plan(load_sweep("tiny")), results).folders
    mine = take(folder)
    code, out, err = run("train", folder)
    assert (code, out) == (2, "")
    assert re.match(rf"error: {folder} is at work: process {os.getpid()} on \S+ trains it\n", err)
    assert there(mine).read().state == "running"
    prepare(plan(load_sweep("tiny")), results)
    assert there(mine).read().state == "running"


def test_a_folder_without_a_configuration_cannot_be_trained(run: Run, tmp_path: Path) -> None:
    code, _, err = run("train", tmp_path)
    assert (code, err) == (
        2, f"error: {tmp_path}/config.json: no such file; a run folder holds a config.json\n"
    )  # fmt: skip


def test_a_run_folder_may_be_named_from_within_its_folder(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [folder, *_] = prepare(plan(load_sweep("tiny")), root / "results").folders
    mine = there(take(folder))
    monkeypatch.chdir(folder)
    code, _, err = run("train", ".")
    assert code == 2
    assert "is at work: process" in err
    mine.end("released")


def test_one_run_is_trained_with_the_arithmetic_that_a_sweep_gives_it(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NumPy is loaded by then, and has read its own: the same command starts anew."""
    toml = root / "sweeps/tiny.toml"
    toml.write_text(f'arithmetic = "avx2"{toml.read_text()}')
    monkeypatch.setattr("study.runs.plan.require_avx2", lambda _: None)
    [folder, *_] = prepare(plan(load_sweep("tiny")), root / "results").folders
    started: list[tuple[str, list[str], dict[str, str]]] = []

    def execve(path: str, arguments: list[str], environment: dict[str, str]) -> NoReturn:
        started.append((path, arguments, environment))
        sys.exit(7)

    monkeypatch.setattr(os, "execve", execve)
    for name in ENVIRONMENT["avx2"]:
        monkeypatch.delenv(name, raising=False)
    assert run("train", folder)[0] == 7
    [(path, arguments, environment)] = started
    assert (path, arguments) == (sys.executable, sys.orig_argv)
    assert environment.items() >= ENVIRONMENT["avx2"].items()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resources", "x.toml"], "--resources x.toml: of jobs; give --cluster slurm too"),
        (["--cluster", "slurm", "--workers", "3"], "--workers 3: on this machine; of jobs"),
        (["--device", "cpu:"], "no device 'cpu:'; allowed: cpu, cuda, cuda:0"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    run: Run, root: Path, options: list[str], message: str
) -> None:
    code, _, err = run("sweep", "--sweep", "tiny", *options)
    assert code == 2
    assert err.startswith(f"error: {message}")
    assert not (root / "results").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width = 0.03125|width = inf", "width = inf: input should be a finite number"),
        ("width = 0.03125|width = 1e-9", "width = 1e-09: input should be greater than or equal"),
        ("width = 0.03125|width = 1000", "width = 1000: input should be less than or equal"),
        ('losses = ["ns"]|losses = ["ns"]\n[space]\nlr = {low = -1.0, high = 0.5}', "lr = -"),
        ('losses = ["ns"]|losses = ["ns"]\n[space]\nlr = {low = nan, high = nan}', "finite"),
        (
            'losses = ["ns"]|losses = ["ns"]\n[space]\ndisc_iters = {low = 0, high = 0}',
            "disc_iters = 0: input should be greater than or equal to 1",
        ),
        (
            'losses = ["ns"]|losses = ["ns"]\n[space]\nnormalisation = {low = 0, high = 1}',
            "space: normalisation = 0; allowed: values of type str",
        ),
        (
            'losses = ["ns"]|losses = ["wgan"]\n[space]\nclip = {choices = ["x"]}',
            "space: clip = 'x'; allowed: values of type float or int",
        ),
        ('title = "tiny"|name = "x"\ntitle = "tiny"', "unknown key 'name': the file's name is it"),
        ('ranges = "wide"|best_of = "mini"\nseed = "number"', "seed is of a search"),
    ],
)
def test_a_sweep_that_cannot_be_planned_is_one_line(
    run: Run, root: Path, text: str, message: str
) -> None:
    path = root / "sweeps/tiny.toml"
    old, new = text.split("|")
    content = path.read_text().replace(old, new)
    if "[space]" in new:  # a table ends at the next one: keys first
        space = new[new.index("[space]") :]
        content = path.read_text().replace(old, new.split("\n[space]")[0])
        content = content.replace("[datasets.mnist]", f"{space}\n[datasets.mnist]")
    path.write_text(content)
    code, _, err = run("sweep", "--sweep", "tiny")
    assert code == 2
    assert message in err
    assert err.startswith("error: sweeps/tiny.toml: ")
    assert err.count("\n") == 1
    assert not (root / "results").exists()


@pytest.mark.parametrize("name", ["untrained", "behaviour"])
def test_a_sweep_has_not_the_name_of_another_table(run: Run, root: Path, name: str) -> None:
    (root / "sweeps/tiny.toml").rename(root / f"sweeps/{name}.toml")
    code, _, err = run("sweep", "--sweep", name)
    assert code == 2
    assert (
        err == f"error: sweeps/{name}.toml: {name} is a table of another kind; rename the sweep\n"
    )


def test_a_loss_named_twice_is_planned_once(root: Path) -> None:
    assert len(plan(load_sweep("tiny"), ["ns", "ns"], ["mnist", "mnist"])) == 3


def test_a_data_set_may_have_its_own_number_of_settings(root: Path) -> None:
    path = root / "sweeps/tiny.toml"
    path.write_text(
        path.read_text() + "[datasets.triangles]\ntrials = 2\nd_steps = 20\nevaluate_every = 10\n"
    )
    numbers = [(config.dataset, config.number) for config in plan(load_sweep("tiny"))]
    assert numbers == [("mnist", n) for n in range(3)] + [("triangles", n) for n in range(2)]
    assert len(plan(load_sweep("tiny"), trials=1)) == 2
    assert [load_sweep("tiny").settings(d) for d in ("mnist", "triangles", "mine")] == [3, 2, 3]


def test_a_configuration_with_a_key_of_other_code_is_planned_again_or_refused(
    run: Run, root: Path
) -> None:
    results = root / "results"
    [folder, *_] = prepare(plan(load_sweep("tiny")), results).folders
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"extra": 1}))
    prepare(plan(load_sweep("tiny")), results)
    assert json.loads((folder / "config.json").read_text()) == content
    (folder / "config.json").write_text(json.dumps(content | {"extra": 1}))
    there(take(folder)).end("released")
    with pytest.raises(StudyError, match="unknown key 'extra': a run that was begun keeps its"):
        prepare(plan(load_sweep("tiny")), results)


def test_jobs_that_never_get_anywhere_are_told_by_status(run: Run, root: Path) -> None:
    results = root / "results"
    [folder, *_] = prepare(plan(load_sweep("tiny")), results).folders
    for _ in range(4):
        there(take(folder)).end("released")
    order = results / "runs/tiny/jobs/study-0"
    files.write_json(order / "order.json", {"jobs": [], "warning": "every job is warned at once"})
    code, out, _ = run("status")
    assert code == 0
    assert f"{folder}: 4 attempts ended before a step was done" in out
    assert "every job is warned at once" in out
    files.write_json(folder / "progress.json", {"step": 7})
    assert "attempts ended" not in run("status")[1]

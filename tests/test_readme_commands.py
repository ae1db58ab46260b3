"""Whatever README tells its reader to type does in a fresh clone what it promises, word for word.

What takes long is made small by what surrounds it, never by other words: sweeps of the same names
that take a second, tables of their first settings, a few random images in Fashion-MNIST's place,
and make's own FLAGS from the environment.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import urllib.request
import venv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

SWEEP = """
title = "as small as can be"
ranges = "wide"
trials = {trials}
width = 0.03125
bn_decay = 0.9
features = "random"
num_images = 8
[datasets.fashion_mnist]
d_steps = 4
evaluate_every = 2
"""
SMALL_DATA = """
from dataclasses import replace
import numpy as np
from study import datasets

def read(split, folder):
    return np.random.default_rng(0).integers(0, 256, (64, 1, 28, 28), np.uint8), folder

sizes = {"train": 64, "held_out": 64}
datasets.SETS["fashion_mnist"] = replace(datasets.SETS["fashion_mnist"], sizes=sizes, read=read)
"""


ACTIVATE = ". .venv/bin/activate"
"""README's own line, for python -m study: not every machine has a command of the name python."""


def shown() -> list[str]:
    """Every command that README shows: its shell blocks line by line, then what it has in text."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README, re.S | re.M)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`((?:make|python -m study)(?: [^`]+)?)`", README)
    return list(dict.fromkeys(line for line in [*lines, *inline] if line))


# ---- two clones ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as it is cloned, with a .venv of its own and what its user has brought."""
    return set_up(tmp_path_factory.mktemp("user") / "clone")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another, whose sweeps take a second, and which has no tables yet."""
    small = set_up(tmp_path_factory.mktemp("user") / "clone")
    for name, trials in {"quick": 2, "paired": 2, "wide": 3}.items():
        (small / f"sweeps/{name}.toml").write_text(SWEEP.format(trials=trials))
    for table in (small / "results").glob("*.parquet"):
        table.unlink()
    return small


def set_up(clone: Path) -> Path:
    """Copy what git would clone, and make its .venv: the packages of the Python that runs this."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout: what belongs to a clone is not known")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.strip("\0").split("\0"):
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name, follow_symlinks=False)
    venv.create(clone / ".venv", symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(clone / ".venv")}))
    (site / "shared.pth").write_text(f"{clone}\n{sysconfig.get_path('purelib')}\n")
    (site / "sitecustomize.py").write_text(SMALL_DATA)
    (clone / ".venv/bin/tensorboard").symlink_to(Path(sys.executable).parent / "tensorboard")
    (clone / ".venv/ready").touch()
    bring(clone)
    return clone


def bring(clone: Path) -> None:
    """A loss, a table, two folders of images, a resource file."""
    (loss,) = re.findall(r"<!-- a new loss -->\n```py\n(.*?)^```", README, re.S | re.M)
    (clone / "study/losses/mine.py").write_text(loss)
    shutil.copy(clone / "slurm/gpu.toml", clone / "slurm/mine.toml")
    rng = np.random.default_rng(0)
    for folder in ("FOLDER", "my_images"):
        (clone / folder).mkdir()
        for number in range(96):
            pixels = rng.integers(0, 256, (28, 28), np.uint8)
            Image.fromarray(pixels).save(clone / folder / f"{number}.png")
    mine = pd.DataFrame({"loss": "mine", "number": range(8), "fid": np.linspace(9, 12, 8)})
    mine.to_csv(clone / "mine.csv", index=False)


def typed(clone: Path, command: str, **more: str) -> str:
    """What a command prints, typed in the clone in a shell with nothing else in its environment."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    shell = ["bash", "-c", f"{ACTIVATE}; {command}"]
    environment = kept | {"OMP_NUM_THREADS": "1"} | more
    done = subprocess.run(
        shell, cwd=clone, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---- what reads ----------------------------------------------------------------------------------

READS: dict[str, tuple[dict[str, str], str]] = {
    "make": ({}, r"^sweep +train a sweep: LOSS=ns.*^test +run the tests"),
    "python -m study losses": ({}, r"^mine +LS GAN \(logits\): Mao et al\. 2017.*^ +lr +0\.0002 "),
    "python -m study compare mine.csv results/mini.parquet:ns --dataset fashion_mnist": (
        {},
        r"is better than NS GAN at a budget of 1 .*8 settings of it, 100 of the other",
    ),
    "make verdict": (
        {"FLAGS": "--interim"},
        r"^Which losses beat NS GAN\?\nFashion-MNIST, better than .*^What holds at any look\?",
    ),
    # All of `check` takes minutes: make takes from the environment which part is to be tried.
    "make check": ({"FLAGS": "disk"}, r"^5 ok, 0 off, 0 not tried"),
    # A file of the tests that is quick, and not the one that runs this.
    "make test": (
        {"PYTEST_ADDOPTS": "tests/test_imports.py", "PYTEST_XDIST_AUTO_NUM_WORKERS": "1"},
        r"^\d+ passed",
    ),
    "make fid A=fashion_mnist:held_out B=my_images/": (
        {},
        r"^Fréchet distance \(lite0 features\): 0\.\d+ on 64 real and 96 fake images",
    ),
}


def test_any_python_will_do(clone: Path) -> None:
    """One without packages (-S) goes on as the checkout's own; where that is not there, it says."""
    python = [sys.executable, "-S", "-m", "study", "data"]
    done = subprocess.run(python, cwd=clone, capture_output=True, text=True, check=True)
    assert "fashion_mnist: Fashion-MNIST, 28 x 28, grey, 64 train, 64 held_out\n" in done.stdout
    venv = clone / ".venv"
    aside = venv.rename(clone / "aside")
    try:
        done = subprocess.run(python, cwd=clone, capture_output=True, text=True, check=False)
    finally:
        aside.rename(venv)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: this Python .* `make losses` sets up \.venv,.*\n", done.stderr)


@pytest.mark.parametrize("command", READS)
def test_what_reads(clone: Path, command: str) -> None:
    surroundings, wanted = READS[command]
    said = typed(clone, command, **surroundings)
    assert re.search(wanted, said, re.M | re.S), said


# ---- what trains ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first_sweep(small: Path) -> str:
    """What README's first command prints."""
    return typed(small, "make sweep LOSS=ns", WORKERS="1")


def test_the_first_sweep(first_sweep: str, small: Path) -> None:
    """It ends with the trials, the best setting, its samples and what to type next."""
    said = re.search(
        r"^NS GAN on fashion_mnist\n"
        r"no\. +fid.*^ +0 +0\.\d+ .*"
        r"^best setting: number \d: lr .*"
        r"^its samples: (\S+)\n.*"
        r"^next: make report SWEEP=quick ",
        first_sweep,
        re.M | re.S,
    )
    assert said, first_sweep
    assert Image.open(small / said[1]).size[0] > 28


def test_a_loss_of_ones_own(small: Path) -> None:
    """Then `verify`, which trains rows of a table again, with the one that this made."""
    said = typed(small, "make sweep LOSS=mine SWEEP=paired", WORKERS="1")
    assert "LS GAN (logits) on fashion_mnist" in said
    said = typed(small, "python -m study verify results/paired.parquet --rows 2")
    assert said.endswith("2 of 2 equal to the last digit\n")


def test_images_of_ones_own(small: Path) -> None:
    """They are planned for; how they are trained on is the first sweep's."""
    said = typed(small, "python -m study data add NAME FOLDER")
    assert said.startswith("NAME: 86 images to train on and 10 held out, grey\n")
    said = typed(small, "make sweep LOSS=ns DATASET=NAME", FLAGS="--dry-run")
    assert "runs: 2 (2 to do), of which 2 would be trained\n" in said


def test_a_page_to_mail(first_sweep: str, small: Path) -> None:
    """Of the first sweep alone: with those that other tests have trained it takes longer."""
    said = typed(small, "make report", FLAGS="--sweep quick")
    assert said.splitlines()[-1] == "analysis/quick.html"
    assert "NS GAN" in (small / "analysis/quick.html").read_text()


def test_a_run_is_watched(first_sweep: str, small: Path) -> None:
    """The run that README leaves open; TensorBoard takes a port that is free."""
    command = "make tensorboard RUN=results/runs/quick/ns/fashion_mnist/000 PORT=0"
    with subprocess.Popen(
        command.split(), cwd=small, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as board:
        try:
            assert board.stderr is not None
            urls = (re.search(r"http:\S+", line) for line in board.stderr)
            url = next(found[0] for found in urls if found)
            there = {
                plugin: urllib.request.urlopen(f"{url}data/plugin/{plugin}/tags").read().decode()
                for plugin in ("scalars", "images")
            }
        finally:
            os.killpg(board.pid, signal.SIGKILL)
    assert '"fid"' in there["scalars"]
    assert '"samples"' in there["images"]


def test_a_cluster(small: Path, tmp_path: Path) -> None:
    """As far as a machine without one goes: SLURM's commands say nothing, and nothing goes out."""
    for name in ("sbatch", "srun", "scancel", "squeue", "scontrol"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    said = typed(
        small, "make sweep SWEEP=wide CLUSTER=slurm RESOURCES=slurm/mine.toml",
        PATH=f"{tmp_path}:{os.environ['PATH']}", FLAGS="--dry-run",
    )  # fmt: skip
    assert re.search(r"^runs: (\d+) \(\1 to do\), of which \1 would be trained", said, re.M)
    assert "\n#SBATCH --partition=gpu\n" in said


# ---- what is shown -------------------------------------------------------------------------------


def test_nothing_that_readme_shows_is_left_out() -> None:
    """A command is among those read, or stands in a test above as README has it."""
    tests = Path(__file__).read_text()
    for command in {*shown(), ACTIVATE} - READS.keys():
        assert f'"{command.removesuffix("...")}' in tests, command
    assert ACTIVATE in shown()

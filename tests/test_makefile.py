"""make: what it lists, what it refuses, what each target hands on."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TARGETS = (
    "sweep status cancel collect losses data fid figures verdict report dashboard test lint bench"
)


def make(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What make would do, with all that it needs in place."""
    command = ["make", "--dry-run", "--no-print-directory", "--old-file=.venv/ready", *words]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def test_make_alone_lists_the_targets() -> None:
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = [line.split()[0] for line in done.stdout.splitlines()]
    assert set(TARGETS.split()) <= set(listed)
    rules = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    assert sorted(listed) == sorted(rules)


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("LOSSES=ns", "unknown word LOSSES=; did you mean LOSS=?"),
        ("TRAILS=2", "unknown word TRAILS=; did you mean TRIALS=?"),
        ("loss=ns", "unknown word loss=; did you mean LOSS=?"),
        ("Sweeps=mini", "unknown word Sweeps=; did you mean SWEEP=?"),
        ("DEVCE=cpu", "unknown word DEVCE=; did you mean DEVICE=?"),
        ("SEED=1", "unknown word SEED=; "),
    ],
)
@pytest.mark.parametrize("target", ["sweep", "status", "figures"])
def test_a_word_that_make_would_ignore_is_refused(target: str, word: str, answer: str) -> None:
    done = make(target, word)
    assert done.returncode == 2
    assert answer in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("sweep", "sweep --sweep quick --cluster local"),
        ("sweep LOSS=ns TRIALS=2", "sweep --sweep quick --cluster local --loss ns --trials 2"),
        ("sweep SWEEP=mini DEVICE=cpu", "sweep --sweep mini --cluster local --device cpu"),
        ("status", "status"),
        ("status SWEEP=mini", "status --sweep mini"),
        ("collect SWEEP=mini", "collect --sweep mini"),
        ("figures SWEEP=mini", "figures --sweep mini"),
        ("verdict SWEEP=mini", "verdict --sweep mini"),
        ("report SWEEP=mini", "report --sweep mini"),
        ("cancel SWEEP=mini", "cancel --sweep mini"),
        ("losses", "losses"),
        ("data", "data"),
        ("data DATASET=mnist", "data mnist"),
        ("fid A=x B=y", 'fid "x" "y"'),
        ("dashboard SWEEP=mini PORT=9 HOST=::", "dashboard --sweep mini --host :: --port 9"),
        ("dashboard", "dashboard"),
        ("verdict FLAGS=--interim", "verdict --interim"),
        ("status SWEEP=mini FLAGS=--json", "status --sweep mini --json"),
        ("report FLAGS=--to=page", "report --to=page"),
    ],
)
def test_every_target_hands_on_what_it_is_given(words: str, command: str) -> None:
    done = make(*words.split(), HOST="some-machine", A="of", B="theirs", PORT="1")
    assert (done.returncode, done.stderr) == (0, "")
    [line] = [line for line in done.stdout.splitlines() if line.startswith(".venv")]
    assert line.split() == [".venv/bin/python", "-m", "study", *command.split()]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("figures LOSS=ns", "make figures takes no LOSS=; allowed: SWEEP FLAGS"),
        ("verdict TRIALS=3 SWEEP=mini", "make verdict takes no TRIALS=; allowed: SWEEP FLAGS"),
        ("fid A=a B=b SWEEP=mini", "make fid takes no SWEEP=; allowed: A B DEVICE FLAGS"),
        ("clean FLAGS=--all", "make clean takes no FLAGS=; allowed: none"),
        ("TRIALS=3", "make help takes no TRIALS=; allowed: none"),
    ],
)
def test_a_word_that_the_target_would_ignore_is_refused(words: str, answer: str) -> None:
    done = make(*words.split())
    assert done.returncode == 2
    assert answer in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("target", ["fid", "tensorboard"])
def test_what_a_target_cannot_do_without_is_asked_for(target: str) -> None:
    done = make(target)
    assert done.returncode == 2
    assert f"say which: make {target} " in done.stderr


def test_several_losses_and_a_folder_with_a_space() -> None:
    assert "--loss ns --loss wgan" in make("sweep", "LOSS=ns wgan").stdout
    assert 'fid "my images" "b"' in make("fid", "A=my images", "B=b").stdout
    assert '--logdir "runs/0"' in make("tensorboard", "RUN=runs/0").stdout

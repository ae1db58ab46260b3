"""A folder is a registry: a file that holds nothing yet is named, and all the others go on."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from study import datasets, features, losses
from study.cli import app
from study.errors import StudyError
from study.losses._about import About, Known
from study.settings import config

Put = Callable[[ModuleType, str, str], None]

LOSS = """
from study.losses.ns import Loss as NS

class Loss(NS):
    title = "Mine"
"""
NO_LOSSES = [
    ("def mean(x):\n    return x.mean()\n", "has no attribute 'Loss' (a helper's name begins with"),
    ("class Loss(", "SyntaxError: '(' was never closed"),
    ("import not_there\n", "ModuleNotFoundError: No module named 'not_there'"),
    ("raise SystemExit('not\\nyet')\n", "SystemExit: not yet"),
    ("\0", "SyntaxError: source code string cannot contain null bytes"),
    ("Loss = 3\n", "Loss is no subclass of study.losses.base.GANLoss"),
    (
        "from study.losses.base import GANLoss\nclass Loss(GANLoss):\n    title = 'T'\n",
        "Loss does not state its source",
    ),
    (LOSS + "    source = None\n", "Loss does not state its source"),
    (LOSS + "    defaults = {'lr': 1e-3}\n", "its defaults have no beta1"),
    (LOSS + "    def g_loss(self): return 0\n", "g_loss must take (d_fake), since g_sees_real"),
]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Puts a file with that content into a registry's folder, as far as Python can tell."""
    config.say_once.cache_clear()

    def into(registry: ModuleType, name: str, content: str) -> None:
        folder = tmp_path / registry.__name__
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(content)
        monkeypatch.setattr(registry, "__path__", [*registry.__path__, str(folder)])
        monkeypatch.delitem(sys.modules, f"{registry.__name__}.{name}", raising=False)
        importlib.invalidate_caches()

    return into


@pytest.mark.parametrize(("content", "problem"), NO_LOSSES)
def test_what_is_no_loss_is_named_and_the_others_go_on(
    put: Put, capsys: pytest.CaptureFixture[str], content: str, problem: str
) -> None:
    put(losses, "half", content)
    put(losses, "whole", LOSS)
    there = losses.names()
    said = capsys.readouterr().err.splitlines()
    assert "whole" in there
    assert "ns" in there
    assert "half" not in there
    assert len(said) == 1
    assert said[0].startswith("study/losses/half.py: ")
    assert problem in said[0]
    assert said[0].endswith("; it is left out")
    assert losses.load("whole").title == "Mine"
    with pytest.raises(StudyError, match=r"^study/losses/half\.py: ") as error:
        losses.load("half")
    assert problem in str(error.value)
    assert losses.names() == there
    assert not capsys.readouterr().err  # said once


def test_the_command_lists_the_others(put: Put) -> None:
    for number, (content, _) in enumerate(NO_LOSSES):
        put(losses, f"half{number}", content)
    put(losses, "_helper", "")
    found = CliRunner().invoke(app, ["losses"])
    assert found.exit_code == 0
    assert "\nns  NS GAN: " in found.stdout
    assert len(found.stderr.splitlines()) == len(NO_LOSSES)


def test_what_losses_say_is_kept_as_they_say_it() -> None:
    there = losses.known(tuple(losses.__path__))
    kept = Known.from_json(json.loads(json.dumps(there.to_json())))
    assert kept == there
    assert {name: About.of(losses.load(name)) for name in losses.names()} == kept.about


def test_a_loss_is_there_once_what_it_lacked_is_there(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is the same, and yet what was kept of it does not hold."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    put(losses, "needy", f"import its_package\n{LOSS}")
    assert "needy" not in losses.names()
    monkeypatch.setitem(sys.modules, "its_package", ModuleType("its_package"))
    losses.known.cache_clear()  # as in the next process
    assert "needy" in losses.names()


def test_what_losses_say_is_known_without_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    losses.known.cache_clear()
    losses.names()  # kept in that folder
    code = (
        "import sys; from study import losses; print(losses.about('ns').title, len(losses.names()),"
        "'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["NS", "GAN", str(len(losses.names())), "False"]


def test_a_loss_has_a_name_that_can_be_a_folders(
    put: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    put(losses, "größer", LOSS)
    assert "größer" not in losses.names()
    assert "study/losses/größer.py: names have 1 to 64 letters" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("import not_there\n", "ModuleNotFoundError: No module named 'not_there'"),
        ("raise SystemExit\n", "SystemExit"),
        ("SIZE = 3\n", "AttributeError: module 'study.datasets.half' has no attribute 'DATA_SET'"),
        ("DATA_SET = 'mnist'\n", "TypeError: DATA_SET is no study.datasets.base.DataSet"),
    ],
)
def test_a_half_written_data_set_is_named_and_the_others_go_on(
    put: Put,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: str,
    problem: str,
) -> None:
    monkeypatch.setattr(datasets, "BROKEN", {})
    put(datasets, "half", content)
    datasets.register("half")
    assert "half" not in datasets.names()
    assert datasets.image_shape("mnist") == (1, 28, 28)
    assert capsys.readouterr().err == f"study/datasets/half.py: {problem}; it is left out\n"
    with pytest.raises(StudyError, match=r"^study/datasets/half\.py: ") as error:
        datasets.find("half")
    assert problem in str(error.value)


def test_half_written_features_are_one_line_and_the_others_go_on(put: Put) -> None:
    put(features, "half", "WEIGHTS = 1\n")
    with pytest.raises(StudyError, match=r"study/features/half\.py: AttributeError: .*'extractor'"):
        features.load("half")
    assert features.load("random").name == "random"

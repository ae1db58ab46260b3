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
from study.runs.plan import plan
from study.settings import config
from study.settings.config import load_sweep
from study.settings.hyperparameters import SHARED_NAMES
from study.settings.space import described

Put = Callable[[ModuleType, str, str], None]

LOSS = """
from study.losses.ns import Loss as NS

class Loss(NS):
    title = "Mine"
"""
BARE = """
from study.losses.base import GANLoss
from study.losses.ns import Loss as NS

class Loss(GANLoss):
    title, source, defaults = "Mine", "me", NS.defaults
"""


def own(
    default: str = "0.5",
    wide: str | None = "{'margin': Float(0, 1)}",
    narrow: str | None = "{'margin': Float(0, 1)}",
    takes: str | None = "margin",
) -> str:
    """A loss with an own hyperparameter, as its file says it; None where it says nothing."""
    space = {"wide": wide, "narrow": narrow}
    said = ", ".join(f"{name!r}: {value}" for name, value in space.items() if value is not None)
    return (
        "from numpy import float32\n"
        "from optuna.distributions import CategoricalDistribution as Choice\n"
        "from optuna.distributions import FloatDistribution as Float\n"
        "from optuna.distributions import IntDistribution as Int\n"
        f"{LOSS}    defaults = NS.defaults | {{'margin': {default}}}\n    space = {{{said}}}\n"
    ) + ("" if takes is None else f"    def __init__(self, {takes}): super().__init__()\n")


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
    (LOSS + "    labels = ['margin']\n", "Loss does not state its labels"),
    # hyperparameters that no setting could be drawn, kept or shown of
    (own(narrow=None), "its space must have 'wide' and 'narrow', each {name: distribution}; it"),
    (own(wide=None), "it has 'narrow'"),
    (own() + "    space = {'margin': Float(0, 1)}\n", "it has 'margin'"),
    (own() + "    space = {}\n", "it has none"),
    (own(narrow="Float(0, 1)"), "space['narrow'] = FloatDistribution(high=1.0, log=False, low=0.0"),
    (own(wide="{'margin': (0, 1)}"), "space['wide']['margin'] = (0, 1) is none of Optuna's FloatD"),
    (
        own("'a'", wide="{'margin': Choice(['a', None])}"),
        "space['wide']['margin'] has the choice None, which must be bool, int, float or str",
    ),
    (own("float32(1)"), "its default margin = np.float32(1.0) must be bool, int, float or str"),
    (own("None"), "its default margin = None must be bool, int, float or str"),
    (own("[1,\n2]"), "its default margin = [1, 2] must be bool, int, float or str"),
    (own("1"), "its default margin = 1 must be float, as its range's are"),
    (own("0.5", narrow="{'margin': Int(0, 1)}"), "its default margin = 0.5 must be int, as its"),
    (own("2", wide="{'margin': Choice(['a', 0.5])}"), "margin = 2 must be float or str, as its"),
    (
        LOSS + "    defaults = NS.defaults | {'lr': '2e-4'}\n",
        "its default lr = '2e-4' must be float, as its range's are",
    ),
    # the same names everywhere
    (own(wide="{}"), "space['wide'] has none, space['narrow'] has margin"),
    (own(narrow="{'margni': Float(0, 1)}"), "defaults has margin, space['wide'] has margin, space"),
    (own() + "    defaults = NS.defaults\n", "defaults has none, space['wide'] has margin"),
    (own() + "    defaults = NS.defaults | {3: 1.0}\n", "hyperparameter 3 must have a name that"),
    (own(takes=None), "__init__ must take (self, margin), its own hyperparameters: got an unexpec"),
    (own(takes="edge"), "__init__ must take (self, margin), its own hyperparameters: missing a"),
    (own(takes="margin, edge"), "its own hyperparameters: missing a required argument: 'edge'"),
    # what is computed
    (
        BARE + "    def g_loss(self, d_fake): return d_fake\n",
        "Loss has no d_loss; define d_loss_re",
    ),
    (
        BARE + "    def g_loss(self, d_fake): return d_fake\n"
        "    def d_loss_real(self, d_real): return d_real\n",
        "Loss has no d_loss; define d_loss_real and d_loss_fake, or d_loss whole",
    ),
    (BARE + "    def d_loss(self, d_real, d_fake): return d_real\n", "Loss has no g_loss; define"),
]
GOOD = [
    own(),
    own("0.5", wide="{'margin': Choice(['a', 0.5])}"),
    own("2", wide="{'margin': Int(1, 3)}", narrow="{'margin': Choice([2])}"),
    own(takes="margin, edge=3"),
    LOSS + "    defaults = NS.defaults | {'lr': 1, 'beta1': 0}\n",  # floats to a run
    LOSS + "    defaults = __import__('types').MappingProxyType(NS.defaults)\n",
    BARE + "    def step(self, players, x_real, z, **given): return {}\n",
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


@pytest.mark.parametrize("content", GOOD)
def test_what_is_a_loss_is_described_planned_and_kept(
    put: Put, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    put(losses, "whole", content)
    assert "whole" in losses.names()
    assert not capsys.readouterr().err
    kept = Known.from_json(json.loads(json.dumps(losses.known(tuple(losses.__path__)).to_json())))
    assert kept.about["whole"] == losses.about("whole")
    assert {*described("whole")} - {*SHARED_NAMES} == {*losses.about("whole").space["wide"]}
    for planned in plan(load_sweep("mini"), ["whole"], ["fashion_mnist"], 3):
        losses.load("whole")(**planned.own)


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

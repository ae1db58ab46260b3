"""Ctrl-C while something is being imported: never lost, never the end of the process by abort()."""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.__main__ import interrupt, once_more
from study.runs.workers import Notice

ROOT = Path(__file__).parent.parent

WITHIN_AN_IMPORT = {
    "an optional import": """
try:
    signal.raise_signal(signal.SIGINT)
    for _ in range(1000):
        pass
except BaseException:
    LOST = True
""",
    "a weak reference's callback": """
class Thing:
    pass

def callback(reference):
    signal.raise_signal(signal.SIGINT)
    for _ in range(1000):
        pass

thing = Thing()
reference = weakref.ref(thing, callback)
del thing
""",
    "a finalizer": """
class Thing:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        for _ in range(1000):
            pass

Thing()
""",
    "called by C": """
@ctypes.CFUNCTYPE(None)
def called():
    signal.raise_signal(signal.SIGINT)
    for _ in range(1000):
        pass

called()
""",
    "an import within an import, for longer": """
import json.tool
signal.raise_signal(signal.SIGINT)
try:
    time.sleep(0.3)
except BaseException:
    LOST = True
""",
}


@pytest.fixture
def handlers() -> Iterator[None]:
    """Ctrl-C as `python -m study` has it."""
    former = {
        signal.SIGINT: signal.signal(signal.SIGINT, interrupt),
        signal.SIGALRM: signal.signal(signal.SIGALRM, once_more),
    }
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.fixture(params=WITHIN_AN_IMPORT)
def module(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The name of a module whose import gets Ctrl-C where it would be lost."""
    head = "import ctypes, signal, time, weakref\nLOST = False\n"
    (tmp_path / "interrupted.py").write_text(head + WITHIN_AN_IMPORT[request.param] + "DONE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield "interrupted"
    sys.modules.pop("interrupted", None)


def test_it_comes_once_the_import_is_over(handlers: None, module: str) -> None:
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        importlib.import_module(module)
        time.sleep(10)
    imported = sys.modules[module]
    assert (imported.DONE, imported.LOST) == (1, False)


def test_it_goes_to_whoever_takes_signals_by_then(
    handlers: None, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("study.__main__.AGAIN_S", 1.0)  # what follows the import begins meanwhile
    importlib.import_module(module)
    with Notice(signal.SIGINT) as notice:
        end = time.monotonic() + 10
        while not notice.given and time.monotonic() < end:
            time.sleep(0.01)
    assert notice.given


def test_outside_of_imports_it_comes_at_once(handlers: None) -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


COMMAND = """
import importlib, sys, time
import study.cli
sys.path.insert(0, sys.argv[1])

def command():
    try:
        import interrupted
        time.sleep(2)
        print("went on")
    except KeyboardInterrupt:
        print("interrupted")

study.cli.main = command
from study.__main__ import main
main()
"""


@pytest.mark.parametrize(("ignored", "said"), [(False, "interrupted\n"), (True, "went on\n")])
def test_the_command_line_takes_it_so_unless_told_to_ignore_it(
    tmp_path: Path, ignored: bool, said: str
) -> None:
    """As the shell does for `nohup` and for what it starts with `&`."""
    text = WITHIN_AN_IMPORT["an optional import"]
    (tmp_path / "interrupted.py").write_text(f"import signal\n{text}")
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, tmp_path],
        capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN) if ignored else None,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")

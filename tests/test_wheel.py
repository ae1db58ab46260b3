"""What pip installs: a wheel, unpacked far from any checkout, is the whole program."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from study.settings import shipped, space

ROOT = Path(__file__).parent.parent
CARRIED = {"sweeps": shipped.SWEEPS, "slurm": shipped.SLURM, "paper_results": shipped.PAPER_RESULTS}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, built without the network from a copy of what it is made of."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("study", "sweeps", "slurm", "results/paper"):
        aside = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=aside)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, source)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "installed")
    return folder / "installed"


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def study(installed: Path, empty: Path, *words: str) -> str:
    """The command line of the installed program, in an empty folder."""
    here = {name: value for name, value in os.environ.items() if not name.startswith("STUDY_")}
    environment = here | {"PYTHONPATH": str(installed)}
    return run(sys.executable, "-m", "study", *words, cwd=empty, env=environment)


def test_every_module_and_every_file_that_is_read_comes_along(installed: Path) -> None:
    modules = {path.relative_to(ROOT) for path in (ROOT / "study").rglob("*.py")}
    there = {path.relative_to(installed) for path in installed.rglob("*.py")}
    assert there == modules
    for name, folder in CARRIED.items():
        for path in [*folder.rglob("*.toml"), *folder.rglob("*.csv")]:
            copy = installed / "study/shipped" / name / path.relative_to(folder)
            assert copy.read_bytes() == path.read_bytes()


def test_in_a_checkout_the_files_are_those_that_users_edit() -> None:
    assert ROOT / "sweeps" == shipped.SWEEPS
    assert ROOT / "slurm" == shipped.SLURM
    assert ROOT / "results/paper" == shipped.PAPER_RESULTS


def test_it_plans_the_papers_settings_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    words = "sweep --sweep quick --loss ns --loss began --trials 2 --device cpu --dry-run"
    said = study(installed, tmp_path, *words.split())
    assert "runs: 4 (4 to do), of which 4 would be trained" in said
    assert not list(tmp_path.iterdir())
    script = "import study; from study.settings import space; print(study.__file__); "
    script += "print(space.setting('wide', 'ns', 7, 'wide'))"
    file, setting = run(
        sys.executable, "-c", script, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(installed)}
    ).splitlines()
    assert file == str(installed / "study/__init__.py")
    assert setting == str(space.setting("wide", "ns", 7, "wide"))

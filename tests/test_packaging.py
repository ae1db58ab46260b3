"""What a project of the field is expected to carry: it parses, and it says the same everywhere."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from there import there

import study

ROOT = Path(__file__).parent.parent
YAML = [
    "CITATION.cff",
    ".pre-commit-config.yaml",
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / ".github").rglob("*.yml"))),
]


def read(name: str) -> str:
    return (ROOT / name).read_text()


def parsed(name: str) -> Any:
    return yaml.safe_load(read(name))


def test_one_version() -> None:
    newest = there(re.search(r"^## (\S+)", read("CHANGELOG.md"), re.M))
    assert newest[1] == study.__version__
    assert parsed("CITATION.cff")["version"] == study.__version__
    project = tomllib.loads(read("pyproject.toml"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "study.__version__"}


def test_the_citation_names_the_paper() -> None:
    (paper,) = parsed("CITATION.cff")["references"]
    authors = [author["family-names"] for author in paper["authors"]]
    assert authors == ["Lucic", "Kurach", "Michalski", "Gelly", "Bousquet"]
    assert "1711.10337" in paper["url"]


@pytest.mark.parametrize("name", YAML)
def test_it_is_yaml_in_short_lines(name: str) -> None:
    assert isinstance(parsed(name), dict)
    assert max(map(len, read(name).splitlines())) <= 120


def test_the_workflow_is_the_script() -> None:
    steps = parsed(".github/workflows/ci.yml")["jobs"]["ci"]["steps"]
    assert steps[-1] == {"run": ".ci/run"}
    assert (ROOT / ".ci/run").stat().st_mode & 0o100


def test_the_hooks_are_the_tools_of_make_lint() -> None:
    (repository,) = parsed(".pre-commit-config.yaml")["repos"]
    entries = [hook["entry"].split(" --")[0] for hook in repository["hooks"]]
    lint = there(re.search(r"^lint:.*\n((?:\t.*\n)+)", read("Makefile"), re.M))[1]
    assert len(entries) == len(lint.splitlines())
    for entry in entries:
        tool = entry.removesuffix(" check")
        assert tool in lint


def test_both_container_recipes_take_the_same_steps() -> None:
    docker, apptainer = read("containers/Dockerfile"), read("containers/Apptainer.def")
    base = "python:3.11-slim-bookworm"
    assert f"FROM {base}\n" in docker
    assert f"From: {base}\n" in apptainer
    assert "\nCOPY . /opt/study\nRUN /opt/study/containers/install.sh\n" in docker
    assert (
        "\n%files\n    . /opt/study\n\n%post\n    /opt/study/containers/install.sh\n" in apptainer
    )
    assert (ROOT / "containers/install.sh").stat().st_mode & 0o100


def test_issues_about_faults_bring_what_check_wrote() -> None:
    fields = {field["id"]: field for field in parsed(".github/ISSUE_TEMPLATE/bug.yml")["body"]}
    assert fields["check"]["validations"] == {"required": True}
    assert "study check --json" in fields["check"]["attributes"]["description"]

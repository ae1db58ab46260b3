"""README's own lines: its snippet runs on the shipped table, its links lead somewhere."""

import re
import shlex
import subprocess
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from test_plots import make
from there import there

from study import cli
from study.analysis import findings, scores, verdict
from study.analysis.tables import read_tables
from study.losses import require_contract
from study.settings.config import load_sweep

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TABLE = Path("results/paired.parquet")


def test_the_snippet_prints_every_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (snippet,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert str(TABLE) in snippet
    if not (ROOT / TABLE).exists():
        (tmp_path / TABLE).parent.mkdir()
        make(fid_report=30.0).to_parquet(tmp_path / TABLE)
    monkeypatch.chdir(ROOT if (ROOT / TABLE).exists() else tmp_path)
    out = StringIO()
    with redirect_stdout(out):
        exec(compile(snippet, "README.md", "exec"), {"__name__": "readme"})
    runs = scores.search(pd.read_parquet(TABLE))
    for loss, fid in runs[runs["dataset"] == "fashion_mnist"].groupby("loss")["fid"]:
        row = rf"\b{loss} +{fid.mean():.2f}".rstrip("0")
        assert re.search(row, out.getvalue()), f"{row} is not in what it prints"


def test_the_new_loss_is_one_file_and_trains(tmp_path: Path) -> None:
    """README's example, put where it says, keeps the contract and takes a step."""
    (text,) = re.findall(r"<!-- a new loss -->\n```py\n(.*?)^```", README.read_text(), re.S | re.M)
    there: dict[str, Any] = {}
    exec(compile(text, "ls_logit.py", "exec"), there)
    Loss = there["Loss"]
    assert "ls_logit" not in load_sweep("paired").losses  # it may well be there, being tried
    require_contract("ls_logit", Loss)
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 2.0])
    assert Loss().d_loss(real, fake).item() == 0.5 * (0 + 4) / 2 + 0.5 * (0 + 4) / 2
    assert Loss().g_loss(fake).item() == 0.5 * (1 + 1) / 2


def test_the_table_and_its_heading_hold_the_shipped_numbers() -> None:
    paired, tables = (read_tables(ROOT / "results", sweep) for sweep in ("paired", "mini"))
    assert findings.effects_in_markdown(paired, "fashion_mnist") in README.read_text()
    runs = scores.search(tables.search).groupby("dataset")["number"].agg(["nunique", "size"])
    counts, judged = runs.to_dict("index"), scores.search(paired.search)
    said = " ".join(README.read_text().split())
    for count in (
        f"({judged['loss'].nunique()} losses, {len(judged):,} runs)",
        f"the paper's {counts['fashion_mnist']['nunique']} wide settings for eight models "
        f"({counts['fashion_mnist']['size']} runs)",
        f"({len(tables.seeds['config'].unique())} runs)",
        f"{counts['triangles']['nunique']} on triangles ({counts['triangles']['size']} runs)",
    ):
        assert count in said
    for sentence in verdict.headline(paired)[:3]:
        assert sentence in said


def test_the_second_extractor_names_whom_readme_says_it_names() -> None:
    tables = read_tables(ROOT / "results", "paired")
    found: dict[str, Any] = {each.question: each.table for each in verdict.findings(tables)}
    first = found["Which losses beat NS GAN?"].loc["fashion_mnist", "verdict"]
    other = found["Which losses beat NS GAN by other measures?"].loc["fashion_mnist"]
    second = other.xs("fid_second", level="measure")["verdict"]
    named = first[first.isin(["better", "worse"])]
    again = named[named == second[named.index]].index
    titles = ["VAE", "WGAN", "BEGAN"], ["RpGAN R1+R2", "DRAGAN"]
    assert set(map(scores.title, again)) == set(titles[0])
    assert set(map(scores.title, named.index.difference(again))) == set(titles[1])
    assert set(second[named.index.difference(again)]) == {"not told apart"}
    said = " ".join(README.read_text().split())
    assert (
        "second extractor's features VAE, WGAN and BEGAN are named again, RpGAN R1+R2 and DRAGAN "
        "are not" in said
    )


@pytest.mark.parametrize(
    ("sweep", "name"), [("paired", "FINDINGS.md"), ("mini", "FINDINGS-mini.md")]
)
def test_the_findings_are_the_verdicts(sweep: str, name: str) -> None:
    """Else: `python -m study verdict --sweep mini --markdown > results/FINDINGS-mini.md`."""
    tables = read_tables(ROOT / "results", sweep)
    assert (ROOT / "results" / name).read_text() == findings.page(tables)


def test_a_newcomer_is_not_kept_long() -> None:
    assert len(README.read_text().split()) <= 1300


PAGES = [
    README,
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / name for name in ("CONTRIBUTING.md", "slurm/README.md", "sweeps/README.md")),
]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_to_be_typed_exists(path: Path) -> None:
    """Every make command, with its words, and every command of `python -m study` on a page."""
    text = path.read_text()
    code = " ; ".join(
        re.findall(r"`([^`]+)`", text) + re.findall(r"^```(?:sh)?\n(.*?)^```", text, re.S | re.M)
    )
    for words in re.findall(r"(?:^|; |\n)make ([a-z][^;#`\n]*)", code):
        command = ["make", "--dry-run", "--old-file=.venv/ready", *shlex.split(words)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"make {words}: {done.stderr}"
    commands: set[str | None] = {
        command.name or there(command.callback).__name__ for command in cli.app.registered_commands
    }
    commands |= {group.name for group in cli.app.registered_groups}
    for command in re.findall(r"python -m study ([a-z]+)", code):
        assert command in commands, command


def test_links_lead_somewhere() -> None:
    text = README.read_text()
    links = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'(?:src|href)="([^"#]+)"', text)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing

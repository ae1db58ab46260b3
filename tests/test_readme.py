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
TABLE = Path("results/mini.parquet")


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
    tables = read_tables(ROOT / "results", "mini")
    assert findings.main_table_in_markdown(tables, "fashion_mnist") in README.read_text()
    runs = scores.search(tables.search).groupby("dataset")["number"].agg(["nunique", "size"])
    counts = runs.to_dict("index")
    said = " ".join(README.read_text().split())
    for count in (
        f"all {counts['fashion_mnist']['nunique']} of the paper's wide settings",
        f"on Fashion-MNIST ({counts['fashion_mnist']['size']} runs)",
        f"({len(tables.seeds['config'].unique())} runs)",
        f"the first {counts['triangles']['nunique']} on triangles "
        f"({counts['triangles']['size']} runs)",
    ):
        assert count in said
    for sentence in verdict.headline(tables)[:3]:
        assert sentence in said


def test_the_findings_are_the_verdicts() -> None:
    """Else: `python -m study verdict --sweep mini --markdown > results/FINDINGS.md`."""
    tables = read_tables(ROOT / "results", "mini")
    assert (ROOT / "results/FINDINGS.md").read_text() == findings.page(tables)


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

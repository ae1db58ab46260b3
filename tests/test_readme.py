"""README's own lines: its snippet runs on the shipped table, its links lead somewhere."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from test_plots import make

from study.analysis import scores, verdict
from study.analysis.tables import paper, read_tables
from study.analysis.verdict.search import defaults_beside_search
from study.losses import names, require_contract

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TABLE = Path("results/mini.parquet")


def test_the_snippet_prints_every_loss(tmp_path, monkeypatch):
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
        row = rf"\b{loss} +{len(fid)}\.0 +{fid.mean():.6f}"
        assert re.search(row, out.getvalue()), f"{row} is not in what it prints"


def test_the_new_loss_is_one_file_and_trains(tmp_path):
    """README's example, put where it says, keeps the contract and takes a step."""
    (text,) = re.findall(r"<!-- a new loss -->\n```py\n(.*?)^```", README.read_text(), re.S | re.M)
    there: dict[str, Any] = {}
    exec(compile(text, "ls_logit.py", "exec"), there)
    Loss = there["Loss"]
    assert "ls_logit" not in names()
    require_contract("ls_logit", Loss)
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 2.0])
    assert Loss().d_loss(real, fake).item() == 0.5 * (0 + 4) / 2 + 0.5 * (0 + 4) / 2
    assert Loss().g_loss(fake).item() == 0.5 * (1 + 1) / 2


def test_the_table_and_its_heading_hold_the_shipped_numbers():
    tables = read_tables(ROOT / "results", "mini")
    best = scores.best_table(tables.search, tables.seeds, paper("best_fid"))
    default = defaults_beside_search(scores.search(tables.search))["default"]
    rows = [
        f"| {scores.title(loss)} | {default[dataset, loss]:.1f} | {row['best']:.1f} "
        f"| {row['reseeded_median']:.1f} ± {row['reseeded_std']:.1f} "
        f"| {row['paper_mean']:.1f} ± {row['paper_std']:.1f} |"
        for (dataset, loss), row in best.iterrows()
        if dataset == "fashion_mnist"
    ]
    assert "\n".join(rows) in README.read_text()
    runs = scores.search(tables.search).groupby("dataset")["number"].agg(["nunique", "size"])
    said = " ".join(README.read_text().split())
    for count in (
        f"all {runs.loc['fashion_mnist', 'nunique']} of the paper's wide settings",
        f"on Fashion-MNIST ({runs.loc['fashion_mnist', 'size']} runs)",
        f"({len(tables.seeds['config'].unique())} runs)",
        f"the first {runs.loc['triangles', 'nunique']} on triangles "
        f"({runs.loc['triangles', 'size']} runs)",
    ):
        assert count in said
    for sentence in verdict.headline(tables):
        assert sentence in said


def test_links_lead_somewhere():
    text = README.read_text()
    links = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'(?:src|href)="([^"#]+)"', text)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing

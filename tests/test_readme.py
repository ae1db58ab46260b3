"""README's own lines: its snippet runs on the shipped table, its links lead somewhere."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pandas as pd
from test_plots import make

from study import plots

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
    runs = plots.search(pd.read_parquet(TABLE))
    for loss, fid in runs[runs["dataset"] == "fashion_mnist"].groupby("loss")["fid"]:
        row = rf"\b{loss} +{len(fid)}\.0 +{fid.mean():.6f}"
        assert re.search(row, out.getvalue()), f"{row} is not in what it prints"


def test_links_lead_somewhere():
    text = README.read_text()
    links = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'(?:src|href)="([^"#]+)"', text)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing

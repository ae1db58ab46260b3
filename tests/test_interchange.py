"""docs/interchange.md: what can be run of it here gives the numbers that the table holds."""

import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path

import duckdb
import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/interchange.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.M | re.S)


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def test_every_block_is_short() -> None:
    assert len(BLOCKS) == 7
    assert all(len(text.splitlines()) <= 9 for _, text in BLOCKS)
    for text in blocks("python"):
        compile(text, "docs/interchange.md", "exec")


def medians() -> "pd.Series[float]":
    table = pd.read_parquet(ROOT / "results/mini.parquet").query("dataset == 'fashion_mnist'")
    return table.groupby(["loss", "number"])["fid"].min().groupby("loss").median()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_block_of_python_finds_the_medians(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (text,) = (block for block in blocks("python") if f"import {library}" in block)
    said = io.StringIO()
    with redirect_stdout(said):
        exec(text, {})
    found = re.findall(r"^\W*(\w+)\W+(\d+\.\d+)", said.getvalue(), re.M)
    assert {loss: float(median) for loss, median in found} == pytest.approx(
        medians().to_dict(), rel=1e-4
    )


def test_duckdb_finds_the_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (text,) = blocks("sql")
    found = {loss: median for loss, median, _ in duckdb.execute(text).fetchall()}
    assert found == pytest.approx(medians().to_dict())


def test_the_files_of_a_run_are_named_as_they_are(tmp_path: Path) -> None:
    from study.check.training import config, planned
    from study.training.loop import train

    train(planned(tmp_path, config("ns", "cpu")))
    assert json.loads((tmp_path / "config.json").read_text())["loss"] == "ns"
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").open()]
    assert steps == [20, 40]
    assert list((tmp_path / "events").iterdir())

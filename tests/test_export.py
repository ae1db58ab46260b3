"""`study export`: the main table reads back as it was, and TeX takes it."""

import csv
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from study import cli
from study.analysis import export
from study.analysis.statistics import min_quantile, min_quantile_interval
from study.errors import StudyError
from study.runs.table import read_table

ROOT = Path(__file__).parent.parent
DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\usepackage[landscape]{geometry}
\begin{document}
%s
\end{document}
"""


@pytest.fixture(scope="module")
def mini() -> pd.DataFrame:
    return read_table(ROOT / "results", "mini")


@pytest.fixture(scope="module")
def table(mini: pd.DataFrame) -> pd.DataFrame:
    return export.main_table(mini)


def few(diverged: int = 0, sweep: str = "few", dataset: str = "fashion_mnist") -> pd.DataFrame:
    """Runs of two losses, six settings each, of which some diverged."""
    return pd.DataFrame(
        {
            "sweep": sweep, "loss": loss, "dataset": dataset, "number": number, "seed": 0,
            "step": 1, "features": "lite0", "num_images": 100, "width": 1.0, "precision": "fp32",
            "fid": np.inf if number < diverged and loss == "ns" else offset + number,
            "status": "diverged" if number < diverged and loss == "ns" else "ok",
        }
        for loss, offset in (("ns", 20.0), ("a_b", 0.125))
        for number in range(6)
    )  # fmt: skip


def test_the_numbers_are_the_statistics_own(mini: pd.DataFrame, table: pd.DataFrame) -> None:
    assert table.groupby(["dataset", "loss"]).size().eq(4).all()
    scores = mini[(mini["loss"] == "ls") & (mini["dataset"] == "fashion_mnist")]
    fid = scores.groupby("number")["fid"].min().to_numpy()
    rows = table[(table["loss"] == "ls") & (table["dataset"] == "fashion_mnist")]
    assert rows["median"].tolist() == min_quantile(fid, [1, 2, 5, 10], 0.5).tolist()
    interval = min_quantile_interval(fid, [1, 2, 5, 10], 0.5)
    assert rows["low"].tolist() == interval.low.tolist()
    assert rows["high"].tolist() == interval.high.tolist()
    assert set(rows["best"]) == {fid.min()}
    assert set(rows["settings"]) == {100}


def test_budgets_end_where_settings_do_and_divergence_counts() -> None:
    found = export.main_table(few(diverged=4))
    assert found["budget"].tolist() == [1, 2, 5] * 2
    ns = found[found["loss"] == "ns"].set_index("budget")
    assert ns["diverged"].tolist() == [4] * 3
    assert ns["median"].tolist() == [np.inf, 25.0, 24.0]
    with pytest.raises(StudyError, match="several seeds"):
        export.main_table(pd.concat([few(), few().assign(seed=1)]))


def test_the_csv_reads_back_to_the_last_digit(table: pd.DataFrame, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli.app,
        ["export", "mini", "--csv", str(tmp_path / "a.csv"), "--latex", str(tmp_path / "a.tex")],
        env={"STUDY_RESULTS": str(ROOT / "results")},
    )
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [str(tmp_path / "a.csv"), str(tmp_path / "a.tex")]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv"), table, check_exact=True)
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["low"]) for row in rows] == table["low"].tolist()
    assert (tmp_path / "a.tex").read_text() == export.latex(table)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mini", "--csv", ""], "'.' is a folder; give the file's name too"),
        (["mini", "--latex", "."], "'.' is a folder"),
        (["mini", "--csv", "a", "--latex", "a"], "a cannot be CSV and LaTeX; give two files"),
    ],
)
def test_where_nothing_can_be_written_nothing_is(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.app, ["export", *arguments])
    assert message in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_nothing_to_write_is_said() -> None:
    done = CliRunner().invoke(cli.app, ["export", "mini"])
    assert "give --csv FILE, --latex FILE, or both" in str(done.exception)


def test_a_latex_row_says_what_the_table_says(table: pd.DataFrame) -> None:
    text = export.latex(table)
    row = table[(table["loss"] == "vae") & (table["dataset"] == "fashion_mnist")].iloc[0]
    cells = next(line for line in text.splitlines() if line.startswith("VAE")).split(" & ")
    assert cells[:2] == ["VAE", "100"]
    assert cells[2] == rf"\textbf{{{row['median']:.1f}}} [{row['low']:.1f}, {row['high']:.1f}]"
    lines = [line for line in text.splitlines() if line.endswith(r"\\") and "multi" not in line]
    assert {line.count(" & ") for line in lines} == {6}
    for begin, end in ((r"\begin{", r"\end{"), ("{", "}")):
        assert text.count(begin) == text.count(end)


def test_open_ends_diverged_settings_and_names_are_told() -> None:
    text = export.latex(export.main_table(few(diverged=4, sweep="a_sweep")))
    assert r"sweep a\_sweep" in text
    assert r"a\_b & 6 & " in text
    assert re.search(r"^NS GAN & 6 \(4\) & -- \[", text, re.M)


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.345, "12.3"), (123.45, "123"), (0.12345, "0.123"), (1234.5, "1230"), (0.0, "0"),
     (9.999, "10.0"), (float("inf"), "--"), (float("-inf"), "--")],
)  # fmt: skip
def test_three_digits(value: float, text: str) -> None:
    assert export.number(value) == text


def test_every_special_character_is_escaped() -> None:
    assert export.escaped("5 % & a_b #1 $x$ {β} ~^\\") == (
        r"5 \% \& a\_b \#1 \$x\$ \{$\beta$\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX here")
def test_tex_takes_it(table: pd.DataFrame, tmp_path: Path) -> None:
    odd = export.main_table(few(diverged=4, sweep="a_sweep"))
    text = DOCUMENT % (export.latex(table) + export.latex(odd))
    (tmp_path / "a.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "booktabs.sty' not found" in done.stdout:
        pytest.skip("no booktabs here")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert (tmp_path / "a.pdf").stat().st_size > 10_000

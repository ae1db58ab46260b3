"""README's own lines: its snippet runs on the shipped table, its links lead somewhere."""

import re
import shlex
import subprocess
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from test_plots import make
from there import there

from study import cli
from study.analysis import findings, scores, verdict
from study.analysis import statistics as st
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


def test_what_the_pairs_could_have_seen_is_what_the_protocol_says() -> None:
    said = (ROOT / "results/paired.md").read_text()
    assert "0.8 / 0.9 / 0.95 everywhere with a chance\nof 100 / 59 to 100 / 7 to 67 %." in said
    fids = scores.search(pd.read_parquet(ROOT / "results/paired.parquet")).pivot(
        index="number", columns="loss", values="fid"
    )
    ns, step = fids["ns"].to_numpy(), 0.05 / 13

    same = ("mm", "ls", "wgan_gp", "hinge", "ns_r1", "ns_smooth", "ns_ttur", "rp")
    for factor, least, most in ((0.8, 1, 1), (0.9, 0.59, 1), (0.95, 0.07, 0.67)):
        seen = [
            st.power(fids[loss].to_numpy(), ns, factor, [1, 2, 5, 10], True, alpha=step)
            for loss in same
        ]
        assert [min(seen), max(seen)] == pytest.approx([least, most], abs=0.0051)


def test_the_winners_trained_again_are_said_as_they_came_out() -> None:
    """By SciPy's t interval of the logarithms' differences, seed by seed."""
    table = pd.read_parquet(ROOT / "results/paired_best.parquet")
    fids = table.groupby(["seed", "loss"])["fid"].min().unstack()
    assert fids.shape == (10, 14)
    assert np.isfinite(fids.to_numpy()).all()
    between = stats.ttest_1samp(np.log(fids["vae"] / fids["r3"]), 0)
    assert 13 * between.pvalue < 0.05  # RpGAN R1+R2's was the first of 14
    low, high = (float(np.exp(end)) for end in between.confidence_interval())
    ratio = np.exp(np.log(fids["vae"] / fids["r3"]).mean())
    readme, protocol = (
        " ".join((ROOT / page).read_text().split()) for page in ("README.md", "results/paired.md")
    )
    said = f"setting comes to {ratio:.2f} times RpGAN R1+R2's ({low:.2f}–{high:.2f})"
    assert f"Trained again with ten seeds, VAE's best {said}" in readme
    said = f"comes to {ratio:.2f} times RpGAN R1+R2's there (geometric means paired by seed, 95 %"
    assert f"{said} interval {low:.2f} to {high:.2f})" in protocol


def test_the_longer_runs_are_said_as_they_came_out() -> None:
    table = pd.read_parquet(ROOT / "results/paired_long.parquet")
    assert (table["status"] == "ok").all()
    first = table[table["number"] == 0]
    least = first.groupby("loss")["fid"].min().sort_values()
    at = first.set_index(["loss", "step"])["fid"]
    assert (len(least), least.index[0], list(least.index).index("vae")) == (14, "ns_r1", 11)
    assert at["r3"].idxmin() == 6_250
    r1, ns, r3, vae = (f"{least[loss]:.1f}" for loss in ("ns_r1", "ns", "r3", "vae"))
    readme, protocol, limits = (
        " ".join((ROOT / page).read_text().split())
        for page in ("README.md", "results/paired.md", "docs/limits.md")
    )
    assert f"in 15,625 steps they come to {vae} and {r3}, NS GAN's to {ns} (one run each)" in readme
    assert f"comes to {vae} in 15,625 steps and RpGAN R1+R2's to {r3}, NS GAN's to {ns}" in limits
    assert (
        f"NS GAN R1's comes to {r1}, the least, NS GAN's to {ns}, RpGAN R1+R2's to {r3} (at 6,250 "
        f"steps; {at['r3', 15_625]:.1f} at the end) and VAE's to {vae}, the twelfth of 14."
    ) in protocol
    assert "14 runs of 70, none diverged and none failed" in protocol


def test_the_second_extractor_names_whom_readme_says_it_names() -> None:
    """Both are compared with the page of findings, which is the verdict's."""
    said, page = " ".join(README.read_text().split()), (ROOT / "results/FINDINGS.md").read_text()
    assert "features VAE, WGAN and BEGAN are named again, RpGAN R1+R2 and DRAGAN are not." in said
    first = re.search(r"better than NS GAN [^:]*: (.*)\n- Worse: (.*)\n- Not", page)
    other = re.search(
        r"second extractor's features: better than NS GAN: (.*?); worse: (.*?); not told apart: "
        r"(.*?)\. Fashion",
        page,
    )
    assert first
    assert other
    title = re.compile(r"([A-Z][^,(.]*?) \(")
    named, again = (
        [set(title.findall(side)) for side in each.groups()[:2]] for each in (first, other)
    )
    assert named == [{"VAE", "RpGAN R1+R2"}, {"WGAN", "DRAGAN", "BEGAN"}]
    assert [one & two for one, two in zip(named, again, strict=True)] == [
        {"VAE"},
        {"WGAN", "BEGAN"},
    ]
    assert {"RpGAN R1+R2", "DRAGAN"} <= set(other[3].split(", "))


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

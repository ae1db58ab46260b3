"""From tables to analysis/: every figure, the report, the kept examples, the notebooks."""

import ast
import html
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from nbclient import NotebookClient
from PIL import Image
from test_plots import make
from there import there
from typer.testing import CliRunner

from study import datasets
from study.analysis import examples, figures, report, scores, verdict
from study.analysis.figures import processes, style, unchanged
from study.analysis.figures.base import Plot
from study.analysis.tables import (
    is_search,
    nearest_results,
    other_searches,
    read_tables,
    searches,
)
from study.cli import app
from study.errors import StudyError
from study.runs.table import AFTER_OWN, BEFORE_OWN, read_table
from study.settings.config import RunConfig, load_sweep

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "analysis").glob("*.ipynb"))


def search(n: int = 3, datasets: Sequence[str] = ("fashion_mnist", "triangles")) -> pd.DataFrame:
    """A mini table with everything that its figures can show."""
    table = make(("ns", "wgan"), datasets, n=n).assign(fid_report=lambda t: 1.01 * t["fid"])
    table["config"] = table["loss"] + table["number"].astype(str)
    table["commit"] = "abc"
    triangles = table["dataset"] == "triangles"
    for name in scores.F1:
        table[name] = np.where(triangles, 0.5 + 0.1 * table["number"], np.nan)
    return table


def reseeded(table: pd.DataFrame) -> pd.DataFrame:
    """Three re-runs of each loss's best setting on Fashion-MNIST."""
    table = table[table["dataset"] == "fashion_mnist"]
    best = table.loc[table.groupby("loss")["fid"].idxmin()]
    numbers = pd.DataFrame({"number": range(3), "seed": range(1, 4)})
    again = best.drop(columns=["number", "seed"]).merge(numbers, how="cross")
    return again.assign(sweep="mini_seeds")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a search, its re-runs, and examples."""
    folder = tmp_path_factory.mktemp("results")
    search().to_parquet(folder / "mini.parquet")
    reseeded(search()).to_parquet(folder / "mini_seeds.parquet")
    for run in examples.best(folder, "mini", "fashion_mnist"):
        put_example(run)
    put_example(examples.collapsed(folder, "mini", "fashion_mnist"))
    return folder


def put_example(run: examples.Example) -> None:
    run.samples.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(run.samples)
    curves = pd.DataFrame({"step": [10, 20], "d_loss": [1.0, 0.5], "g_loss": [1.0, 2.0]})
    curves.to_parquet(run.curves)


@pytest.fixture
def one_set(results: Path, tmp_path: Path) -> Path:
    """The same with one data set and two settings: quick to draw."""
    search(2, ("fashion_mnist",)).to_parquet(tmp_path / "mini.parquet")
    return tmp_path


def test_results_are_looked_for_in_the_folders_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STUDY_RESULTS", raising=False)
    below = tmp_path / "a/b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert nearest_results() == Path("results")
    (tmp_path / "results").mkdir()
    assert nearest_results() == tmp_path / "results"
    (tmp_path / "a/results").mkdir()
    assert nearest_results() == tmp_path / "a/results"
    (below / "results").mkdir()
    assert nearest_results() == Path("results")
    (below / "results").rmdir()
    monkeypatch.setenv("STUDY_RESULTS", "elsewhere")
    assert nearest_results() == Path("elsewhere")


def test_a_search_tries_more_than_one_setting() -> None:
    paired = load_sweep("paired")
    assert is_search(paired)
    assert is_search(paired.model_copy(update={"trials": 2}))
    assert not is_search(paired.model_copy(update={"trials": 1}))
    assert not is_search(load_sweep("mini_seeds"))


def test_seeds_of_an_overtaken_setting_are_left_out(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = read_tables(results, "mini").seeds
    assert set(seeds["loss"]) == {"ns", "wgan"}
    assert capsys.readouterr().err == ""
    table = search()
    better = table[(table["loss"] == "ns") & (table["number"] == 1)].assign(
        number=3, fid=0.1, lr=0.5
    )
    pd.concat([table, better]).to_parquet(tmp_path / "mini.parquet")
    seeds.to_parquet(tmp_path / "mini_seeds.parquet")
    assert set(read_tables(tmp_path, "mini").seeds["loss"]) == {"wgan"}
    message = (
        "mini_seeds: ns on fashion_mnist left out: the search has found a better setting since"
    )
    assert message in capsys.readouterr().err


def test_the_defaults_at_full_length_belong_to_the_search(
    results: Path, one_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_tables(one_set, "mini").full.empty
    full = search(1, ("fashion_mnist",)).assign(sweep="defaults", width=1.0, num_images=10_000)
    full.to_parquet(one_set / "defaults.parquet")
    tables = read_tables(one_set, "mini")
    assert set(tables.full["loss"]) == {"ns", "wgan"}
    assert "defaults_fashion_mnist" in figures.of(tables.frames())
    full.assign(dataset="mnist").to_parquet(one_set / "defaults.parquet")
    assert read_tables(one_set, "mini").full.empty  # of a data set that the search has not
    full.to_parquet(one_set / "defaults.parquet")
    few(monkeypatch)
    assert "What do full width and length change?" in report.page(tables)
    assert report.provenance(tables).loc["rows", "defaults.parquet"] == "4"


def test_the_narrow_search_stands_beside_the_wide_one(tmp_path: Path) -> None:
    """On the data sets of both: the shipped narrow search has no triangles."""
    wide = search().assign(sweep="wide", features="inception", num_images=10_000, width=1.0)
    wide.to_parquet(tmp_path / "wide.parquet")
    assert read_tables(tmp_path, "wide").narrow.empty
    wide[wide["dataset"] == "fashion_mnist"].assign(sweep="narrow").to_parquet(
        tmp_path / "narrow.parquet"
    )
    names = figures.of(read_tables(tmp_path, "wide").frames())
    assert [name for name in names if name.startswith("narrow")] == ["narrow_fashion_mnist"]
    wide.assign(sweep="mini").to_parquet(tmp_path / "mini.parquet")
    assert read_tables(tmp_path, "mini").narrow.empty  # another width and length


def test_re_runs_of_an_overtaken_setting_leave_the_table_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path))
    recorded = {"definition": 1, "threads": 1, "cuda_graph": False, "bn_decay": 0.99}
    table = search().assign(**recorded)
    reseeded(table).to_parquet(tmp_path / "mini_seeds.parquet")
    overtaken = table["loss"] == "ns"
    table.assign(lr=table["lr"].mask(overtaken, 0.5)).to_parquet(tmp_path / "mini.parquet")
    for options, losses in (([], {"ns", "wgan"}), (["--winners"], {"wgan"})):
        result = CliRunner().invoke(app, ["collect", "--sweep", "mini_seeds", *options])
        assert result.exit_code == 0, result.output
        kept = read_table(tmp_path, "mini_seeds")
        assert set(kept["loss"]) == losses
        own = [name for name in table if name in ("clip", "gamma", "lambda_gp", "lambda_k")]
        first = [*BEFORE_OWN, *own, *AFTER_OWN]
        assert kept.columns.tolist() == [*first, *sorted(scores.F1)]
    assert "mini_seeds: ns on fashion_mnist left out" in result.stderr


def test_the_figures_that_the_tables_allow(results: Path) -> None:
    names = set(figures.of(read_tables(results, "mini").frames()))
    of_both = {"headline", "budget", "budget_report", "distributions", "profiles", "ranks", "wins"}
    assert {f"{name}_{set_}" for name in of_both for set_ in ("fashion_mnist", "triangles")} < names
    assert {"f1_triangles", "seeds_fashion_mnist", "samples_fashion_mnist"} < names
    assert {"curves_fashion_mnist", "settings_fashion_mnist_ns", "settings_triangles_wgan"} < names
    assert not names & {"narrow_fashion_mnist", "samples_triangles", "f1_fashion_mnist"}


def test_figures_are_known_without_loading_torch_or_seaborn() -> None:
    code = (
        "import sys; from study.analysis import figures; print(len(figures.names()), "
        "[m for m in ('torch', 'seaborn', 'scipy.stats') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{len(figures.names())} []\n"


def test_a_figure_is_written_whole_or_not_at_all(
    one_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "names", lambda: ["profiles", "settings"])
    table = pd.read_parquet(one_set / "mini.parquet")
    table = table[(table["loss"] == "ns") | (table["number"] == 0)]
    stale = tmp_path / "drawn" / "settings_fashion_mnist_wgan.svg"
    stale.parent.mkdir()
    stale.write_text("of an older table")
    written, refused, _ = figures.draw({"search": table}, tmp_path / "drawn")
    assert len(refused) == 1
    assert refused[0].startswith("settings_fashion_mnist_wgan: one setting of wgan")
    names = ("profiles_fashion_mnist", "settings_fashion_mnist_ns")
    files = {f"{name}.{end}" for name in names for end in ("svg", "png")}
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == files
    assert {path.name for path in written} == files


# Figures that are not drawn again


def sketch(search: pd.DataFrame) -> Figure:
    """A figure that is drawn in no time: the distances as a line."""
    figure = Figure(figsize=(1, 1))
    figure.add_artist(Line2D(np.linspace(0, 1, len(search)), search["fid"] / 100))
    return figure


SKETCHES = {
    "profiles": Plot(sketch, "Of a data set", place=1, each=("dataset",)),
    "settings": Plot(sketch, "Of a loss", place=2, each=("dataset", "loss")),
}


class Drawing:
    """Draws a table's figures of two kinds into one folder, with a record of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.names = folder / "drawn", set[str]()
        monkeypatch.setattr(figures, "names", lambda: list(SKETCHES))
        monkeypatch.setattr(figures, "load", SKETCHES.__getitem__)
        monkeypatch.setattr(unchanged, "_path", lambda: folder / "figures.json")
        draw = figures._draw

        def spy(make: figures.Wanted, stem: Path) -> list[str] | str:
            self.names.add(stem.name)
            return draw(make, stem)

        monkeypatch.setattr(figures, "_draw", spy)

    def __call__(self, table: pd.DataFrame) -> set[str]:
        """The names of what had to be drawn."""
        self.names.clear()
        found = figures.draw({"search": table}, self.folder)
        assert found.unchanged == len(found.written) - 2 * len(self.names)
        return set(self.names)


@pytest.fixture
def drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drawing:
    return Drawing(tmp_path, monkeypatch)


SETS = {"fashion_mnist", "triangles"}
PROFILES = {f"profiles_{set_}" for set_ in SETS}
EVERY = PROFILES | {f"settings_{set_}_{loss}" for set_ in SETS for loss in ("ns", "wgan")}


def test_what_is_unchanged_is_not_drawn_and_what_is_damaged_is(drawing: Drawing) -> None:
    assert drawing(search(2)) == EVERY
    before = {path: path.read_bytes() for path in drawing.folder.iterdir()}
    assert drawing(search(2)) == set()
    damaged = drawing.folder / "settings_triangles_ns.png"
    damaged.write_bytes(before[damaged][:-1])
    (drawing.folder / "profiles_triangles.svg").unlink()
    assert drawing(search(2)) == {"settings_triangles_ns", "profiles_triangles"}
    assert {path: path.read_bytes() for path in drawing.folder.iterdir()} == before


def test_a_changed_row_has_those_figures_drawn_that_depend_on_it(drawing: Drawing) -> None:
    table = search(2)
    drawing(table)
    row = table.index[(table["loss"] == "ns") & (table["dataset"] == "triangles")][0]
    table.loc[row, "fid"] *= 1 + 1e-15
    assert drawing(table) == {"profiles_triangles", "settings_triangles_ns"}
    more = table[(table["loss"] == "ns") & (table["dataset"] == "fashion_mnist")].iloc[-1:]
    table = pd.concat([more.assign(number=2, config="ns2"), table], ignore_index=True)
    assert drawing(table) == {"profiles_fashion_mnist", "settings_fashion_mnist_ns"}
    assert drawing(table.assign(commit="def")) == EVERY
    assert drawing(table) == set()  # what was drawn since came to the same files


def test_figures_depend_on_packages_and_settings(
    drawing: Drawing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing(search(2))
    with matplotlib.rc_context({"figure.facecolor": "red"}):
        assert drawing(search(2)) == EVERY
    assert drawing(search(2)) == EVERY
    (tmp_path / "beside" / "matplotlib-9.9.9.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "beside")
    assert drawing(search(2)) == EVERY
    assert drawing(search(2)) == set()


def test_figures_depend_on_code_which_may_not_change_meanwhile(
    drawing: Drawing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "code").mkdir()
    file = tmp_path / "code" / "new.py"
    file.write_text("a = 1")
    os.utime(file, (0, 0))
    monkeypatch.setattr(datasets, "__path__", [*datasets.__path__, str(file.parent)])
    assert drawing(search(2)) == EVERY
    assert drawing(search(2)) == EVERY  # this process may have imported what was there before
    monkeypatch.setattr("study.STARTED", time.time() + 60)
    assert drawing(search(2)) == EVERY
    assert drawing(search(2)) == set()
    file.write_text("a = 2")
    assert drawing(search(2)) == EVERY
    file.write_text("a = 3")
    around = iter([unchanged.surroundings(), "changed while it was drawn"])
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(unchanged, "surroundings", lambda: next(around))
        assert drawing(search(2)) == EVERY
    assert drawing(search(2)) == EVERY


def test_figures_depend_on_the_files_beside_those_that_tables_name(tmp_path: Path) -> None:
    table = pd.DataFrame({"samples": [tmp_path / "ns_000.png"]})
    keys = set()
    for name in ("ns_000.png", "real.png"):
        for content in (b"a", b"b"):
            (tmp_path / name).write_bytes(content)
            keys.add(unchanged.key_of("samples", [table], ""))
    (tmp_path / "ns_001.png").symlink_to(tmp_path / "nowhere")
    keys.add(unchanged.key_of("samples", [table], ""))
    (tmp_path / "nowhere").write_bytes(b"c")
    keys.add(unchanged.key_of("samples", [table], ""))
    assert len(keys) == 6
    assert unchanged.key_of("samples", [table], "") in keys
    assert unchanged.key_of("curves", [table], "") not in keys
    assert unchanged.key_of("samples", [table], "other") not in keys
    assert unchanged.key_of("samples", [table, table], "") not in keys


def test_a_table_that_differs_at_all_has_another_key() -> None:
    table = pd.DataFrame({"fid": [1.0, 2.0], "loss": ["ns", "vae"], "clip": [None, True]})
    others = [
        table.astype({"fid": "float32"}),
        table.assign(loss=["ns", "vae "]),
        table.assign(clip=["None", True]),
        table.rename(columns={"clip": "gamma"}),
        table[["loss", "fid", "clip"]],
        table.iloc[::-1],
        table.iloc[:1],
    ]
    keys = {unchanged.key_of("budget", [each], "") for each in (table, *others, table.copy())}
    assert len(keys) == 1 + len(others)


def test_what_was_drawn_before_an_interrupt_is_not_drawn_again(
    drawing: Drawing, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = figures._draw

    def interrupted(make: figures.Wanted, stem: Path) -> list[str] | str:
        if len(drawing.names) == 2:
            raise KeyboardInterrupt
        return draw(make, stem)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(figures, "_draw", interrupted)
        with pytest.raises(KeyboardInterrupt):
            drawing(search(2))
    assert len(done := set(drawing.names)) == 2
    assert drawing(search(2)) == EVERY - done


def test_a_record_that_cannot_be_used_costs_time_alone(drawing: Drawing, tmp_path: Path) -> None:
    drawing(search(2))
    for content in ("[1]", "{", '{"a": 1}'):
        (tmp_path / "figures.json").write_text(content)
        assert drawing(search(2)) == EVERY
        assert drawing(search(2)) == set()
    (tmp_path / "figures.json").unlink()
    (tmp_path / "figures.json").mkdir()
    assert drawing(search(2)) == EVERY


def test_the_record_holds_what_was_drawn_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unchanged, "_path", lambda: tmp_path / "figures.json")
    monkeypatch.setattr(unchanged, "MOST", 3)
    for name in "abcda":
        unchanged.remember({name: [name]})
    assert list(unchanged.record().items()) == [("c", ["c"]), ("d", ["d"]), ("a", ["a"])]


def test_several_processes_draw_the_same(
    one_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "names", lambda: ["profiles", "settings"])
    monkeypatch.setattr(unchanged, "_path", lambda: tmp_path / "figures.json")
    monkeypatch.setattr(processes, "FEWEST", 1)
    table = pd.read_parquet(one_set / "mini.parquet")
    table = table[(table["loss"] == "ns") | (table["number"] == 0)]
    one, two = (
        figures.draw_all({at: {"search": table}}, processes=count)[at]
        for count in (1, 2)
        for at in [tmp_path / f"{count}"]
    )
    assert len(one.written) == 4
    assert [path.name for path in one.written] == [path.name for path in two.written]
    assert [path.read_bytes() for path in one.written] == [p.read_bytes() for p in two.written]
    assert one.refused == two.refused
    assert two.refused[0].startswith("settings_fashion_mnist_wgan: one setting of wgan")


@pytest.mark.parametrize("kind", ["budget_flops", "defaults", "seeds"])
def test_committed_figures_show_the_committed_tables(kind: str, tmp_path: Path) -> None:
    """What is drawn, not its bytes: the last digits may differ between processors."""
    number = re.compile(r"-?\d+\.?\d*")
    tables = read_tables(ROOT / "results", "mini")
    for name, make_figure in figures.of_kind(kind, tables.frames()):
        (drawn, _), committed = style.save(make_figure(), tmp_path / name), f"mini/{name}.svg"
        texts = [path.read_text() for path in (drawn, ROOT / "analysis" / "figures" / committed)]
        assert number.sub("", texts[0]) == number.sub("", texts[1])
        ours, theirs = ([float(found) for found in number.findall(text)] for text in texts)
        assert ours == pytest.approx(theirs, abs=0.02)


def test_tables_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no rows in .*mini\.parquet; `make sweep SWEEP=mini`"):
        read_tables(tmp_path, "mini")
    with pytest.raises(StudyError, match="mini_seeds is no search; draw mini"):
        read_tables(tmp_path, "mini_seeds")
    with pytest.raises(StudyError, match="defaults is one setting, no search; searches are mini, "):
        read_tables(tmp_path, "defaults")
    search().assign(sweep="defaults").to_parquet(tmp_path / "defaults.parquet")
    with pytest.raises(StudyError, match="no table of a search"):
        searches(tmp_path)


def test_a_paired_search_is_shown_when_it_is_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "_copy", lambda runs, example: True)
    monkeypatch.setattr(examples, "_keep_real", lambda dataset, path: None)
    config = load_sweep("paired")
    search(2, ("fashion_mnist",)).to_parquet(tmp_path / "mini.parquet")
    one = search(1, ("fashion_mnist",)).iloc[:1].assign(sweep="paired")
    for settings, shown in ((79, ["mini"]), (80, ["mini", "paired"])):
        rows = [
            one.assign(loss=loss, number=number)
            for loss in config.losses
            for number in range(settings)
        ]
        pd.concat(rows).to_parquet(tmp_path / "paired.parquet")
        assert searches(tmp_path) == shown
        said = capsys.readouterr().err
        assert said.startswith("paired: not all of its 80 settings") == (settings < 80)
        assert set(other_searches(read_tables(tmp_path, "mini"))) == {*shown} - {"mini"}
        examples.folder(tmp_path, "paired", "fashion_mnist").mkdir(parents=True, exist_ok=True)
        of_all = 15 if settings == 80 else 0  # the best of each loss, and the worst
        assert len(examples.table(tmp_path, "paired")) == of_all
        assert examples.keep(tmp_path, "paired") == of_all
    lacking = pd.concat(rows).query("not (loss == 'hinge' and number == 7)")
    assert scores.complete(config, lacking).empty
    both = pd.concat([lacking, pd.concat(rows).assign(dataset="mnist")])
    assert set(scores.complete(config, both)["dataset"]) == {"mnist"}
    further = [one.assign(loss="mine", number=number) for number in range(80)]
    for count in (79, 80):  # a loss beyond the stated ones is shown when it has all, too
        told = scores.complete(config, pd.concat([*rows, *further[:count]]))
        assert ("mine" in set(told["loss"])) == (count == 80)
        assert set(config.losses) <= set(told["loss"])


def test_each_search_stands_for_itself(one_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none is named, one that is refused holds up no other; status 2 tells of it."""
    few(monkeypatch)
    monkeypatch.setenv("STUDY_RESULTS", str(one_set))
    stopped = search(2, ("fashion_mnist",)).assign(sweep="narrow", status="stopped")
    for command in ("report", "figures"):
        if command == "report":
            stopped.to_parquet(one_set / "narrow.parquet")  # no scores to tell of
        else:
            (one_set / "narrow.parquet").write_text("no table")
        result = CliRunner().invoke(app, [command, "--to", str(one_set / command)])
        assert result.exit_code == 2, result.output
        assert "error: sweep narrow: " in result.stderr
        assert [path.stem for path in (one_set / command).iterdir()] == ["mini"]
        named = CliRunner().invoke(app, [command, "--sweep", "narrow"])
        assert isinstance(named.exception, StudyError)


def test_a_default_that_was_drawn_again_is_one_row(one_set: Path) -> None:
    table = search(3, ("fashion_mnist",))
    again = table[table["number"] == 0].assign(number=3, fid=lambda t: t["fid"] + 1)
    pd.concat([table, again]).to_parquet(one_set / "mini.parquet")
    rows = report.main_table(read_tables(one_set, "mini"), "fashion_mnist")
    first = scores.of_runs(table).query("number == 0").set_index("loss")["fid"]
    assert rows.loc["NS GAN", "default"] == first["ns"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, " They are the first of the paper's own list."),
        ({"loss": "mine"}, ""),  # no loss of the paper's
    ],
)
def test_whose_list_the_settings_are(one_set: Path, change: dict[str, str], said: str) -> None:
    table = search(3, ("fashion_mnist",))
    table[table["loss"] == "ns"].assign(**change).to_parquet(one_set / "mini.parquet")
    lines = [
        line for line in report.limits(read_tables(one_set, "mini")) if "the paper 100" in line
    ]
    assert lines == [f"3 settings a loss; the paper 100.{said}"]


# The report


def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page with two kinds of figures: all of them take seconds."""
    monkeypatch.setattr(figures, "names", lambda: ["headline", "profiles", "samples"])


def test_the_report_is_one_page_with_everything_in_it(
    one_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch)
    tables = read_tables(one_set, "mini")
    text = report.page(tables)
    ElementTree.fromstring(there(re.search(r"<svg.*?</svg>", text, re.DOTALL))[0])
    assert text.count("<svg ") == text.count("<figure>") == len(figures.of(tables.frames())) == 2
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert not re.findall(r'(?:src|href)="(?![#d])', text)
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"', text)) <= set(ids)
    assert len(text.encode()) < 3e6
    sentences = [text.index(html.escape(line)) for line in verdict.headline(tables)]
    questions = [text.index(html.escape(found.question)) for found in verdict.findings(tables)]
    order = [*sentences, text.index("<figure>"), text.index("<table>"), text.index("<nav>")]
    assert [*order, *questions] == sorted([*order, *questions])
    assert "2 settings each, on Fashion-MNIST" in text
    assert "not FID" in text
    assert "2,000 D steps a run; the paper 15,625" in text
    assert report.provenance(tables).loc["rows", "mini.parquet"] == "8"
    assert report.page(tables) == text


class Elements(HTMLParser):
    """The elements of a page and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_every_name_in_the_report_is_text(one_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch)
    bad = """<b id="x" onload='y'>$a$ & co"""
    monkeypatch.setattr(scores, "title", lambda loss: f"{loss} {bad}")
    monkeypatch.setattr(scores, "dataset_title", lambda dataset: f"{dataset} {bad}")
    text = report.page(read_tables(one_set, "mini"))
    assert html.escape(bad) in text
    found = Elements(text)
    assert "b" not in found.tags
    assert not {name for name in found.attributes if name.startswith("on")}
    ElementTree.fromstring(there(re.search(r"<svg.*?</svg>", text, re.DOTALL))[0])
    table = pd.DataFrame({bad: [bad]}, index=pd.Index([bad], name=bad))
    assert report._html(table, bad).count(html.escape(bad)) == 5
    assert bad not in report._html(table, bad)


def test_the_main_table_is_sorted_and_holds_untrained_and_real(results: Path) -> None:
    tables = read_tables(results, "mini")
    recipe = {"dataset": "fashion_mnist", "features": "lite0", "num_images": 5000, "width": 0.25}
    untrained = pd.DataFrame([recipe | {"loss": "ns", "fid": fid} for fid in (60.0, 63.0, 70.0)])
    real = pd.DataFrame([recipe | {"distance": 0.5}])
    shown = report.main_table(tables._replace(untrained=untrained, real=real), "fashion_mnist")
    assert shown.index.tolist()[-2:] == ["an untrained generator", "real images"]
    assert shown["best"].tolist()[-2:] == [63.0, 0.5]
    medians = tables.seeds.groupby("loss")["fid"].median().rename(index=scores.title).sort_values()
    assert shown.index.tolist()[:-2] == medians.index.tolist()
    assert shown["again"].tolist()[:-2] == medians.tolist()
    alone = report.main_table(tables, "triangles")
    assert alone["best"].is_monotonic_increasing
    assert not {"again", "±"} & set(alone)


def test_a_report_that_cannot_be_written_is_one_line(
    one_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "page", lambda tables, processes: "page")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StudyError, match=r"mini\.html cannot be written: "):
        report.write(read_tables(one_set, "mini"), tmp_path / "file")


def test_the_commands(one_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_RESULTS", str(one_set))
    result = CliRunner().invoke(app, ["verdict", "--sweep", "mini"])
    assert result.exit_code == 0
    assert "Which losses beat NS GAN?" in result.stdout


# Examples


def config(number: int) -> RunConfig:
    settings = {"lr": 1e-4, "beta1": 0.5, "disc_iters": 1, "batch_norm": True, "d_steps": 2000}
    recipe = {"evaluate_every": 1000, "width": 0.25, "bn_decay": 0.99, "features": "lite0"}
    which = {"sweep": "mini", "loss": "ns", "dataset": "noise", "number": number, "seed": 0}
    values: dict[str, Any] = {**which, **settings, **recipe, "num_images": 5000}
    return RunConfig(**values)


def test_examples_are_the_best_runs_and_a_collapsed_one(tmp_path: Path) -> None:
    table = make(("ns",), ("noise",), n=4)
    table["config"] = table["number"].map(lambda number: config(number).hash)
    table.to_parquet(tmp_path / "mini.parquet")
    for number in range(4):
        run = tmp_path / f"runs/mini/ns/noise/{number:03d}"
        (run / "samples").mkdir(parents=True)
        (run / "config.json").write_text(config(number).model_dump_json())
        for step in (1000, 2000):
            (run / f"samples/{step:06d}.png").write_text(f"{number} {step}")
        (run / "curves.parquet").write_text(f"{number}")
    folder = examples.folder(tmp_path, "mini", "noise")
    folder.mkdir(parents=True)
    (folder / "ns_099.png").write_text("no example any more")
    assert examples.keep(tmp_path, "mini") == 2
    runs = scores.of_runs(table).sort_values("fid")
    names = {
        f"ns_{number:03d}{end}"
        for number in runs["number"].iloc[[0, -1]]
        for end in (".png", ".parquet")
    }
    assert {path.name for path in folder.iterdir()} == names | {"real.png"}
    width, height = Image.open(folder / "real.png").size
    assert (width - 7) % 8 == (height - 7) % 8 == 0
    best = runs.iloc[0]
    kept = (folder / f"ns_{best['number']:03d}.png").read_text()
    assert kept == f"{best['number']} {best['step']}"
    # Runs of another configuration are not taken for the table's.
    table.assign(config="another").to_parquet(tmp_path / "mini.parquet")
    assert examples.keep(tmp_path, "mini") == 0


def test_common_settings_end_where_a_loss_lacks_one() -> None:
    table = make(("ns", "vae"), ("mnist", "triangles"), n=5)
    lacking = (table["loss"] == "vae") & (table["dataset"] == "mnist") & (table["number"] == 2)
    kept = scores.common_settings(table[~lacking])
    numbers = kept.groupby(["dataset", "loss"])["number"].unique().map(sorted).to_dict()
    assert numbers == {
        (dataset, loss): list(range(n))
        for dataset, n in (("mnist", 2), ("triangles", 5))
        for loss in ("ns", "vae")
    }


# Notebooks


def run(path: Path) -> list[tuple[Any, Any, str]]:
    """The value of each code cell's last line, and what it prints; in this process, at once."""
    names: dict[str, Any] = {}
    found = []
    for cell in nbformat.read(path, as_version=4).cells:  # type: ignore[no-untyped-call]
        if cell.cell_type != "code":
            continue
        *lines, last = ast.parse(cell.source.removeprefix("%matplotlib inline\n")).body
        printed = StringIO()
        with redirect_stdout(printed):
            exec(compile(ast.Module(lines, []), path.name, "exec"), names)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), path.name, "eval"), names)
            else:
                value = None
                exec(compile(ast.Module([last], []), path.name, "exec"), names)
        found.append((cell, value, printed.getvalue()))
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_where_they_lie_and_hold_what_they_show(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STUDY_RESULTS", raising=False)
    monkeypatch.chdir(path.parent)  # as Jupyter does
    (start, *_), *cells = run(path)
    assert not start.outputs
    assert cells
    for cell, value, printed in cells:
        (output,) = cell.outputs
        if isinstance(value, Figure):
            assert output.data["image/png"]
        elif value is not None:
            with pd.option_context("display.max_columns", 20):  # as Jupyter has it
                assert output.data["text/html"].split() == value._repr_html_().split()
        else:
            assert output.text == printed
    assert any("image/png" in cell.outputs[0].get("data", {}) for cell, _, _ in cells)


def test_one_notebook_runs_in_jupyter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STUDY_RESULTS", raising=False)
    path = ROOT / "analysis" / "seeds.ipynb"
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code"][:2]
    where = {"metadata": {"path": str(ROOT / "analysis")}}
    done = NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    assert "image/png" in done.cells[1].outputs[-1]["data"]


def test_notebooks_are_thin_and_name_no_machine() -> None:
    assert len(NOTEBOOKS) == 4
    for path in NOTEBOOKS:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/(home|tmp|work|root|Users)/", text)
        for cell in json.loads(text)["cells"]:
            source = "".join(cell["source"])
            assert not re.search(r"^\s*(def|class|for|import numpy)\b", source, re.MULTILINE)

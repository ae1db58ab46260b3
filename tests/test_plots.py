"""Figures on synthetic tables: what is plotted equals the statistics; unlike rows are refused."""

import itertools
import re
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path as Outline
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageColor
from there import there

from study import losses
from study.analysis import figures, scores
from study.analysis import statistics as st
from study.analysis.figures import curves as training
from study.analysis.figures import longer, style
from study.analysis.figures.budget import budget_curves
from study.analysis.figures.budget_flops import budget_costs
from study.analysis.figures.budget_mean import budget_means
from study.analysis.figures.budget_report import reported
from study.analysis.figures.curves import training_curves
from study.analysis.figures.defaults import along_training
from study.analysis.figures.distributions import distributions
from study.analysis.figures.f1 import f1_curves
from study.analysis.figures.headline import headline
from study.analysis.figures.narrow import narrow_against_wide
from study.analysis.figures.parts import _apart, span
from study.analysis.figures.profiles import performance_profiles
from study.analysis.figures.ranks import rank_curves
from study.analysis.figures.samples import sample_grids
from study.analysis.figures.seeds import seeds
from study.analysis.figures.settings import hyperparameters
from study.analysis.figures.train_held_out import train_vs_held_out
from study.analysis.figures.wins import win_matrix
from study.analysis.statistics.samples import Array
from study.errors import StudyError
from study.measures.columns import distance_name
from study.settings.space import described

NONE = pd.DataFrame()
PAPER = Path(__file__).parent.parent / "results" / "paper"
SCALE = {"mm": 60, "ns": 35, "wgan": 45, "vae": 70, "hinge": 40}


def evaluation(loss: str, dataset: str, number: int, step: int, **more: Any) -> dict[str, Any]:
    """One row of a table, as a run of the mini sweep would give it: number 0 is the default."""
    default = losses.about(loss).defaults if number == 0 and loss in losses.names() else {}
    return {
        "sweep": "mini",
        "loss": loss,
        "dataset": dataset,
        "number": number,
        "seed": 0,
        "step": step,
        "d_steps": step,
        "g_steps": step // 5,
        "images": 64 * step,
        "flops": 10**9 * step,
        "wall_s": 0.01 * step,
        "status": "ok",
        "features": "lite0",
        "num_images": 5000,
        "width": 0.25,
        "precision": "fp32",
        "lr": 1e-3 / (number + 1),
        "beta1": number / 100,
        "disc_iters": 1 + 4 * (number % 2),
        "batch_norm": number % 3 == 0,
        "clip": 0.01 * (number + 1) if loss == "wgan" else np.nan,
        "definition": 1,
        "commit": "abc",
        "config": f"{loss}-{dataset}-{number}",
        **default,
    } | more


def make(
    losses: Sequence[str] = ("vae", "ns", "mm"),
    datasets: Sequence[str] = ("fashion_mnist",),
    n: int = 8,
    seed: int = 0,
    **more: Any,
) -> pd.DataFrame:
    """A table of n settings a loss, two evaluations each, the last settings of mm diverged."""
    rng, rows = np.random.default_rng(seed), []
    for dataset in datasets:
        for loss in losses:
            for number in range(n):
                bad = loss == "mm" and number >= n - 2
                for step in (1000, 2000):
                    fid = SCALE[loss] * np.exp(0.5 * rng.normal())
                    diverged = bad and step == 2000
                    rows.append(
                        evaluation(loss, dataset, number, step)
                        | {"fid": np.nan if diverged else fid, "fid_train": 0.9 * fid - 1}
                        | {"status": "diverged" if diverged else "ok"}
                        | more
                    )
    return pd.DataFrame(rows).sample(frac=1, random_state=1)


def points(entry: Line2D) -> Array:
    """A line's x and y."""
    return np.array(entry.get_xydata()).T


def corners(path: Outline) -> Array:
    return np.array(path.vertices)


def line(axes: Axes, label: str) -> Array:
    """The data of the line with this legend entry."""
    return next(points(entry) for entry in axes.lines if entry.get_label() == label)


def own(axes: Axes) -> Array:
    """The data of a small panel's own line, which lies above the other losses'."""
    return next(points(entry) for entry in axes.lines if entry.get_zorder() == 3)


def caption(figure: Figure) -> str:
    return " ".join(figure.get_supxlabel().split())


def scored(table: pd.DataFrame, loss: str) -> Array:
    runs = scores.of_runs(table)
    return runs.loc[runs["loss"] == loss, "fid"].to_numpy()


# The table


def test_scores_are_the_least_of_a_run_and_infinite_where_it_diverged() -> None:
    table = make()
    runs = scores.of_runs(table)
    assert runs["loss"].drop_duplicates().tolist() == ["mm", "ns", "vae"]
    assert runs["number"].tolist() == [*range(8)] * 3
    least = table[table["loss"] == "ns"].groupby("number")["fid"].min()
    assert_array_equal(scored(table, "ns"), least)
    assert_array_equal(np.isinf(scored(table, "mm")), [False] * 6 + [True] * 2)
    assert runs["status"].value_counts().to_dict() == {"ok": 22, "diverged": 2}


def test_scores_keep_the_best_evaluation_but_the_whole_cost() -> None:
    rows = [
        evaluation("ns", "mnist", 0, step, fid=fid, fid_train=fid - 1)
        for step, fid in ((1000, 7.0), (2000, 5.0), (3000, 6.0))
    ]
    run = scores.of_runs(pd.DataFrame(rows)).iloc[0]
    assert (run["fid"], run["fid_train"], run["step"]) == (5, 4, 2000)
    assert (run["d_steps"], run["wall_s"]) == (3000, 30)


# Looks


LOSS_FILE = """
from study.losses import ns


class Loss(ns.Loss):
    title = {!r}
    source = "a test"
"""


def test_losses_have_one_order_and_different_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty losses, of which no two share a colour and a marker; titles come from the classes."""
    table = pd.DataFrame({"loss": ["zeta", "vae", "hinge", "wgan", "mm", "ns"]})
    assert scores.losses(table) == ["mm", "ns", "wgan", "vae", "hinge", "zeta"]
    before = {loss: style.style_of(loss) for loss in scores.PAPERS}
    for name, title in (("aloss", "A <loss> of one's own"), ("bloss", "B loss")):
        (tmp_path / f"{name}.py").write_text(LOSS_FILE.format(title))
    monkeypatch.setattr(losses, "__path__", [*losses.__path__, str(tmp_path)])
    names = losses.names()
    assert {"aloss", "bloss"} < set(names)
    assert scores.title("aloss") == "A <loss> of one's own"
    assert scores.title("gone") == "gone"
    looks = [style.style_of(name) for name in names]
    assert len({(look["color"], look["marker"]) for look in looks}) == len(names) >= 16
    assert {loss: style.style_of(loss) for loss in scores.PAPERS} == before
    first_twenty = {
        (style.COLOURS[i % len(style.COLOURS)], style.MARKERS[i % len(style.MARKERS)])
        for i in range(20)
    }
    assert len(first_twenty) == 20


def test_an_unknown_loss_looks_unlike_those_that_are_there() -> None:
    looks = [style.style_of(name) for name in [*losses.names(), "gone"]]
    assert style.style_of("gone") == style.style_of("gone")
    assert all(look != looks[-1] for look in looks[:-1])


def test_labels_are_kept_apart_in_their_order() -> None:
    assert_allclose(_apart(np.array([0.5, 0.1, 0.9]), 0.1), [0.5, 0.1, 0.9])
    assert_allclose(_apart(np.array([0.5, 0.5, 0.52]), 0.1), [0.40667, 0.50667, 0.60667], atol=1e-4)
    assert_allclose(_apart(np.array([0.0, 0.0, 0.5]), 0.1), [0.05, 0.15, 0.6], atol=1e-9)


def test_only_inception_is_called_fid() -> None:
    assert distance_name("lite0") == "Fréchet distance (lite0 features)"
    assert "FID on 5,000" in caption(budget_curves(make(("ns",), features="inception")))


def test_svg_is_in_hundredths_and_its_ids_do_not_hang_on_digits(tmp_path: Path) -> None:
    table = make(("ns", "vae"), n=8)
    nearly = table.assign(fid=table["fid"] * (1 + 1e-12))
    for name, rows in (("a", table), ("b", nearly)):
        style.save(budget_curves(rows), tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert not re.search(r"\d\.\d{3,}", re.sub(r"(scale|matrix)\([^)]*\)", "", text))
    used, there = (set(re.findall(rf'{name}="#?(\w+)"', text)) for name in ("href", "id"))
    assert used <= there
    assert "#ffffff" in text  # a colour is no reference
    ElementTree.fromstring(text)
    inline = style.inline(budget_curves(table), "budget-")
    assert set(re.findall(r'id="(\w+-)', inline)) == {"budget-"}
    assert "<text" in inline
    assert len(inline) < len(text)


def test_same_table_same_bytes(tmp_path: Path) -> None:
    pages = []
    for name, order in (("a", 1), ("b", 2)):
        table = make(n=4).sample(frac=1, random_state=order)
        paths = style.save(budget_curves(table), tmp_path / name / "curves")
        pages.append([path.read_bytes() for path in paths])
    assert pages[0] == pages[1]
    assert pages[0][0].startswith(b"<?xml")
    assert pages[0][1].startswith(b"\x89PNG")


def test_what_was_drawn_here_and_is_stale_goes_and_nothing_else(tmp_path: Path) -> None:
    (kept, *_), (stale, *_) = (
        style.save(performance_profiles(make(("ns",), n=2)), tmp_path / name)
        for name in ("new", "old")
    )
    for name in ("own.svg", "own.png", "notes.txt"):
        (tmp_path / name).write_text("by hand")
    style.remove_stale(tmp_path, [kept])
    assert {path.name for path in tmp_path.iterdir()} == {
        *("new.svg", "own.svg", "own.png", "notes.txt")
    }
    assert not stale.exists()


# Budget


def test_budget_curve_is_the_median_of_the_minimum_below_half_of_the_settings() -> None:
    table = make(n=24)
    figure = budget_curves(table)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["MM GAN", "NS GAN", "VAE"]
    k, value = own(figure.axes[1])
    assert_array_equal(k, range(1, 12))
    fid = scored(table, "ns")
    assert_allclose(value, st.min_quantile(fid, k, 0.5))
    assert value[-1] > min(fid) == st.min_quantile(fid, [12], 0.5)  # half would be the least
    estimate = st.min_quantile_interval(fid, k, 0.5)
    at_one = [y for x, y in corners(figure.axes[1].collections[0].get_paths()[0]) if x == 1]
    assert_allclose([min(at_one), max(at_one)], [estimate.low[0], estimate.high[0]])
    assert np.isinf(estimate.low[-1])
    closed = corners(figure.axes[1].collections[0].get_paths()[0])[:, 0]
    assert closed.max() == k[np.isfinite(estimate.low)].max()  # the band ends where it holds
    greys = [entry for entry in figure.axes[1].lines if entry.get_color() == style.GREY]
    assert len(greys) == 2


def test_an_infinite_part_of_a_curve_is_not_drawn_and_said() -> None:
    table = pd.concat([make(("ns", "mm"), n=2), make(("vae",), n=1)])  # mm: all diverged
    figure = budget_curves(table)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["MM GAN (infinite)", "NS GAN", "VAE"]
    assert np.isnan(own(figure.axes[0])[1]).all()
    assert scores.best_settings(table).index.get_level_values("loss").tolist() == ["ns", "vae"]


def test_mean_and_where_single_searches_end() -> None:
    table = make(n=16)
    axes = budget_means(table).axes[1]
    k, value = own(axes)
    fid = scored(table, "ns")
    assert_allclose(value, st.expected_min(fid, k.astype(int)))
    at_three = [y for x, y in corners(axes.collections[0].get_paths()[0]) if x == 3]
    expected = [st.min_quantile(fid, 3, q) for q in (0.1, 0.9)]
    assert_allclose([min(at_three), max(at_three)], expected)


def test_papers_curve_only_beside_comparable_rows() -> None:
    paper = pd.read_csv(PAPER / "budget_curve.csv")
    theirs = paper[(paper["loss"] == "ns") & (paper["dataset"] == "fashion_mnist")]
    same = make(("ns",), features="inception", num_images=10_000, width=1.0)
    figure = budget_means(same)
    drawn = [entry.get_xydata() for entry in figure.axes[0].lines]
    assert any(np.array_equal(xy, theirs[["budget", "mean_min_fid"]]) for xy in drawn)
    assert "digitised" in caption(figure)
    for other in ({"features": "lite0"}, {"num_images": 5000}, {"width": 0.5}):
        figure = budget_means(same.assign(**other))
        assert len(figure.axes[0].lines) == len(drawn) - 1
        assert "digitised" not in caption(figure)


def test_cost_on_the_x_axis_is_the_mean_cost_times_k() -> None:
    axes = budget_costs(make(("ns",), n=8)).axes[0]
    assert_allclose(points(axes.lines[0])[0], 2e12 * np.arange(1, 4))
    assert axes.get_xlabel() == "cost in FLOPs"
    with pytest.raises(StudyError, match="unknown cost 'euros'"):
        budget_costs(make(), cost="euros")


def test_selected_on_some_images_reported_on_others() -> None:
    table = make(("ns", "mm"), n=12)
    table["fid_report"] = 100 - table["fid"]
    runs = scores.of_runs(table, "fid_report")
    least = scores.of_runs(table)
    ok = runs["status"] == "ok"
    assert_array_equal(runs["step"], least["step"])  # the choice is the same
    assert_allclose(runs["fid"][ok], 100 - least["fid"][ok])
    assert_array_equal(np.isinf(runs["fid"]), ~ok)
    figure = reported(table[table["loss"] == "ns"], NONE)
    fid, k = scored(table, "ns"), np.arange(1, 6)
    fresh = st.quantile_at_min(fid, 100 - fid, k, 0.5)
    ratio = points(figure.axes[0].lines[0])[1]
    assert_allclose(ratio, fresh / st.min_quantile(fid, k, 0.5))
    assert "on which nothing was selected" in caption(figure)
    best: Any = scores.best_table(table).loc["fashion_mnist", "ns"]
    assert_allclose(best["best_report"], 100 - best["best"])
    with pytest.raises(StudyError, match="ok rows have no fid_report"):
        scores.of_runs(table.assign(fid_report=np.nan), "fid_report")
    with pytest.raises(StudyError, match="unknown report 'fid_train'; there are fid, fid_report"):
        scores.of_runs(table, "fid_train")


def test_a_title_says_the_largest_budget_that_is_judged() -> None:
    """Not that of half of the settings, which is the least of them all."""
    table = make(("ns", "vae"), n=40, status="ok")
    medians = [st.min_quantile(scored(table, loss), 5, 0.5) for loss in ("ns", "vae")]
    title = style.words(budget_curves(table))[0]
    assert title.endswith(f"with the best of 5 to {min(medians):.2g} to {max(medians):.2g}")
    assert "the best of" not in style.words(budget_curves(make(("ns",), n=12, status="ok")))[0]


def test_titles_of_comparisons_give_a_range_and_name_no_loss() -> None:
    """Of many pairs of equal losses some are far apart: to name them takes a test."""
    table = make(("ns", "wgan", "vae"), n=40, status="ok")
    fids = [scored(table, loss) for loss in ("ns", "wgan", "vae")]
    ranks = st.expected_ranks(fids, [5])
    chances = [st.win_chance(a, b, 5) for a, b in itertools.combinations(fids, 2)]
    most = max(*chances, *(1 - chance for chance in chances))
    reached = float(np.quantile(np.concatenate(fids), 0.25, method="inverted_cdf"))
    shares = [(np.array(own) <= reached).mean() for own in fids]
    titles = {
        draw: style.words(draw(table))[0].split(": ")[1]
        for draw in (rank_curves, win_matrix, performance_profiles)
    }
    assert titles == {
        rank_curves: "with 5 settings each the expected ranks go from "
        f"{ranks.min():.1f} to {ranks.max():.1f}",
        win_matrix: "with 5 settings each the chance to come out below another loss goes up to "
        f"{most:.0%}",
        performance_profiles: f"{reached:.3g} is reached by {min(shares):.0%} to "
        f"{max(shares):.0%} of a loss's settings",
    }
    alone = style.words(performance_profiles(table[table["loss"] == "ns"]))[0]
    assert alone.endswith("is reached by 25% of a loss's settings")


def test_a_page_keeps_the_words_of_a_figure_to_the_last_digit() -> None:
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    axes.plot([0.123456, 0.9], [1e-5, 0.01])
    axes.set_yscale("log")
    axes.set_yticks([1e-5, 0.00125], ["1e-05", "0.00125"])
    axes.text(0.5, 0.001, "untrained 63.02, λ = 0.0345")
    text = style.inline(figure, "x")
    found = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert {"1e-05", "0.00125", "untrained 63.02, λ = 0.0345"} <= set(found)
    path = re.search(r'<path d="(M[^"]*)" clip-path', text)
    assert path is not None
    assert not re.search(r"\.\d\d", path[1])  # coordinates are rounded all the same


def test_a_png_keeps_the_colours_of_losses() -> None:
    figure = headline(make(tuple(SCALE)), NONE, NONE, NONE)
    image = Image.open(BytesIO(style.drawn(figure)[".png"])).convert("RGB")
    there = {colour for _, colour in image.getcolors(image.width * image.height) or []}
    for loss in SCALE:
        assert ImageColor.getrgb(style.style_of(loss)["color"]) in there


def test_the_budget_axis_ends_at_a_tick() -> None:
    for n, ticks in ((1, [1]), (2, [1]), (9, [1, 2, 4]), (13, [1, 2, 6]), (21, [1, 2, 5, 10])):
        axes = budget_curves(make(("ns",), n=n)).axes[0]
        assert [int(tick) for tick in axes.get_xticks()] == ticks


def test_the_win_matrix_goes_by_pairs_where_settings_are_shared() -> None:
    """And 14 losses, whose names are long, stay within the figure and off its caption."""
    named = losses.names()
    parts = [make(("ns",), n=12, seed=i).assign(loss=loss) for i, loss in enumerate(named)]
    table = pd.concat(parts).assign(seed=lambda rows: rows["number"])
    table.loc[(table["loss"] == "mm") & (table["number"] == 0), "lr"] *= 2
    assert not scores.share_settings(scores.search(table))  # mm's setting 0 is another
    table = table[table["number"] > 0]
    runs = scores.search(table)
    assert scores.share_settings(runs)
    assert not scores.share_settings(runs.assign(seed=0))
    figure = win_matrix(table, [2])
    assert "with the same settings and seeds" in caption(figure)
    axes = figure.axes[0]
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    fids = {loss: scored(table, loss) for loss in scores.losses(runs)}
    for row, one in enumerate(fids):
        for column, other in enumerate(fids):
            if one != other:
                chance = st.win_chance(fids[one], fids[other], 2, paired=True)
                assert shown[column + 0.5, row + 0.5] == f"{100 * chance:.0f}"
    figure.draw_without_rendering()
    (below,) = (t.get_window_extent().y1 for t in figure.texts if t.get_position()[1] < 0.1)
    assert min(label.get_window_extent().y0 for label in axes.get_xticklabels()) > below
    assert min(label.get_window_extent().x0 for label in axes.get_yticklabels()) > 0


def test_rank_curves_and_win_matrix_show_the_statistics() -> None:
    table = make(n=6)
    fids = [scored(table, loss) for loss in ("mm", "ns", "vae")]
    k, value = own(rank_curves(table).axes[2])
    assert_allclose(value, st.expected_ranks(fids, k.astype(int))[2])
    axes = win_matrix(table, [2]).axes[0]
    texts = {tuple(text.get_position()): text.get_text() for text in axes.texts}
    assert texts[1.5, 0.5] == f"{100 * st.win_chance(fids[0], fids[1], 2):.0f}"
    assert texts[0.5, 1.5] == f"{100 * st.win_chance(fids[1], fids[0], 2):.0f}"
    assert len(texts) == 6
    assert [a.get_title() for a in win_matrix(table).axes] == ["1 setting each"]
    titles = [axes.get_title() for axes in win_matrix(make(n=40)).axes]
    assert titles == ["1 setting each", "2 settings each", "5 settings each"]
    ten = pd.concat(make(("ns",), n=40).assign(loss=loss) for loss in losses.names()[:10])
    many = [axes.get_title() for axes in win_matrix(ten).axes]
    assert many == ["5 settings each"]  # ten losses' matrices in a row would be too wide


def test_f1_curves() -> None:
    table = make(("ns", "mm"), n=12, dataset="triangles")
    rng = np.random.default_rng(0)
    table[list(scores.F1)] = rng.random((len(table), 3))
    best = table[table["loss"] == "ns"].sort_values("f1").groupby("number").last()
    figure = f1_curves(table)
    k = np.arange(1, 6)
    mm, ns = figure.axes[:2]
    assert_allclose(own(ns)[1], -st.expected_min(-best["f1"], k))
    precision = next(entry for entry in ns.lines if entry.get_label() == "precision")
    expected = st.expected_at_min(-best["f1"], best["manifold_precision"], k)
    assert_allclose(points(precision)[1], expected)
    first = table[(table["loss"] == "mm") & (table["number"] < 10)]  # the last two diverged
    assert_allclose(own(mm)[1][0], first.groupby("number")["f1"].max().sum() / 12)
    assert "F1 is 0" not in caption(figure)
    table.loc[table["loss"] == "mm", "f1"] = 0.0
    assert "F1 is 0 in every run of MM GAN: its dashed" in caption(f1_curves(table))


# Settings


def test_number_0_is_no_default_where_it_is_a_draw() -> None:
    """Of a paired search, or of ranges of a sweep's own: no star, and no word of the authors'."""
    table = make(("ns", "wgan", "vae"))
    runs = scores.search(table)
    defaults = scores.authors_defaults(runs)
    assert defaults[["loss", "number"]].to_numpy().tolist() == [["ns", 0], ["wgan", 0], ["vae", 0]]
    table.loc[(table["loss"] == "wgan") & (table["number"] == 0), "clip"] *= 2
    table.loc[(table["loss"] == "vae") & (table["number"] == 0), "batch_norm"] ^= True
    table.loc[table["number"] == 3, "loss"] = "one of another checkout"
    assert scores.authors_defaults(scores.search(table))["loss"].tolist() == ["ns"]

    drawn = make(("ns", "wgan", "vae"))
    drawn["lr"] *= 1.01
    for figure in (headline(drawn, NONE, NONE, NONE), distributions(drawn, NONE)):
        assert "*" not in {line.get_marker() for axes in figure.axes for line in axes.lines}
        assert "authors" not in caption(figure) + figure.get_suptitle()
        assert "Star" not in caption(figure)
    one = drawn[drawn["loss"] == "wgan"]
    assert "Star" not in caption(hyperparameters(one))
    assert "Star: the authors' defaults." in caption(hyperparameters(make(("wgan",))))


def test_headline_shows_settings_defaults_the_best_its_re_runs_and_the_levels() -> None:
    table, again = make(n=12), make(("ns", "vae"), n=5, seed=4, sweep="mini_seeds")
    recipe = {"dataset": "fashion_mnist", "features": "lite0", "num_images": 5000, "width": 0.25}
    untrained = pd.DataFrame([recipe | {"fid": 63.0}, recipe | {"width": 1.0, "fid": 9.0}])
    real = pd.DataFrame([recipe | {"distance": 0.5}, recipe | {"num_images": 9, "distance": 50.0}])
    figure = headline(table, again, untrained, real)
    left, right = figure.axes
    medians = {loss: np.median(scored(again, loss)) for loss in ("ns", "vae")}
    medians["mm"] = scored(table, "mm").min()  # not trained again: the best found
    order = [*sorted(("ns", "vae"), key=lambda loss: medians[loss]), "mm"]
    ends = " to ".join(f"{medians[loss]:.2g}" for loss in order[:2])
    title = " ".join(figure.get_suptitle().split())
    assert f"the best of 12 settings, trained again, ends at {ends}, the authors'" in title
    shown = [text.get_text() for text in left.get_yticklabels()]
    assert shown == [scores.title(loss) for loss in order]
    rings = {points(entry)[0, 0] for entry in left.lines if entry.get_marker() == "o"}
    assert rings == {medians["ns"], medians["vae"]}
    marks = [points(entry)[0, 0] for entry in left.lines if entry.get_marker() == "|"]
    assert_array_equal(marks, [scored(table, loss).min() for loss in order])
    stars = [points(entry)[0, 0] for entry in left.lines if entry.get_marker() == "*"]
    assert_array_equal(stars, [scored(table, loss)[0] for loss in order])
    texts = [text.get_text() for text in left.texts]
    assert {"untrained 63", "← real images 0.5", "2 ∞"} == set(texts)
    assert 63.0 in [points(entry)[0, 0] for entry in left.lines if entry.get_linestyle() == ":"]
    ns = next(entry for entry in right.lines if entry.get_color() == "#000000")
    assert_allclose(points(ns)[1], st.expected_min(scored(table, "ns"), np.arange(1, 6)))


def test_a_span_ends_at_infinity_where_a_value_does() -> None:
    assert span([20.04, 60.0, 31]) == "20 to 60"
    assert span([np.inf, 20.04, np.nan]) == "20 to infinity"
    assert span([np.inf, np.inf]) == "infinity"
    assert span([5.0, 5.0]) == "5"
    title = " ".join(budget_means(make(n=8)).get_suptitle().split())
    assert title.endswith(" to infinity")  # two of MM GAN's eight diverged: the mean of one is
    assert "infinity" not in budget_curves(make(n=8)).get_suptitle()


def test_performance_profiles_end_at_the_share_that_is_ok() -> None:
    table = make(n=8)
    tau, share = own(performance_profiles(table).axes[0])
    assert_allclose(share, st.performance_profile(scored(table, "mm"), tau))
    assert (share[0], share[-1]) == (0, 0.75)


def test_distributions_show_quartiles_defaults_and_what_came_to_nothing() -> None:
    table = make(n=8)
    axes = distributions(table, NONE).axes[0]
    medians = [
        points(entry)[0, 0]
        for entry in axes.lines
        if entry.get_color() == "black" and len(points(entry)[0]) == 2
    ]
    assert {np.median(scored(table, loss)) for loss in ("mm", "ns", "vae")} <= set(medians)
    assert [text.get_text() for text in axes.texts] == ["diverged", "25%", "0%", "0%"]
    dots = [points(entry) for entry in axes.lines if entry.get_marker() == "."]
    for place, (loss, (x, y)) in enumerate(zip(("mm", "ns", "vae"), dots, strict=True)):
        assert_array_equal(x, scored(table, loss)[np.isfinite(scored(table, loss))])
        assert np.abs(y - place).max() < 0.31  # within the box
        assert len(set(y)) == len(y)
    stars = [points(entry)[0, 0] for entry in axes.lines if entry.get_marker() == "*"]
    assert_array_equal(stars, [scored(table, loss)[0] for loss in ("mm", "ns", "vae")])
    recipe = {"dataset": "fashion_mnist", "features": "lite0", "num_images": 5000, "width": 0.25}
    figure = distributions(table, pd.DataFrame([recipe | {"fid": 50.0}]))
    texts = [text.get_text() for text in figure.axes[0].texts]
    shares = [f"{(scored(table, loss) >= 50).mean():.0%}" for loss in ("mm", "ns", "vae")]
    assert texts[texts.index("no better than\nuntrained") + 1 :][:3] == shares
    every = np.concatenate([scored(table, loss) for loss in ("mm", "ns", "vae")])
    assert f"{(every >= 50).mean():.0%} of the settings" in figure.get_suptitle()


def test_a_boxs_quartiles_between_two_runs_are_the_middle_of_both() -> None:
    """The usual median of four, not the second of them; both quartiles by the same rule."""
    table = make(("ns",), n=4)
    axes = distributions(table, NONE).axes[0]
    corner = corners(axes.patches[0].get_path())[:, 0]
    a, b, c, d = sorted(scored(table, "ns"))
    assert_allclose([corner.min(), corner.max()], [(a + b) / 2, (c + d) / 2])
    black = [points(entry)[0, 0] for entry in axes.lines if entry.get_color() == "black"]
    assert (b + c) / 2 in black


def test_a_box_with_infinite_quartile_ends_at_the_edge() -> None:
    table = make(("mm",), n=5)  # two of five diverged: the upper quartile is infinite
    axes = distributions(table, NONE).axes[0]
    edge = max(corners(patch.get_path())[:, 0].max() for patch in axes.patches)
    assert_allclose(edge, axes.get_xlim()[1])


def test_seeds_and_narrow_against_wide() -> None:
    setting: dict[str, Any] = {"lr": 1e-3, "beta1": 0.5, "disc_iters": 1, "batch_norm": True}
    again = make(("ns", "mm"), **setting, sweep="seeds")
    search = make(("ns", "mm"), seed=5)
    figure = seeds(again, search)
    assert "8 seeds a loss" in caption(figure)
    chosen = [points(e)[0, 0] for e in figure.axes[0].lines if e.get_marker() == "|"]
    assert set(chosen) >= {scored(search, loss).min() for loss in ("ns", "mm")}
    with pytest.raises(StudyError, match="several settings"):
        seeds(make(), search)
    both = narrow_against_wide(make(), make(n=4, sweep="narrow"))
    assert len(both.axes[0].patches) == 6
    assert "mini and narrow: 4 to 8 settings" in caption(both)


def test_distance_along_one_run_a_loss() -> None:
    table = make(n=1)
    figure = along_training(table)
    rows = table[table["loss"] == "ns"].sort_values("step")
    drawn = [points(entry) for entry in figure.axes[0].lines]
    assert any(np.array_equal(xy, [rows["step"], rows["fid"]]) for xy in drawn)
    assert "the authors' default" in caption(figure)
    with pytest.raises(StudyError, match="several settings of one loss"):
        along_training(make(n=2))


def test_of_longer_runs_the_best_settings_are_drawn_alone() -> None:
    table = make(("ns", "mm"), n=3)
    figure = longer.draw(table)
    drawn = [points(entry) for entry in figure.axes[0].lines]
    for (loss, number), rows in table.sort_values("step").groupby(["loss", "number"]):
        there = any(np.array_equal(xy, [rows["step"], rows["fid"]]) for xy in drawn)
        assert there == (number == 0), (loss, number)
    assert "the search's best, with its seed" in " ".join(caption(figure).split())
    with pytest.raises(StudyError, match="no run of a best setting"):
        longer.draw(table[table["number"] > 0])


def test_hyperparameters_a_panel_each_and_the_interaction() -> None:
    figure = hyperparameters(make(("wgan",)))
    labels = [axes.get_xlabel() for axes in figure.axes]
    names = ["lr", "beta1", "disc_iters", "batch_norm", "clip", "lr"]
    assert labels[:6] == [described("wgan")[name].label for name in names]
    assert [text.get_text() for text in figure.axes[3].get_xticklabels()] == ["off", "on"]
    diverged = hyperparameters(make(("mm",))).axes[0]
    crosses = [points(entry)[1] for entry in diverged.lines if entry.get_marker() == "x"]
    assert_allclose(crosses[0], [diverged.get_ylim()[1]] * 2)


def test_hyperparameters_of_every_kind_have_a_panel() -> None:
    """A float, a whole number, a text and a yes or no that only this loss has."""
    table = make(("ns",), n=6)
    number = table["number"]
    table["normalisation"] = number.map(lambda n: ("none", "batch", "spectral")[n % 3])
    figure = hyperparameters(table)
    words = [
        [text.get_text() for text in axes.get_xticklabels()]
        for axes in figure.axes
        if axes.get_xlabel() == "normalisation of D"
    ]
    assert words == [["none", "batch", "spectral"]]
    assert "batch norm in D" not in [axes.get_xlabel() for axes in figure.axes]


def test_a_log_axis_shows_a_power_of_ten() -> None:
    table = make(("ns",), n=4)
    table["lr"] = 2e-5 + 1e-5 * table["number"]
    panels = [a for a in hyperparameters(table).axes if "learning" in a.get_xlabel()]
    assert len(panels) == 2
    for axes in panels:
        low, high = axes.get_xlim()
        assert low < 1e-5
        assert high > 1e-4


def test_train_over_held_out() -> None:
    table = make(("ns", "mm"))
    runs = scores.of_runs(table)
    ok = runs[(runs["loss"] == "mm") & (runs["status"] == "ok")]
    x, y = line(train_vs_held_out(table, NONE).axes[0], "MM GAN")
    assert_array_equal(x, ok["fid"])
    assert_allclose(y, ok["fid_train"] / ok["fid"])


def test_what_training_did_not_make_is_drawn_beside_its_ratios() -> None:
    table = make(("ns", "mm")).assign(fid_report=lambda rows: 0.9 * rows["fid"])
    alike = {name: table[name].iloc[0] for name in ("dataset", "features", "num_images", "width")}
    start = pd.DataFrame([alike | {"fid": 40.0, "fid_train": 30.0, "fid_report": 50.0}])
    elsewhere = start.assign(width=3.0, fid_train=1.0, fid_report=1.0)
    for draw, ratio, said in ((train_vs_held_out, 0.75, "0.750:"), (reported, 1.25, "1.250;")):
        figure = draw(table, pd.concat([start, elsewhere]))
        levels = [line.get_ydata() for line in figure.axes[0].lines if line.get_linestyle() == ":"]
        assert levels == [[ratio, ratio]]
        assert f"before any training, {said}" in style.words(figure)[1]
        assert "before any training" not in style.words(draw(table, elsewhere))[1]


# Tables


def test_best_table_beside_the_papers() -> None:
    table, paper = make(n=5), pd.read_csv(PAPER / "best_fid.csv")
    again = make(n=3, seed=9, sweep="seeds")
    result: Any = scores.best_table(table, again, paper)
    assert result.index.tolist() == [("fashion_mnist", loss) for loss in ("mm", "ns", "vae")]
    row, fids = result.loc["fashion_mnist", "ns"], scored(again, "ns")
    assert row["best"] == scored(table, "ns").min()
    assert row["number"] == scored(table, "ns").argmin()
    assert_allclose([row["reseeded_mean"], row["reseeded_std"]], [fids.mean(), fids.std(ddof=1)])
    assert (row["paper_mean"], row["paper_std"]) == (26.5, 1.6)
    assert set(result["distance"]) == {"Fréchet distance (lite0 features)"}
    mm = result.loc["fashion_mnist", "mm"]
    assert (mm["diverged"], mm["reseeded_mean"]) == (0.4, np.inf)
    assert np.isnan(mm["reseeded_std"])


def test_best_settings() -> None:
    table = make(("wgan", "mm"), ("mnist", "fashion_mnist"))
    result = scores.best_settings(table)
    assert result.columns[0] == "Fréchet distance (lite0 features)"
    assert len(result) == 4
    mine = table[(table["loss"] == "wgan") & (table["dataset"] == "mnist")]
    best = mine.sort_values("fid").iloc[0]
    row: Any = result.loc["mnist", "wgan"]
    assert (row["number"], row["lr"], row["clip"]) == (best["number"], best["lr"], best["clip"])


# Single runs


def test_training_curves_are_told_apart_without_colours() -> None:
    lines = [str(line) for _, line in training._LOOKS]
    assert len(set(lines)) == len(lines) == 5


def test_training_curves_show_what_was_recorded() -> None:
    step = np.arange(10, 50, 10)
    good = pd.DataFrame(
        {
            "step": step,
            "d_loss": [3.0, 2, 1, 1],
            "g_loss": 1.0,
            "penalty": 0.0,
            "accuracy_real": 0.9,
        }
    )
    bad = good.assign(g_loss=[1.0, 10.0, np.inf, np.nan], k=[0, 0.1, 0.2, 0.3])
    figure = training_curves({"stable": good, "collapsed": bad})
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["stable", "", "", "collapsed", "", ""]
    labels = [axes.get_ylabel() for axes in figure.axes[:3]]
    assert labels == ["losses", "D's accuracy", "penalty, k, M"]
    assert_array_equal(line(figure.axes[0], "D"), [step, [3, 2, 1, 1]])
    assert_array_equal(line(figure.axes[3], "G")[1], [1, 10, np.nan, np.nan])
    assert_array_equal(line(figure.axes[5], "k")[1], bad["k"])
    assert not figure.axes[2].lines


def test_sample_grids(tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)
    figure = sample_grids({"NS GAN": path, "VAE": path})
    assert [axes.get_title() for axes in figure.axes] == ["NS GAN", "VAE"]
    assert_allclose(there(figure.axes[0].images[0].get_array()), np.arange(64).reshape(8, 8) / 255)
    with pytest.raises(StudyError, match=r"nowhere\.png"):
        sample_grids({"NS GAN": tmp_path / "nowhere.png"})


# What all figures share


def test_caption_says_what_was_measured_and_the_title_what_came_out() -> None:
    figure = budget_curves(make())
    text = caption(figure)
    for part in (
        "Fashion-MNIST",
        "lite0 features",
        "5,000 images",
        "8 settings a loss",
        "2 of 24 runs (8.3%) diverged",
        "Band: 95 %",
        "width 0.25",
    ):
        assert part in text
    assert figure.get_suptitle().startswith("Fashion-MNIST: with one setting the losses come to ")
    uneven = pd.concat([make(("ns",), n=8), make(("vae",), n=1)])
    assert "mini: 1 to 8 settings a loss" in caption(budget_curves(uneven))


def zero(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(fid=table["fid"].where(table["number"] != 1, 0.0), fid_train=0.0)


HARD = {
    "a VAE alone": make(("vae",), n=6),
    "one setting": make(n=1),
    "one setting of one loss": make(("vae",), n=1),
    "without NS": make(("vae", "wgan"), n=6),
    "a distance of 0": zero(make(n=6)),
    "only distances of 0": make(n=4, fid=0.0, status="ok"),
    "one distance throughout": make(n=9, fid=5.0, status="ok"),
    "all of one loss diverged": pd.concat([make(("ns",), n=6), make(("mm",), n=2)]),
    "only diverged": make(("mm",), n=2),
    "losses beyond the paper's": make(("ns", "hinge"), n=5),
    "a data set that is no file": make(("ns", "vae"), ("mine",), n=5),
}


@pytest.mark.parametrize("name", HARD)
def test_hard_tables_give_a_figure_or_a_line(name: str) -> None:
    table = HARD[name].assign(fid_report=lambda rows: rows["fid"])
    tables = dict.fromkeys(("search", "seeds", "full", "longer"), table)
    for label, make_figure in figures.of(tables).items():
        try:
            figure = make_figure()
            said = " ".join(f"{figure.get_suptitle()} {caption(figure)}".split())
        except StudyError as error:
            said = str(error)
        assert not re.search(r"\bnan\b|\n", said), label


@pytest.mark.parametrize("kind", ["headline", "budget_flops", "settings", "seeds"])
@pytest.mark.filterwarnings("error")
def test_a_distance_of_0_has_a_place_in_the_layout(kind: str) -> None:
    table = make(("ns",), n=6)
    table = table.assign(fid=table["fid"].where(table["number"] != 0, 0.0))
    again = [make(("ns",), n=1, seed=i).assign(seed=i, config=str(i)) for i in range(3)]
    again[0] = again[0].assign(fid=0.0)
    drawn = list(figures.of_kind(kind, {"search": table, "seeds": pd.concat(again)}))
    assert drawn
    for _, make_figure in drawn:
        make_figure().draw_without_rendering()


def test_figures_of_a_table_without_rows_or_columns_are_none() -> None:
    assert figures.of({"search": NONE}) == {}
    names = figures.of({"search": make(n=2).drop(columns=["fid_train", "flops"])})
    assert not {name for name in names if "train_held_out" in name or "flops" in name}


DRAWS = {
    "budget": budget_curves,
    "distributions": lambda table: distributions(table, NONE),
    "ranks": rank_curves,
    "wins": win_matrix,
    "train_held_out": lambda table: train_vs_held_out(table, NONE),
    "headline": lambda table: headline(table, NONE, NONE, NONE),
    "best_table": scores.best_table,
    "seeds": lambda table: seeds(table, table),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize(
    ("table", "message"),
    [
        (make(n=1).iloc[:0], "no rows"),
        (make(n=1).drop(columns=["features", "width"]), "lacks features, width"),
        (make(("mm",), n=2), "all 2 runs diverged"),
        (pd.concat([make(n=2), make(("ns",), n=3, features="inception")]), r"differ in features"),
        (pd.concat([make(("mm",), n=3), make(("ns",), num_images=9)]), r"differ in num_images"),
        (pd.concat([make(n=2, definition=1), make(("wgan",), definition=2)]), "in definition"),
        (pd.concat([make(("mm",), n=3), make(("ns",), width=1.0)]), r"differ in width"),
        (pd.concat([make(n=3), make(n=3, sweep="narrow")]), r"differ in sweep \(mini, narrow\)"),
        (
            pd.concat([make(("vae",), features_digest="a"), make(("ns",), features_digest="b")]),
            r"differ in features_digest \(a, b\)",
        ),
        (
            pd.concat([make(("vae",), data_digest="a"), make(("ns",), data_digest="b")]),
            r"differ in data_digest \(a, b\)",
        ),
        (make(n=2, status="failed"), "status 'failed'"),
        (make(n=2, fid=np.nan, status="ok"), "no fid"),
    ],
)
def test_refused(draw: Callable[[pd.DataFrame], object], table: pd.DataFrame, message: str) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        draw(table)
    assert "\n" not in str(caught.value)


def test_rows_of_before_a_digest_was_recorded_stay_comparable() -> None:
    """And two data sets have each their own."""
    known = make(("ns",), data_digest="a", features_digest="c")
    other = make(("ns",), datasets=("mnist",), data_digest="b", features_digest="c")
    table = pd.concat([make(("vae",)), known, other])
    assert len(scores.checked(table)) == 24


def test_refused_by_one_figure() -> None:
    two = make(datasets=("mnist", "celeba"), n=3)
    for draw in (budget_curves, win_matrix, hyperparameters):
        with pytest.raises(StudyError, match=r"differ in dataset"):
            draw(two)
    with pytest.raises(StudyError, match="differ in loss"):
        hyperparameters(make())
    with pytest.raises(StudyError, match="NS GAN alone"):
        win_matrix(make(("ns",)))
    with pytest.raises(StudyError, match="several seeds"):
        budget_curves(pd.concat([make(n=2), make(n=2, seed=1).assign(seed=1)]))
    with pytest.raises(StudyError, match="lacks f1"):
        f1_curves(make())
    with pytest.raises(StudyError, match="no fid_train"):
        train_vs_held_out(make().assign(fid_train=np.nan), NONE)
    with pytest.raises(StudyError, match=r"differ in features"):
        scores.best_table(make(), make(sweep="seeds", features="inception"))
    with pytest.raises(StudyError, match="have no rows"):
        training_curves({"run 3": pd.DataFrame({"step": []})})

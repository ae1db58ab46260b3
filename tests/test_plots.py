"""Figures on synthetic tables: what is plotted equals the statistics; unlike rows are refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.figures.budget import budget_curves
from study.analysis.figures.curves import training_curves
from study.analysis.figures.defaults import along_training
from study.analysis.figures.distributions import distributions
from study.analysis.figures.f1 import f1_curves
from study.analysis.figures.narrow import narrow_against_wide
from study.analysis.figures.profiles import performance_profiles
from study.analysis.figures.ranks import rank_curves
from study.analysis.figures.samples import sample_grids
from study.analysis.figures.seeds import seeds
from study.analysis.figures.settings import hyperparameters
from study.analysis.figures.style import LOSSES, save, style_of
from study.analysis.figures.train_held_out import train_vs_held_out
from study.analysis.figures.wins import win_matrix
from study.errors import StudyError
from study.settings.space import described

PAPER = Path(__file__).parent.parent / "results" / "paper"
SCALE = {"mm": 60, "ns": 35, "wgan": 45, "vae": 70, "hinge": 40}


def evaluation(loss, dataset, number, step, **more):
    """One row of a table, as a run of the mini sweep would give it."""
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
        "flops": 1e9 * step,
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
        "config": f"{loss}-{dataset}-{number}",
    } | more


def make(losses=("vae", "ns", "mm"), datasets=("fashion_mnist",), n=8, seed=0, **more):
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


def line(axes, label):
    """The data of the line with this legend entry."""
    return next(entry.get_xydata().T for entry in axes.lines if entry.get_label() == label)


def caption(figure):
    return " ".join(figure.get_supxlabel().split())


def scored(table, loss):
    runs = scores.of_runs(table)
    return runs.loc[runs["loss"] == loss, "fid"].to_numpy()


# The table


def test_scores_are_the_least_of_a_run_and_infinite_where_it_diverged():
    table = make()
    runs = scores.of_runs(table)
    assert runs["loss"].drop_duplicates().tolist() == ["mm", "ns", "vae"]
    assert runs["number"].tolist() == [*range(8)] * 3
    least = table[table["loss"] == "ns"].groupby("number")["fid"].min()
    assert_array_equal(scored(table, "ns"), least)
    assert_array_equal(np.isinf(scored(table, "mm")), [False] * 6 + [True] * 2)
    assert runs["status"].value_counts().to_dict() == {"ok": 22, "diverged": 2}


def test_scores_keep_the_best_evaluation_but_the_whole_cost():
    rows = [
        evaluation("ns", "mnist", 0, step, fid=fid, fid_train=fid - 1)
        for step, fid in ((1000, 7.0), (2000, 5.0), (3000, 6.0))
    ]
    run = scores.of_runs(pd.DataFrame(rows)).iloc[0]
    assert (run["fid"], run["fid_train"], run["step"]) == (5, 4, 2000)
    assert (run["d_steps"], run["wall_s"]) == (3000, 30)


def test_losses_have_one_order_and_one_look():
    table = pd.DataFrame({"loss": ["zeta", "vae", "hinge", "wgan", "mm", "ns"]})
    assert scores.losses(table) == ["mm", "ns", "wgan", "vae", "hinge", "zeta"]
    known = [style_of(loss) for loss in LOSSES]
    for part in ("color", "marker"):
        assert len({look[part] for look in known}) == len(known)
    assert style_of("hinge") == style_of("hinge") != style_of("zeta")


def test_only_inception_is_called_fid():
    label = budget_curves(make()).axes[0].get_ylabel()
    assert label == "Fréchet distance (lite0 features)"
    assert budget_curves(make(features="inception")).axes[0].get_ylabel() == "FID"


# Budget


def test_budget_curve_is_the_median_of_the_minimum():
    table = make(n=12)
    figure = budget_curves(table)
    k, value = line(figure.axes[0], "NS GAN")
    assert_array_equal(k, range(1, 13))
    assert_allclose(value, st.min_quantile(scored(table, "ns"), np.arange(1, 13), 0.5))
    bands = figure.axes[0].collections
    ends = st.min_quantile_interval(scored(table, "ns"), 1, 0.5)
    at_one = [y for x, y in bands[1].get_paths()[0].vertices if x == 1]
    assert_allclose([min(at_one), max(at_one)], [ends.low, ends.high])


def test_budget_curve_of_the_mean_starts_where_it_is_finite():
    table = make()
    k, value = line(budget_curves(table, curve="mean").axes[0], "MM GAN")
    assert_array_equal(np.isnan(value), k <= 2)  # two of the eight settings diverged
    assert_allclose(value[2:], st.expected_min(scored(table, "mm"), np.arange(3, 9)))


def test_search_band_is_the_spread_of_the_outcome():
    table = make(("ns",))
    band = budget_curves(table, band="search").axes[0].collections[0]
    at_three = [y for x, y in band.get_paths()[0].vertices if x == 3]
    expected = [st.min_quantile(scored(table, "ns"), 3, q) for q in (0.1, 0.9)]
    assert_allclose([min(at_three), max(at_three)], expected)


def test_cost_on_the_x_axis_is_the_mean_cost_times_k():
    table = make(("ns",))
    axes = budget_curves(table, cost="flops").axes[0]
    assert_allclose(line(axes, "NS GAN")[0], 2e12 * np.arange(1, 9))
    assert axes.get_xlabel() == "cost in FLOPs"


def test_selected_on_some_images_reported_on_others():
    table = make(("ns", "mm"), n=12)
    table["fid_report"] = 100 - table["fid"]
    runs = scores.of_runs(table, "fid_report")
    least = scores.of_runs(table)
    ok = runs["status"] == "ok"
    assert_array_equal(runs["step"], least["step"])  # the choice is the same
    assert_allclose(runs["fid"][ok], 100 - least["fid"][ok])
    assert_array_equal(np.isinf(runs["fid"]), ~ok)
    figure = budget_curves(table, report="fid_report")
    k, value = line(figure.axes[0], "NS GAN")
    fid = scored(table, "ns")
    assert_allclose(value, st.quantile_at_min(fid, 100 - fid, k.astype(int), 0.5))
    assert "on which nothing was selected" in caption(figure)
    same = budget_curves(table.assign(fid_report=table["fid"]), report="fid_report")
    assert_allclose(line(same.axes[0], "NS GAN"), line(budget_curves(table).axes[0], "NS GAN"))
    best = scores.best_table(table).loc["fashion_mnist", "ns"]
    assert_allclose(best["best_report"], 100 - best["best"])
    with pytest.raises(StudyError, match="ok rows have no fid_report"):
        scores.of_runs(table.assign(fid_report=np.nan), "fid_report")
    with pytest.raises(StudyError, match="unknown report 'fid_train'; there are fid, fid_report"):
        scores.of_runs(table, "fid_train")
    with pytest.raises(StudyError, match="is a median"):
        budget_curves(table, report="fid_report", curve="mean")


def test_performance_profiles_end_at_the_share_that_is_ok():
    table = make(n=8)
    axes = performance_profiles(table).axes[0]
    tau, share = line(axes, "MM GAN")
    assert_allclose(share, st.performance_profile(scored(table, "mm"), tau))
    assert (share[0], share[-1]) == (0, 0.75)


def test_defaults_are_stars():
    table = make(("ns",))
    star = [entry for entry in budget_curves(table).axes[0].lines if entry.get_marker() == "*"]
    assert_array_equal(star[0].get_xydata(), [[1, scored(table, "ns")[0]]])


def test_papers_curve_only_beside_comparable_rows():
    paper = pd.read_csv(PAPER / "budget_curve.csv")
    theirs = paper[(paper["loss"] == "ns") & (paper["dataset"] == "fashion_mnist")]
    same = make(("ns",), features="inception", num_images=10_000, width=1.0)
    figure = budget_curves(same, paper=paper)
    drawn = [entry.get_xydata() for entry in figure.axes[0].lines]
    assert any(np.array_equal(xy, theirs[["budget", "mean_min_fid"]]) for xy in drawn)
    assert "digitised" in caption(figure)
    for other in ({"features": "lite0"}, {"num_images": 5000}, {"width": 0.5}):
        table = same.assign(**other)
        figure = budget_curves(table, paper=paper)
        assert len(figure.axes[0].lines) == len(drawn) - 1
        assert "digitised" not in caption(figure)


def test_rank_curves_and_win_matrix_show_the_statistics():
    table = make(n=6)
    fids = [scored(table, loss) for loss in ("mm", "ns", "vae")]
    k, value = line(rank_curves(table).axes[0], "VAE")
    assert_allclose(value, st.expected_ranks(fids, k.astype(int))[2])
    axes = win_matrix(table, [2]).axes[0]
    texts = {tuple(text.get_position()): text.get_text() for text in axes.texts}
    assert texts[1.5, 0.5] == f"{100 * st.win_chance(fids[0], fids[1], 2):.0f}"
    assert texts[0.5, 1.5] == f"{100 * st.win_chance(fids[1], fids[0], 2):.0f}"
    assert len(texts) == 6
    assert [a.get_title() for a in win_matrix(table).axes] == ["1 setting each"]
    titles = [axes.get_title() for axes in win_matrix(make(n=20)).axes]
    assert titles == ["1 setting each", "2 settings each"]


def test_f1_curves_name_the_losses_that_have_none():
    table = make(("ns", "mm"), n=4, dataset="triangles").assign(**dict.fromkeys(scores.F1, 0.5))
    assert "F1 is 0" not in caption(f1_curves(table))
    table.loc[table["loss"] == "mm", "f1"] = 0.0
    assert "F1 is 0 in every run of MM GAN." in caption(f1_curves(table))


def test_the_budget_axis_ends_at_a_tick():
    for n, ticks in ((1, [1]), (4, [1, 2, 4]), (6, [1, 2, 6]), (10, [1, 2, 5, 10])):
        axes = budget_curves(make(n=n)).axes[0]
        assert [int(tick) for tick in axes.get_xticks()] == ticks


def test_f1_curves():
    table = make(("ns", "mm"), n=6, dataset="triangles")
    rng = np.random.default_rng(0)
    table[list(scores.F1)] = rng.random((len(table), 3))
    best = table[table["loss"] == "ns"].sort_values("f1").groupby("number").last()
    figure = f1_curves(table)
    k = np.arange(1, 7)
    f1, precision = (line(axes, "NS GAN")[1] for axes in figure.axes[:2])
    assert_allclose(f1, -st.expected_min(-best["f1"], k))
    assert_allclose(precision, st.expected_at_min(-best["f1"], best["manifold_precision"], k))
    assert_allclose(
        line(figure.axes[0], "MM GAN")[1][0],
        table[(table["loss"] == "mm") & (table["number"] < 4)].groupby("number")["f1"].max().sum()
        / 6,
    )


# Settings


def test_distributions_show_quartiles_defaults_and_diverged():
    table = make(n=8)
    figure = distributions(table)
    axes = figure.axes[0]
    medians = [
        entry.get_ydata()[0]
        for entry in axes.lines
        if entry.get_color() == "black" and len(entry.get_ydata()) == 2
    ]
    expected = [
        np.quantile(scored(table, loss), 0.5, method="inverted_cdf") for loss in ("mm", "ns", "vae")
    ]
    assert set(expected) <= set(medians)
    assert [text.get_text() for text in axes.texts] == ["25%", "0%", "0%"]
    stars = [entry.get_ydata()[0] for entry in axes.lines if entry.get_marker() == "*"]
    assert_array_equal(stars, [scored(table, loss)[0] for loss in ("mm", "ns", "vae")])


def test_a_box_with_infinite_quartile_ends_at_the_top():
    table = make(("mm",), n=5)  # two of five diverged: the upper quartile is infinite
    axes = distributions(table).axes[0]
    top = max(patch.get_path().vertices[:, 1].max() for patch in axes.patches)
    assert_allclose(top, axes.get_ylim()[1])


def test_seeds_and_narrow_against_wide():
    again = make(("ns", "mm"), lr=1e-3, beta1=0.5, disc_iters=1, batch_norm=True, sweep="seeds")
    figure = seeds(again)
    assert "8 seeds a loss" in caption(figure)
    assert [text.get_text() for text in figure.axes[0].texts] == ["25%", "0%"]
    with pytest.raises(StudyError, match="several settings"):
        seeds(make())
    both = narrow_against_wide(make(), make(n=4, sweep="narrow"))
    assert len(both.axes[0].texts) == 6
    assert "mini and narrow: 4 to 8 settings" in caption(both)


def test_distance_along_one_run_a_loss():
    table = make(n=1)
    (axes,) = (figure := along_training(table)).axes
    rows = table[table["loss"] == "ns"].sort_values("step")
    assert_array_equal(line(axes, "NS GAN"), [rows["step"], rows["fid"]])
    assert "the authors' default" in caption(figure)
    with pytest.raises(StudyError, match="several settings of one loss"):
        along_training(make(n=2))


def test_hyperparameters_a_panel_each_and_the_interaction():
    figure = hyperparameters(make(("wgan",)))
    labels = [axes.get_xlabel() for axes in figure.axes]
    names = ["lr", "beta1", "disc_iters", "batch_norm", "clip", "lr"]
    assert labels[:6] == [described("wgan")[name].label for name in names]
    assert [text.get_text() for text in figure.axes[3].get_xticklabels()] == ["off", "on"]
    diverged = hyperparameters(make(("mm",))).axes[0]
    crosses = [entry.get_ydata() for entry in diverged.lines if entry.get_marker() == "x"]
    assert_allclose(crosses[0], [diverged.get_ylim()[1]] * 2)


def test_a_log_axis_shows_a_power_of_ten():
    table = make(("ns",), n=4)
    table["lr"] = 2e-5 + 1e-5 * table["number"]
    panels = [a for a in hyperparameters(table).axes if "learning" in a.get_xlabel()]
    assert len(panels) == 2
    for axes in panels:
        low, high = axes.get_xlim()
        assert low < 1e-5
        assert high > 1e-4


def test_train_against_held_out():
    table = make(("ns", "mm"))
    runs = scores.of_runs(table)
    ok = runs[(runs["loss"] == "mm") & (runs["status"] == "ok")]
    x, y = line(train_vs_held_out(table).axes[0], "MM GAN")
    assert_array_equal(x, ok["fid"])
    assert_array_equal(y, ok["fid_train"])


# Tables


def test_best_table_beside_the_papers():
    table, paper = make(n=5), pd.read_csv(PAPER / "best_fid.csv")
    again = make(n=3, seed=9, sweep="seeds")
    result = scores.best_table(table, again, paper)
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


def test_best_settings():
    table = make(("wgan", "mm"), ("mnist", "fashion_mnist"))
    result = scores.best_settings(table)
    assert result.columns[0] == "Fréchet distance (lite0 features)"
    assert len(result) == 4
    mine = table[(table["loss"] == "wgan") & (table["dataset"] == "mnist")]
    best = mine.loc[mine["fid"].idxmin()]
    row = result.loc["mnist", "wgan"]
    assert (row["number"], row["lr"], row["clip"]) == (best["number"], best["lr"], best["clip"])


# Single runs


def test_training_curves_show_what_was_recorded():
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
    assert [axes.get_title() for axes in figure.axes[:3]] == [
        "stable: losses",
        "stable: D's accuracy",
        "stable: penalty, k, M",
    ]
    assert_array_equal(line(figure.axes[0], "D"), [step, [3, 2, 1, 1]])
    assert_array_equal(line(figure.axes[3], "G")[1], [1, 10, np.nan, np.nan])
    assert_array_equal(line(figure.axes[5], "k")[1], bad["k"])
    assert not figure.axes[2].lines


def test_sample_grids(tmp_path):
    path = tmp_path / "grid.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)
    figure = sample_grids({"NS GAN": path, "VAE": path})
    assert [axes.get_title() for axes in figure.axes] == ["NS GAN", "VAE"]
    assert_allclose(figure.axes[0].images[0].get_array(), np.arange(64).reshape(8, 8) / 255)
    with pytest.raises(StudyError, match=r"nowhere\.png"):
        sample_grids({"NS GAN": tmp_path / "nowhere.png"})


# What all figures share


def test_caption_counts_settings_by_data_set_where_they_differ():
    table = pd.concat([make(n=8), make(datasets=("triangles",), n=4)])
    text = "mini: 8 settings a loss (Fashion-MNIST), 4 settings a loss (Triangles); "
    assert text in caption(budget_curves(table))


def test_caption_says_what_was_measured():
    text = caption(budget_curves(make()))
    for part in (
        "Fashion-MNIST",
        "lite0 features",
        "5,000 images",
        "8 settings a loss",
        "2 of 24 runs (8.3%) diverged",
        "Band: 95 % bootstrap",
        "width 0.25",
    ):
        assert part in text


def test_a_panel_a_data_set_in_the_papers_order():
    figure = distributions(make(datasets=("celeba", "fashion_mnist", "mnist"), n=2))
    assert [axes.get_title() for axes in figure.axes] == ["MNIST", "Fashion-MNIST", "CelebA"]


def test_same_table_same_bytes(tmp_path):
    pages = []
    for name, order in (("a", 1), ("b", 2)):
        table = make(n=4).sample(frac=1, random_state=order)
        paths = save(budget_curves(table), tmp_path / name / "curves")
        pages.append([path.read_bytes() for path in paths])
    assert pages[0] == pages[1]
    assert pages[0][0].startswith(b"<?xml")
    assert pages[0][1].startswith(b"\x89PNG")


def test_one_setting_or_one_diverged_loss_is_still_a_figure():
    table = pd.concat([make(("ns", "mm"), n=2), make(("vae",), n=1)])  # mm: all diverged
    entries = budget_curves(table).axes[0].get_legend_handles_labels()[1]
    assert entries == ["MM GAN (infinite)", "NS GAN", "VAE"]
    assert line(budget_curves(table).axes[0], "VAE").shape == (2, 1)
    assert distributions(table).axes[0].texts[0].get_text() == "100%"
    assert len(rank_curves(table).axes[0].lines) == 3
    assert scores.best_settings(table).index.get_level_values("loss").tolist() == ["ns", "vae"]


@pytest.mark.parametrize(
    "draw",
    [
        budget_curves,
        distributions,
        rank_curves,
        win_matrix,
        train_vs_held_out,
        scores.best_table,
        seeds,
    ],
)
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
        (make(n=2, status="failed"), "status 'failed'"),
        (make(n=2, fid=np.nan, status="ok"), "no fid"),
    ],
)
def test_refused(draw, table, message):
    with pytest.raises(StudyError, match=message) as caught:
        draw(table)
    assert "\n" not in str(caught.value)


def test_refused_by_one_figure():
    two = make(datasets=("mnist", "celeba"), n=3)
    for draw in (win_matrix, hyperparameters):
        with pytest.raises(StudyError, match=r"differ in dataset"):
            draw(two)
    with pytest.raises(StudyError, match="differ in loss"):
        hyperparameters(make())
    with pytest.raises(StudyError, match="NS GAN alone"):
        win_matrix(make(("ns",)))
    with pytest.raises(StudyError, match="several seeds"):
        budget_curves(pd.concat([make(n=2), make(n=2, seed=1).assign(seed=1)]))
    with pytest.raises(StudyError, match="unknown cost 'euros'"):
        budget_curves(make(), cost="euros")
    with pytest.raises(StudyError, match="lacks f1"):
        f1_curves(make())
    with pytest.raises(StudyError, match="no fid_train"):
        train_vs_held_out(make().assign(fid_train=np.nan))
    with pytest.raises(StudyError, match=r"differ in features"):
        scores.best_table(make(), make(sweep="seeds", features="inception"))
    with pytest.raises(StudyError, match="have no rows"):
        training_curves({"run 3": pd.DataFrame({"step": []})})

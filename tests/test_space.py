"""Settings: the paper's own, and draws that nothing else can move."""

import csv

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from study.errors import StudyError
from study.losses import load, names
from study.settings.space import PAPER_FOLDER, SHARED, draw, paper_settings, ranges_of, setting


@pytest.mark.parametrize(("ranges", "count"), [("wide", 100), ("narrow", 50)])
def test_all_settings_of_the_paper(ranges, count):
    rows = list(csv.DictReader((PAPER_FOLDER / f"{ranges}.csv").open(newline="")))
    assert len(rows) == 8 * count
    for row in rows:
        ours = setting(ranges, row["loss"], int(row["number"]), ranges)
        assert ours["lr"] == float(row["lr"])
        assert ours["beta1"] == float(row["beta1"])
        assert ours["disc_iters"] == int(row["disc_iters"])
        assert ours["batch_norm"] == (row["batch_norm"] == "true")
        assert ours.get("clip") == (float(row["clip"]) if row["clip"] else None)
        assert ours.get("gamma") == (float(row["gamma"]) if row["gamma"] else None)
        own = ours.get("lambda_gp", ours.get("lambda_k"))
        assert own == (float(row["lambda"]) if row["lambda"] else None)


@pytest.mark.parametrize("ranges", ["wide", "narrow"])
@pytest.mark.parametrize("loss", names())
def test_settings_lie_in_the_declared_ranges(loss, ranges):
    space = ranges_of(ranges, loss)
    published = len(paper_settings(ranges).get(loss, [0]))
    for number in range(1, published + 20):
        values = setting("own", loss, number, ranges)
        assert set(values) == set(space)
        for name, value in values.items():
            assert space[name]._contains(space[name].to_internal_repr(value)), (name, value)


def test_setting_zero_is_the_authors_default():
    for loss in names():
        assert setting("wide", loss, 0, "wide") == dict(load(loss).defaults)


def test_a_draw_depends_on_its_names_alone():
    space = ranges_of("wide", "ns")
    more = {**space, "dropout": FloatDistribution(0, 1)}
    for number in (100, 101, 4711):
        before = setting("own", "ns", number, space)
        after = setting("own", "ns", number, more)
        assert {name: after[name] for name in before} == before
    assert setting("own", "ns", 100, space) != setting("own", "mm", 100, space)
    assert setting("own", "ns", 100, space) != setting("other", "ns", 100, space)


def test_draws_are_fixed_for_ever():
    assert draw("own/ns/100/lr", FloatDistribution(1e-5, 1e-2, log=True)) == pytest.approx(
        0.007773186207859073, rel=1e-12
    )


def test_draws_are_uniform_and_in_range():
    n = 4000
    u = [draw(f"t/{i}", FloatDistribution(0.0, 1.0)) for i in range(n)]
    assert sum(u) / n == pytest.approx(0.5, abs=0.02)
    assert 0 <= min(u) < max(u) < 1
    log = [draw(f"t/{i}", FloatDistribution(1e-5, 1e-2, log=True)) for i in range(n)]
    assert sum(x < 10**-3.5 for x in log) / n == pytest.approx(0.5, abs=0.03)
    ints = [draw(f"t/{i}", IntDistribution(2, 4)) for i in range(n)]
    assert {2, 3, 4} == set(ints)
    choice = [draw(f"t/{i}", CategoricalDistribution([1, 5])) for i in range(n)]
    assert choice.count(5) / n == pytest.approx(0.5, abs=0.03)


def test_unknown_ranges():
    with pytest.raises(StudyError, match="unknown ranges 'broad'; allowed: wide, narrow"):
        setting("wide", "ns", 3, "broad")
    assert list(SHARED) == ["wide", "narrow"]

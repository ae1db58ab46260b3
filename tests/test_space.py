"""Settings: the paper's own, and draws that nothing else can move."""

import csv
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mpmath
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from study.errors import StudyError
from study.losses import load, names
from study.settings.config import Range, load_sweep
from study.settings.space import (
    PAPER_FOLDER,
    SHARED,
    distribution,
    draw,
    paper_settings,
    ranges_of,
    setting,
    space_of,
)


@pytest.mark.parametrize(("ranges", "count"), [("wide", 100), ("narrow", 50)])
def test_all_settings_of_the_paper(ranges: str, count: int) -> None:
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
def test_settings_lie_in_the_declared_ranges(loss: str, ranges: str) -> None:
    space = ranges_of(ranges, loss)
    published = len(paper_settings(ranges).get(loss, [0]))
    for number in range(1, published + 20):
        values = setting("own", loss, number, ranges)
        assert set(values) == set(space)
        for name, value in values.items():
            assert space[name]._contains(space[name].to_internal_repr(value)), (name, value)


def test_setting_zero_is_the_authors_default() -> None:
    for loss in names():
        assert setting("wide", loss, 0, "wide") == dict(load(loss).defaults)


def test_a_draw_depends_on_its_names_alone() -> None:
    space = ranges_of("wide", "ns")
    more = {**space, "dropout": FloatDistribution(0, 1)}
    for number in (100, 101, 4711):
        before = setting("own", "ns", number, space)
        after = setting("own", "ns", number, more)
        assert {name: after[name] for name in before} == before
    assert setting("own", "ns", 100, space) != setting("own", "mm", 100, space)
    assert setting("own", "ns", 100, space) != setting("other", "ns", 100, space)


def test_draws_are_fixed_for_ever() -> None:
    log = FloatDistribution(1e-5, 1e-2, log=True)
    assert draw("own/ns/100/lr", log) == 0.007773186207859073
    assert draw("paired/24/lr", log) == 0.0003313430662793432  # ...431 by NumPy with AVX512


def test_logarithmic_draws_are_rounded_correctly_whatever_the_processor() -> None:
    """To the last digit those of 200-bit arithmetic; NumPy's differ with its instruction set."""
    low, high = 10**-1.3, 10**0.6
    with mpmath.workprec(200):
        log_low, log_high = (float(mpmath.log(mpmath.mpf(end))) for end in (low, high))
        for number in range(300):
            u = draw(f"any/{number}", FloatDistribution(0.0, 1.0))
            exact = mpmath.exp(mpmath.mpf(log_low + u * (log_high - log_low)))
            drawn = draw(f"any/{number}", FloatDistribution(low, high, log=True))
            assert drawn == float(exact)


def test_draws_are_uniform_and_in_range() -> None:
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


def test_whole_numbers_are_drawn_on_the_scale_and_in_the_steps_that_are_stated() -> None:
    """P(value < v) = log(v / low) / log((high + 1) / low) on a logarithmic scale."""
    stated = Range(low=1, high=1000, log=True)
    drawn = sorted(draw(f"test/{n}", distribution(stated)) for n in range(4000))
    assert (drawn[0], type(drawn[0])) == (1, int)
    assert drawn[-1] <= 1000
    for bound in (2, 10, 32, 100, 320):
        share = sum(value < bound for value in drawn) / len(drawn)
        assert abs(share - math.log(bound) / math.log(1001)) < 0.025
    assert {draw(f"one/{n}", IntDistribution(7, 7, log=True)) for n in range(50)} == {7}
    steps = [draw(f"steps/{n}", IntDistribution(2, 11, step=3)) for n in range(400)]
    assert set(steps) == {2, 5, 8, 11}
    assert all(80 <= steps.count(value) <= 120 for value in set(steps))
    quarters = {draw(f"q/{n}", FloatDistribution(0.5, 1.25, step=0.25)) for n in range(200)}
    assert quarters == {0.5, 0.75, 1.0, 1.25}


def test_unknown_ranges() -> None:
    with pytest.raises(StudyError, match="unknown ranges 'broad'; allowed: wide, narrow"):
        setting("wide", "ns", 3, "broad")
    assert list(SHARED) == ["wide", "narrow"]


PAIRED_0 = {
    "lr": 0.002082120121730055,
    "beta1": 0.17332071550079492,
    "disc_iters": 1,
    "normalisation": "batch",
}


def paired(loss: str, number: int) -> dict[str, Any]:
    sweep = load_sweep("paired")
    return setting("paired", loss, number, space_of(sweep, loss), sweep.draws)


def test_shared_draws_are_the_same_for_all_losses_at_every_number() -> None:
    shared = {"lr", "beta1", "disc_iters", "normalisation"}
    losses = load_sweep("paired").losses
    assert len(set(losses)) == 14
    assert set(losses) <= set(names())
    for number in range(80):
        settings = [paired(loss, number) for loss in losses]
        assert len({tuple(values[name] for name in sorted(shared)) for values in settings}) == 1
        for loss, values in zip(losses, settings, strict=True):
            own = set(load(loss).defaults) - {"lr", "beta1", "disc_iters", "batch_norm"}
            assert set(values) == shared | own
    # One name, one draw: the penalties' weights are the same, too.
    assert paired("wgan_gp", 7)["lambda_gp"] == paired("dragan", 7)["lambda_gp"]
    assert paired("ns_r1", 7)["gamma"] == paired("r3", 7)["gamma"] != paired("began", 7)["gamma"]


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_hyperparameters_come_in_one_order_in_every_process(seed: str) -> None:
    """The shared ones, the loss's own as its file states them, normalisation: no set's order."""
    code = (
        "from study.settings import config, space; "
        "print(*space.space_of(config.load_sweep('paired'), 'began'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "lr beta1 disc_iters gamma lambda_k normalisation"


def test_shared_draws_have_the_stated_ranges_and_no_defaults() -> None:
    drawn = [paired("wgan", number) for number in range(600)]
    for name, choices in (("disc_iters", (1, 5)), ("normalisation", ("none", "batch", "spectral"))):
        counts = [sum(values[name] == choice for values in drawn) for choice in choices]
        assert min(counts) > 600 / len(choices) * 0.8
        assert sum(counts) == 600
    logs = [math.log10(values["lr"]) for values in drawn]
    assert -5 <= min(logs) < -4.9
    assert -2.1 < max(logs) <= -2
    assert sum(logs) / 600 == pytest.approx(-3.5, abs=0.15)
    assert sum(values["beta1"] for values in drawn) / 600 == pytest.approx(0.5, abs=0.05)
    assert paired("ns", 0) != setting("wide", "ns", 0, "wide")


def test_shared_draws_are_fixed_for_ever() -> None:
    """A further loss, setting or hyperparameter changes nothing that was drawn."""
    first = paired("ns", 0)
    assert first["lr"] == draw("paired/0/lr", FloatDistribution(1e-5, 1e-2, log=True))
    assert first == {
        "lr": pytest.approx(PAIRED_0["lr"], rel=1e-12),
        "beta1": pytest.approx(PAIRED_0["beta1"], rel=1e-12),
        "disc_iters": PAIRED_0["disc_iters"],
        "normalisation": PAIRED_0["normalisation"],
    }


def test_stated_ranges_replace_the_named_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = load_sweep("paired").model_copy(
        update={
            "space": {"lr": Range(low=1e-4, high=1e-3, log=True), "gamma": Range(low=1, high=3)}
        }
    )
    space = space_of(sweep, "ns_r1")
    assert space["lr"] == FloatDistribution(1e-4, 1e-3, log=True)
    assert space["gamma"] == IntDistribution(1, 3)
    assert "gamma" not in space_of(sweep, "ns")
    assert "batch_norm" in space

"""Configurations, plans, tables: what is refused, what is remembered, what never moves."""

import json
import math
import os
import resource
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from there import there
from typer.testing import CliRunner

from study import files
from study.analysis import dashboard
from study.cli import app
from study.commands import sweeps
from study.errors import StudyError
from study.losses import names
from study.runs.folder import folder_of, take
from study.runs.plan import plan as plan_of
from study.runs.progress import is_written, prepare, progress
from study.runs.status import status
from study.runs.table import (
    AFTER_OWN,
    BEFORE_OWN,
    collect,
    merge,
    read_table,
    table_path,
    write_table,
)
from study.settings import config as configs
from study.settings.config import Range, RunConfig, SweepConfig, load_sweep, read_config
from study.training.players import build

ROOT = Path(__file__).parent.parent


@pytest.fixture
def sweeps_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "sweeps"
    folder.mkdir()
    monkeypatch.setattr(configs, "SWEEPS_FOLDER", folder)
    return folder


TINY = """
title = "tiny"
ranges = "wide"
trials = 3
width = 0.0625
features = "random"
num_images = 50
[datasets.fashion_mnist]
d_steps = 20
evaluate_every = 10
"""


@pytest.fixture
def tiny(sweeps_folder: Path) -> SweepConfig:
    (sweeps_folder / "tiny.toml").write_text(TINY)
    return load_sweep("tiny")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("trials = 3", "n_trial = 3"), r"sweeps/tiny.toml: unknown key 'n_trial'; did you mean"),
        (("trials = 3", "trials = 0"), r"sweeps/tiny.toml: trials = 0: input should be greater"),
        (("trials = 3", "trials = "), r"sweeps/tiny.toml: not valid TOML"),
        (('ranges = "wide"', 'ranges = "broad"'), r"ranges = 'broad': input should be 'wide'"),
        (('ranges = "wide"', ""), r"a sweep states either ranges or best_of or longer_of"),
        (("trials = 3", 'trials = 3\nlonger_of = "mini"'), r"states either ranges or best_of or"),
        (("d_steps = 20", "d_step = 20"), r"unknown key 'datasets.fashion_mnist.d_step'; did you"),
        (("trials = 3", 'trials = 3\nseed = "each"'), r"seed = 'each': input should be 'fixed' or"),
        (("trials = 3", 'trials = 3\ndraws = "all"'), r"draws = 'all': input should be 'own' or"),
        (
            ("trials = 3", 'trials = 3\nsecond_features = "random"'),
            r"second_features = 'random' are the first; name others",
        ),
        (("[datasets", "[space]\nlr = {low = 1}\n[datasets"), r"state low and high"),
        (
            ("[datasets", "[space]\nlr = {low = 2, high = 1}\n[datasets"),
            r"low must not exceed high",
        ),
        (
            ("[datasets", "[space]\nlr = {low = 0, high = 1, log = true}\n[datasets"),
            r"low = 0, high = 1",
        ),
    ],
)
def test_bad_sweeps_are_one_clear_line(
    sweeps_folder: Path, change: tuple[str, str], message: str
) -> None:
    (sweeps_folder / "tiny.toml").write_text(TINY.replace(*change))
    with pytest.raises(StudyError, match=message) as error:
        load_sweep("tiny")
    assert "\n" not in str(error.value)


def test_unknown_names(tiny: SweepConfig) -> None:
    with pytest.raises(StudyError, match=r"^unknown sweep 'tinny'; did .* 'tiny'\? sweeps/ has: t"):
        load_sweep("tinny")
    with pytest.raises(StudyError, match=r"^unknown loss 'nsgan'; did .* study/losses has: began"):
        plan_of(tiny, ["nsgan"])
    with pytest.raises(StudyError, match=r"unknown data set .fashion.; did you mean"):
        plan_of(tiny, [], ["fashion"])
    with pytest.raises(StudyError, match="unknown features 'vgg'; allowed: inception, lite0"):
        plan_of(tiny.model_copy(update={"features": "vgg"}))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {"gama": Range(low=1, high=2)},
            r"space: no hyperparameter 'gama'; did you mean 'gamma'\?",
        ),
        (
            {"normalisation": Range(choices=("none", "layer"))},
            r"space: normalisation \['layer'\]; allowed: none, batch, spectral",
        ),
        (
            {"normalisation": Range(choices=("none",)), "batch_norm": Range(choices=(True,))},
            r"space: batch_norm beside normalisation",
        ),
    ],
)
def test_bad_spaces_are_one_clear_line(
    tiny: SweepConfig, space: dict[str, Range], message: str
) -> None:
    with pytest.raises(StudyError, match=message) as error:
        plan_of(tiny.model_copy(update={"space": space}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalisation": "layer"}, "normalisation = 'layer': input should be 'none', 'batch' or"),
        ({"normalisation": "spectral", "batch_norm": True}, "'spectral' with batch_norm = True"),
        ({"batch_size": 1}, "batch_size = 1: input should be greater than or equal to 2"),
        ({"arithmetic": "sse"}, "arithmetic = 'sse': input should be 'native' or 'avx2'"),
    ],
)
def test_bad_configurations_are_one_clear_line(
    tiny: SweepConfig, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    content = plan_of(tiny, ["ns"])[0].model_dump() | change
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(StudyError, match=message) as error:
        read_config(tmp_path / "config.json")
    assert "\n" not in str(error.value)


PAPERS = {"mm", "ns", "ls", "wgan", "wgan_gp", "dragan", "began", "vae"}


@pytest.mark.parametrize("name", ["wide", "narrow", "seeds", "mini", "mini_seeds", "defaults"])
def test_the_papers_sweeps_train_the_papers_models(name: str) -> None:
    assert set(load_sweep(name).losses) == PAPERS < set(names())


@pytest.mark.parametrize("name", ["mini", "mini_seeds", "defaults"])
def test_committed_rows_keep_their_hash(name: str) -> None:
    """What a configuration says since then changes none that was trained before."""
    table = pd.read_parquet(ROOT / f"results/{name}.parquet").drop_duplicates("config", keep="last")
    stated = ["sweep", "loss", "dataset", "number", "seed", "lr", "beta1", "disc_iters"]
    stated += ["batch_norm", "width", "bn_decay", "features", "num_images", "precision"]
    own = ["lambda_gp", "clip", "gamma", "lambda_k"]
    for row in table.to_dict("records"):
        schedule = load_sweep(name).datasets[row["dataset"]].model_dump(exclude={"trials"})
        values = {n: row[n] for n in own if not math.isnan(row[n])}
        config = RunConfig(**{n: row[n] for n in stated}, own=values, **schedule)
        assert config.hash == row["config"]
        assert config.normalisation == ("batch" if row["batch_norm"] else "none")


def test_paired_runs_begin_with_the_same_weights() -> None:
    plan = plan_of(load_sweep("paired"), (), ("fashion_mnist",))
    assert len(plan) == 14 * 80
    assert all(config.seed == config.number for config in plan)
    for number in range(0, 80, 9):
        weights: dict[str, set[int]] = {}
        for config in plan[14 * number : 14 * (number + 1)]:
            assert config.number == number
            small = config.model_copy(update={"width": 1 / 32})
            players = build(small, (1, 28, 28), torch.device("cpu"))[1]
            for network in (players.generator, players.discriminator):
                values = b"".join(t.numpy().tobytes() for t in network.state_dict().values())
                weights.setdefault(type(network).__name__, set()).add(hash(values))
        # BEGAN's autoencoder and the VAE's encoder are other networks, each one of its kind.
        assert {kind: len(found) for kind, found in weights.items()} == {
            "Generator": 1, "Discriminator": 1, "Autoencoder": 1, "Encoder": 1,
        }  # fmt: skip


def test_a_plan_of_before_normalisation_is_still_the_same(
    tiny: SweepConfig, tmp_path: Path
) -> None:
    config = plan_of(tiny, ["ns"])[0]
    folder = folder_of(tmp_path, config)
    old = config.model_dump(
        exclude={"normalisation", "arithmetic", "second_features", "batch_size"}
    )
    files.write_json(folder / "config.json", old)
    assert is_written(folder, config, "to do")
    assert read_config(folder / "config.json") == config


def test_the_shipped_sweeps_are_the_papers() -> None:
    wide, narrow, seeds = load_sweep("wide"), load_sweep("narrow"), load_sweep("seeds")
    runs = {name: len(load_sweep(name).datasets) for name in ("wide", "narrow", "seeds")}
    assert runs == {"wide": 5, "narrow": 4, "seeds": 4}
    assert (wide.trials, narrow.trials, seeds.trials) == (100, 50, 50)
    schedules = {
        "mnist": (15_625, 3_906, 5),
        "fashion_mnist": (15_625, 3_906, 5),
        "cifar10": (78_125, 3_906, 21),
        "celeba": (101_250, 12_656, 9),
        "triangles": (15_625, 3_906, 5),
    }
    for dataset, (d_steps, every, evaluations) in schedules.items():
        schedule = wide.datasets[dataset]
        assert (schedule.d_steps, schedule.evaluate_every) == (d_steps, every)
        assert -(-d_steps // every) == evaluations  # every so many steps, and at the end
    assert wide.width == 1.0
    assert wide.bn_decay == 0.999
    assert wide.num_images == 10_000


def test_plan_gives_all_losses_the_same_settings_first(tiny: SweepConfig) -> None:
    plan = plan_of(tiny)
    assert [(c.number, c.loss) for c in plan] == [(n, loss) for n in range(3) for loss in names()]
    more = plan_of(tiny, trials=5)
    assert more[: len(plan)] == plan


def test_a_cuda_graph_needs_a_gpu(tiny: SweepConfig) -> None:
    assert plan_of(tiny, device="cuda", cuda_graph=True)[0].cuda_graph
    with pytest.raises(StudyError, match="a CUDA graph needs device cuda, not cpu; leave --cuda-g"):
        plan_of(tiny, cuda_graph=True)


def test_hash_covers_the_numbers_and_not_the_machine(tiny: SweepConfig) -> None:
    one = plan_of(tiny, ["ns"])[0]
    assert (
        one.hash == one.model_copy(update={"device": "cuda", "threads": 8, "cuda_graph": True}).hash
    )
    changed = {"lr": 1e-3, "seed": 1, "width": 0.5, "features": "lite0", "definition": 9}
    hashes = {one.model_copy(update={name: value}).hash for name, value in changed.items()}
    assert len(hashes | {one.hash}) == 6


def finish(results: Path, config: RunConfig, fids: Sequence[float], status: str = "ok") -> Path:
    """A finished run as training leaves it, without training."""
    folder = folder_of(results, config)
    files.write_json(folder / "config.json", config.model_dump())
    rows = [
        {"step": 10 * (i + 1), "d_steps": 10 * (i + 1), "g_steps": 10, "images": 640, "flops": 5}
        | {"wall_s": 1.5, "fid": fid, "fid_train": fid + 1}
        for i, fid in enumerate(fids)
    ]
    made_by = {"commit": "abc", "torch": "2", "python": "3", "host": "h", "processor": "p"}
    result = {"status": status, "reason": None, "config": config.hash, "evaluations": rows}
    files.write_json(folder / "result.json", result | {"provenance": made_by})
    return folder


def test_collect_makes_one_typed_sorted_table(tiny: SweepConfig, tmp_path: Path) -> None:
    plan = plan_of(tiny, ["wgan", "ns"])
    folders = [finish(tmp_path, c, [9.0, 7.0 + c.number]) for c in plan[:4]]
    folders.append(finish(tmp_path, plan[4], [8.0, math.inf], "diverged"))
    table = merge(tmp_path, "tiny", folders[::-1])
    assert len(table) == 10
    order = [*BEFORE_OWN, *AFTER_OWN]
    assert [name for name in table if name in order] == order
    keys = table[["loss", "number", "step"]].apply(tuple, axis=1).tolist()
    assert keys == sorted(keys)
    assert not table["fid"].isna().any()
    assert table["clip"].isna().tolist() == (table["loss"] == "ns").tolist()
    assert table.loc[table["status"] == "diverged", "fid"].tolist() == [8.0, math.inf]
    before = table_path(tmp_path, "tiny").read_bytes()
    again = merge(tmp_path, "tiny", folders)
    pd.testing.assert_frame_equal(table, again)
    assert table_path(tmp_path, "tiny").read_bytes() == before
    metadata = pq.read_schema(table_path(tmp_path, "tiny")).metadata
    assert json.loads(metadata[b"study"])["commits"] == ["abc"]


def test_the_table_stands_for_runs_whose_folders_are_gone(
    tiny: SweepConfig, tmp_path: Path
) -> None:
    plan = plan_of(tiny, ["ns"])
    folder = finish(tmp_path, plan[0], [5.0])
    merge(tmp_path, "tiny", [folder])
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    status = prepare(plan, tmp_path)
    assert status.states == ["ok", "to do", "to do"]
    table = merge(tmp_path, "tiny", [finish(tmp_path, plan[1], [6.0])])
    assert table["number"].tolist() == [0, 1]


def test_a_run_that_the_table_holds_is_done_for_every_command(
    tiny: SweepConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever its folder says; a table that cannot be read says nothing."""
    plan = plan_of(tiny, ["ns"])
    folder = finish(tmp_path, plan[0], [5.0, 4.0])
    collect(tmp_path, "tiny")
    (folder / "result.json").unlink()
    there(take(folder)).end("failed", "no")
    assert progress(plan, tmp_path).states == ["ok", "to do", "to do"]
    found = status(tmp_path, ["tiny"])
    [group] = found.groups
    assert (group["ok"], group["failed"], group["runs"], group["best"]) == (1, 0, 1, 4.0)
    assert found.failures == []
    assert capsys.readouterr().err == ""

    table_path(tmp_path, "tiny").write_bytes(b"torn")
    found = status(tmp_path, ["tiny"])
    [group] = found.groups
    assert (group["ok"], group["failed"], group["runs"]) == (0, 1, 1)
    assert [failure["error"] for failure in found.failures] == ["no"]
    assert f"{table_path(tmp_path, 'tiny')} cannot be read" in capsys.readouterr().err


def test_a_sweep_that_cannot_be_collected_is_named_and_the_others_are(
    tiny: SweepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the disk in one folder, and one that cannot even be listed."""
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path))
    for name in ("a", "b", "tiny"):
        config = plan_of(tiny.model_copy(update={"name": name}), ["ns"])[0]
        finish(tmp_path, config, [5.0])

    def collect_one(results: Path, sweep: str) -> pd.DataFrame:
        if sweep == "a":
            raise OSError(5, "Input/output error", f"{results}/runs/a")
        return really(results, sweep)

    def listdir(path: Path) -> list[str]:
        if path == tmp_path / "runs/b":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    really, listed = sweeps.collect_one, os.listdir
    monkeypatch.setattr(sweeps, "collect_one", collect_one)
    monkeypatch.setattr(os, "listdir", listdir)
    result = CliRunner().invoke(app, ["collect"])
    assert result.exit_code == 2
    assert result.stdout == f"{table_path(tmp_path, 'tiny')}: 1 run, 1 row\n"
    assert result.stderr.splitlines() == [
        f"error: sweep a: [Errno 5] Input/output error: '{tmp_path}/runs/a'",
        f"error: sweep b: [Errno 13] Permission denied: '{tmp_path}/runs/b'",
    ]


def test_folders_that_are_no_sweeps_give_no_table(
    tiny: SweepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path))
    for name in ("lost+found", "my notes/ns/mnist/000", "empty", "jobs_alone/jobs"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs/my notes/ns/mnist/000/config.json").touch()
    result = CliRunner().invoke(app, ["collect"])
    assert result.exit_code == 0
    assert result.stdout.startswith("no runs in ")
    finish(tmp_path, plan_of(tiny, ["ns"])[0], [5.0])
    result = CliRunner().invoke(app, ["collect"])
    assert result.exit_code == 0
    assert [path.name for path in tmp_path.glob("*.parquet")] == ["tiny.parquet"]


def test_a_changed_sweep_is_refused(tiny: SweepConfig, tmp_path: Path) -> None:
    plan = plan_of(tiny, ["ns"])
    begun = prepare(plan, tmp_path).folders[1]
    there(take(begun)).end("released")
    changed = plan_of(tiny.model_copy(update={"width": 0.5}), ["ns"])
    before = {path: path.read_bytes() for path in tmp_path.rglob("config.json")}
    with pytest.raises(StudyError, match=r"was planned with width 0.0625, the sweep now says 0.5"):
        prepare(changed, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("config.json")} == before

    other = tmp_path / "other"
    merge(other, "tiny", [finish(other, plan[0], [5.0])])
    with pytest.raises(StudyError, match=r"(another configuration|was planned with)"):
        prepare(changed, other)


def with_last_digits(config: RunConfig) -> RunConfig:
    """The configuration as another processor may have drawn it: a unit in the last place off."""
    own = {name: math.nextafter(float(value), 0) for name, value in config.own.items()}
    return config.model_copy(update={"lr": math.nextafter(config.lr, 1), "own": own})


@pytest.mark.parametrize("loss", ["ns", "wgan_gp"])
def test_runs_whose_draws_differ_in_the_last_digits_go_on(
    tiny: SweepConfig, tmp_path: Path, loss: str
) -> None:
    """One run is in the table alone, one in its folder, one was begun, and one is another."""
    tiny = tiny.model_copy(update={"trials": 4})
    plan = plan_of(tiny, [loss])
    former = [with_last_digits(config) for config in plan]
    assert {config.hash for config in plan}.isdisjoint(config.hash for config in former)
    merge(tmp_path, "tiny", [finish(tmp_path / "other", former[0], [5.0])])
    finish(tmp_path, former[1], [4.0])
    begun = folder_of(tmp_path, former[2])
    files.write_json(begun / "config.json", former[2].model_dump())
    there(take(begun)).end("released")
    found = prepare(plan, tmp_path)
    assert found.configs == [*former[:3], plan[3]]
    assert found.states == ["ok", "ok", "to do", "to do"]
    assert read_config(begun / "config.json") == former[2]

    apart = former[2].model_copy(update={"lr": plan[2].lr * (1 + 1e-12)})
    files.write_json(begun / "config.json", apart.model_dump())
    with pytest.raises(StudyError, match="was planned with lr"):
        prepare(plan, tmp_path)


@pytest.mark.parametrize("sweep", ["paired", "mini", "defaults"])
def test_shipped_rows_are_runs_of_their_sweep_on_any_processor(sweep: str) -> None:
    stated = load_sweep(sweep)
    table = read_table(ROOT / "results", sweep)
    plan = plan_of(stated, list(table["loss"].unique()), list(table["dataset"].unique()))
    found = progress(plan, ROOT / "results")
    rows = table.drop_duplicates("config").set_index("config")["status"].to_dict()
    done = {
        hash_: state
        for hash_, state in zip(found.hashes, found.states, strict=True)
        if hash_ in rows
    }
    assert done == rows


def test_best_of_another_sweep_with_fresh_seeds(
    tiny: SweepConfig, sweeps_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path))
    text = TINY.replace('ranges = "wide"', 'best_of = "tiny"')
    (sweeps_folder / "again.toml").write_text(text)
    with pytest.raises(StudyError, match=r"needs the best setting of ns .* run that sweep first"):
        plan_of(load_sweep("again"), ["ns"])
    plan = plan_of(tiny, ["ns"])
    folders = [finish(tmp_path, c, [9.0, 7.0 - c.number]) for c in plan[:2]]
    folders.append(finish(tmp_path, plan[2], [1.0, math.inf], "diverged"))
    merge(tmp_path, "tiny", folders)
    seeds = plan_of(load_sweep("again"), ["ns"])
    assert [c.seed for c in seeds] == [1, 2, 3]
    assert {c.lr for c in seeds} == {plan[1].lr}
    assert all(c.own == plan[1].own and c.batch_norm == plan[1].batch_norm for c in seeds)
    RunConfig.model_validate_json(seeds[0].model_dump_json())


def test_re_runs_of_a_search_that_numbers_its_seeds_have_seeds_beyond_them(
    sweeps_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the setting's normalisation is the best one's."""
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path))
    own = '[space]\nnormalisation = { choices = ["spectral", "none"] }\n'
    numbered = 'ranges = "wide"\ndraws = "shared"\nseed = "number"'
    text = TINY.replace('ranges = "wide"', numbered)
    (sweeps_folder / "tiny.toml").write_text(text.replace("[datasets", f"{own}[datasets"))
    (sweeps_folder / "again.toml").write_text(TINY.replace('ranges = "wide"', 'best_of = "tiny"'))
    plan = plan_of(load_sweep("tiny"), ["ns", "wgan_gp"])
    assert sorted({c.seed for c in plan}) == [0, 1, 2]
    merge(tmp_path, "tiny", [finish(tmp_path, c, [9.0, 7.0 - c.number]) for c in plan])
    again = plan_of(load_sweep("again"), ["ns", "wgan_gp"])
    assert sorted({c.seed for c in again}) == [3, 4, 5]
    for c in again:
        best = max((p for p in plan if p.loss == c.loss), key=lambda p: p.number)
        assert (c.lr, c.normalisation, c.own) == (best.lr, best.normalisation, best.own)


def test_the_best_settings_are_trained_on_with_the_seeds_that_they_had(
    sweeps_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the search is complete; 0 is the best of all, and a setting that diverged is none."""
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path))
    search = TINY.replace('ranges = "wide"', 'ranges = "wide"\ndraws = "shared"\nseed = "number"')
    (sweeps_folder / "tiny.toml").write_text(search.replace("trials = 3", "trials = 4"))
    text = TINY.replace('ranges = "wide"', 'longer_of = "tiny"').replace("trials = 3", "trials = 2")
    (sweeps_folder / "on.toml").write_text(text.replace("d_steps = 20", "d_steps = 70"))
    plan = plan_of(load_sweep("tiny"), ["wgan"])

    scores = [[5.0, 9.0], [3.0, 4.0], [8.0, 4.0]]
    merge(tmp_path, "tiny", [finish(tmp_path, c, s) for c, s in zip(plan, scores, strict=False)])
    with pytest.raises(StudyError, match=r"needs the best settings of wgan .* tiny, which has 3"):
        plan_of(load_sweep("on"), ["wgan"])
    with pytest.raises(StudyError, match=r"of ns on fashion_mnist .* has 0 of its 4: finish that"):
        plan_of(load_sweep("on"), ["ns"])
    repeat = TINY.replace('ranges = "wide"', 'best_of = "tiny"')
    (sweeps_folder / "again.toml").write_text(repeat)  # of a search that is judged once: not before
    with pytest.raises(StudyError, match=r"sweep again needs the best settings of wgan .* has 3"):
        plan_of(load_sweep("again"), ["wgan"])

    merge(tmp_path, "tiny", [finish(tmp_path, plan[3], [1.0, math.inf], "diverged")])
    assert [c.seed for c in plan_of(load_sweep("again"), ["wgan"])] == [4, 5, 6]
    longer = plan_of(load_sweep("on"), ["wgan"])
    assert [(c.number, c.seed, c.d_steps) for c in longer] == [(0, 1, 70), (1, 2, 70)]
    for c, best in zip(longer, plan[1:3], strict=True):
        assert c.hyperparameters() == best.hyperparameters()
    assert plan_of(load_sweep("on"), ["wgan"], trials=3)[2].seed == 0
    with pytest.raises(StudyError, match=r"the 4 best settings of wgan .* where 3 did not diverge"):
        plan_of(load_sweep("on"), ["wgan"], trials=4)


def test_re_runs_of_an_overtaken_setting_make_way_when_asked(
    tiny: SweepConfig, sweeps_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path))
    (sweeps_folder / "again.toml").write_text(TINY.replace('ranges = "wide"', 'best_of = "tiny"'))
    plan = plan_of(tiny, ["ns"])
    merge(tmp_path, "tiny", [finish(tmp_path, plan[0], [9.0])])
    old = plan_of(load_sweep("again"), ["ns"])
    finish(tmp_path, old[0], [8.0])
    files.write_json(folder_of(tmp_path, old[1]) / "config.json", old[1].model_dump())
    collect = ["collect", "--sweep", "again", "--winners"]
    result = CliRunner().invoke(app, collect)  # nothing is overtaken
    assert "1 run, 1 row" in result.output
    assert folder_of(tmp_path, old[1]).exists()

    merge(tmp_path, "tiny", [finish(tmp_path, plan[1], [5.0])])
    new = plan_of(load_sweep("again"), ["ns"])
    with pytest.raises(StudyError, match=r"another configuration .*collect --winners"):
        prepare(new, tmp_path)
    result = CliRunner().invoke(app, collect)
    assert "0 runs, 0 rows" in result.output
    assert prepare(new, tmp_path).states == ["to do"] * 3
    aside = tmp_path / "runs/again/ns/fashion_mnist/overtaken"
    kept = {f"{number:03d}.{old[number].hash}" for number in (0, 1)}
    assert {path.name for path in aside.iterdir()} == kept


def test_optuna_storage_can_be_rebuilt(tiny: SweepConfig, tmp_path: Path) -> None:
    plan = plan_of(tiny, ["wgan"])
    folders = [
        finish(tmp_path, plan[0], [9.0, 7.0]),
        finish(tmp_path, plan[1], [math.inf], "diverged"),
    ]
    table = merge(tmp_path, "tiny", folders)
    path = dashboard.record(tmp_path, tiny, table)
    dashboard.record(tmp_path, tiny, table)  # nothing is added twice
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    study = optuna.load_study(
        study_name="tiny/wgan/fashion_mnist", storage=optuna.storages.JournalStorage(backend)
    )
    assert [trial.value for trial in study.trials] == [7.0, math.inf]
    assert study.best_trial.params["lr"] == plan[0].lr
    assert study.best_trial.params["clip"] == plan[0].own["clip"]
    assert study.best_trial.intermediate_values == {10: 9.0, 20: 7.0}
    assert study.metric_names == ["Fréchet distance (random features)"]


def test_optuna_storage_has_what_the_sweep_itself_varies(
    sweeps_folder: Path, tmp_path: Path
) -> None:
    """Normalisation where the draws are shared; and of a loss without a file what its rows say."""
    space = '[space]\nnormalisation = { choices = ["none", "spectral"] }\n'
    shared = TINY.replace("trials = 3", 'trials = 3\ndraws = "shared"')
    (sweeps_folder / "tiny.toml").write_text(shared.replace("[datasets", f"{space}[datasets"))
    tiny = load_sweep("tiny")
    first, *_ = plan_of(tiny, ["ns"])
    table = merge(tmp_path, "tiny", [finish(tmp_path, first, [9.0])])
    gone = table.assign(loss="gone", config="another")
    path = dashboard.record(tmp_path, tiny, pd.concat([table, gone], ignore_index=True))
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    for loss, known in (("ns", {"lr", "beta1", "disc_iters", "normalisation"}), ("gone", set())):
        study = optuna.load_study(
            study_name=f"tiny/{loss}/fashion_mnist", storage=optuna.storages.JournalStorage(backend)
        )
        (trial,) = study.trials
        assert set(trial.params) == known
        told = trial.params | trial.user_attrs
        assert told["normalisation"] == first.normalisation
        assert told["lr"] == first.lr


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_a_port_that_is_taken_is_one_line(
    host: str, shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StudyError) as refused:
            dashboard.serve(tmp_path / "log", host, port)
    assert capsys.readouterr().out.startswith(f"http://{shown}:{port}/ shows ")
    assert str(refused.value).startswith(
        f"cannot listen on {shown}:{port} (Address already in use); --host and --port "
    )


def test_unreadable_configurations_are_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(StudyError, match="no such file"):
        read_config(path)
    path.write_text("{")
    with pytest.raises(StudyError, match=r"config.json"):
        read_config(path)


def test_an_unwritable_results_folder_is_named(tiny: SweepConfig, tmp_path: Path) -> None:
    file = tmp_path / "results"
    file.write_text("not a folder")
    with pytest.raises(StudyError, match="cannot write to the results folder"):
        prepare(plan_of(tiny, ["ns"]), file)


def test_rows_of_before_there_was_a_column_have_what_it_then_was(
    tiny: SweepConfig, tmp_path: Path
) -> None:
    plan = plan_of(tiny.model_copy(update={"batch_size": 32}), ["ns"])
    old = merge(tmp_path, "tiny", [finish(tmp_path, plan[0], [5.0])])
    write_table(tmp_path, "tiny", old.drop(columns=["batch_size", "arithmetic", "cuda_graph"]))
    both = merge(tmp_path, "tiny", [finish(tmp_path, plan[1], [6.0])]).set_index("number")
    assert both["batch_size"].tolist() == [64, 32]
    assert both["arithmetic"].tolist() == ["native", "native"]
    assert both["cuda_graph"].tolist() == [False, False]
    assert both["batch_size"].dtype == "int64"


def test_a_full_disk_leaves_the_old_table(tiny: SweepConfig, tmp_path: Path) -> None:
    plan = plan_of(tiny, ["ns"])
    merge(tmp_path, "tiny", [finish(tmp_path, plan[0], [5.0])])
    path = table_path(tmp_path, "tiny")
    before = path.read_bytes()
    folder = finish(tmp_path, plan[1], [6.0])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            merge(tmp_path, "tiny", [folder])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, former)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*"))
    assert merge(tmp_path, "tiny", [folder])["number"].tolist() == [0, 1]


def test_tables_of_before_there_were_three_normalisations_say_which_they_had() -> None:
    table = read_table(ROOT / "results", "mini")
    assert "normalisation" not in pd.read_parquet(ROOT / "results/mini.parquet")
    assert set(table["normalisation"]) == {"batch", "none"}
    assert (table["normalisation"].eq("batch") == table["batch_norm"]).all()
    paired = read_table(ROOT / "results", "paired")  # has its own word, which stays
    assert (
        paired["normalisation"].tolist()
        == pd.read_parquet(ROOT / "results/paired.parquet")["normalisation"].tolist()
    )

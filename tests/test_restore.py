"""What is gone on from: a checkpoint of either optimiser, and nothing that could not be read."""

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from test_driver import CONFIG
from torch import nn

from study import files
from study.errors import StudyError
from study.training import checkpoint
from study.training.optimizer import Adam, adam
from study.training.players import build


def steps(optimiser: Adam, weight: nn.Parameter, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        weight.grad = torch.cos(weight.detach() * (number + 1))
        optimiser.step()


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_an_optimiser_goes_on_from_a_state_of_either_kind(first: bool, second: bool) -> None:
    ended = []
    for kinds in ((first, first), (first, second)):
        weight = nn.Parameter(torch.linspace(-1, 1, 7))
        before = adam([weight], 1e-2, 0.5, kinds[0])
        steps(before, weight, 5)
        after = adam([weight], 1e-2, 0.5, kinds[1])
        after.load_state_dict(before.state_dict())
        steps(after, weight, 5, start=5)
        ended.append(weight.detach().clone())
    torch.testing.assert_close(*ended, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ESTALE, "Stale file handle"),
        MemoryError("no memory"),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
)
def test_a_whole_checkpoint_that_cannot_be_read_now_is_never_discarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"config": "x"}, path)
    whole = path.read_bytes()

    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(type(error)):
        checkpoint.restore(tmp_path, CONFIG, {}, None, None)  # type: ignore[arg-type]
    assert path.read_bytes() == whole
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint.pt"]


class Evil:
    """What a pickle from other hands may do."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def test_a_checkpoint_from_other_hands_runs_nothing(tmp_path: Path) -> None:
    torch.save({"config": CONFIG.hash, "step": Evil(tmp_path / "ran")}, tmp_path / "checkpoint.pt")
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.restore(tmp_path, CONFIG, {}, None, None)  # type: ignore[arg-type]
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_of_another_configuration_is_refused_and_kept(tmp_path: Path) -> None:
    for content in ({"config": "x"}, {}, [1]):
        torch.save(content, tmp_path / "checkpoint.pt")
        with pytest.raises(
            StudyError, match=r"checkpoint.pt belongs to another configuration; del"
        ):
            checkpoint.restore(tmp_path, CONFIG, {}, None, None)  # type: ignore[arg-type]
        assert [each.name for each in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_an_attempt_says_at_which_step_it_goes_on(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"loss": "ns", "width": 0.03125})
    loss, players = build(config, (1, 28, 28), torch.device("cpu"))
    state = checkpoint.restore(tmp_path, config, {}, loss, players) | {"step": 7}
    torch.save(checkpoint.checkpoint(state, config, {}, loss, players), tmp_path / "checkpoint.pt")
    assert checkpoint.restore(tmp_path, config, {}, loss, players)["step"] == 7
    assert "goes on at step 7\n" in (tmp_path / "log.txt").read_text()
    assert files.read_json(tmp_path / "progress.json") == {"step": 7}


@pytest.mark.parametrize("size", [0, 4, 300])
def test_only_what_is_no_checkpoint_is_set_aside_and_the_log_says_so(
    tmp_path: Path, size: int
) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"config": "x"}, path)
    path.write_bytes(path.read_bytes()[:size])
    assert checkpoint.restore(tmp_path, CONFIG, {}, None, None)["step"] == 0  # type: ignore[arg-type]
    assert (tmp_path / "checkpoint.pt.unreadable").stat().st_size == size
    assert "checkpoint.pt is no checkpoint" in (tmp_path / "log.txt").read_text()


MADE_BY = {"data_digest": "aa", "features_digest": "bb", "rounding": 2, "commit": "c0ffee"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data_digest": "ab"},
            "was made with data_digest aa, by commit c0ffee, and would go on w",
        ),
        ({"features_digest": "xx"}, "was made with features_digest bb"),
        ({"rounding": 3}, "was made with rounding 2, by commit c0ffee, and would go on with 3"),
    ],
)
def test_a_run_goes_on_with_what_it_began_with(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    """Its rows say it once for the whole run; another commit of the same numbers may go on."""
    config = CONFIG.model_copy(update={"loss": "ns", "own": {}, "width": 1 / 32})
    loss, players = build(config, (1, 28, 28), torch.device("cpu"))
    state = checkpoint.restore(tmp_path, CONFIG, MADE_BY, loss, players)
    content = checkpoint.checkpoint(state | {"step": 7}, CONFIG, MADE_BY, loss, players)
    torch.save(content, tmp_path / "checkpoint.pt")
    again = checkpoint.restore(tmp_path, CONFIG, MADE_BY | {"commit": "d00d"}, loss, players)
    assert again["step"] == 7
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(StudyError, match=message):
        checkpoint.restore(tmp_path, CONFIG, MADE_BY | changes, loss, players)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    del content["made_by"]  # one from before it was kept
    torch.save(content, tmp_path / "checkpoint.pt")
    assert checkpoint.restore(tmp_path, CONFIG, MADE_BY | changes, loss, players)["step"] == 7


def test_a_run_that_goes_on_elsewhere_names_all_that_trained_it(tmp_path: Path) -> None:
    """Its digits are no one machine's: interrupted twice on B, it is "A; then B"."""
    config = CONFIG.model_copy(update={"loss": "ns", "own": {}, "width": 1 / 32})
    loss, players = build(config, (1, 28, 28), torch.device("cpu"))
    told = []
    for processor, torch_ in (("A", "2"), ("A", "2"), ("B", "2"), ("B", "2"), ("A", "3")):
        now = MADE_BY | {"processor": processor, "torch": torch_, "commit": processor}
        state = checkpoint.restore(tmp_path, CONFIG, now, loss, players)
        made_by = state["made_by"]
        told.append((made_by["processor"], made_by["torch"], made_by["commit"]))
        content = checkpoint.checkpoint(state | {"step": 7}, CONFIG, made_by, loss, players)
        torch.save(content, tmp_path / "checkpoint.pt")
    assert told == [
        *[("A", "2", "A")] * 2,
        *[("A; then B", "2", "B")] * 2,
        ("A; then B; then A", "2; then 3", "A"),
    ]


def test_whatever_a_changed_byte_makes_zipfile_raise_the_file_is_no_checkpoint(
    tmp_path: Path,
) -> None:
    """Each byte of the directory at its end, and some of the rest."""
    path = tmp_path / "checkpoint.pt"
    torch.save({"config": CONFIG.hash, "weights": torch.arange(8)}, path)
    whole = path.read_bytes()
    assert checkpoint.is_whole_archive(path)
    verdicts = []
    for place in [*range(0, len(whole), 29), *range(len(whole) - 300, len(whole))]:
        for flip in (0x01, 0xFF):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
            verdicts.append(checkpoint.is_whole_archive(path))
    assert verdicts.count(False) > len(verdicts) / 3

"""What is gone on from: a checkpoint of either optimiser, and nothing that could not be read."""

import errno
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from test_driver import CONFIG
from torch import nn

from study.training import checkpoint
from study.training.optimizer import Adam, adam


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
        checkpoint.restore(tmp_path, CONFIG, None, None)  # type: ignore[arg-type]
    assert path.read_bytes() == whole
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("size", [0, 4, 300])
def test_only_what_is_no_checkpoint_is_set_aside_and_the_log_says_so(
    tmp_path: Path, size: int
) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"config": "x"}, path)
    path.write_bytes(path.read_bytes()[:size])
    assert checkpoint.restore(tmp_path, CONFIG, None, None)["step"] == 0  # type: ignore[arg-type]
    assert (tmp_path / "checkpoint.pt.unreadable").stat().st_size == size
    assert "checkpoint.pt is no checkpoint" in (tmp_path / "log.txt").read_text()

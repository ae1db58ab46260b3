"""The training step replayed as a CUDA graph is the step itself; without a GPU, by an emulation."""

from collections.abc import Callable

import emulated_graph
import pytest
import torch
from torch import Tensor

from study.losses import load, names
from study.losses.base import Draws, GANLoss, Players
from study.training import cuda_graph
from study.training.cuda_graph import Curves
from study.training.networks import draw_z, initialise
from study.training.optimizer import adam

Replay = Callable[[], Curves]

SHAPE = (1, 28, 28)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Replay]:
    """Recordings made."""
    made = []

    def count(work: Replay) -> Replay:
        made.append(emulated_graph.record(work))
        return made[-1]

    monkeypatch.setattr(cuda_graph, "record", count)
    monkeypatch.setattr(cuda_graph, "aside", lambda work: work())
    return made


def make(name: str, graph: bool) -> tuple[GANLoss, Players]:
    """A loss with its defaults and its players."""
    defaults = load(name).defaults
    own = {
        n: v for n, v in defaults.items() if n not in ("lr", "beta1", "disc_iters", "batch_norm")
    }
    loss = load(name)(**own)
    G = loss.generator(SHAPE, 0.0625, 0.9)
    D = loss.discriminator(SHAPE, defaults["batch_norm"], 0.0625)
    for network in (G, D):
        initialise(network, torch.Generator().manual_seed(0))
    g_adam, d_adam = (adam(part.parameters(), 1e-3, 0.5, graph) for part in (G, D))
    return loss, Players(G, D, g_adam, d_adam)


def series(step: Callable[..., Curves], loss: GANLoss, disc_iters: int) -> list[dict[str, float]]:
    """The curves of twelve steps, every input of which differs."""
    generator, curves = torch.Generator().manual_seed(1), []
    for number in range(12):
        x = torch.rand(8, *SHAPE, generator=generator)
        z, z_g = (draw_z(8, loss.prior, generator) for _ in range(2))
        curves.append(
            step(
                x,
                z,
                g_turn=loss.g_turn(number, disc_iters),
                z_g=z_g if loss.fresh_z else None,
                draws=loss.draws(x, generator),
            )
        )
    return [{name: value.item() for name, value in point.items()} for point in curves]


@pytest.mark.parametrize("disc_iters", [1, 2])
@pytest.mark.parametrize("name", names())
def test_replayed_steps_are_the_steps_themselves(
    name: str, disc_iters: int, recorded: list[Replay]
) -> None:
    loss, players = make(name, graph=True)
    plain = series(lambda *args, **given: loss.step(players, *args, **given), loss, disc_iters)
    weights = [p.clone() for p in players.generator.state_dict().values()]

    loss, players = make(name, graph=True)
    assert series(cuda_graph.GraphStep(loss, players), loss, disc_iters) == plain
    for mine, its in zip(players.generator.state_dict().values(), weights, strict=True):
        assert torch.equal(mine, its)
    assert len(recorded) == (1 if disc_iters == 1 or name == "vae" else 2)


def test_the_recorder_tells_an_optimiser_that_counts_in_python(recorded: list[Replay]) -> None:
    loss, players = make("ns", graph=False)
    plain = series(lambda *args, **given: loss.step(players, *args, **given), loss, 1)
    loss, players = make("ns", graph=False)
    replayed = series(cuda_graph.GraphStep(loss, players), loss, 1)
    assert replayed[:4] == plain[:4]
    assert replayed[-1] != plain[-1]


@pytest.mark.parametrize("name", names())
def test_both_optimisers_are_one_up_to_rounding(name: str) -> None:
    runs = []
    for graph in (False, True):
        loss, players = make(name, graph)
        loss, G, D = loss.double(), players.generator.double(), players.discriminator.double()
        players = Players(G, D, *(adam(part.parameters(), 1e-3, 0.5, graph) for part in (G, D)))

        def step(
            x: Tensor,
            z: Tensor,
            *,
            g_turn: bool,
            z_g: Tensor | None,
            draws: Draws,
            loss: GANLoss = loss,
            players: Players = players,
        ) -> Curves:
            draws = {name: value.double() for name, value in draws.items()}
            z_g = z_g if z_g is None else z_g.double()
            return loss.step(players, x.double(), z.double(), g_turn=g_turn, z_g=z_g, draws=draws)

        runs.append(series(step, loss, 1))
    for one, other in zip(*runs, strict=True):
        assert one == pytest.approx(other, rel=1e-6, abs=1e-9)

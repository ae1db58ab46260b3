"""Spectral normalisation of D: exact singular values, penalties, clip, seeds."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from study.losses import load, names
from study.training.networks import (
    Autoencoder,
    Discriminator,
    Encoder,
    initialise,
    normalise_spectrally,
)
from study.training.penalties import gradient_penalty, squared_gradient

SHAPE = (1, 16, 16)


def normalised(
    make: Callable[..., nn.Module] = Discriminator, width: float = 0.125, seed: int = 3
) -> nn.Module:
    D = make(SHAPE, False, width)
    initialise(D, torch.Generator().manual_seed(1))
    normalise_spectrally(D, torch.Generator().manual_seed(seed))
    return D


def matrices(D: nn.Module) -> Iterator[tuple[nn.Module, float]]:
    """Every layer with a weight and the largest singular value of what it computes with."""
    for module in D.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
            weight = module.weight.detach()
            rows = weight.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) else weight
            yield module, torch.linalg.matrix_norm(rows.flatten(1), 2).item()


@pytest.mark.parametrize(("make", "count"), [(Discriminator, 4), (Encoder, 4), (Autoencoder, 6)])
def test_the_largest_singular_value_of_every_matrix_is_one(
    make: Callable[..., nn.Module], count: int
) -> None:
    D = normalised(make)
    x = torch.rand(2, *SHAPE)
    for _ in range(200):  # one power iteration a forward: the estimate closes in
        D(x)
    D.eval()  # so that looking at a weight does not iterate
    found = [value for _, value in matrices(D)]
    assert len(found) == count
    assert found == pytest.approx([1] * count, abs=2e-3)
    assert all(value >= 1 - 1e-5 for value in found)  # an estimate is never too large


@pytest.mark.parametrize("name", ["conv1", "conv2", "fc3"])
@pytest.mark.parametrize("of_the_image", [False, True])
def test_a_forward_is_one_power_iteration(name: str, of_the_image: bool) -> None:
    """Whether or not the images are to get a gradient."""
    D = normalised()
    layer: Any = getattr(D, name)
    kept = layer.parametrizations.weight[0]
    original = layer.parametrizations.weight.original.detach()
    matrix, v = original.flatten(1), kept._v.clone()
    D(torch.rand(2, *SHAPE).requires_grad_(of_the_image))
    u = nn.functional.normalize(matrix @ v, dim=0)
    v = nn.functional.normalize(matrix.T @ u, dim=0)
    assert torch.allclose(kept._u, u, atol=1e-6)
    assert torch.allclose(kept._v, v, atol=1e-6)
    D.eval()
    assert torch.allclose(layer.weight, original / (u @ matrix @ v), rtol=1e-5)


def test_initial_weights_are_those_without_it_and_the_global_generator_is_not_used() -> None:
    one, again, other = normalised(), normalised(), normalised(seed=4)
    D = Discriminator(SHAPE, False, 0.125)
    before = torch.get_rng_state()
    normalise_spectrally(D, torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), before)
    plain = Discriminator(SHAPE, False, 0.125)
    initialise(plain, torch.Generator().manual_seed(1))
    for layer in ("conv1", "conv2", "fc3", "fc4"):
        kept = getattr(one, layer).parametrizations.weight.original
        assert torch.equal(kept, getattr(plain, layer).weight)
    state, same, differs = (D.state_dict() for D in (one, again, other))
    assert all(torch.equal(state[name], same[name]) for name in state)
    assert any(not torch.equal(state[name], differs[name]) for name in state)


@pytest.mark.parametrize("penalty", [gradient_penalty, squared_gradient])
def test_second_derivatives_of_penalties_go_through_the_division(
    penalty: Callable[..., Tensor],
) -> None:
    """The penalty's gradient towards the matrices before the division, by finite differences."""
    D = normalised(width=1 / 32).double()
    D.eval()
    x = torch.rand(3, *SHAPE, dtype=torch.float64)
    fc3: Any = D.fc3
    layer: Tensor = fc3.parametrizations.weight.original
    value = penalty(D, x)
    (gradient,) = torch.autograd.grad(value, layer)
    step = 1e-5
    for index in ((0, 0), (3, 7)):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                layer[index] += sign * step
            ends.append(penalty(D, x).item())
            with torch.no_grad():
                layer[index] -= sign * step
        slope = (ends[0] - ends[1]) / (2 * step)
        assert gradient[index].item() == pytest.approx(slope, rel=1e-4, abs=1e-12)


def test_wgans_clip_is_on_the_matrices_before_the_division() -> None:
    D = normalised()
    load("wgan")(clip=0.01).after_d_step(D)
    assert max(p.abs().max().item() for p in D.parameters()) == pytest.approx(0.01)
    for _ in range(200):
        D(torch.rand(2, *SHAPE))
    D.eval()
    assert [value for _, value in matrices(D)] == pytest.approx([1] * 4, abs=2e-3)


@pytest.mark.parametrize("name", names())
def test_every_losss_d_can_be_normalised_and_none_of_its_layers_is_left_out(name: str) -> None:
    cls = load(name)
    loss = cls(**{n: v for n, v in cls.defaults.items() if n in cls.space.get("wide", {})})
    D = loss.discriminator(SHAPE, False, 0.125)
    normalise_spectrally(D, torch.Generator().manual_seed(0))
    left = [name for name, p in D.named_parameters() if p.ndim > 1 and "original" not in name]
    assert left == []

"""Networks: the paper's parameter counts, batch normalisation, initial values, Adam."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from study.errors import StudyError
from study.training.networks import (
    Autoencoder,
    BatchNorm,
    Discriminator,
    Encoder,
    Generator,
    ImageConv2d,
    ImageConvTranspose2d,
    ImageShape,
    initialise,
    normalise_spectrally,
    place,
    together,
)
from study.training.optimizer import Adam, adam

# Trainable parameters of the released networks: G, D, D+BN, BEGAN's D, +BN, VAE's encoder, +BN.
COUNTS = {
    (1, 28, 28): (6_642_241, 6_556_865, 6_559_169, 1_073_601, 1_086_401, 6_687_040, 6_689_344),
    (3, 32, 32): (8_616_131, 8_524_993, 8_527_297, 1_325_379, 1_342_019, 8_655_168, 8_657_472),
    (3, 64, 64): (33_855_683, 33_690_817, 33_693_121, 4_495_683, 4_561_475, 33_820_992, 33_823_296),
}


@pytest.mark.parametrize("shape", COUNTS)
def test_parameter_counts_are_the_papers(shape: ImageShape) -> None:
    with torch.device("meta"):
        networks = [Generator(shape)] + [
            cls(shape, bn) for cls in (Discriminator, Autoencoder, Encoder) for bn in (False, True)
        ]
    assert tuple(sum(p.numel() for p in n.parameters()) for n in networks) == COUNTS[shape]


@pytest.mark.parametrize("shape", COUNTS)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_shapes_and_ranges(shape: ImageShape, batch_norm: bool) -> None:
    z = torch.rand(3, 64)
    images = Generator(shape, 0.125)(z)
    assert images.shape == (3, *shape)
    assert images.min() > 0
    assert images.max() < 1
    assert Discriminator(shape, batch_norm, 0.125)(images).shape == (3,)
    assert Autoencoder(shape, batch_norm, 0.125)(images).shape == (3,)
    mean, std = Encoder(shape, batch_norm, 0.125)(images)
    assert mean.shape == std.shape == (3, 64)
    assert (std > 0).all()


def test_autoencoder_gives_each_images_mean_absolute_error() -> None:
    network, x = Autoencoder((1, 28, 28), False, 0.125), torch.rand(2, 1, 28, 28)
    expected = (x - network.reconstruct(x)).abs().flatten(1).mean(1)
    assert torch.equal(network(x), expected)


@pytest.mark.parametrize("shape", [(64, 5), (8, 5, 3, 3)])
def test_batch_norm_matches_torch_but_for_the_biased_moving_variance(
    shape: tuple[int, ...],
) -> None:
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = BatchNorm(5, decay=0.9).double()
    cls = torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d
    theirs = cls(5, eps=1e-3, momentum=0.1).double()
    torch.testing.assert_close(ours(x), theirs(x))
    axes = (0, *range(2, x.ndim))
    torch.testing.assert_close(ours.mean, theirs.running_mean)
    torch.testing.assert_close(ours.variance, 0.9 + 0.1 * x.var(axes, correction=0))
    ours.eval(), theirs.eval()
    theirs.running_var = ours.variance
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("of_the_image", [False, True])
def test_image_layers_are_torchs(channels: int, of_the_image: bool) -> None:
    """Values, gradients and the gradient of a gradient's norm, as a penalty takes it."""
    draws = torch.Generator().manual_seed(3)
    for own, torchs, image in (
        (ImageConv2d(channels, 5), nn.Conv2d(channels, 5, 4, 2, 1), (2, channels, 8, 6)),
        (ImageConvTranspose2d(5, channels), nn.ConvTranspose2d(5, channels, 4, 2, 1), (2, 5, 4, 3)),
    ):
        torchs.load_state_dict(own.state_dict())
        x = torch.randn(image, dtype=torch.float64, generator=draws)
        found = []
        for layer in (own.double(), torchs.double()):
            at = x.clone().requires_grad_(of_the_image)
            y = layer(at)
            wanted = [*layer.parameters(), *([at] if of_the_image else [])]
            gradients = torch.autograd.grad(y.square().sum(), wanted, create_graph=True)
            norm = torch.cat([gradient.flatten() for gradient in gradients]).square().sum()
            found.append([y, *gradients, *torch.autograd.grad(norm, wanted)])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other)


def test_with_autocast_the_kernels_get_one_type() -> None:
    """CUDA's refuse a weight in float32 beside images in bf16; CPUs' take it."""
    seen: list[set[torch.dtype]] = []

    class Types(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if "convolution" in str(func):
                seen.append({part.dtype for part in args[:3] if isinstance(part, torch.Tensor)})
            return func(*args, **(kwargs or {}))

    layer = ImageConv2d(1, 4)
    x = torch.rand(2, 1, 8, 8, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False), Types():  # type: ignore[no-untyped-call]
        layer(x).sum().backward()
    assert seen[0] == {torch.bfloat16}
    assert len(seen) == 3  # forward, towards x, towards the weight
    assert all(len(types) == 1 for types in seen)
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_the_image_layers_derivatives_are_those_of_their_values() -> None:
    layer = ImageConv2d(3, 2).double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).sum(), x)
    assert gradient.is_contiguous()  # for whom wants a view of it
    assert torch.autograd.gradcheck(layer, (x,))
    assert torch.autograd.gradgradcheck(layer, (x,))


@pytest.mark.parametrize("make", [Discriminator, Autoencoder])
@pytest.mark.parametrize("normalisation", ["none", "batch", "spectral"])
def test_batches_together_are_as_one_after_the_other(
    make: type[Discriminator] | type[Autoencoder], normalisation: str
) -> None:
    """Outputs, weight gradients, moving averages and the vectors of the power iteration."""
    images = torch.Generator().manual_seed(5)
    real, fake = (torch.rand(6, 3, 8, 8, dtype=torch.float64, generator=images) for _ in range(2))
    fake = fake.square()
    ended = []
    for outputs in (together, lambda D, *batches: [D(batch) for batch in batches]):
        D = make((3, 8, 8), normalisation == "batch", 0.125)
        initialise(D, torch.Generator().manual_seed(0))
        if normalisation == "spectral":
            normalise_spectrally(D, torch.Generator().manual_seed(1))
        D.double()
        forwards: list[int] = []
        D.register_forward_hook(lambda *_, forwards=forwards: forwards.append(1))
        d_real, d_fake = outputs(D, real, fake)
        (d_real.square().sum() + d_fake.exp().sum()).backward()
        assert d_real.shape == d_fake.shape == (6,)
        gradients = [p.grad for p in D.parameters()]
        ended.append([len(forwards), d_real, d_fake, *gradients, *D.buffers()])
    assert ended[0][0] == (2 if normalisation == "spectral" else 1)
    for one, other in zip(ended[0][1:], ended[1][1:], strict=True):
        torch.testing.assert_close(one, other)


def test_a_layer_that_mixes_images_gets_one_batch_at_a_time() -> None:
    class MinusMean(Discriminator):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x - x.mean(0))

    D, other = MinusMean((1, 8, 8), False, 0.125), Discriminator((1, 8, 8), False, 0.125)
    other.bn2 = nn.BatchNorm2d(16)  # type: ignore[assignment]
    ones, halves = torch.ones(4, 1, 8, 8), torch.rand(4, 1, 8, 8) / 2
    for network in (D, other):
        expected = network(ones), network(halves)
        for one, alone in zip(together(network, ones, halves), expected, strict=True):
            assert torch.equal(one, alone)


@pytest.mark.parametrize(("width", "last"), [(0.25, True), (1.0, False)])
def test_below_full_width_the_channels_of_images_come_last(width: float, last: bool) -> None:
    """And the weights are those that were drawn."""
    G, placed = (Generator((3, 8, 8), width) for _ in range(2))
    for network in (G, placed):
        initialise(network, torch.Generator().manual_seed(0))
    place(placed, torch.device("cpu"), width)
    assert placed.deconv3.weight.is_contiguous(memory_format=torch.channels_last) == last
    for one, other in zip(G.parameters(), placed.parameters(), strict=True):
        assert torch.equal(one, other)
    z = torch.rand(4, 64)
    torch.testing.assert_close(placed(z), G(z))


def test_moving_averages_moved_twice_have_the_decay_squared() -> None:
    G = Generator((1, 28, 28), 0.125, bn_decay=0.9).double()
    z = torch.rand(16, 64, dtype=torch.float64)
    batch_mean = G.fc1(z).mean(0)
    G(z)
    G.move_averages()
    torch.testing.assert_close(G.bn1.mean, (1 - 0.9**2) * batch_mean)


def test_initial_values() -> None:
    D = Discriminator((1, 28, 28), True)
    initialise(D, torch.Generator().manual_seed(0))
    assert D.conv2.weight.abs().max() <= 0.04  # cut at two standard deviations
    assert D.conv2.weight.std().item() == pytest.approx(0.02 * 0.8796, rel=0.01)  # of a cut normal
    assert D.fc3.weight.abs().max() > 0.06
    assert D.fc3.weight.std().item() == pytest.approx(0.02, rel=0.01)
    assert D.fc3.bias.abs().max() == 0
    assert D.get_parameter("bn2.weight").eq(1).all()
    again = Discriminator((1, 28, 28), True)
    initialise(again, torch.Generator().manual_seed(0))
    assert torch.equal(D.fc3.weight, again.fc3.weight)


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9])
def test_adam_is_tensorflows(beta1: float) -> None:
    """Against the update as TensorFlow writes it, with its float32 constants and powers."""
    rng = np.random.default_rng(0)
    start = rng.standard_normal(50)
    gradients = rng.standard_normal((30, 50)) * 10.0 ** rng.uniform(-9, 0, (30, 50))
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = adam([parameter], 1e-3, beta1)

    lr, b1, b2, epsilon = (np.float32(v) for v in (1e-3, beta1, 0.999, 1e-8))
    power1, power2 = b1, b2
    x, m, v = start.copy(), np.zeros(50), np.zeros(50)
    for gradient in gradients:
        optimizer.minimise((parameter * torch.from_numpy(gradient)).sum())
        m = float(b1) * m + (1 - float(b1)) * gradient
        v = float(b2) * v + (1 - float(b2)) * gradient**2
        rate = float(lr) * np.sqrt(1 - float(power2)) / (1 - float(power1))
        x -= rate * m / (np.sqrt(v) + float(epsilon))
        power1, power2 = np.float32(power1 * b1), np.float32(power2 * b2)
    np.testing.assert_allclose(parameter.detach().numpy(), x, rtol=1e-9, atol=1e-12)


def test_adam_touches_only_its_own_parameters() -> None:
    a, b = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    adam([a], 1e-3, 0.5).minimise((a * b).sum())
    assert b.grad is None
    assert (a != 1).all()


def test_adam_refuses_a_weight_without_gradient() -> None:
    a, b = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    with pytest.raises(StudyError, match="1 of 2 parameters have no gradient"):
        adam([a, b], 1e-3, 0.5).minimise(a.sum())


def test_adam_resumes_exactly() -> None:
    def run(parameter: nn.Parameter, optimizer: Adam, steps: int) -> None:
        for step in range(steps):
            optimizer.minimise((parameter.square() * (step + 1)).sum())

    whole = torch.nn.Parameter(torch.linspace(-1, 1, 7))
    optimizer = adam([whole], 1e-2, 0.5)
    run(whole, optimizer, 3)
    copy = torch.nn.Parameter(whole.detach().clone())
    resumed = adam([copy], 1e-2, 0.5)
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))  # as through a file
    run(whole, optimizer, 4)
    run(copy, resumed, 4)
    assert torch.equal(whole, copy)

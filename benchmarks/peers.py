"""The two PyTorch GAN libraries that the study is timed against, and what they need to run today.

torchgan 0.1.0 and torch-mimicry 0.1.16 lie in .peers/ (see requirements.txt), without the packages
that they name: torch-mimicry imports TensorFlow and scikit-image for metrics that are not used.

What they compute where it is not the same:
- Both draw a fresh z and run G again for G's update (the study's losses reuse D's batch, except
  WGAN GP), and both compute D's weight gradients in G's update, only to drop them.
- torchgan's penalties are an update of D of their own: two D steps a batch. Its norm is that of the
  whole batch's gradient, with one interpolation weight a batch for WGAN GP, and the gradient of
  that penalty flows on into G. Its LS GAN squares D's logits. Its BEGAN moves k by the losses
  before the updates, which spares the study's second look; k is cut to [0, 1].
- torch-mimicry's WGAN GP takes three channels only, and its "gan" is NS GAN under another name, so
  that it has ns and wgan_gp of the study's losses.
"""

import os
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from common import HERE
from torch import Tensor, nn

from study.training.networks import (
    BN_EPSILON,
    Z_DIM,
    BatchNorm,
    ImageConv2d,
    ImageConvTranspose2d,
    ImageShape,
)

os.environ["TENSORBOARD_LOGGING"] = os.environ["VISDOM_LOGGING"] = "0"
os.environ["CONSOLE_LOGGING"] = "0"
sys.path.append(str(HERE / ".peers"))
for unused in ("torch_mimicry.metrics", "torch_mimicry.datasets", "skimage"):
    sys.modules[unused] = types.ModuleType(unused)
sys.modules["skimage"].io = None  # type: ignore[attr-defined]

from torch_mimicry.nets.gan import gan as mimicry  # noqa: E402
from torch_mimicry.nets.wgan_gp import wgan_gp_base as mimicry_gp  # noqa: E402
from torch_mimicry.training.metric_log import MetricLog  # noqa: E402
from torchgan import losses as tg  # noqa: E402
from torchgan.models import model as tg_models  # noqa: E402

make_grid = torchvision.utils.make_grid
torchvision.utils.make_grid = lambda *images, range=None, **options: make_grid(  # its old name
    *images, value_range=range, **options
)

Step = Callable[[Tensor], Any]
"""One D update and one G update on images (64, C, H, W)."""


# --- The same networks ----------------------------------------------------------------------------


class TorchBatchNorm(nn.modules.batchnorm._BatchNorm):
    """torch's own batch normalisation, of (N, F) and (N, F, H, W) alike."""

    def _check_input_dim(self, x: Tensor) -> None:
        pass


def in_torch_layers(network: nn.Module) -> nn.Module:
    """A network of the study with torch's own layers throughout, as a peer's user has it."""
    for name, layer in list(network.named_modules()):
        if isinstance(layer, ImageConv2d):
            layer.__class__ = nn.Conv2d  # type: ignore[assignment]
        elif isinstance(layer, ImageConvTranspose2d):
            layer.__class__ = nn.ConvTranspose2d  # type: ignore[assignment]
        elif isinstance(layer, BatchNorm):
            setattr(network, name, TorchBatchNorm(len(layer.weight), BN_EPSILON, 1e-3))
    return network


class TorchganGenerator(tg_models.Generator):  # type: ignore[misc]
    """A network as torchgan wants its generators."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(Z_DIM)
        self.network = network

    def forward(self, z: Tensor) -> Tensor:  # noqa: D102
        out: Tensor = self.network(z)
        return out


class TorchganDiscriminator(tg_models.Discriminator):  # type: ignore[misc]
    """A network as torchgan wants its discriminators."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(0)
        self.network = network

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        out: Tensor = self.network(x)
        return out


def mimicry_pair(gp: bool) -> tuple[type, type]:
    """torch-mimicry's base classes for NS GAN or WGAN GP, with a network inside."""
    bases = (
        (mimicry_gp.WGANGPBaseGenerator, mimicry_gp.WGANGPBaseDiscriminator)
        if gp
        else (mimicry.BaseGenerator, mimicry.BaseDiscriminator)
    )

    class Generator(bases[0]):  # type: ignore[misc, valid-type]
        def __init__(self, network: nn.Module) -> None:
            super().__init__(Z_DIM, 0, 0, loss_type="wasserstein" if gp else "ns")
            self.network = network

        def forward(self, z: Tensor) -> Tensor:
            out: Tensor = self.network(z)
            return out

    class Discriminator(bases[1]):  # type: ignore[misc, valid-type]
        def __init__(self, network: nn.Module) -> None:
            super().__init__(0, loss_type="wasserstein" if gp else "ns")
            self.network = network

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.network(x)
            return logits[:, None]

    return Generator, Discriminator


# --- One step of each -----------------------------------------------------------------------------

TORCHGAN: dict[str, Callable[[], list[Any]]] = {
    "mm": lambda: [tg.MinimaxGeneratorLoss(nonsaturating=False), tg.MinimaxDiscriminatorLoss()],
    "ns": lambda: [tg.MinimaxGeneratorLoss(), tg.MinimaxDiscriminatorLoss()],
    "ls": lambda: [tg.LeastSquaresGeneratorLoss(), tg.LeastSquaresDiscriminatorLoss()],
    "wgan": lambda: [
        tg.WassersteinGeneratorLoss(),
        tg.WassersteinDiscriminatorLoss(clip=(-0.01, 0.01)),
    ],
    "wgan_gp": lambda: [
        tg.WassersteinGeneratorLoss(),
        tg.WassersteinDiscriminatorLoss(),
        tg.WassersteinGradientPenalty(lambd=10.0),
    ],
    "dragan": lambda: [
        tg.MinimaxGeneratorLoss(),
        tg.MinimaxDiscriminatorLoss(),
        tg.DraganGradientPenalty(lambd=10.0),
    ],
    "began": lambda: [
        tg.BoundaryEquilibriumGeneratorLoss(),
        tg.BoundaryEquilibriumDiscriminatorLoss(lambd=1e-3, gamma=0.75),
    ],
}


def torchgan_step(loss: str, G: nn.Module, D: nn.Module, adam: Callable[..., Any]) -> Step:
    """What torchgan's trainer does for one batch, without its logging."""
    losses = TORCHGAN[loss]()
    g, d = TorchganGenerator(G), TorchganDiscriminator(D)
    g_adam, d_adam = adam(g.parameters()), adam(d.parameters())
    cpu = torch.device("cpu")

    def step(x: Tensor) -> None:
        for part in losses:
            if isinstance(part, tg.GeneratorLoss):
                part.train_ops(g, d, g_adam, cpu, len(x))
            else:
                part.train_ops(g, d, d_adam, x, cpu)

    return step


def mimicry_step(loss: str, G: nn.Module, D: nn.Module, adam: Callable[..., Any]) -> Step:
    """What torch-mimicry's trainer does for one batch, without its logging."""
    make_g, make_d = mimicry_pair(loss == "wgan_gp")
    g, d = make_g(G), make_d(D)
    g_adam, d_adam = adam(g.parameters()), adam(d.parameters())

    def step(x: Tensor) -> None:
        batch, log = (x, x), MetricLog()
        g.train_step(batch, netD=d, optG=g_adam, log_data=log)
        d.train_step(batch, netG=g, optD=d_adam, log_data=log)

    return step


def peers_of(loss: str, shape: ImageShape) -> dict[str, Callable[..., Step]]:
    """The peers that have a loss at an image shape."""
    peers: dict[str, Callable[..., Step]] = {}
    if loss in TORCHGAN:
        peers["torchgan"] = torchgan_step
    if loss == "ns" or (loss == "wgan_gp" and shape[0] == 3):
        peers["torch-mimicry"] = mimicry_step
    return peers

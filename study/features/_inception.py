"""The Inception graph of 2015-12-05, as TensorFlow 1 ran it, up to pool_3.

Its layers have the names that torch-fidelity's weights have. torch-fidelity's own modules compute
the same (tests/test_features.py), but import torchvision, which takes 100 MiB and a second.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Kernel = int | tuple[int, int]
Layer = tuple[int, Kernel]
"""A convolution's channels and kernel."""


class Conv(nn.Sequential):
    """Convolution, batch norm, ReLU; the map keeps its size, or is not padded."""

    conv: nn.Conv2d
    bn: nn.BatchNorm2d

    def __init__(
        self, inputs: int, channels: int, kernel: Kernel, stride: int = 1, *, padded: bool = True
    ) -> None:
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sides[0] // 2, sides[1] // 2) if padded else 0
        conv = nn.Conv2d(inputs, channels, kernel, stride, padding, bias=False)
        bn = nn.BatchNorm2d(channels, eps=0.001)
        super().__init__(OrderedDict(conv=conv, bn=bn, relu=nn.ReLU(inplace=True)))


class Mixed(nn.Module):
    """Branches side by side, their maps one after the other; the last one pools.

    A branch is a chain of layers. Where `fork`, the last two of a longer chain stand side by side;
    where `halve`, the last of each chain has stride 2.
    """

    def __init__(
        self,
        inputs: int,
        branches: dict[str, Sequence[Layer]],
        pool: nn.Module,
        pooled: int | None = None,
        *,
        halve: bool = False,
        fork: bool = False,
    ) -> None:
        super().__init__()
        self.pool, self.fork = pool, fork
        self.chains: list[list[str]] = []
        for branch, layers in branches.items():
            chain, before = [], inputs
            for number, (channels, kernel) in enumerate(layers, start=1):
                name = branch if len(layers) == 1 else f"{branch}_{number}"
                if fork and number >= len(layers) - 1 > 0:
                    name = f"{branch}_{len(layers) - 1}{'ab'[number - len(layers) + 1]}"
                stride = 2 if halve and number == len(layers) else 1
                self.add_module(name, Conv(before, channels, kernel, stride, padded=stride == 1))
                chain.append(name)
                before = channels  # of a fork, too: both have as many as what they see
            self.chains.append(chain)
        if pooled:
            self.branch_pool = Conv(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) of maps (N, inputs, H', W')."""
        maps = [y for chain in self.chains for y in self._maps(chain, x)]
        y = self.pool(x)
        return torch.cat([*maps, self.branch_pool(y) if hasattr(self, "branch_pool") else y], 1)

    def _maps(self, chain: list[str], x: Tensor) -> list[Tensor]:
        last = 2 if self.fork and len(chain) > 1 else 1
        for name in chain[:-last]:
            x = self.get_submodule(name)(x)
        return [self.get_submodule(name)(x) for name in chain[-last:]]


def inception_network() -> nn.Sequential:
    """The network, its weights random: (N, 3, 299, 299) -> features (N, 2048)."""
    layers: dict[str, nn.Module] = {
        "Conv2d_1a_3x3": Conv(3, 32, 3, stride=2, padded=False),
        "Conv2d_2a_3x3": Conv(32, 32, 3, padded=False),
        "Conv2d_2b_3x3": Conv(32, 64, 3),
        "MaxPool_1": nn.MaxPool2d(3, stride=2),
        "Conv2d_3b_1x1": Conv(64, 80, 1),
        "Conv2d_4a_3x3": Conv(80, 192, 3, padded=False),
        "MaxPool_2": nn.MaxPool2d(3, stride=2),
        "Mixed_5b": _block_5(192, pooled=32),
        "Mixed_5c": _block_5(256, pooled=64),
        "Mixed_5d": _block_5(288, pooled=64),
        "Mixed_6a": _halving(288, branch3x3=[(384, 3)], branch3x3dbl=[(64, 1), (96, 3), (96, 3)]),
        "Mixed_6b": _block_6(128),
        "Mixed_6c": _block_6(160),
        "Mixed_6d": _block_6(160),
        "Mixed_6e": _block_6(192),
        "Mixed_7a": _halving(
            768,
            branch3x3=[(192, 1), (320, 3)],
            branch7x7x3=[(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)],
        ),
        "Mixed_7b": _block_7(1280, _average()),
        # The network of 2015 takes the maximum here, though its paper has the mean.
        "Mixed_7c": _block_7(2048, nn.MaxPool2d(3, stride=1, padding=1)),
        "AvgPool": nn.AdaptiveAvgPool2d(1),
        "Flatten": nn.Flatten(),
    }
    return nn.Sequential(OrderedDict(layers))


def _average() -> nn.Module:
    """TensorFlow's mean over 3 x 3, which leaves out what was padded."""
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)


def _halving(inputs: int, **branches: Sequence[Layer]) -> Mixed:
    return Mixed(inputs, branches, nn.MaxPool2d(3, stride=2), halve=True)


def _block_5(inputs: int, pooled: int) -> Mixed:
    branches: dict[str, Sequence[Layer]] = {
        "branch1x1": [(64, 1)],
        "branch5x5": [(48, 1), (64, 5)],
        "branch3x3dbl": [(64, 1), (96, 3), (96, 3)],
    }
    return Mixed(inputs, branches, _average(), pooled)


def _block_6(c: int) -> Mixed:
    row, column = (1, 7), (7, 1)
    branches: dict[str, Sequence[Layer]] = {
        "branch1x1": [(192, 1)],
        "branch7x7": [(c, 1), (c, row), (192, column)],
        "branch7x7dbl": [(c, 1), (c, column), (c, row), (c, column), (192, row)],
    }
    return Mixed(768, branches, _average(), 192)


def _block_7(inputs: int, pool: nn.Module) -> Mixed:
    row, column = (384, (1, 3)), (384, (3, 1))
    branches: dict[str, Sequence[Layer]] = {
        "branch1x1": [(320, 1)],
        "branch3x3": [(384, 1), row, column],
        "branch3x3dbl": [(448, 1), (384, 3), row, column],
    }
    return Mixed(inputs, branches, pool, 192, fork=True)


def fold(network: nn.Module) -> None:
    """Put each batch norm into its convolution: the same features but for rounding, in less time.

    The weights then have other names and values.
    """
    for layer in network.modules():
        if isinstance(layer, Conv):
            layer.conv = fuse_conv_bn_eval(layer.conv, layer.bn)
            layer.add_module("bn", nn.Identity())


def scaled(x: Tensor, size: int) -> Tensor:
    """Images to size x size bilinearly as TensorFlow 1 does it: pixel i lies at i, not i + ½."""
    return _along(_along(x, 3, size), 2, size)


def _along(x: Tensor, dim: int, size: int) -> Tensor:
    at = torch.arange(size, dtype=torch.float32, device=x.device) * (x.shape[dim] / size)
    low = at.long()
    high = (low + 1).clamp_max(x.shape[dim] - 1)
    weight = (at - low).view(-1, 1) if dim == 2 else at - low
    below = x.index_select(dim, low)
    return x.index_select(dim, high).sub_(below).mul_(weight).add_(below)

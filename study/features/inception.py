"""Inception of 2015-12-05, the network of FID (Heusel et al. 2017): 2,048 features.

The weights are a download of torch-fidelity's, which nothing here makes unasked.
"""

import hashlib
import os
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn

from study.errors import StudyError
from study.features.base import Extractor

WEIGHTS_FILE = "weights-inception-2015-12-05-6726825d.pth"
WEIGHTS_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{WEIGHTS_FILE}"


WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def weights_path() -> Path:
    """Where the weights are looked for: $STUDY_INCEPTION, else torch hub's cache."""
    given = os.environ.get("STUDY_INCEPTION")
    return Path(given) if given else Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_FILE


def extractor(device: torch.device) -> Extractor:
    """The extractor with the weights at `weights_path()`; missing or broken ones: StudyError.

    Its name is "inception" with the known weights alone, else it has their hash in it.
    """
    network, path = inception_network(), weights_path()
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        weights = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict({k: v for k, v in weights.items() if not k.startswith("fc.")})
    except FileNotFoundError:
        raise StudyError(
            f"no Inception weights at {path}; download {WEIGHTS_URL} to there or to a "
            "file that STUDY_INCEPTION names, or choose other features, such as lite0"
        ) from None
    except Exception as error:  # torch.load raises whatever the broken bytes lead it to
        raise StudyError(
            f"{path} holds no Inception weights ({type(error).__name__}); "
            f"download {WEIGHTS_URL} again"
        ) from None
    recipe = "Inception 2015-12-05, TF1 bilinear 299, (x - 128) / 128, pool_3"
    name = "inception" if sha256 == WEIGHTS_SHA256 else f"inception-{sha256[:8]}"
    return Extractor(name, 2048, recipe, 50, 50 * 299**2, prepare, network, device)


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


def prepare(x: Tensor) -> Tensor:
    """To 299x299 as TensorFlow 1 scales bilinearly, then to [-1, 1)."""
    from torch_fidelity import interpolate_compat_tensorflow as tensorflow  # noqa: PLC0415

    resize = tensorflow.interpolate_bilinear_2d_like_tensorflow1x
    resized: Tensor = resize(x, size=(299, 299), align_corners=False)
    return (resized - 128) / 128

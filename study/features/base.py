"""What a feature extractor is: a frozen network, images in, one vector an image out."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from study.errors import StudyError


@dataclass(frozen=True)
class Extractor:
    """A frozen network that maps images to features; `digest` names its weights and its recipe."""

    name: str
    dim: int
    recipe: str  # in words, part of the digest: change it where the numbers change
    batch: int  # images; float32 features depend on the batch's size, so every batch has this one
    batch_px: int  # that a batch has at most: larger images come fewer at a time, however many
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
        batch = self.batch_of(*images.shape[2:])
        return torch.cat([self._features(part, batch) for part in torch.split(images, batch)])

    def batch_of(self, height: int, width: int) -> int:
        """How many images of that size go through the network at a time."""
        return max(1, min(self.batch, self.batch_px // (height * width)))

    def _features(self, images: Tensor, batch: int) -> Tensor:
        if missing := batch - len(images):
            images = F.pad(images, (0, 0, 0, 0, 0, 0, 0, missing))
        x = self._prepared(images)
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            features: Tensor = self.network(x)
        return features[: batch - missing]

    def _prepared(self, images: Tensor) -> Tensor:
        """(N, 3, H', W') as the network wants them; a channel at a time, which saves memory."""
        x = torch.empty(0)
        for number, channel in enumerate(torch.split(images, 1, dim=1)):
            pixels = channel.to(self.device).float()
            part = self.prepare(pixels if channel.dtype == torch.uint8 else pixels * 255.0)
            if number == 0:
                n, _, *size = part.shape
                x = torch.empty(
                    (n, 3, *size), device=part.device, memory_format=torch.channels_last
                )
                x[:] = part  # all three, where the images are grey
            else:
                x[:, number : number + 1] = part
        return x


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

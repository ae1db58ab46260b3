"""What the measures are given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from study.settings.config import RunConfig

if TYPE_CHECKING:
    from torch import Tensor

    from study.training.networks import Generator


@dataclass
class Best:
    """The generator of a run's least distance, in evaluation mode."""

    config: RunConfig
    generator: Generator
    z: Tensor  # (num_images, 64), of every evaluation

    @cached_property
    def images(self) -> Tensor:
        """The generator's images (num_images, C, H, W) in [0, 1], those of `fid`."""
        import torch  # noqa: PLC0415

        from study.measures.of_a_generator import generate  # noqa: PLC0415

        return torch.cat(list(generate(self.generator, self.z)))

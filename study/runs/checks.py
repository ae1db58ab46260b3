"""What must be true before a sweep's runs can be trained."""

from collections.abc import Sequence

from study import datasets as data
from study import features
from study.errors import StudyError
from study.settings.config import RunConfig


def require_inputs(configs: Sequence[RunConfig]) -> None:
    """Find or fetch what the runs need; StudyError where data, images or weights are missing."""
    for name in {name for config in configs for name in config.all_features}:
        features.load(name)
    for dataset, num_images in {(config.dataset, config.num_images) for config in configs}:
        have = min(len(data.load(dataset, split)) for split in ("train", "held_out"))
        if num_images > have:
            raise StudyError(
                f"num_images = {num_images}: {dataset} has {have} held-out images; ask for fewer"
            )

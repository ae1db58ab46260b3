"""What every evaluation measures on a generator: distances to held-out and to training images.

And its samples; what is measured once a run stands in `at_best`.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from study import datasets as data
from study import features
from study.errors import StudyError
from study.losses import load
from study.measures import at_best, columns
from study.measures import frechet as fid
from study.settings.config import RunConfig
from study.training.networks import Generator, place

GENERATE_BATCH = 250

Evaluate = Callable[[Generator, Tensor], dict[str, float] | None]


def distances(dataset: str, num_images: int) -> dict[str, tuple[str, int]]:
    """The distances that are taken: name -> split and first image of the real side.

    The same `num_images` generated images are compared with the first as many held-out ones
    (`fid`, the paper's 10,000), with as many training images (`fid_train`), and with the next as
    many held-out ones, where there are, on which nothing is selected (`fid_report`).
    """
    parts = {"fid": ("held_out", 0), "fid_train": ("train", 0)}
    if data.sizes(dataset)[1] >= 2 * num_images:
        parts["fid_report"] = ("held_out", num_images)
    return parts


@lru_cache(maxsize=1)
def evaluator(dataset: str, features_name: str, num_images: int, device: str) -> Evaluate:
    """A function (generator, z) -> distances, or None where an image is not finite.

    It is kept for a worker's next run: weights and real statistics are loaded once.
    """
    extractor = extractor_of(features_name, device)
    real = {
        name: real_statistics(dataset, split, start, num_images, extractor)
        for name, (split, start) in distances(dataset, num_images).items()
    }

    def evaluate(generator: Generator, z: Tensor) -> dict[str, float] | None:
        moments = fid.Moments(extractor.dim)
        for images in generate(generator, z):
            if not images.isfinite().all():
                return None
            moments.update(extractor(images))
        return {name: fid.distance_to(statistics, moments) for name, statistics in real.items()}

    return evaluate


def real_statistics(
    dataset: str, split: str, start: int, num_images: int, extractor: features.Extractor
) -> fid.RealStatistics:
    """Statistics of `num_images` images of a split, from the cache where it holds them."""
    images = data.load(dataset, split)
    if num_images > len(images):
        raise StudyError(
            f"num_images = {num_images}: {dataset} has {len(images)} {split} images; ask for fewer"
        )
    folder = data.data_folder() / "statistics" / dataset
    return fid.real_statistics(images[start : start + num_images], extractor, folder)


def digests(config: RunConfig) -> dict[str, str]:
    """Which images the run learns from, and the weights and recipes that it measures with."""
    found = {"data_digest": data.digest(config.dataset)}
    found["features_digest"] = extractor_of(config.features, config.device).digest[:16]
    if config.second_features is not None:
        second = extractor_of(config.second_features, config.device)
        found["second_features_digest"] = second.digest[:16]
    return found


@lru_cache(maxsize=2)
def extractor_of(name: str, device: str) -> features.Extractor:
    """An extractor, kept for a worker's next run."""
    return features.load(name, device)


def diverged(config: RunConfig) -> dict[str, float]:
    """What is measured of a generator that is not finite: no distance is small enough."""
    taken = distances(config.dataset, config.num_images)
    found = columns.diverged(tuple(each for each in columns.DISTANCES if each.name in taken))
    for module in at_best.wanted(config):
        found |= columns.diverged(module.COLUMNS)
    return found


def best_generator(folder: Path, config: RunConfig) -> Generator:
    """The generator of the run's best evaluation, in evaluation mode."""
    shape, device = data.image_shape(config.dataset), torch.device(config.device)
    generator = load(config.loss)(**config.own).generator(shape, config.width, config.bn_decay)
    weights = torch.load(folder / "best.pt", weights_only=True, map_location=device)
    generator.load_state_dict(weights)
    place(generator, device, config.width)
    return generator.eval()


@torch.no_grad()
def generate(generator: Generator, z: Tensor) -> Iterator[Tensor]:
    """Images (n, C, H, W) of a generator in evaluation mode, for z (N, 64), in batches.

    It is left in the mode that it was in.
    """
    was_training = generator.training
    generator.eval()
    try:
        for part in torch.split(z, GENERATE_BATCH):
            yield generator(part)
    finally:
        generator.train(was_training)


def save_samples(generator: Generator, z: Tensor, path: Path) -> None:
    """Write the images of 64 z as `save_grid` does."""
    path.parent.mkdir(exist_ok=True)
    save_grid(torch.cat(list(generate(generator, z))).mul(255).round().byte().cpu(), path)


def save_grid(images: Tensor, path: Path) -> None:
    """Write 64 images, uint8 (64, C, H, W), as an 8x8 grid, PNG, one white pixel apart."""
    _, channels, height, width = images.shape
    grid = np.full((8 * (height + 1) - 1, 8 * (width + 1) - 1, channels), 255, np.uint8)
    for index, image in enumerate(images.numpy()):
        top, left = (index // 8) * (height + 1), (index % 8) * (width + 1)
        grid[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    Image.fromarray(grid.squeeze()).save(path, "PNG")

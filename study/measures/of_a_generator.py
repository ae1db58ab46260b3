"""What is measured on a generator: distances to held-out and to training images, samples; once a
run KID, precision and recall; and on triangles precision and recall of the manifold."""

import importlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from study import datasets as data
from study import features
from study.errors import StudyError
from study.losses import load
from study.measures import columns, neighbours
from study.measures import frechet as fid
from study.settings.config import RunConfig
from study.training.networks import Generator

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
    """Which weights and recipes the run measures with, 16 hex digits an extractor."""
    found = {"features_digest": extractor_of(config.features, config.device).digest[:16]}
    if config.second_features is not None:
        second = extractor_of(config.second_features, config.device)
        found["second_features_digest"] = second.digest[:16]
    return found


@lru_cache(maxsize=2)
def extractor_of(name: str, device: str) -> features.Extractor:
    """An extractor, kept for a worker's next run."""
    return features.load(name, device)


def at_best(generator: Generator, config: RunConfig, z: Tensor) -> dict[str, float]:
    """What is measured once a run, of the generator of its least distance in evaluation mode.

    What its data set alone has (triangles: precision, recall and F1). With a second extractor the
    Fréchet distance `fid_second` in its features and, in the first one's, KID and k-NN precision
    and recall: each of the images of z (N, 64) beside as many held-out ones, those of `fid`.
    """
    found: dict[str, float] = {}
    if own := own_measure(config.dataset):
        found |= own.of_generator(generator, load(config.loss).prior, config.device)
    if config.second_features is not None:
        images = torch.cat(list(generate(generator, z)))
        second = extractor_of(config.second_features, config.device)
        real = real_statistics(config.dataset, "held_out", 0, config.num_images, second)
        moments = fid.Moments(second.dim)
        moments.update(second(images))
        found["fid_second"] = fid.distance_to(real, moments)
        first = extractor_of(config.features, config.device)
        there = neighbours_of(config.dataset, config.num_images, config.features, config.device)
        found |= neighbours.kid_and_precision_recall(there, first(images))
    return found


@lru_cache(maxsize=1)
def neighbours_of(
    dataset: str, num_images: int, features_name: str, device: str
) -> neighbours.RealNeighbours:
    """What KID, precision and recall need of the held-out images; kept for the next run."""
    images = data.load(dataset, "held_out")[:num_images]
    return neighbours.real_neighbours(extractor_of(features_name, device)(images))


def diverged(config: RunConfig) -> dict[str, float]:
    """What is measured of a generator that is not finite: no distance is small enough."""
    taken = distances(config.dataset, config.num_images)
    found = columns.diverged(tuple(each for each in columns.DISTANCES if each.name in taken))
    if own := own_measure(config.dataset):
        found |= columns.diverged(own.COLUMNS)
    if config.second_features is not None:
        found |= columns.diverged(columns.SECOND)
    return found


def own_measure(dataset: str) -> Any:
    """The module of this folder that measures on this data set alone, where the set names one.

    It has `of_generator(generator, prior, device)`, and its COLUMNS.
    """
    name = data.find(dataset).measure
    return importlib.import_module(f"study.measures.{name}") if name else None


def best_generator(folder: Path, config: RunConfig) -> Generator:
    """The generator of the run's best evaluation, in evaluation mode."""
    shape, device = data.image_shape(config.dataset), torch.device(config.device)
    generator = load(config.loss)(**config.own).generator(shape, config.width, config.bn_decay)
    weights = torch.load(folder / "best.pt", weights_only=True, map_location=device)
    generator.load_state_dict(weights)
    return generator.to(device).eval()


@torch.no_grad()
def generate(generator: Generator, z: Tensor) -> Iterator[Tensor]:
    """Images (n, C, H, W) of a generator in evaluation mode, for z (N, 64), in batches."""
    generator.eval()
    try:
        for part in torch.split(z, GENERATE_BATCH):
            yield generator(part)
    finally:
        generator.train()


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
    Image.fromarray(grid.squeeze()).save(path)

"""KID, and k-NN precision and recall, in the features of `fid`: other words for the same images."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

from study import datasets as data
from study.measures.at_best.base import Best
from study.settings.columns import Column
from study.settings.config import RunConfig

if TYPE_CHECKING:
    from study.measures.neighbours import RealNeighbours

COLUMNS = (
    Column(
        "kid",
        "float64",
        "at the run's best evaluation: the unbiased kernel distance in `features`, cubic "
        "polynomial kernel, all images at once; about 0 or more",
        math.inf,
    ),
    Column("knn_precision", "float64", "there: in [0, 1], k-NN precision (k = 3) in `features`", 0),
    Column("knn_recall", "float64", "there: in [0, 1], k-NN recall (k = 3) in `features`", 0),
)


def wanted(config: RunConfig) -> bool:
    """Where the sweep wants a second look: it names a second extractor."""
    return config.second_features is not None


def measure(best: Best) -> dict[str, float]:
    """Of the images of `fid` beside as many held-out ones, those of `fid`."""
    from study.measures.neighbours import kid_and_precision_recall  # noqa: PLC0415
    from study.measures.of_a_generator import extractor_of  # noqa: PLC0415

    config = best.config
    there = _real(config.dataset, config.num_images, config.features, config.device)
    extractor = extractor_of(config.features, config.device)
    return kid_and_precision_recall(there, extractor(best.images))


@lru_cache(maxsize=1)
def _real(dataset: str, num_images: int, features: str, device: str) -> RealNeighbours:
    """What they need of the held-out images; kept for the next run."""
    from study.measures.neighbours import real_neighbours  # noqa: PLC0415
    from study.measures.of_a_generator import extractor_of  # noqa: PLC0415

    images = data.load(dataset, "held_out")[:num_images]
    return real_neighbours(extractor_of(features, device)(images))

"""Triangles: precision, recall and F1 by the manifold that they lie on (the paper's section 5)."""

import math

from study import datasets as data
from study.measures.at_best.base import Best
from study.settings.columns import Column
from study.settings.config import RunConfig

COLUMNS = (
    Column("f1", "float64", "triangles, at the best evaluation: in [0, 1], F1 of the next two", 0),
    Column(
        "manifold_precision",
        "float64",
        "share of generated images within 0.75 of the manifold (study/measures/"
        "triangle_manifold.py), in [0, 1]",
        0,
    ),
    Column(
        "manifold_recall",
        "float64",
        "share of held-out images within 0.75 of what the generator can make, in [0, 1]",
        0,
    ),
    Column(
        "precision_distance",
        "float64",
        "median distance that the precision counts, squared pixels in [0, 1]²",
        math.inf,
    ),
    Column("recall_distance", "float64", "median distance that the recall counts", math.inf),
)


def wanted(config: RunConfig) -> bool:
    """On the data set whose manifold is known."""
    return data.find(config.dataset).measure == "manifold"


def measure(best: Best) -> dict[str, float]:
    """By `triangle_manifold`, on the images of fresh z."""
    from study.losses import load  # noqa: PLC0415
    from study.measures import triangle_manifold  # noqa: PLC0415

    prior = load(best.config.loss).prior
    return triangle_manifold.of_generator(best.generator, prior, best.config.device)

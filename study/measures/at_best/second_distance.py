"""The Fréchet distance in a second extractor's features: does another eye see the same?"""

import math

from study.measures.at_best.base import Best
from study.settings.columns import Column
from study.settings.config import RunConfig

COLUMNS = (
    Column(
        "fid_second",
        "float64",
        "at the run's best evaluation: Fréchet distance of the same images in `second_features`",
        math.inf,
    ),
)


def wanted(config: RunConfig) -> bool:
    """Where the sweep names a second extractor."""
    return config.second_features is not None


def measure(best: Best) -> dict[str, float]:
    """Of the images of `fid`, to the held-out images of `fid`."""
    from study.measures import frechet  # noqa: PLC0415
    from study.measures.of_a_generator import extractor_of, real_statistics  # noqa: PLC0415

    config = best.config
    second = extractor_of(str(config.second_features), config.device)
    real = real_statistics(config.dataset, "held_out", 0, config.num_images, second)
    moments = frechet.Moments(second.dim)
    moments.update(second(best.images))
    return {"fid_second": frechet.distance_to(real, moments)}

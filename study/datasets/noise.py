"""Random pixels, for checks and tests: made in an instant, the same everywhere."""

from pathlib import Path

import numpy as np

from study.datasets.base import DataSet, Images

SHAPE = (1, 28, 28)
SIZES = {"train": 512, "held_out": 512}


def _read(split: str, folder: Path) -> tuple[Images, Path]:
    rng = np.random.default_rng(list(SIZES).index(split))
    return rng.integers(0, 256, (SIZES[split], *SHAPE), np.uint8), Path("NumPy's PCG64")


DATA_SET = DataSet(
    title="Noise",
    place=60,
    shape=SHAPE,
    sizes=SIZES,
    read=_read,
    verified="made from a seed, on every use",
    source="this study",
)

"""What a data set is. Each file of this folder that is one says it in its `DATA_SET`."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class DataSet:
    """A data set, known without loading it; `read` and `labels` look in the data folder.

    Parts are "train" and "held_out"; `triangles` has a third, "hold_out".
    """

    title: str  # in figures and tables
    place: int  # among the others in figures, least first
    shape: tuple[int, int, int]  # (C, H, W)
    sizes: Mapping[str, int]  # part -> number of images
    read: Callable[[str, Path], tuple[Images, Path]]  # (part, data folder) -> images, their file
    verified: str  # what is checked whenever it is read
    source: str
    labels: Callable[[str, Path], NDArray[np.uint8]] | None = None  # (part, data folder) -> (N,)
    measure: str | None = None  # a file of study/measures/at_best that measures on this set alone


def data_folder() -> Path:
    """Where data lies: the environment's STUDY_DATA, or `data/` in the current directory."""
    return Path(os.environ.get("STUDY_DATA") or "data")

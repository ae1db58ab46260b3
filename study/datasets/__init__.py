"""The data sets by name: uint8 images (N, C, H, W) in memory, a train part and a held-out part.

This folder is the registry: one file a data set, each with its `DATA_SET`. Sizes, shapes and
CelebA's crop are those of the authors' released code. Everything is looked for in the data folder:
the environment's STUDY_DATA, or `data/` in the current directory. What is not there is fetched
where it can be had, checked, and put there whole (written aside, then renamed), so that several
processes may start at once. No file is used before its hash is verified.
"""

import hashlib
import importlib
import pkgutil
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from study.datasets import folder as own
from study.datasets._files import NotHere, nothing_fetched
from study.datasets.base import DataSet, Images, data_folder
from study.errors import StudyError, in_a_line, unknown
from study.settings.config import say_once

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "SETS",
    "DataSet",
    "NotHere",
    "data_folder",
    "digest",
    "find",
    "image_shape",
    "labels",
    "load",
    "names",
    "nothing_fetched",
    "place",
    "sizes",
    "summary",
    "title",
]

_NO_SETS = {"base", "folder", "images"}
SETS: dict[str, DataSet] = {}
BROKEN: dict[str, str] = {}
"""File of this folder -> why no data set can be had from it."""


def register(name: str) -> None:
    """Take the data set of a file of this folder; whatever it raises is that file's alone."""
    try:
        found = importlib.import_module(f"study.datasets.{name}").DATA_SET
        if not isinstance(found, DataSet):
            raise TypeError("DATA_SET is no study.datasets.base.DataSet")
        SETS[name] = found
    except (Exception, SystemExit) as error:
        BROKEN[name] = f"study/datasets/{name}.py: {in_a_line(error)}"


for _module in pkgutil.iter_modules(__path__):
    if _module.name not in _NO_SETS and not _module.name.startswith("_"):
        register(_module.name)


def names() -> list[str]:
    """The names of all data sets: those of this folder, sorted, then the user's own (`folder`).

    A file without one is named on stderr and left out.
    """
    for problem in BROKEN.values():
        say_once(f"{problem}; it is left out")
    return [*sorted(SETS), *own.names(data_folder())]


def find(name: str, folder: Path | None = None) -> DataSet:
    """The data set of that name; an unknown name, or a file that holds none, is a StudyError."""
    if name in BROKEN:
        raise StudyError(BROKEN[name])
    found = SETS.get(name) or own.find(name, folder or data_folder())
    if found is None:
        raise unknown("data set", name, names(), "allowed")
    return found


def title(name: str) -> str:
    """Its title, for figures and tables; the name itself where it is the user's own."""
    return SETS[name].title if name in SETS else name


def place(name: str) -> tuple[int, str]:
    """Sorts data sets as figures show them: the paper's order, then others by their names."""
    return (SETS[name].place, name) if name in SETS else (sys.maxsize, name)


def image_shape(name: str) -> tuple[int, int, int]:
    """(C, H, W) of the data set's images; an unknown name is a StudyError."""
    return find(name).shape


def sizes(name: str) -> tuple[int, int]:
    """(train, held out) numbers of images, known without loading; an unknown name: StudyError."""
    counts = find(name).sizes
    return counts["train"], counts["held_out"]


def load(name: str, split: str, folder: Path | None = None) -> "Tensor":
    """All images of "train" or "held_out" as one uint8 tensor (N, C, H, W) on the CPU, 0 to 255.

    `triangles` has a third part, "hold_out". `folder` is the data folder, `data_folder()` where
    none is given. The order is that of the data set's files, on every machine.

    A StudyError tells of an unknown name or split, of data that are missing and cannot be
    fetched (and where to put them), and of files whose hash is wrong.
    """
    # A second to import, which figures and tables, that ask for titles, need not pay.
    import torch  # noqa: PLC0415

    return torch.from_numpy(_images(name, split, folder or data_folder()))


def labels(name: str, split: str, folder: Path | None = None) -> "Tensor":
    """The classes (N,) of a split's images, uint8 from 0 up, in the order of `load`.

    A StudyError as of `load`, and where the data set has no classes.
    """
    folder = folder or data_folder()
    read = find(name, folder).labels
    if read is None:
        allowed = ", ".join(sorted(other for other in SETS if SETS[other].labels))
        raise StudyError(f"{name!r} has no classes; allowed: {allowed}")
    _require_split(name, split, folder)
    import torch  # noqa: PLC0415

    return torch.from_numpy(read(split, folder))


def digest(name: str, folder: Path | None = None) -> str:
    """16 hex digits of a hash of the images that are trained on and of the held-out ones.

    StudyErrors as of `load`.
    """
    return _digest(name, folder or data_folder())


@lru_cache(maxsize=1)
def _digest(name: str, folder: Path) -> str:
    sha256 = hashlib.sha256()
    for split in ("train", "held_out"):
        images = _images(name, split, folder)
        sha256.update(str(images.shape).encode())
        sha256.update(np.ascontiguousarray(images).data)
    return sha256.hexdigest()[:16]


def summary(name: str, folder: Path | None = None) -> dict[str, str]:
    """What there is of a data set, each part loaded and so verified: label -> text, for print."""
    folder = folder or data_folder()
    data_set = find(name, folder)
    lines = {"data": name, "image": "{} x {} x {} (C x H x W), uint8".format(*data_set.shape)}
    for split in data_set.sizes:
        images, source = _read(name, split, folder)
        lines[split] = f"{len(images):,} images, mean {images.mean():.2f} of 255, from {source}"
    lines["digest"] = digest(name, folder)
    return lines | {"verified": data_set.verified, "source": data_set.source}


def _images(name: str, split: str, folder: Path) -> Images:
    """The images of a split, once in memory while anyone holds them: to read them takes time."""
    images = _held.get((name, split, folder))
    if images is None:
        images = _held[name, split, folder] = _read(name, split, folder)[0]
    return images


_held: WeakValueDictionary[tuple[str, str, Path], Images] = WeakValueDictionary()


def _read(name: str, split: str, folder: Path) -> tuple[Images, Path]:
    data_set = find(name, folder)
    _require_split(name, split, folder)
    images, source = data_set.read(split, folder)
    wanted = (data_set.sizes[split], *data_set.shape)
    if images.shape != wanted:
        raise StudyError(f"{source}: images of shape {images.shape}, wanted {wanted}; replace it")
    return images, source


def _require_split(name: str, split: str, folder: Path) -> None:
    if split not in (there := find(name, folder).sizes):
        raise StudyError(f"unknown split {split!r} of {name}; allowed: {', '.join(there)}")

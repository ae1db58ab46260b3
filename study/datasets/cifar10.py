"""CIFAR-10: 32 x 32 colour photographs of ten classes, by torchvision's classes."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.datasets import _files as files
from study.datasets.base import DataSet, Images
from study.errors import StudyError


def _read(split: str, folder: Path) -> tuple[Images, Path]:
    images = _cifar10(split, folder).data
    target = folder / files.torchvision().CIFAR10.base_folder
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), target


def _cifar10(split: str, folder: Path) -> Any:
    """torchvision's data set, its files verified."""
    cifar10 = files.torchvision().CIFAR10
    target = folder / cifar10.base_folder
    md5 = dict([*cifar10.train_list, *cifar10.test_list])
    md5[cifar10.meta["filename"]] = cifar10.meta["md5"]
    if not all((target / file).is_file() for file in md5):
        _fetch(folder)
    for file, wanted in md5.items():  # torchvision would not say which file is wrong
        files.compare(str(target / file), "md5", files.file_hash(target / file, "md5"), wanted)
    return cifar10(folder, train=split == "train")


def _fetch(folder: Path) -> None:
    """Unpack the archive that lies in the data folder, or else the one that torchvision loads."""
    cifar10 = files.torchvision().CIFAR10
    with files.scratch(folder) as scratch:
        try:
            if (folder / cifar10.filename).is_file():
                shutil.copy(folder / cifar10.filename, scratch)
            with files.silence_limit():
                cifar10(scratch, download=True)
        except (OSError, RuntimeError) as error:
            raise StudyError(
                f"cifar10 is not in {folder} and could not be fetched ({error}); put "
                f"{cifar10.filename} (md5 {cifar10.tgz_md5}, {cifar10.url}) into {folder}"
            ) from error
        target = folder / cifar10.base_folder
        target.mkdir(exist_ok=True)
        for path in (scratch / cifar10.base_folder).iterdir():
            os.replace(path, target / path.name)


def _labels(split: str, folder: Path) -> NDArray[np.uint8]:
    return np.array(_cifar10(split, folder).targets, np.uint8)


DATA_SET = DataSet(
    title="CIFAR-10",
    place=30,
    shape=(3, 32, 32),
    sizes={"train": 50_000, "held_out": 10_000},
    read=_read,
    verified="md5 of each batch file against torchvision's",
    source="Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html",
    labels=_labels,
)

"""CelebA: 64 x 64 colour portraits, cut from JPEGs in a folder of the user's."""

import os
from pathlib import Path

import numpy as np

from study.datasets import _files as files
from study.datasets import images as reader
from study.datasets.base import DataSet, Images
from study.errors import StudyError

SHAPE = (3, 64, 64)
SIZES = {"train": 162_770, "held_out": 10_000}
PARTITION = "list_eval_partition.txt"
PARTITION_MD5 = "d32c9cbf5e040fd4025c592c306e6668"  # as torchvision has it
FLAG = {"train": "0", "held_out": "1"}  # 1: the validation part


def _read(split: str, folder: Path) -> tuple[Images, Path]:
    return files.cached(folder / f"celeba-v1-{split}.npy", lambda: _images(split, folder))


def _images(split: str, folder: Path) -> Images:
    source = Path(os.environ.get("STUDY_CELEBA") or folder / "celeba")
    names = _names(source / PARTITION, split)[: SIZES[split]]
    jpegs = source / "img_align_celeba"
    jpegs = jpegs if jpegs.is_dir() else source
    images = np.empty((len(names), *SHAPE), np.uint8)
    crops = reader.in_order(lambda name: crop(_photo(jpegs / name)), names)
    for place, image in enumerate(crops):
        images[place] = image
    return images


def _names(partition: Path, split: str) -> list[str]:
    """The file names of a split, in the partition's order."""
    if not partition.is_file():
        raise StudyError(
            f"celeba: no {partition}; put {PARTITION} and the aligned JPEGs (in "
            f"img_align_celeba/) there, or name their folder by the environment's STUDY_CELEBA"
        )
    files.compare(str(partition), "md5", files.file_hash(partition, "md5"), PARTITION_MD5)
    rows = (line.split() for line in partition.read_text().splitlines())
    return [name for name, flag in rows if flag == FLAG[split]]


def _photo(path: Path) -> Images:
    """One aligned JPEG as (218, 178, 3)."""
    photo = reader.read(path).pixels
    if photo.shape != (218, 178, 3):
        raise StudyError(f"{path}: {photo.shape}, wanted (218, 178, 3), the aligned CelebA images")
    return photo


def crop(photo: Images) -> Images:
    """The central 160 x 160 of a photo (218, 178, 3), reduced bilinearly to (3, 64, 64).

    As in the released code: TensorFlow 1's bilinear resize without antialiasing, which reads
    output pixel i at input pixel 2.5 i exactly (no half-pixel offset). Rounded to uint8 here,
    where the released code went on in float.
    """
    at = 2.5 * np.arange(64)
    low = at.astype(np.int64)
    part = at - low
    middle = photo[29:189, 9:169].astype(np.float64)
    rows = middle[low] * (1 - part)[:, None, None] + middle[low + 1] * part[:, None, None]
    small = rows[:, low] * (1 - part)[:, None] + rows[:, low + 1] * part[:, None]
    return np.asarray(np.rint(small).transpose(2, 0, 1), np.uint8)


DATA_SET = DataSet(
    title="CelebA",
    place=40,
    shape=SHAPE,
    sizes=SIZES,
    read=_read,
    verified="md5 of the partition file; sha256 of the images as they were first read",
    source="Liu et al. 2015, arXiv 1411.7766; research use only",
)

"""The data sets by name: uint8 images (N, C, H, W) in memory, a train part and a held-out part.

Sizes, shapes and CelebA's crop are those of the authors' released code. Everything is looked for
in the data folder: the environment's STUDY_DATA, or `data/` in the current directory. What is not
there is fetched where it can be had, checked, and put there whole (written aside, then renamed),
so that several processes may start at once. No file is used before its hash is verified.
"""

import contextlib
import gzip
import hashlib
import importlib
import os
import shutil
import socket
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from study.datasets import triangles
from study.errors import StudyError

Images = NDArray[np.uint8]

SILENCE_S = 20.0  # a download whose server says nothing for so long has failed
APT_S = 600.0

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # where dataset-fashion-mnist installs
IDX_FOLDERS: dict[str, tuple[str | Path, ...]] = {  # looked through in order, in the data folder
    "fashion_mnist": ("fashion_mnist", "FashionMNIST/raw", DEBIAN),
    "mnist": ("mnist", "MNIST/raw"),
}
IDX_FILES = {
    "train": "train-images-idx3-ubyte",
    "held_out": "t10k-images-idx3-ubyte",
    "train labels": "train-labels-idx1-ubyte",
    "held_out labels": "t10k-labels-idx1-ubyte",
}
IDX_SHA256 = {  # of the unpacked files: packed ones differ between distributors
    "fashion_mnist": {
        "train": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "held_out": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "train labels": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "held_out labels": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    "mnist": {
        "train": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "held_out": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "train labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "held_out labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
}

CELEBA_PARTITION = "list_eval_partition.txt"
CELEBA_PARTITION_MD5 = "d32c9cbf5e040fd4025c592c306e6668"  # as torchvision has it
CELEBA_FLAG = {"train": "0", "held_out": "1"}  # 1: the validation part


def data_folder() -> Path:
    """Where data lies: the environment's STUDY_DATA, or `data/` in the current directory."""
    return Path(os.environ.get("STUDY_DATA") or "data")


def image_shape(name: str) -> tuple[int, int, int]:
    """(C, H, W) of the data set's images; an unknown name is a StudyError."""
    return _data_set(name).shape


def sizes(name: str) -> tuple[int, int]:
    """(train, held out) numbers of images, known without loading; an unknown name: StudyError."""
    counts = _data_set(name).sizes
    return counts["train"], counts["held_out"]


def load(name: str, split: str, folder: Path | None = None) -> Tensor:
    """All images of "train" or "held_out" as one uint8 tensor (N, C, H, W) on the CPU, 0 to 255.

    `triangles` has a third part, "hold_out". `folder` is the data folder, `data_folder()` where
    none is given. The order is that of the data set's files, on every machine.

    A StudyError tells of an unknown name or split, of data that are missing and cannot be
    fetched (and where to put them), and of files whose hash is wrong.
    """
    return torch.from_numpy(_read(name, split, folder or data_folder())[0])


def labels(name: str, split: str, folder: Path | None = None) -> Tensor:
    """The classes (N,) of a split's images, uint8 from 0 to 9, in the order of `load`.

    A StudyError as of `load`, and where the data set has no classes.
    """
    if name not in LABELS:
        raise StudyError(f"{name!r} has no classes; allowed: {', '.join(LABELS)}")
    if split not in SETS[name].sizes:
        raise StudyError(f"unknown split {split!r} of {name}; allowed: train, held_out")
    return torch.from_numpy(LABELS[name](split, folder or data_folder()))


def summary(name: str, folder: Path | None = None) -> dict[str, str]:
    """What there is of a data set, each part loaded and so verified: label -> text, for print."""
    data_set = _data_set(name)
    lines = {"data": name, "image": "{} x {} x {} (C x H x W), uint8".format(*data_set.shape)}
    for split in data_set.sizes:
        images, source = _read(name, split, folder or data_folder())
        lines[split] = f"{len(images):,} images, mean {images.mean():.2f} of 255, from {source}"
    return lines | {"verified": data_set.verified}


# ---- one data set ------------------------------------------------------------------------------


class DataSet(NamedTuple):
    """A data set: (C, H, W), split -> number of images, how to read a split, what is verified."""

    shape: tuple[int, int, int]
    sizes: dict[str, int]
    read: Callable[[str, Path], tuple[Images, Path]]  # (split, data folder) -> images, their file
    verified: str


def _data_set(name: str) -> DataSet:
    if name not in SETS:
        raise StudyError(f"unknown data set {name!r}; allowed: {', '.join(SETS)}")
    return SETS[name]


def _read(name: str, split: str, folder: Path) -> tuple[Images, Path]:
    data_set = _data_set(name)
    if split not in data_set.sizes:
        allowed = ", ".join(data_set.sizes)
        raise StudyError(f"unknown split {split!r} of {name}; allowed: {allowed}")
    images, source = data_set.read(split, folder)
    wanted = (data_set.sizes[split], *data_set.shape)
    if images.shape != wanted:
        raise StudyError(f"{source}: images of shape {images.shape}, wanted {wanted}; replace it")
    return images, source


# ---- Fashion-MNIST and MNIST: IDX files --------------------------------------------------------


def _read_idx(name: str, split: str, folder: Path) -> tuple[Images, Path]:
    content, path = _idx_content(name, split, folder)
    n, height, width = np.frombuffer(content, ">i4", count=3, offset=4)
    return np.frombuffer(content, np.uint8, offset=16).reshape(n, 1, height, width), path


def _read_idx_labels(name: str, split: str, folder: Path) -> NDArray[np.uint8]:
    content, _ = _idx_content(name, f"{split} labels", folder)
    return np.frombuffer(content, np.uint8, offset=8)


def _idx_content(name: str, part: str, folder: Path) -> tuple[bytearray, Path]:
    path = _find_idx(name, part, folder)
    if path is None:
        _fetch_idx(name, folder)
        path = folder / name / IDX_FILES[part]
    return bytearray(_unpacked_idx(path, IDX_SHA256[name][part])), path


def _find_idx(name: str, part: str, folder: Path) -> Path | None:
    files = (IDX_FILES[part], f"{IDX_FILES[part]}.gz")
    paths = (folder / place / file for place in IDX_FOLDERS[name] for file in files)
    return next((path for path in paths if path.is_file()), None)


def _unpacked_idx(path: Path, sha256: str) -> bytes:
    """The content of an IDX file, packed or not, once its hash is found right."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise StudyError(f"{path}: cannot be unpacked ({error}); {_MEND}") from error
    _compare(f"{path} (unpacked)", "sha256", hashlib.sha256(content).hexdigest(), sha256)
    return content


def _fetch_idx(name: str, folder: Path) -> None:
    """Put the IDX files of the first source that has them into the data folder, unpacked."""
    failures = []
    for fetch in FETCHERS[name]:
        with _scratch(folder) as scratch:
            try:
                fetch(scratch)
                for part, sha256 in IDX_SHA256[name].items():
                    _place_idx(scratch, IDX_FILES[part], sha256, folder / name)
                return
            except (OSError, RuntimeError, subprocess.SubprocessError, StudyError) as error:
                failures.append(" ".join(f"{fetch.__name__}: {error}".split()))
    raise StudyError(
        f"{name} is not in {folder} and could not be fetched ({'; '.join(failures)}); put "
        f"{', '.join(IDX_FILES.values())} (or .gz) into {folder / name}"
    )


def _place_idx(scratch: Path, file: str, sha256: str, target: Path) -> None:
    source = next((path for path in sorted(scratch.rglob(f"{file}*"))), scratch / file)
    whole = scratch / "verified"
    whole.write_bytes(_unpacked_idx(source, sha256))
    target.mkdir(exist_ok=True)
    os.replace(whole, target / file)


def torchvision_fashion_mnist(scratch: Path) -> None:
    """torchvision's download of Fashion-MNIST into `scratch`."""
    with _silence_limit():
        _torchvision().FashionMNIST(scratch, download=True)


def torchvision_mnist(scratch: Path) -> None:
    """torchvision's download of MNIST into `scratch`."""
    with _silence_limit():
        _torchvision().MNIST(scratch, download=True)


def debian_fashion_mnist(scratch: Path) -> None:
    """Debian's package, unpacked below `scratch`: no root, and no package lists but its own."""
    options = [f"Dir::State={scratch}/state", f"Dir::Cache={scratch}/cache"]
    options += ["APT::Sandbox::User=root"]  # or apt, run by root, drops its right to write here
    apt = ["apt-get", "-q", *(word for option in options for word in ("-o", option))]
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    _call([*apt, "update"], scratch)
    _call([*apt, "download", "dataset-fashion-mnist"], scratch)
    for package in scratch.glob("*.deb"):
        _call(["dpkg", "-x", package.name, "unpacked"], scratch)


def _call(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=APT_S)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{command[0]}: {error.stderr.decode(errors='replace')}") from error


# ---- CIFAR-10: torchvision's classes -----------------------------------------------------------


def _read_cifar10(split: str, folder: Path) -> tuple[Images, Path]:
    images = _cifar10(split, folder).data
    target = folder / _torchvision().CIFAR10.base_folder
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), target


def _cifar10(split: str, folder: Path) -> Any:
    """torchvision's data set, its files verified."""
    cifar10 = _torchvision().CIFAR10
    target = folder / cifar10.base_folder
    md5 = dict([*cifar10.train_list, *cifar10.test_list])
    md5[cifar10.meta["filename"]] = cifar10.meta["md5"]
    if not all((target / file).is_file() for file in md5):
        _fetch_cifar10(folder)
    for file, wanted in md5.items():  # torchvision would not say which file is wrong
        _compare(str(target / file), "md5", _file_hash(target / file, "md5"), wanted)
    return cifar10(folder, train=split == "train")


def _fetch_cifar10(folder: Path) -> None:
    """Unpack the archive that lies in the data folder, or else the one that torchvision loads."""
    cifar10 = _torchvision().CIFAR10
    with _scratch(folder) as scratch:
        try:
            if (folder / cifar10.filename).is_file():
                shutil.copy(folder / cifar10.filename, scratch)
            with _silence_limit():
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


# ---- CelebA: JPEGs in a folder of the user's ---------------------------------------------------


def _read_celeba(split: str, folder: Path) -> tuple[Images, Path]:
    return _cached(folder / f"celeba-v1-{split}.npy", lambda: _celeba_images(split, folder))


def _celeba_images(split: str, folder: Path) -> Images:
    source = Path(os.environ.get("STUDY_CELEBA") or folder / "celeba")
    names = _celeba_names(source / CELEBA_PARTITION, split)[: SETS["celeba"].sizes[split]]
    jpegs = source / "img_align_celeba"
    jpegs = jpegs if jpegs.is_dir() else source
    images = np.empty((len(names), *SETS["celeba"].shape), np.uint8)
    for image, name in zip(images, names, strict=True):
        image[:] = celeba_crop(_photo(jpegs / name))
    return images


def _celeba_names(partition: Path, split: str) -> list[str]:
    """The file names of a split, in the partition's order."""
    if not partition.is_file():
        raise StudyError(
            f"celeba: no {partition}; put {CELEBA_PARTITION} and the aligned JPEGs (in "
            f"img_align_celeba/) there, or name their folder by the environment's STUDY_CELEBA"
        )
    _compare(str(partition), "md5", _file_hash(partition, "md5"), CELEBA_PARTITION_MD5)
    rows = (line.split() for line in partition.read_text().splitlines())
    return [name for name, flag in rows if flag == CELEBA_FLAG[split]]


def _photo(path: Path) -> Images:
    """One aligned JPEG as (218, 178, 3)."""
    try:
        with Image.open(path) as file:
            photo = np.asarray(file.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise StudyError(f"{path}: cannot be read as a JPEG ({error}); replace it") from error
    if photo.shape != (218, 178, 3):
        raise StudyError(f"{path}: {photo.shape}, wanted (218, 178, 3), the aligned CelebA images")
    return photo


def celeba_crop(photo: Images) -> Images:
    """The central 160 x 160 of a photo (218, 178, 3), reduced bilinearly to (3, 64, 64).

    As in the released code: TensorFlow 1's bilinear resize without antialiasing, which reads
    output pixel i at input pixel 2.5 i exactly (no half-pixel offset). Rounded to uint8 here,
    where the released code went on in float.
    """
    at = 2.5 * np.arange(64)
    low = at.astype(np.int64)
    part = at - low
    crop = photo[29:189, 9:169].astype(np.float64)
    rows = crop[low] * (1 - part)[:, None, None] + crop[low + 1] * part[:, None, None]
    small = rows[:, low] * (1 - part)[:, None] + rows[:, low + 1] * part[:, None]
    return np.asarray(np.rint(small).transpose(2, 0, 1), np.uint8)


# ---- triangles ---------------------------------------------------------------------------------


def _read_triangles(split: str, folder: Path) -> tuple[Images, Path]:
    """Drawn once, then read from the data folder; `triangles.split_vertices` has the corners."""
    path = folder / f"triangles-v{triangles.VERSION}-{split}.npy"
    return _cached(path, lambda: triangles.render(triangles.split_vertices(split)))


# ---- noise -------------------------------------------------------------------------------------


def _read_noise(split: str, folder: Path) -> tuple[Images, Path]:
    """Random pixels, for checks and tests: made in an instant, the same everywhere."""
    shape = (SETS["noise"].sizes[split], *SETS["noise"].shape)
    seed = list(SETS["noise"].sizes).index(split)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8), Path("NumPy's PCG64")


# ---- files -------------------------------------------------------------------------------------

_MEND = "delete it to have it fetched or made again, or put a whole copy there"


def _compare(what: str, kind: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise StudyError(f"{what}: {kind} is {found}, wanted {wanted}; {_MEND}")


def _file_hash(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _cached(path: Path, make: Callable[[], Images]) -> tuple[Images, Path]:
    """The array in `path`, made on first use; beside it its hash, in sha256sum's format."""
    manifest = path.with_name(f"{path.name}.sha256")
    if not (path.is_file() and manifest.is_file()):
        _write_cache(path, manifest, make)
    wanted = manifest.read_text().partition(" ")[0]
    _compare(str(path), "sha256", _file_hash(path, "sha256"), wanted)
    images: Images = np.load(path, allow_pickle=False)
    return images, path


def _write_cache(path: Path, manifest: Path, make: Callable[[], Images]) -> None:
    with _scratch(path.parent) as scratch:  # before minutes are spent on what cannot be written
        np.save(scratch / path.name, make())
        sha256 = _file_hash(scratch / path.name, "sha256")
        (scratch / manifest.name).write_text(f"{sha256}  {path.name}\n")
        os.replace(scratch / path.name, path)
        os.replace(scratch / manifest.name, manifest)


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A temporary folder in the data folder: on its file system, so that renaming is atomic."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".scratch-", dir=folder.resolve())
    except OSError as error:
        raise StudyError(
            f"cannot write into the data folder {folder} ({error.strerror}); let STUDY_DATA name "
            "a folder that can be written"
        ) from error
    with scratch as name:
        yield Path(name)


def _torchvision() -> Any:
    """torchvision.datasets, imported where it is used: that takes longer than to read the data."""
    return importlib.import_module("torchvision.datasets")


@contextlib.contextmanager
def _silence_limit() -> Iterator[None]:
    """torchvision sets no time limit: without one a silent firewall holds a download for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


# ---- the table ---------------------------------------------------------------------------------

_IDX_SIZES = {"train": 60_000, "held_out": 10_000}
_IDX_VERIFIED = "sha256 of each unpacked IDX file against the published one"

FETCHERS: dict[str, tuple[Callable[[Path], None], ...]] = {
    "fashion_mnist": (torchvision_fashion_mnist, debian_fashion_mnist),
    "mnist": (torchvision_mnist,),
}

SETS = {
    "celeba": DataSet(
        (3, 64, 64),
        {"train": 162_770, "held_out": 10_000},
        _read_celeba,
        "md5 of the partition file; sha256 of the images as they were first read",
    ),
    "cifar10": DataSet(
        (3, 32, 32),
        {"train": 50_000, "held_out": 10_000},
        _read_cifar10,
        "md5 of each batch file against torchvision's",
    ),
    "fashion_mnist": DataSet(
        (1, 28, 28),
        _IDX_SIZES,
        lambda split, folder: _read_idx("fashion_mnist", split, folder),
        _IDX_VERIFIED,
    ),
    "mnist": DataSet(
        (1, 28, 28),
        _IDX_SIZES,
        lambda split, folder: _read_idx("mnist", split, folder),
        _IDX_VERIFIED,
    ),
    "noise": DataSet(
        (1, 28, 28), {"train": 512, "held_out": 512}, _read_noise, "made from a seed, on every use"
    ),
    "triangles": DataSet(
        (1, 28, 28),
        triangles.SIZES,
        _read_triangles,
        "sha256 of the images as they were first drawn",
    ),
}
LABELS: dict[str, Callable[[str, Path], NDArray[np.uint8]]] = {
    "cifar10": lambda split, folder: np.array(_cifar10(split, folder).targets, np.uint8),
    "fashion_mnist": lambda split, folder: _read_idx_labels("fashion_mnist", split, folder),
    "mnist": lambda split, folder: _read_idx_labels("mnist", split, folder),
}
NAMES = tuple(SETS)

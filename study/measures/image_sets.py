"""Sets of images of anyone's, read as they are needed: memory does not grow with their number.

A set is named by a string: a folder of images (subfolders too), an array's file (.npy, .npz), a
part of a data set (`fashion_mnist:held_out`), or a run's folder, whose best generator then draws
the images from the z of every evaluation.
"""

import math
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from study import datasets as data
from study.datasets import images as reader
from study.datasets.base import Images
from study.errors import StudyError
from study.losses import load
from study.measures import of_a_generator as measure
from study.measures.of_a_generator import best_generator
from study.settings.config import RunConfig, read_config
from study.training.networks import draw_z, stream

SEED = 0
BEYOND = 1e-5  # floats so far outside [0, 1] are rounding, and are taken for the end that they pass
CHUNK_BYTES = 2**24  # of an array, read at a time
GROUP_BYTES = 2**18  # of small images' pixels: a thread reads so many files before it hands them on

Chunks = Iterator[Tensor]


@dataclass(frozen=True)
class ImageSet:
    """Images that are known by their number and size, and read in order when asked for."""

    name: str
    count: int
    size: tuple[int, int]  # height and width in pixels
    read: Callable[[NDArray[np.intp]], Chunks]  # ascending places -> (n, C, H, W) at a time
    order: str  # "files", "random": whether the first n are as good as any
    run: RunConfig | None = None
    notes: Counter[str] = field(default_factory=Counter)  # what was done or left out -> how many

    def places(self, n: int | None) -> NDArray[np.intp]:
        """Which images are taken where n are asked for: the first, or drawn where order matters."""
        if n is None or n >= self.count:
            return np.arange(self.count)
        if self.order == "random":
            return np.arange(n)
        return np.sort(np.random.default_rng(SEED).choice(self.count, n, replace=False))

    def selection(self, n: int | None) -> dict[str, int]:
        """The note that says which images are taken, where those are not all: -> how many."""
        if n is None or n >= self.count:
            return {}
        if self.order == "random":
            return {f"images taken, the first of {self.count:,}, whose order is random": n}
        return {f"images taken, drawn from {self.count:,} with seed {SEED}": n}

    def batches(self, n: int | None, size: int) -> Chunks:
        """The images that are taken, `size` at a time, the last fewer; uint8 or float in [0, 1]."""
        waiting: list[Tensor] = []
        count = 0
        for chunk in self.read(self.places(n)):
            for part in torch.split(self._checked(chunk), size):
                before, rest = part[: size - count], part[size - count :]
                waiting.append(before)
                count += len(before)
                if count == size:
                    yield waiting[0] if len(waiting) == 1 else torch.cat(waiting)
                    waiting, count = ([rest] if len(rest) else []), len(rest)
        if waiting:
            yield torch.cat(waiting)

    def _checked(self, chunk: Tensor) -> Tensor:
        if chunk.dtype == torch.uint8:
            return chunk
        low, high = chunk.aminmax()
        if not (low >= -BEYOND and high <= 1 + BEYOND):  # false for NaN too
            raise StudyError(
                f"{self.name}: values from {low:.8g} to {high:.8g}; "
                "floats must be finite and lie in [0, 1], or give uint8"
            )
        if low < 0 or high > 1:
            beyond = int(((chunk < 0) | (chunk > 1)).sum())
            self.notes[f"values outside [0, 1] by less than {BEYOND:g}, set to its ends"] += beyond
            return chunk.clamp(0, 1)
        return chunk


def open_set(source: str, num_images: int | None = None, device: str = "cpu") -> ImageSet:
    """The set of images that `source` names.

    `num_images` is how many a run's generator draws (its own number where none is given). What is
    neither a data set's part nor a path, or holds no images: StudyError.
    """
    name, _, split = source.partition(":")
    path = Path(source)
    if not path.exists() and (split or name in data.names()):
        return _part(name, split)
    if path.suffix.lower() in (".npy", ".npz"):
        return _array(path)
    if (path / "config.json").is_file():
        return _run(path, num_images, device)
    if path.is_dir():
        return _folder(path)
    what = "a file, but no array" if path.exists() else "no such folder or array"
    raise StudyError(
        f"{source}: {what}; give a folder of images, an .npy or .npz file, a "
        f"run's folder, or a part of a data set such as fashion_mnist:held_out "
        f"(data sets: {', '.join(data.names())})"
    )


# --- Parts of data sets and runs ------------------------------------------------------------------


def _part(name: str, split: str) -> ImageSet:
    if not split:
        raise StudyError(f"{name} is a data set; name a part: {name}:held_out, {name}:train")
    images = data.load(name, split)
    height, width = images.shape[2:]

    def read(places: NDArray[np.intp]) -> Chunks:
        for part in np.array_split(places, max(1, len(places) // 1000)):
            yield images[torch.from_numpy(part)]

    return ImageSet(f"{name}:{split}", len(images), (height, width), read, "random")


def drawn(folder: Path, num_images: int | None = None, device: str = "cpu") -> Tensor:
    """Images (N, C, H, W) of a run's best generator from the evaluations' z, not rounded to 8 bit.

    Without its generator, or where that does not fit the run's configuration: StudyError.
    """
    images = _run(folder, num_images, device)
    return torch.cat(list(images.read(images.places(None))))


def _run(folder: Path, num_images: int | None, device: str) -> ImageSet:
    try:
        config = read_config(folder / "config.json").model_copy(update={"device": device})
    except StudyError as error:
        if (folder / "best.pt").exists():
            raise
        hint = f"if {folder} is no run but a folder of images, move its config.json away"
        raise StudyError(f"{error}; {hint}") from error
    try:
        generator = best_generator(folder, config)
    except FileNotFoundError as error:
        raise StudyError(
            f"{folder}: no best.pt, so no generator: the run has not reached its first evaluation"
        ) from error
    except Exception as error:  # torch.load raises whatever the broken bytes lead it to
        reason = " ".join(str(error).split())
        raise StudyError(f"{folder}/best.pt does not fit its config.json ({reason})") from error
    n = num_images or config.num_images
    prior = load(config.loss).prior
    z = draw_z(max(n, config.num_images), prior, stream(0, "evaluation"))[:n]

    def read(places: NDArray[np.intp]) -> Chunks:
        for images in measure.generate(generator, z[torch.from_numpy(places)].to(device)):
            yield images.cpu()

    _, height, width = data.image_shape(config.dataset)
    return ImageSet(str(folder), n, (height, width), read, "random", run=config)


# --- Folders --------------------------------------------------------------------------------------


def _folder(path: Path) -> ImageSet:
    """The images in and below a folder in the order of their names; grey ones have one channel."""
    files, others = reader.find(path)
    first = reader.read(files[0]).pixels.shape
    notes = Counter({f"{kind} left out": count for kind, count in others.items()})

    size = math.prod(first)
    at_once = max(1, GROUP_BYTES // size)

    def together(paths: list[Path]) -> tuple[Images, Counter[str]]:
        pixels, said = np.empty((len(paths), first[2], *first[:2]), np.uint8), Counter[str]()
        for place, at in enumerate(paths):
            picture = reader.read(at)
            if picture.pixels.shape != first:
                raise StudyError(
                    f"{files[0]} is {first} but {at} is {picture.pixels.shape}; "
                    "a folder's images must be alike"
                )
            said.update(picture.notes)
            pixels[place] = picture.pixels.transpose(2, 0, 1)
        return pixels, said

    def read(places: NDArray[np.intp]) -> Chunks:
        paths = [files[place] for place in places]
        groups = [paths[start : start + at_once] for start in range(0, len(paths), at_once)]
        for pixels, said in reader.in_order(together, groups, at_once * size):
            notes.update(said)
            yield torch.from_numpy(pixels)

    return ImageSet(str(path), len(files), first[:2], read, "files", notes=notes)


# --- Arrays ---------------------------------------------------------------------------------------


class _Header(NamedTuple):
    """What an array's file says of it."""

    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype[Any]


def _array(path: Path) -> ImageSet:
    """Images from an array (N, H, W) or (N, H, W, C), uint8 or float in [0, 1]."""
    with _opened(path) as (_, header):
        shape, dtype = header.shape, header.dtype
    if len(shape) not in (3, 4) or min(shape) < 1 or shape[3:] not in ((), (1,), (3,)):
        raise StudyError(f"{path}: shape {shape}; wanted (N, H, W) or (N, H, W, C), C 1 or 3")
    if dtype != np.uint8 and dtype.kind != "f":
        raise StudyError(f"{path}: {dtype}; wanted uint8, or float in [0, 1]")

    def read(places: NDArray[np.intp]) -> Chunks:
        with _opened(path) as (file, header):
            for start, rows in _rows(file, header):
                taken = rows[places[(places >= start) & (places < start + len(rows))] - start]
                if len(taken):
                    taken = taken if dtype == np.uint8 else taken.astype(np.float32)
                    taken = taken.reshape(*taken.shape[:3], -1).transpose(0, 3, 1, 2)
                    yield torch.from_numpy(np.ascontiguousarray(taken))

    return ImageSet(str(path), shape[0], (shape[1], shape[2]), read, "files")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], _Header]]:
    """The file of the one array in an .npy or .npz, its header read; StudyError if it has none."""
    if path.exists() and not path.is_file():
        raise StudyError(f"{path}: no file; give an .npy or .npz")  # a pipe would be waited for
    try:
        with ExitStack() as stack:
            file: IO[bytes] = stack.enter_context(path.open("rb"))
            if zipfile.is_zipfile(file):
                archive = stack.enter_context(zipfile.ZipFile(file))
                if len(archive.namelist()) != 1:
                    held = ", ".join(name.removesuffix(".npy") for name in archive.namelist())
                    raise StudyError(
                        f"{path} holds {held or 'nothing'}; wanted one array: save the images alone"
                    )
                file = stack.enter_context(archive.open(archive.namelist()[0]))
            else:
                file.seek(0)
            yield file, _header(file)
    except StudyError:
        raise
    except FileNotFoundError as error:
        raise StudyError(f"{path}: no such file") from error
    except Exception as error:  # zipfile and NumPy raise whatever the broken bytes lead them to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StudyError(f"{path}: not an array that NumPy can read ({reason})") from error


def _header(file: IO[bytes]) -> _Header:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return _Header(*np.lib.format.read_array_header_1_0(file))
    return _Header(*np.lib.format.read_array_header_2_0(file))


def _rows(file: IO[bytes], header: _Header) -> Iterator[tuple[int, NDArray[Any]]]:
    """The array from where the file stands, some rows at a time, with the first one's place."""
    n, *rest = header.shape
    row = int(np.prod(rest, dtype=np.int64)) * header.dtype.itemsize
    at_once = n if header.by_columns else max(1, CHUNK_BYTES // row)
    for start in range(0, n, at_once):
        count = min(at_once, n - start)
        content = file.read(count * row)
        if len(content) < count * row:
            raise EOFError(f"it ends before its {n} images do")
        rows = np.frombuffer(content, header.dtype)
        yield start, rows.reshape((count, *rest), order="F" if header.by_columns else "C")

"""Anybody's own images: a folder of them becomes a data set in the data folder, known by a name.

`own/NAME` there holds one array a part, its classes where the images lay in subfolders, and
`data_set.json`, which says where they came from and holds the arrays' hashes. It is written last:
a folder without it is no data set.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from study.counts import counted
from study.datasets import _files as files
from study.datasets import images
from study.datasets.base import DataSet, Images
from study.errors import StudyError
from study.settings.config import BATCH_SIZE
from study.settings.frozen import NAME, NAME_RULE

SIZES_PX = range(8, 129, 4)  # that the networks can draw
LEAST = {"train": BATCH_SIZE, "held_out": 2}
MOST_CLASSES = 256  # a byte each
FEW_CLASSES = 12  # that are named
SEED = 0
SIDECAR = "data_set.json"
PLACE = 1_000  # after all others
RULE = "central square, scaled by Pillow's antialiased bicubic"
VERIFIED = "sha256 of the images as they were added"

Progress = Callable[[int, int], None]


class Sidecar(BaseModel):
    """What is known of a data set without loading it: data_set.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    shape: tuple[int, int, int]
    sizes: dict[str, int]
    classes: tuple[str, ...] = ()
    source: str
    rule: str
    seed: int
    left_out: int = Field(ge=0)
    sha256: dict[str, str]

    @field_validator("sizes")
    @classmethod
    def both_parts(cls, sizes: dict[str, int]) -> dict[str, int]:
        """Both parts have a size, and no other has."""
        if sizes.keys() != LEAST.keys():
            raise ValueError(f"parts {', '.join(sizes)}; wanted {', '.join(LEAST)}")
        return sizes


# --- The data sets that were added ----------------------------------------------------------------


def names(folder: Path) -> list[str]:
    """The names of the data sets that were added to the data folder, sorted."""
    found = (path.parent.name for path in (folder / "own").glob(f"*/{SIDECAR}"))
    return sorted(name for name in found if re.fullmatch(NAME, name))


def find(name: str, folder: Path) -> DataSet | None:
    """A data set that was added, or None; one whose data_set.json is damaged is a StudyError."""
    path = folder / "own" / name / SIDECAR
    if not re.fullmatch(NAME, name) or not path.is_file():
        return None
    try:
        sidecar = Sidecar.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise StudyError(
            f"{path}: cannot be read ({' '.join(str(error).split())[:200]}); "
            f"remove {path.parent} and add the images again"
        ) from error
    return DataSet(
        title=name,
        place=PLACE,
        shape=sidecar.shape,
        sizes=sidecar.sizes,
        read=partial(_read, name, sidecar),
        verified=VERIFIED,
        source=f"{sidecar.source}; {sidecar.rule}",
        labels=partial(_labels, name, sidecar) if sidecar.classes else None,
    )


def _read(name: str, sidecar: Sidecar, part: str, folder: Path) -> tuple[Images, Path]:
    return _array(name, sidecar, f"{part}.npy", folder)


def _labels(name: str, sidecar: Sidecar, part: str, folder: Path) -> NDArray[np.uint8]:
    return _array(name, sidecar, f"{part}-labels.npy", folder)[0]


def _array(name: str, sidecar: Sidecar, file: str, folder: Path) -> tuple[NDArray[np.uint8], Path]:
    path = folder / "own" / name / file
    try:
        found = files.file_hash(path, "sha256")
    except OSError as error:
        raise StudyError(
            f"{path}: cannot be read ({error.strerror}); add the images again"
        ) from error
    if found != sidecar.sha256.get(file):
        raise StudyError(
            f"{path}: sha256 is {found}, wanted {sidecar.sha256.get(file)}; "
            f"remove {path.parent} and add the images again"
        )
    array: NDArray[np.uint8] = np.load(path, allow_pickle=False)
    return array, path


# --- Adding one -----------------------------------------------------------------------------------


@dataclass
class Added:
    """What became of the files of a folder."""

    classes: tuple[str, ...]
    others: Counter[str]  # kind of files that are no images -> how many
    no_classes: str = ""  # why there are none, where there are subfolders
    sizes: dict[str, int] = field(default_factory=dict)  # part -> number of images
    grey: bool = True
    notes: Counter[str] = field(default_factory=Counter)  # what was done to images -> how many
    bad: list[str] = field(default_factory=list)  # what was wrong with each image left out
    repeats: int = 0  # images that equal an earlier one, pixel for pixel
    in_both: int = 0  # of those, training images that equal a held-out one
    _seen: dict[bytes, str] = field(default_factory=dict)

    def count_repeat(self, image: bytes, part: str) -> None:
        """Count an image, as stored, that was there before."""
        key = hashlib.blake2b(image, digest_size=16).digest()
        if key in self._seen:
            self.repeats += 1
            self.in_both += part == "train" and self._seen[key] == "held_out"
        else:
            self._seen[key] = part


def add(
    name: str,
    source: Path,
    folder: Path,
    *,
    size: int = 32,
    held_out: float = 0.1,
    skip_bad: bool = False,
    taken: Sequence[str] = (),
    progress: Progress = lambda done, of: None,
) -> Added:
    """Make the images below `source` a data set of that name in the data folder.

    Each image's central square is scaled to size x size (`images.fitted`). Which ones are held out
    is drawn by a fixed seed: `held_out` below 1 is their share, else their number. Both parts are
    in random order. Grey images alone make a grey data set. Where every image lies in a subfolder,
    the first one's name is its class. Memory does not grow with the images; nothing is there under
    that name until everything is. Bad input is a StudyError, an image that cannot be read, too,
    unless `skip_bad` leaves it out.
    """
    target = folder / "own" / name
    _require_name(name, target, taken)
    if size not in SIZES_PX:
        raise StudyError(f"size = {size}: allowed are multiples of 4 from 8 to 128")
    _require_folder(source)
    found = images.find(source)
    count = _held_out_count(held_out, len(found.files))
    _require_enough(source, len(found.files), count)
    classes, no_classes = _classes(source, found.files)
    added = Added(classes, found.others, no_classes)
    dealt = [found.files[i] for i in np.random.default_rng(SEED).permutation(len(found.files))]
    pictures = _pictures(dealt, size, skip_bad, added, progress)
    with files.scratch(folder) as scratch:
        try:
            made = scratch / name
            made.mkdir()
            _write_part(made, "held_out", islice(pictures, count), source, size, added)
            _write_part(made, "train", pictures, source, size, added)
            _require_enough(source, sum(added.sizes.values()), added.sizes["held_out"])
            if added.grey:
                for part in added.sizes:
                    _keep_one_channel(made / f"{part}.npy")
            _write_sidecar(made, source, size, added)
            target.parent.mkdir(exist_ok=True)
            os.rename(made, target)
        except OSError as error:  # a full disk, or another process that was faster
            raise StudyError(f"{target}: cannot be written ({error.strerror})") from error
    return added


def _require_name(name: str, target: Path, taken: Sequence[str]) -> None:
    if not re.fullmatch(NAME, name):
        raise StudyError(f"name '{name}': {NAME_RULE}")
    if name in taken:
        raise StudyError(f"the name '{name}' is taken; choose another")
    if target.exists():
        raise StudyError(f"the name '{name}' is taken by {target}; choose another, or remove that")


def _require_folder(source: Path) -> None:
    if source.is_dir():
        return
    if not source.exists():
        raise StudyError(f"{source}: no such folder; give a folder of images")
    if source.suffix.lower() in images.formats():
        raise StudyError(f"{source}: an image, no folder; give the folder that it lies in")
    raise StudyError(
        f"{source}: a file, no folder; unpack it if it is an archive, and give the folder of images"
    )


def _held_out_count(held_out: float, n: int) -> int:
    if not (0 < held_out < 1 or (held_out >= 1 and held_out % 1 == 0)):
        raise StudyError(
            f"held-out = {held_out:g}: allowed are a share between 0 and 1, or a whole number of "
            "images"
        )
    return round(held_out * n) if held_out < 1 else int(held_out)


def _require_enough(source: Path, n: int, held_out: int) -> None:
    if held_out < LEAST["held_out"] or n - held_out < LEAST["train"]:
        raise StudyError(
            f"{source}: {n:,} images, {held_out:,} of them held out; at least "
            f"{LEAST['train']} to train on and {LEAST['held_out']} held-out ones are needed"
        )


def _classes(source: Path, paths: Sequence[Path]) -> tuple[tuple[str, ...], str]:
    """The first subfolders' names, sorted, or none and, where there are any, why they are none."""
    beside = [path.name for path in paths if path.parent == source]
    found = sorted({path.relative_to(source).parts[0] for path in paths if path.parent != source})
    if not found:
        return (), ""
    if beside:
        many = f"{len(beside):,} images lie" if len(beside) > 1 else "an image lies"
        return (), f"{many} beside the subfolders, the first: {beside[0]}"
    if len(found) > MOST_CLASSES:
        return (), f"{len(found):,} subfolders; at most {MOST_CLASSES} can be classes"
    if len(found) == 1:
        return (), f"all images lie in one subfolder, {found[0]}; if classes lie in it, give that"
    return tuple(found), ""


def _pictures(
    paths: Sequence[Path], size: int, skip_bad: bool, added: Added, progress: Progress
) -> Iterator[tuple[Path, Images]]:
    """Each file that holds an image, and its pixels (size, size, C)."""

    def attempt(path: Path) -> images.Picture | StudyError:
        try:
            return images.fitted(path, size)
        except StudyError as error:
            return error

    results = images.in_order(attempt, paths)
    for done, (path, found) in enumerate(zip(paths, results, strict=True), start=1):
        progress(done, len(paths))
        if isinstance(found, images.Picture):
            added.notes.update(found.notes)
            yield path, found.pixels
        elif skip_bad:
            added.bad.append(str(found))
        else:
            raise StudyError(f"{found}; mend or remove it, or leave such images out: --skip-bad")


def _write_part(
    made: Path,
    part: str,
    pictures: Iterable[tuple[Path, Images]],
    source: Path,
    size: int,
    added: Added,
) -> None:
    """Write the images (N, 3, size, size) as they come, and their classes (N,) where there are."""
    labels = []
    with (made / f"{part}.npy").open("xb") as file:
        _write_header(file, 0, 3, size)
        for path, pixels in pictures:
            added.grey = added.grey and bool((pixels == pixels[..., :1]).all())
            image = np.broadcast_to(pixels, (size, size, 3)).transpose(2, 0, 1).tobytes()
            added.count_repeat(image, part)
            file.write(image)
            labels.append(path.relative_to(source).parts[0])
        added.sizes[part] = len(labels)
        _write_header(file, len(labels), 3, size)
    if added.classes:
        number = {name: place for place, name in enumerate(added.classes)}
        np.save(made / f"{part}-labels.npy", np.array([number[x] for x in labels], np.uint8))


def _write_header(file: IO[bytes], n: int, channels: int, size: int) -> None:
    """NumPy leaves room for any n in it, so that it can be written again when n is known."""
    shape = (n, channels, size, size)
    file.seek(0)
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )


def _keep_one_channel(path: Path) -> None:
    """Turn an array (N, 3, H, W) of grey images into (N, 1, H, W), a thousand at a time."""
    colour = np.load(path, mmap_mode="r")
    grey = path.with_suffix(".grey")
    with grey.open("xb") as file:
        _write_header(file, len(colour), 1, colour.shape[-1])
        for start in range(0, len(colour), 1000):
            file.write(colour[start : start + 1000, :1].tobytes())
    grey.replace(path)


def _write_sidecar(made: Path, source: Path, size: int, added: Added) -> None:
    sidecar = Sidecar(
        shape=(1 if added.grey else 3, size, size),
        sizes={part: added.sizes[part] for part in ("train", "held_out")},
        classes=tuple(_text(name) for name in added.classes),
        source=_text(str(source.resolve())),
        rule=RULE,
        seed=SEED,
        left_out=len(added.bad),
        sha256={path.name: files.file_hash(path, "sha256") for path in sorted(made.iterdir())},
    )
    (made / SIDECAR).write_text(sidecar.model_dump_json(indent=1) + "\n", encoding="utf-8")


# --- In words -------------------------------------------------------------------------------------


def _text(name: str) -> str:
    """A file's name as text that can be written, though its bytes need not be UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def report(name: str, added: Added) -> Iterator[str]:
    """What became of a folder, a line each."""
    return map(_text, _report(name, added))


def _report(name: str, added: Added) -> Iterator[str]:
    kind = "grey" if added.grey else "colour"
    yield (
        f"{name}: {added.sizes['train']:,} images to train on and {added.sizes['held_out']:,} "
        f"held out, {kind}"
    )
    if added.classes:
        few = len(added.classes) <= FEW_CLASSES
        named = f": {', '.join(added.classes)}" if few else ""
        yield f"{len(added.classes)} classes, the subfolders' names{named}"
    if added.no_classes:
        yield f"no classes: {added.no_classes}"
    for note, count in sorted(added.notes.items()):
        yield f"{count:,} {note}"
    if added.repeats:
        yield (
            f"{added.repeats:,} images equal another one, pixel for pixel; "
            f"{added.in_both:,} of those trained on equal a held-out one"
        )
    if added.bad:
        bad = counted(len(added.bad), "image")
        yield f"{bad} left out that cannot be read, the first: {added.bad[0]}"
    for kind, count in sorted(added.others.items()):
        yield f"{count:,} {kind} left out"
    yield f"now: make sweep LOSS=ns DATASET={name}"

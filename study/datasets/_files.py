"""Files in the data folder: verified by their hashes, written whole, fetched within time limits."""

import contextlib
import hashlib
import importlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from study.datasets.base import Images
from study.errors import StudyError

SILENCE_S = 20.0  # a download whose server says nothing for so long has failed
MEND = "delete it to have it fetched or made again, or put a whole copy there"


def compare(what: str, kind: str, found: str, wanted: str) -> None:
    """A StudyError that names `what` and both hashes where they differ."""
    if found != wanted:
        raise StudyError(f"{what}: {kind} is {found}, wanted {wanted}; {MEND}")


def file_hash(path: Path, kind: str) -> str:
    """The hash ("md5", "sha256") of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def cached(path: Path, make: Callable[[], Images]) -> tuple[Images, Path]:
    """The array in `path`, made on first use; beside it its hash, in sha256sum's format."""
    manifest = path.with_name(f"{path.name}.sha256")
    if not (path.is_file() and manifest.is_file()):
        _write_cache(path, manifest, make)
    wanted = manifest.read_text().partition(" ")[0]
    compare(str(path), "sha256", file_hash(path, "sha256"), wanted)
    images: Images = np.load(path, allow_pickle=False)
    return images, path


def _write_cache(path: Path, manifest: Path, make: Callable[[], Images]) -> None:
    with scratch(path.parent) as folder:  # before minutes are spent on what cannot be written
        np.save(folder / path.name, make())
        sha256 = file_hash(folder / path.name, "sha256")
        (folder / manifest.name).write_text(f"{sha256}  {path.name}\n")
        os.replace(folder / path.name, path)
        os.replace(folder / manifest.name, manifest)


class NotHere(StudyError):  # noqa: N818 (nothing has gone wrong)
    """Data that would have to be fetched or made first."""


_allowed = [True]


@contextlib.contextmanager
def nothing_fetched() -> Iterator[None]:
    """Within the block, data that are not there are a `NotHere`: nothing is fetched or made."""
    _allowed.append(False)
    try:
        yield
    finally:
        _allowed.pop()


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A temporary folder in the data folder: on its file system, so that renaming is atomic.

    Whatever is fetched or made begins here.
    """
    if not _allowed[-1]:
        raise NotHere(f"not in {folder}")
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


def torchvision() -> Any:
    """torchvision.datasets, imported where it is used: that takes longer than to read the data."""
    return importlib.import_module("torchvision.datasets")


@contextlib.contextmanager
def silence_limit() -> Iterator[None]:
    """torchvision sets no time limit: without one a silent firewall holds a download for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)

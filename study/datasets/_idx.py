"""MNIST and Fashion-MNIST: four IDX files each, packed or not, in one of several places."""

import gzip
import hashlib
import os
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from study.datasets import _files as files
from study.datasets.base import Images
from study.errors import StudyError

FILES = {
    "train": "train-images-idx3-ubyte",
    "held_out": "t10k-images-idx3-ubyte",
    "train labels": "train-labels-idx1-ubyte",
    "held_out labels": "t10k-labels-idx1-ubyte",
}
SIZES = {"train": 60_000, "held_out": 10_000}
VERIFIED = "sha256 of each unpacked IDX file against the published one"


@dataclass
class IdxFiles:
    """Where a data set's IDX files are looked for, their hashes, and who is asked for them."""

    name: str
    places: tuple[str | Path, ...]  # looked through in order, in the data folder
    sha256: dict[str, str]  # of the unpacked files: packed ones differ between distributors
    fetchers: tuple[Callable[[Path], None], ...]  # each puts the files below a folder

    def read(self, split: str, folder: Path) -> tuple[Images, Path]:
        """A split's images (N, 1, H, W), and the file."""
        content, path = self._content(split, folder)
        n, height, width = np.frombuffer(content, ">i4", count=3, offset=4)
        return np.frombuffer(content, np.uint8, offset=16).reshape(n, 1, height, width), path

    def labels(self, split: str, folder: Path) -> NDArray[np.uint8]:
        """A split's classes (N,)."""
        content, _ = self._content(f"{split} labels", folder)
        return np.frombuffer(content, np.uint8, offset=8)

    def _content(self, part: str, folder: Path) -> tuple[bytearray, Path]:
        path = self._find(part, folder)
        if path is None:
            self._fetch(folder)
            path = folder / self.name / FILES[part]
        return bytearray(_unpacked(path, self.sha256[part])), path

    def _find(self, part: str, folder: Path) -> Path | None:
        names = (FILES[part], f"{FILES[part]}.gz")
        paths = (folder / place / name for place in self.places for name in names)
        return next((path for path in paths if path.is_file()), None)

    def _fetch(self, folder: Path) -> None:
        """Put the IDX files of the first source that has them into the data folder, unpacked."""
        failures = []
        for fetch in self.fetchers:
            with files.scratch(folder) as scratch:
                try:
                    fetch(scratch)
                    for part, sha256 in self.sha256.items():
                        _place(scratch, FILES[part], sha256, folder / self.name)
                    return
                except (OSError, RuntimeError, subprocess.SubprocessError, StudyError) as error:
                    failures.append(" ".join(f"{fetch.__name__}: {error}".split()))
        raise StudyError(
            f"{self.name} is not in {folder} and could not be fetched ({'; '.join(failures)}); put "
            f"{', '.join(FILES.values())} (or .gz) into {folder / self.name}"
        )


def _unpacked(path: Path, sha256: str) -> bytes:
    """The content of an IDX file, packed or not, once its hash is found right."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise StudyError(f"{path}: cannot be unpacked ({error}); {files.MEND}") from error
    files.compare(f"{path} (unpacked)", "sha256", hashlib.sha256(content).hexdigest(), sha256)
    return content


def _place(scratch: Path, file: str, sha256: str, target: Path) -> None:
    source = next((path for path in sorted(scratch.rglob(f"{file}*"))), scratch / file)
    whole = scratch / "verified"
    whole.write_bytes(_unpacked(source, sha256))
    target.mkdir(exist_ok=True)
    os.replace(whole, target / file)

"""Figures that need not be drawn: their files are what the same inputs were drawn to before.

What a figure comes to depends on its tables, on the files in the folders that these name, on the
package's own files, on the packages installed beside it, on matplotlib's settings and on the fonts.
All of that is hashed. A record in the user's cache folder holds for such a hash those of the two
files that were drawn, and only files that have these are left alone: what is not known is drawn.
"""

import hashlib
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.font_manager import fontManager

import study
from study import files
from study.settings import shipped

MOST = 2000
"""Figures that are remembered: those drawn last."""
CLOCK_S = 0.01
"""A file system's clock may lag behind by so much."""


def key_of(kind: str, given: Sequence[pd.DataFrame], around: str) -> str:
    """A hash of what a figure of this kind depends on; `around` is `surroundings`."""
    content = hashlib.sha256(repr((kind, len(given), around)).encode())
    for table in given:
        for part in _parts(table):
            content.update(hashlib.sha256(part).digest())
    return content.hexdigest()


def surroundings() -> str:
    """A hash of what all figures depend on beside their tables.

    Where a file of the package has changed since this process began, and may have been imported as
    it was before, the hash is like no other.
    """
    content = hashlib.sha256()
    for path in _code():
        content.update(_file(path))
        with suppress(OSError):
            if path.stat().st_ctime > study.STARTED - CLOCK_S:
                content.update(secrets.token_bytes())
    installed = sorted(each.name for place in sys.path for each in Path(place).glob("*-info"))
    settings = dict(matplotlib.rcParams.copy())
    del settings["backend"]  # of windows
    fonts = [(font.fname, _stamp(font.fname)) for font in fontManager.ttflist]
    content.update(repr((sys.version, installed, settings, fonts)).encode())
    return content.hexdigest()


def _code() -> list[Path]:
    """The files of the package, wherever its registries look for theirs."""
    packages = [module for name, module in sys.modules.items() if f"{name}.".startswith("study.")]
    places = {place for package in packages for place in getattr(package, "__path__", ())}
    places |= {str(shipped.PAPER_RESULTS), str(shipped.SWEEPS)}
    walks = (walk for place in places for walk in os.walk(place))
    found = {Path(top, name) for top, _, names in walks for name in names}
    return sorted(path for path in found if path.suffix != ".pyc")


def _stamp(path: str) -> tuple[int, int] | None:
    with suppress(OSError):
        about = os.stat(path)
        return about.st_size, about.st_mtime_ns
    return None


def _file(path: Path) -> bytes:
    """A hash of a file and its name; of its name alone where it cannot be read."""
    content = hashlib.sha256(path.name.encode() + b"\0")
    with suppress(OSError), open(path, "rb", opener=files.open_at_once) as file:
        content.update(file.read())
    return content.digest()


def _parts(table: pd.DataFrame) -> Iterator[bytes]:
    """What a table holds, column by column, and what lies where its paths point to."""
    yield repr(table.index.tolist()).encode()
    folders = set()
    for name, column in table.items():
        yield repr((name, column.dtype)).encode()
        if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biufc":
            yield column.to_numpy().tobytes()
        else:
            values = column.tolist()
            yield repr(values).encode()
            folders |= {value.parent for value in values if isinstance(value, Path)}
    for folder in sorted(folders):
        yield from map(_file, sorted(folder.glob("*")))


# --- The record -----------------------------------------------------------------------------------


def stand(paths: Sequence[Path], hashes: object) -> bool:
    """Whether all the files are there and have these hashes."""
    with suppress(OSError):
        return [digest(files.read_bytes(path)) for path in paths] == hashes
    return False


def digest(content: bytes) -> str:
    """A hash of a file's content."""
    return hashlib.sha256(content).hexdigest()


def record() -> dict[str, object]:
    """{key: hashes of the files}, the last drawn last; empty where it cannot be read."""
    with suppress(OSError):
        return files.read_json(_path()) or {}
    return {}


def remember(drawn: Mapping[str, Sequence[str]]) -> None:
    """Add to the record; a folder that cannot be written to only costs time."""
    if not drawn:
        return
    before = {key: hashes for key, hashes in record().items() if key not in drawn}
    content = dict(islice(reversed((before | dict(drawn)).items()), MOST))
    with suppress(OSError):
        _path().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_json(_path(), dict(reversed(content.items())))


def _path() -> Path:
    return files.cache_folder() / "figures.json"

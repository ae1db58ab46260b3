"""Thousands of damaged files: each is read, or refused in one line that names it."""

import gzip
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from study.datasets import _idx, images
from study.errors import StudyError
from study.measures.image_sets import open_set


def pictures() -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
    for suffix in ("png", "gif", "jpg", "bmp", "ppm", "tiff", "webp", "tga", "ico", "pcx", "sgi"):
        content = io.BytesIO()
        kind = Image.registered_extensions()[f".{suffix}"]
        (colour.quantize(16) if suffix == "gif" else colour).save(content, kind)
        yield suffix, content.getvalue()


def arrays() -> Iterator[tuple[str, bytes]]:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8), np.uint8)
    for name, save in (("npy", np.save), ("npz", np.savez), ("z.npz", np.savez_compressed)):
        content = io.BytesIO()
        save(content, pixels)
        yield name, content.getvalue()


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed, taken out or put in; at the start, where headers lie, most often."""
    broken = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        end = len(broken) if rng.random() < 0.5 else min(len(broken), 64)
        place = int(rng.integers(end)) if end else 0
        kind = rng.integers(4)
        if kind == 0:
            broken[place : place + 1] = rng.bytes(1)
        elif kind == 1:
            del broken[place : place + int(rng.integers(1, 20))]
        elif kind == 2:
            broken[place:place] = rng.bytes(int(rng.integers(1, 9)))
        else:
            broken[place : place + 4] = b"\xff\xff\xff\xff"
    return bytes(broken)


def fuzz(path: Path, content: bytes, read: Callable[[Path], object], times: int) -> int:
    """Read damaged files; how many were refused."""
    refused = []
    for seed in range(times):
        path.write_bytes(damaged(content, np.random.default_rng(seed)))
        try:
            read(path)
        except StudyError as error:
            refused.append(str(error))
    assert [line for line in refused if str(path) not in line or "\n" in line] == []
    return len(refused)


@pytest.mark.parametrize(("suffix", "content"), [*pictures()])
def test_image_files(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    assert images.fitted(path, 8).pixels.shape == (8, 8, 3)
    for read in (images.read, lambda at: images.fitted(at, 8)):
        assert fuzz(path, content, read, 100) > 0


@pytest.mark.parametrize(("name", "content"), [*arrays()])
def test_arrays(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / f"a.{name}"

    def read(path: Path) -> None:
        list(open_set(str(path)).batches(None, 3))

    assert fuzz(path, content, read, 300) > 100


def test_idx(tmp_path: Path) -> None:
    content = gzip.compress(bytes(range(200)))

    def read(path: Path) -> None:
        _idx._unpacked(path, "0" * 64)

    assert fuzz(tmp_path / "a.gz", content, read, 300) == 300

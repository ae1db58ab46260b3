"""Triangles on a circle: the data set whose manifold is known (the paper's section 5).

The paper measures precision and recall on convex polygons; this is its set of triangles, by the
rules of the authors' released generator. Coordinates are (x, y) in pixels: x runs along the
columns, y down the rows, and pixel (row i, column j) covers [j, j + 1] x [i, i + 1].

Rotation: the released code turns a triangle by U(0, 1) * 2 pi *degrees* (degrees were taken for
radians twice); that is followed. It also takes the first coordinate for the row and centres its
pixels on their corners, so that its pictures are these turned by 40 degrees and moved by 7/16 of
a pixel; that is not followed, for it changes no distance between a picture and the manifold.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from study.datasets import _files as files
from study.datasets.base import DataSet, Images
from study.errors import StudyError

VERSION = 1  # of the pictures: raise it when vertices or pixels change, or old caches stay in use
SEED = 0
SIZES = {"train": 60_000, "held_out": 10_000, "hold_out": 10_000}

SIZE_PX = 28
RADIUS_PX = 10.5  # 28 px * scale 0.75 / 2
SUBPIXELS = 8  # along each side of a pixel
FIRST_ANGLE_DEG = 10.0  # vertex i lies at 120 i + FIRST + U(0, 1) * SPAN + the rotation
ANGLE_SPAN_DEG = 110.0
ROTATION_SPAN_DEG = 2 * math.pi
CHUNK = 8  # triangles rendered at once: their 3 x 224 x 224 tests still fit a core's cache


def corners(angles_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vertices (n, 3, 2) in pixels of triangles whose corners lie at `angles_deg` (n, 3).

    The corners lie on a circle of RADIUS_PX, which is then moved so that their mean is the
    picture's centre (14, 14). Angles run from the x axis towards the y axis.
    """
    angles = np.deg2rad(angles_deg)
    circle = RADIUS_PX * np.stack((np.cos(angles), np.sin(angles)), axis=-1)
    return np.asarray(circle - circle.mean(axis=1, keepdims=True) + SIZE_PX / 2)


def vertices(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw `n` triangles of the manifold: vertices (n, 3, 2) in pixels, mean (14, 14).

    Vertex i lies at 120 i + 10 + U(0, 1) * 110 degrees, and one rotation of U(0, 1) * 6.28
    degrees is added to all three. Each triangle takes four draws, so that the first k of n are
    the same triangles whatever n is.
    """
    draws = rng.random((n, 4))
    angles = 120.0 * np.arange(3) + FIRST_ANGLE_DEG + ANGLE_SPAN_DEG * draws[:, :3]
    return corners(angles + ROTATION_SPAN_DEG * draws[:, 3:])


def split_vertices(split: str) -> NDArray[np.float64]:
    """Vertices (n, 3, 2) behind the pictures of "train", "held_out" or "hold_out", in their order.

    `hold_out` is the third part, which nothing is trained on or selected by. An unknown split is
    a StudyError.
    """
    if split not in SIZES:
        raise StudyError(f"unknown split {split!r} of triangles; allowed: {', '.join(SIZES)}")
    everything = vertices(sum(SIZES.values()), np.random.default_rng(SEED))
    parts = np.split(everything, np.cumsum(list(SIZES.values()))[:-1])
    return dict(zip(SIZES, parts, strict=True))[split]


def render(vertices: NDArray[np.float64], size: int = SIZE_PX) -> NDArray[np.uint8]:
    """Draw triangles (n, 3, 2) as uint8 pictures (n, 1, size, size): black (0) on white (255).

    Each pixel is the mean over 8 x 8 points, the centres of its subpixels, of "outside the
    triangle", times 255 and rounded; a point on an edge is inside. The corners may run either way
    round; without area nothing is drawn. Vertices of another shape, or not finite: StudyError.
    """
    if vertices.ndim != 3 or vertices.shape[1:] != (3, 2) or not np.isfinite(vertices).all():
        raise StudyError(f"vertices of shape {vertices.shape}; allowed: (n, 3, 2), all finite")
    pictures = np.empty((len(vertices), 1, size, size), np.uint8)
    for start in range(0, len(vertices), CHUNK):
        inside = _points_inside(vertices[start : start + CHUNK], size)
        pictures[start : start + CHUNK, 0] = np.rint(255 * (1 - inside / SUBPIXELS**2))
    return pictures


def _points_inside(vertices: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """How many of each pixel's 64 points lie in the triangle: (n, size, size), 0 to 64."""
    points = (np.arange(size * SUBPIXELS) + 0.5) / SUBPIXELS
    x, y = vertices[..., 0, None], vertices[..., 1, None]  # (n, 3, 1)
    dx, dy = np.roll(x, -1, axis=1) - x, np.roll(y, -1, axis=1) - y
    area = dx[:, 0] * dy[:, 1] - dy[:, 0] * dx[:, 1]  # its sign tells which side is inside
    way = np.sign(area)[:, None]
    # A point is inside where dx (py - y) >= dy (px - x) for all three edges.
    left, right = way * dx * (points - y), way * dy * (points - x)
    inside = (left[..., :, None] >= right[..., None, :]).all(axis=1) & (area != 0)[..., None]
    by_row = inside.reshape(-1, size, SUBPIXELS, size * SUBPIXELS).sum(axis=2, dtype=np.uint8)
    return np.asarray(by_row.reshape(-1, size, size, SUBPIXELS).sum(axis=3, dtype=np.int64))


def _read(split: str, folder: Path) -> tuple[Images, Path]:
    """Drawn once, then read from the data folder; `split_vertices` has the corners."""
    path = folder / f"triangles-v{VERSION}-{split}.npy"
    return files.cached(path, lambda: render(split_vertices(split)))


DATA_SET = DataSet(
    title="Triangles",
    place=50,
    shape=(1, SIZE_PX, SIZE_PX),
    sizes=SIZES,
    read=_read,
    verified="sha256 of the images as they were first drawn",
    source="drawn here, by the rules of the authors' released generator",
    measure="manifold",
)

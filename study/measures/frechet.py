"""The Fréchet distance between two sets of feature vectors, and the real side kept on disk.

Everything here is float64 on the CPU. Real always comes before fake.
"""

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.lapack import dsygst
from torch import Tensor

from study import files
from study.errors import StudyError
from study.features import Extractor

Array = NDArray[np.float64]
UNREADABLE = (OSError, EOFError, zipfile.BadZipFile, KeyError, ValueError, StudyError)


# --- Fréchet distance -----------------------------------------------------------------------------


class Moments:
    """Mean and covariance of features that come in batches, in memory that does not grow."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self._sum: Array = np.zeros(dim)
        self._outer: Array = np.zeros((dim, dim))

    def update(self, features: Tensor | NDArray[np.floating[Any]]) -> None:
        """Add features (N, dim); another width or a non-finite value is a StudyError."""
        x = _checked(features, len(self._sum))
        self.count += len(x)
        self._sum += x.sum(axis=0)
        self._outer += x.T @ x

    @property
    def mean(self) -> Array:
        """The features' mean, (dim,)."""
        self._enough(1)
        return self._sum / self.count

    @property
    def covariance(self) -> Array:
        """The features' covariance with n - 1, (dim, dim)."""
        self._enough(2)
        result: Array = np.outer(self._sum, self._sum / self.count)
        np.subtract(self._outer, result, out=result)
        result /= self.count - 1
        return result

    def same_as(self, other: "Moments") -> bool:
        """Whether both are of the same features, to the last bit."""
        return (
            self.count == other.count
            and np.array_equal(self._sum, other._sum)
            and np.array_equal(self._outer, other._outer)
        )

    def _enough(self, least: int) -> None:
        if self.count < least:
            raise StudyError(f"{self.count} images; this statistic needs at least {least}")


class Block:
    """What `Moments` adds up, in half the memory: of symmetric sums the lower triangle alone."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self._sum: Array = np.zeros(dim)
        self._lower: Array = np.zeros(dim * (dim + 1) // 2)

    def update(self, features: Tensor | NDArray[np.floating[Any]]) -> None:
        """As `Moments.update`."""
        x = _checked(features, len(self._sum))
        self.count += len(x)
        self._sum += x.sum(axis=0)
        self._lower += (x.T @ x)[np.tri(len(self._sum), dtype=np.bool_)]


def _checked(features: Tensor | NDArray[np.floating[Any]], dim: int) -> Array:
    x = float64(features)
    if x.shape[1] != dim:
        raise StudyError(f"features of shape {x.shape}; expected (N, {dim})")
    return x


def together(blocks: Sequence[Block]) -> Moments:
    """The moments of the features of all blocks."""
    first, *others = blocks
    moments, lower = Moments(len(first._sum)), first._lower.copy()
    moments.count, moments._sum = first.count, first._sum.copy()
    for block in others:
        moments.count += block.count
        moments._sum += block._sum
        lower += block._lower
    triangle = np.tri(len(first._sum), dtype=np.bool_)
    moments._outer[triangle] = lower
    moments._outer.T[triangle] = lower
    return moments


@dataclass(frozen=True)
class RealStatistics:
    """What the Fréchet distance needs of the real side, its costly part done once.

    `alive` are the features that vary at all, `root` is the lower triangular L with L Lᵀ = their
    covariance, which has `rank` dimensions.
    """

    mean: Array
    covariance: Array
    alive: NDArray[np.intp]
    root: Array
    rank: int


def statistics_of(mean: Array, covariance: Array) -> RealStatistics:
    """Real statistics from a mean (dim,) and a covariance (dim, dim), singular or not.

    Cholesky's factor does not exist where there are fewer images than features. QR of the
    eigenvectors, scaled by the eigenvalues' roots, gives the same triangle and always exists.
    """
    _check_moments(mean, covariance)
    alive = np.flatnonzero(np.diagonal(covariance))
    eigenvalues, vectors = np.linalg.eigh(covariance[np.ix_(alive, alive)])
    noise = eigenvalues.max(initial=0) * len(mean) * np.finfo(np.float64).eps
    vectors *= np.sqrt(eigenvalues.clip(0))
    root: Array = np.asarray(
        np.linalg.qr(vectors.T, mode="r")
    ).T  # column-major, as LAPACK wants it
    return RealStatistics(mean, covariance, alive, root, rank=int((eigenvalues > noise).sum()))


def distance_to(real: RealStatistics, fake: Moments) -> float:
    """Squared Fréchet distance between the real and the fake features' Gaussians.

    ‖μ₁ - μ₂‖² + Tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½) (Dowson & Landau 1982; Heusel et al. 2017, eq. 6). Σ₁ Σ₂
    has the eigenvalues of Lᵀ Σ₂ L with Σ₁ = L Lᵀ, which is symmetric. Its rank is known: what
    exceeds it is rounding noise, whose square roots would add up where a covariance is singular.
    """
    return _distance(real, fake.mean, fake.covariance, rank=fake.count - 1)


def frechet_distance(mu1: Array, sigma1: Array, mu2: Array, sigma2: Array) -> float:
    """Squared Fréchet distance between N(mu1, sigma1) and N(mu2, sigma2): see `distance_to`.

    Means (dim,), covariances (dim, dim). Mismatched shapes and non-finite values are a StudyError.
    """
    if np.shape(mu1) != np.shape(mu2):
        raise StudyError(f"means of shapes {np.shape(mu1)} and {np.shape(mu2)}; they must be equal")
    _check_moments(mu2, sigma2)
    return _distance(statistics_of(mu1, sigma1), mu2, sigma2, rank=len(mu2))


def _distance(real: RealStatistics, mean: Array, covariance: Array, rank: int) -> float:
    if real.mean.shape != mean.shape:
        raise StudyError(f"{len(real.mean)} real features but {len(mean)} fake ones")
    block = covariance[np.ix_(real.alive, real.alive)]
    # LAPACK's reduction computes Lᵀ Σ L at a quarter of two products' cost; Σᵀ = Σ spares a copy.
    if len(block):
        block = dsygst(block.T, real.root, itype=2, lower=1, overwrite_a=1)[0]
    eigenvalues = np.linalg.eigvalsh(block, UPLO="L").clip(0)
    cross = np.sqrt(eigenvalues[::-1][: min(rank, real.rank)]).sum()
    trace = np.trace(real.covariance) + np.trace(covariance)
    return float(((real.mean - mean) ** 2).sum() + trace - 2 * cross)


def _check_moments(mean: Array, covariance: Array) -> None:
    if np.ndim(mean) != 1 or np.shape(covariance) != (len(mean), len(mean)):
        raise StudyError(
            f"mean of shape {np.shape(mean)} and covariance of shape {np.shape(covariance)}; "
            "expected (dim,) and (dim, dim)"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise StudyError("non-finite mean or covariance; look for NaN or inf in the images")


def float64(features: Tensor | NDArray[np.floating[Any]]) -> Array:
    """Features (N, dim) as a float64 array; another shape or a non-finite value: StudyError."""
    array = features.cpu().numpy() if isinstance(features, Tensor) else features
    if array.ndim != 2:
        raise StudyError(f"features of shape {array.shape}; expected (N, dim)")
    if not np.isfinite(array).all():
        raise StudyError("non-finite features; look for NaN or inf in the images")
    return array.astype(np.float64)


# --- Real statistics, kept on disk ----------------------------------------------------------------


def real_statistics(images: Tensor, extractor: Extractor, folder: Path) -> RealStatistics:
    """Statistics of real images (N, C, H, W), read from `folder` where they were computed before.

    The file is named by a hash of the images' bytes and shape and of the extractor's weights and
    recipe. Many processes may ask at once: each writes a whole file or none. A file that cannot be
    read is computed again; a folder that cannot be written to only costs time.
    """
    path = folder / f"{_key(images, extractor)}.npz"
    with contextlib.suppress(*UNREADABLE):
        return _read(path, extractor.dim)
    moments = Moments(extractor.dim)
    for part in torch.split(images, 1000):
        moments.update(extractor(part))
    statistics = statistics_of(moments.mean, moments.covariance)
    with contextlib.suppress(OSError):
        _write(path, statistics)
    return statistics


def _key(images: Tensor, extractor: Extractor) -> str:
    what = f"{extractor.name} {extractor.digest} {tuple(images.shape)} {images.dtype}"
    what += os.environ.get("ATEN_CPU_CAPABILITY", "")  # another instruction set rounds otherwise
    if extractor.device.type == "cuda":  # and so does a GPU
        what += torch.cuda.get_device_name(extractor.device)
    sha256 = hashlib.sha256(what.encode())
    sha256.update(np.ascontiguousarray(images.cpu().numpy()).data)
    return sha256.hexdigest()


def _read(path: Path, dim: int) -> RealStatistics:
    with np.load(path, allow_pickle=False) as file:
        mean, covariance, alive = file["mean"], file["covariance"], file["alive"]
        statistics = RealStatistics(mean, covariance, alive, file["root"], int(file["rank"]))
    if statistics.mean.shape != (dim,) or len(statistics.root) != len(statistics.alive):
        raise ValueError(f"{path} holds statistics of another size")
    _check_moments(statistics.mean, statistics.covariance)
    return statistics


def _write(path: Path, statistics: RealStatistics) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # np.savez would give a name another ending
            np.savez(file, **asdict(statistics))

    files.write_atomically(path, write)

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from study import features
from study.errors import StudyError
from study.measures import frechet as fid
from study.measures.frechet import Array


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def draw(rng: np.random.Generator, n: int, dim: int, shift: float = 0.0) -> Array:
    """Features with a steep spectrum, like a network's."""
    mix = np.random.default_rng(1).standard_normal((dim, dim)) * np.exp(-np.arange(dim) / 20)
    return np.maximum(rng.standard_normal((n, dim)) @ mix + shift, 0)


def moments(x: Array) -> fid.Moments:
    result = fid.Moments(x.shape[1])
    result.update(x)
    return result


def gaussian(x: Array) -> tuple[Array, Array]:
    return x.mean(axis=0), np.cov(x, rowvar=False)


def distance(real: Array, fake: Array) -> float:
    statistics = moments(real)
    return fid.distance_to(fid.statistics_of(statistics.mean, statistics.covariance), moments(fake))


def by_singular_values(real: Array, fake: Array) -> float:
    """Exact at any rank: Tr (S1 S2)^1/2 is the sum of the singular values of A Bᵀ."""
    a, b = ((x - x.mean(axis=0)) / np.sqrt(len(x) - 1) for x in (real, fake))
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    difference = real.mean(axis=0) - fake.mean(axis=0)
    return float(difference @ difference + (a**2).sum() + (b**2).sum() - 2 * cross)


# --- Fréchet distance


def test_one_dimension() -> None:
    one = np.ones((1, 1))
    value = fid.frechet_distance(np.array([1.0]), 4 * one, np.array([3.0]), 25 * one)
    assert value == pytest.approx((1 - 3) ** 2 + (2 - 5) ** 2)


def test_commuting_covariances(rng: np.random.Generator) -> None:
    """Σ₁ and Σ₂ with the same eigenvectors: ‖μ₁ - μ₂‖² + Σ (√λ₁ - √λ₂)²."""
    basis = linalg.qr(rng.standard_normal((6, 6)))[0]
    first, second = rng.uniform(0.1, 9, (2, 6))
    mu1, mu2 = rng.standard_normal((2, 6))
    value = fid.frechet_distance(
        mu1, basis @ np.diag(first) @ basis.T, mu2, basis @ np.diag(second) @ basis.T
    )
    expected = ((mu1 - mu2) ** 2).sum() + ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
    assert value == pytest.approx(expected, rel=1e-12)


def test_against_sqrtm(rng: np.random.Generator) -> None:
    (mu1, sigma1), (mu2, sigma2) = gaussian(draw(rng, 300, 40)), gaussian(draw(rng, 300, 40, 0.3))
    root = linalg.sqrtm(sigma1 @ sigma2).real
    expected = ((mu1 - mu2) ** 2).sum() + np.trace(sigma1 + sigma2 - 2 * root)
    assert fid.frechet_distance(mu1, sigma1, mu2, sigma2) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "dim"), [(1000, 64), (400, 256), (100, 256)])
def test_against_torch_fidelity(rng: np.random.Generator, n: int, dim: int) -> None:
    real, fake = draw(rng, n, dim), draw(rng, n, dim, 0.2)
    theirs = fid_statistics_to_metric(
        *(fid_features_to_statistics(torch.from_numpy(x)) for x in (real, fake)), verbose=False
    )["frechet_inception_distance"]
    assert fid.frechet_distance(*gaussian(real), *gaussian(fake)) == pytest.approx(theirs, rel=1e-6)
    assert distance(real, fake) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(50, 300), (300, 50), (50, 60), (2, 2)])
def test_fewer_images_than_features(rng: np.random.Generator, n: int, m: int) -> None:
    real, fake = draw(rng, n, 120), draw(rng, m, 120, 0.2)
    assert distance(real, fake) == pytest.approx(by_singular_values(real, fake), rel=1e-10)


def test_features_that_never_move(rng: np.random.Generator) -> None:
    real, fake = draw(rng, 200, 30), draw(rng, 200, 30, 0.1)
    real[:, 3] = fake[:, 3] = 0
    real[:, 4] = real[:, 5] = 1
    assert distance(real, fake) == pytest.approx(by_singular_values(real, fake), rel=1e-10)


def test_constant_images_are_a_point(rng: np.random.Generator) -> None:
    """To a point the distance is ‖μ₁ - μ₂‖² + Tr Σ₁."""
    real, fake = draw(rng, 100, 10), np.ones((100, 10))
    mu, sigma = gaussian(real)
    assert distance(real, fake) == pytest.approx(((mu - 1) ** 2).sum() + np.trace(sigma))
    assert distance(fake, real) == pytest.approx(((mu - 1) ** 2).sum() + np.trace(sigma))


def test_symmetry_zero_shift_and_scale(rng: np.random.Generator) -> None:
    real, fake = draw(rng, 200, 20), draw(rng, 200, 20, 0.5)
    value = distance(real, fake)
    assert distance(fake, real) == pytest.approx(value)
    assert distance(real, real) == pytest.approx(0, abs=1e-8 * np.trace(gaussian(real)[1]))
    assert distance(real, real + 2) == pytest.approx(20 * 2**2)
    assert distance(3 * real, 3 * fake) == pytest.approx(9 * value)


def test_order_does_not_matter_and_repeats_are_equal(rng: np.random.Generator) -> None:
    real, fake = draw(rng, 500, 30), draw(rng, 500, 30, 0.2)
    shuffled = distance(rng.permutation(real), rng.permutation(fake))
    assert shuffled == pytest.approx(distance(real, fake), rel=1e-10)
    assert distance(real, fake) == distance(real, fake)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mu1": np.zeros(3)}, "shapes"),
        ({"sigma1": np.eye(3)}, "expected"),
        ({"sigma2": np.zeros((2, 3))}, "expected"),
        ({"mu2": np.array([0.0, np.nan])}, "non-finite"),
        ({"sigma1": np.diag([1.0, np.inf])}, "non-finite"),
    ],
)
def test_bad_moments(change: dict[str, Array], message: str) -> None:
    good = {"mu1": np.zeros(2), "sigma1": np.eye(2), "mu2": np.zeros(2), "sigma2": np.eye(2)}
    assert fid.frechet_distance(**good) == pytest.approx(0)
    with pytest.raises(StudyError, match=message):
        fid.frechet_distance(**(good | change))


# --- Moments


def test_streaming_is_numpys_mean_and_covariance(rng: np.random.Generator) -> None:
    x = (draw(rng, 1003, 50) + 5).astype(np.float32)
    result = fid.Moments(50)
    for part in torch.split(torch.from_numpy(x), 100):
        result.update(part)
    assert result.count == 1003
    np.testing.assert_allclose(result.mean, x.mean(axis=0, dtype=np.float64), rtol=1e-12)
    expected = np.cov(x.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(result.covariance, expected, rtol=1e-8, atol=1e-10)


def test_blocks_add_up_to_the_same_bits_as_moments(rng: np.random.Generator) -> None:
    parts = [draw(rng, n, 7) for n in (30, 1, 12)]
    blocks = [fid.Block(7), fid.Block(7)]
    for part, block in zip(parts, (blocks[0], blocks[0], blocks[1]), strict=True):
        block.update(part)
    first, second = moments(parts[0]), moments(parts[2])
    first.update(parts[1])
    assert fid.together(blocks[:1]).same_as(first)
    both = fid.together(blocks)
    assert both.count == 43
    assert np.array_equal(both._outer, first._outer + second._outer)
    assert np.array_equal(both.mean, (first._sum + second._sum) / 43)
    assert not both.same_as(first)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((4, 3)), "shape"),
        (np.zeros(2), "shape"),
        (np.array([[0.0, np.nan]]), "non-finite"),
        (torch.tensor([[0.0, np.inf]]), "non-finite"),
    ],
)
def test_bad_features(bad: Array | Tensor, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        fid.Moments(2).update(bad)


def test_too_few_images() -> None:
    result = fid.Moments(2)
    with pytest.raises(StudyError, match="0 images"):
        _ = result.mean
    result.update(np.ones((1, 2)))
    with pytest.raises(StudyError, match=r"1 images; .* at least 2"):
        _ = result.covariance


def test_real_and_fake_of_other_widths(rng: np.random.Generator) -> None:
    real = fid.statistics_of(np.zeros(3), np.eye(3))
    with pytest.raises(StudyError, match="3 real features but 4 fake ones"):
        fid.distance_to(real, moments(draw(rng, 10, 4)))


# --- Real statistics on disk


class Counting:
    """The random extractor, counting the images that pass through it."""

    def __init__(self, **changes: Any) -> None:
        self.extractor = replace(features.load("random"), **changes)
        self.images = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.extractor, name)

    def __call__(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return self.extractor(images)


def real_statistics(images: Tensor, extractor: Counting, folder: Path) -> fid.RealStatistics:
    return fid.real_statistics(images, extractor, folder)  # type: ignore[arg-type]


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (80, 1, 28, 28), dtype=torch.uint8, generator=generator)


def equal(a: fid.RealStatistics, b: fid.RealStatistics) -> bool:
    return (
        np.array_equal(a.mean, b.mean)
        and np.array_equal(a.covariance, b.covariance)
        and np.array_equal(a.alive, b.alive)
        and np.array_equal(a.root, b.root)
        and a.rank == b.rank
    )


def test_statistics_are_computed_once(tmp_path: Path, images: Tensor) -> None:
    extractor, tmp_path = Counting(), tmp_path / "statistics/of"  # is made
    first = real_statistics(images, extractor, tmp_path)
    expected = gaussian(extractor.extractor(images).double().numpy())
    np.testing.assert_allclose(first.covariance, expected[1], rtol=1e-8, atol=1e-12)
    block = expected[1][np.ix_(first.alive, first.alive)]
    np.testing.assert_allclose(first.root @ first.root.T, block, rtol=1e-8, atol=1e-12)
    assert 0 < len(first.alive) < 64  # some of the random features are 0 on every image
    assert np.abs(expected[1]).sum() == pytest.approx(np.abs(block).sum())
    again = real_statistics(images, extractor, tmp_path)
    assert extractor.images == 80
    assert equal(first, again)
    fake = moments(extractor.extractor(images.flip(0)[:70]).numpy())
    assert fid.distance_to(first, fake) == fid.distance_to(again, fake)


def test_other_data_count_or_recipe_is_another_file(tmp_path: Path, images: Tensor) -> None:
    other = images.clone()
    other[0, 0, 0, 0] ^= 1
    for data in (images, other, images[:79]):
        real_statistics(data, Counting(), tmp_path)
    real_statistics(images, Counting(recipe="another"), tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 4


@pytest.mark.parametrize("damage", ["truncate", "empty", "other", "another size", "nan"])
def test_a_corrupt_file_is_computed_again(tmp_path: Path, images: Tensor, damage: str) -> None:
    extractor = Counting()
    expected = real_statistics(images, extractor, tmp_path)
    (path,) = tmp_path.iterdir()
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other":
        np.savez(path, mean=np.zeros(3))
    elif damage == "another size":
        mean, three = np.zeros(3), np.eye(3)
        alive, rank = np.arange(3), np.array(3)
        np.savez(path, mean=mean, covariance=three, root=three, alive=alive, rank=rank)
    else:
        content = dict(np.load(path))
        np.savez(path, **(content | {"mean": content["mean"] * np.nan}))
    assert equal(real_statistics(images, extractor, tmp_path), expected)
    assert extractor.images == 160
    real_statistics(images, extractor, tmp_path)
    assert extractor.images == 160
    assert [p.suffix for p in tmp_path.iterdir()] == [".npz"]


def test_a_folder_that_cannot_be_written_to_only_costs_time(tmp_path: Path, images: Tensor) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert real_statistics(images, Counting(), blocked / "cache").mean.shape == (64,)


ASK = """
import sys, torch
from pathlib import Path
from study import features
from study.measures import frechet as fid
images = torch.arange(80 * 784).mul(7919).remainder(251).to(torch.uint8).view(80, 1, 28, 28)
print(repr(fid.real_statistics(images, features.load("random"), Path(sys.argv[1])).root.sum()))
"""


def test_two_processes_ask_at_once(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", ASK, tmp_path],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(2)
    ]
    answers = [process.communicate()[0] for process in both]
    assert answers[0] == answers[1] != ""
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from study.analysis.statistics.samples import Array
from study.errors import StudyError
from study.measures import neighbours


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def draw(rng: np.random.Generator, n: int, dim: int, shift: float = 0.0) -> Array:
    """Features with a steep spectrum, like a network's."""
    mix = np.random.default_rng(1).standard_normal((dim, dim)) * np.exp(-np.arange(dim) / 20)
    return np.maximum(rng.standard_normal((n, dim)) @ mix + shift, 0)


def measured(real: Tensor, fake: Tensor, k: int = 3) -> dict[str, float]:
    return neighbours.kid_and_precision_recall(neighbours.real_neighbours(real, k), fake)


def plain_kid(real: NDArray[Any] | Tensor, fake: NDArray[Any] | Tensor) -> float:
    """KID by its definition, in float64."""
    x, y = (np.asarray(features, np.float64) for features in (real, fake))

    def kernel(u: Array, v: Array) -> Array:
        cubed: Array = (u @ v.T / u.shape[1] + 1) ** 3
        return cubed

    within = [(k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in (kernel(x, x), kernel(y, y))]
    return float(sum(within) - 2 * kernel(x, y).mean())


def test_kid_by_hand() -> None:
    """dim 1, kernel (xy + 1)³: pairs of real 1·2, of fake 0·1, across the four products."""
    found = measured(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [1.0]]), k=1)
    across = ((0 + 1) ** 3 + (1 + 1) ** 3 + (0 + 1) ** 3 + (2 + 1) ** 3) / 4
    assert found["kid"] == pytest.approx((2 + 1) ** 3 + (0 + 1) ** 3 - 2 * across)


def test_kid_has_no_bias(rng: np.random.Generator) -> None:
    """Two sets of one distribution: the mean over many draws is 0 within its standard error."""
    draws = torch.from_numpy(rng.standard_normal((1000, 2, 12, 3)))
    values = [measured(real, fake)["kid"] for real, fake in draws]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))


def test_kid_equals_torch_fidelitys(rng: np.random.Generator) -> None:
    real, fake = (torch.from_numpy(x) for x in (draw(rng, 150, 20), draw(rng, 150, 20, 0.1)))
    options = {"kid_subsets": 1, "kid_subset_size": 150, "verbose": False}
    theirs = kid_features_to_metric(real, fake, **options)["kernel_inception_distance_mean"]
    assert plain_kid(real, fake) == pytest.approx(theirs, rel=1e-9)
    assert measured(real, fake)["kid"] == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize(("n", "m"), [(1300, 1100), (4, 700), (600, 4)])
def test_all_at_once_equals_kid_and_torch_fidelitys_precision_and_recall(
    rng: np.random.Generator, n: int, m: int
) -> None:
    real, fake = (
        torch.from_numpy(x).float() for x in (draw(rng, n, 8), 0.7 * draw(rng, m, 8, 0.1))
    )
    found = measured(real, fake)
    theirs = prc_features_to_metric(fake, real, prc_neighborhood=3, verbose=False)
    assert found["knn_precision"] == pytest.approx(theirs["precision"], abs=1e-6)
    assert found["knn_recall"] == pytest.approx(theirs["recall"], abs=1e-6)
    assert found["kid"] == pytest.approx(plain_kid(real, fake), rel=1e-6)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_equal_those_of_exact_distances(
    rng: np.random.Generator, k: int
) -> None:
    real, fake = (x.astype(np.float32) for x in (draw(rng, 900, 8), 0.7 * draw(rng, 800, 8, 0.1)))
    reach = {
        side: np.sort(cdist(x, x), axis=1)[:, k] for side, x in (("real", real), ("fake", fake))
    }
    apart = cdist(fake, real)
    found = measured(torch.from_numpy(real), torch.from_numpy(fake), k)
    assert found["knn_precision"] == (apart <= reach["real"]).any(axis=1).mean()
    assert found["knn_recall"] == (apart <= reach["fake"][:, None]).any(axis=0).mean()
    assert 0 < found["knn_recall"] < found["knn_precision"] < 1


def test_far_from_the_origin_no_digits_are_lost(rng: np.random.Generator) -> None:
    """300 plus some hundredths: squared, they have no digits left for distances."""
    real, fake = (
        torch.from_numpy(300 + 0.01 * rng.standard_normal((400, 16))).float() for _ in range(2)
    )
    found = measured(real, fake)
    apart = cdist(fake.double(), real.double())
    reach = np.sort(cdist(real.double(), real.double()), axis=1)[:, 3]
    assert found["knn_precision"] == (apart <= reach).any(axis=1).mean()
    assert 0.5 < found["knn_precision"] < 1


def test_kid_of_sets_that_hardly_differ(rng: np.random.Generator) -> None:
    """What float32 rounds of a great kernel does not reach the small difference."""
    real, fake = draw(rng, 1500, 40), draw(rng, 1500, 40, 0.01)
    expected = plain_kid(real.astype(np.float32), fake.astype(np.float32))
    found = measured(torch.from_numpy(real).float(), torch.from_numpy(fake).float())
    kernel = float(np.mean((real @ real.T / 40 + 1) ** 3))
    assert abs(expected) < 1e-2 * kernel
    assert found["kid"] == pytest.approx(expected, abs=1e-8 * kernel)


def test_precision_and_recall_by_hand() -> None:
    """k = 1: the reals at 0, 1, 3 reach 1, 1, 2; the fakes at 0.5, 6, 6.5 reach 5.5, 0.5, 0.5."""
    real = torch.tensor([[0.0], [1.0], [3.0]])
    fake = torch.tensor([[0.5], [6.0], [6.5]])
    found = measured(real, fake, k=1)
    assert (found["knn_precision"], found["knn_recall"]) == pytest.approx((1 / 3, 1.0))


def test_one_image_again_and_again(rng: np.random.Generator) -> None:
    """Collapsed to one of the real images: precise, and a single real image is recalled."""
    real = torch.from_numpy(draw(rng, 300, 8)).float()
    found = measured(real, real[:1].expand(300, -1))
    assert found["knn_precision"] == 1
    assert found["knn_recall"] <= 1 / 300
    assert found["kid"] > 0


def test_a_set_against_itself(rng: np.random.Generator) -> None:
    real = torch.from_numpy(draw(rng, 600, 8)).float()
    found = measured(real, real)
    assert (found["knn_precision"], found["knn_recall"]) == (1, 1)
    assert found["kid"] < 0  # equal pairs count across, not within


def test_unlike_sets() -> None:
    with pytest.raises(StudyError, match="3 real features but 4 fake ones"):
        measured(torch.zeros(9, 3), torch.zeros(9, 4))
    with pytest.raises(StudyError, match="9 real and 1 fake images"):
        measured(torch.zeros(9, 3), torch.zeros(1, 3))
    with pytest.raises(StudyError, match="non-finite"):
        measured(torch.zeros(9, 3), torch.full((9, 3), np.nan))


def test_too_few_real_images() -> None:
    with pytest.raises(StudyError, match="3 images; their 3 nearest neighbours need at least 4"):
        neighbours.real_neighbours(torch.zeros(3, 2))

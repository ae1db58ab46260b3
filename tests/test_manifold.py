"""Distance to the manifold of triangles; precision, recall and F1 with known answers."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from study.datasets import triangles
from study.errors import StudyError
from study.measures import descents, triangle_distance
from study.measures import triangle_manifold as manifold
from study.training.networks import Prior

jacobian_of: Callable[..., Tensor] = torch.autograd.functional.jacobian


def pictures(vertices: np.ndarray) -> Tensor:
    """The data set's own pictures, as floats."""
    return torch.from_numpy(triangles.render(vertices)) / 255


def hold_out(n: int) -> np.ndarray:
    return triangles.vertices(n, np.random.default_rng(5))


# --- The rasteriser ---


def test_rasteriser_equals_the_data_sets_renderer_within_the_stated_error() -> None:
    vertices = hold_out(300)
    gap = triangle_distance.draw(torch.from_numpy(vertices).float()) - pictures(vertices)
    assert gap.abs().max() < 0.1
    assert gap.square().sum((1, 2, 3)).mean() < 0.01
    assert gap.square().sum((1, 2, 3)).max() < 0.1


@pytest.mark.parametrize("way", [1, -1])
def test_rasteriser_draws_any_triangle_partly_outside_and_either_way_round(way: int) -> None:
    vertices = np.random.default_rng(0).uniform(-12, 40, (60, 3, 2))[:, ::way].copy()
    gap = triangle_distance.draw(torch.from_numpy(vertices)) - pictures(vertices)
    assert gap.abs().max() < 0.2  # slivers thinner than a subpixel among them
    assert gap.square().sum((1, 2, 3)).mean() < 0.03


def test_coverage_is_the_exact_area() -> None:
    # Legs of 4 px along grid lines: whole pixels under the diagonal, halves on it.
    image = triangle_distance.draw(torch.tensor([[[4.0, 4.0], [8.0, 4.0], [4.0, 8.0]]]))[0, 0]
    expected = torch.triu(torch.ones(4, 4)).flip(1) - 0.5 * torch.eye(4).flip(1)
    torch.testing.assert_close(1 - image[4:8, 4:8], expected)
    assert (1 - image).sum() == pytest.approx(8)
    # A corner that cuts a quarter of a pixel's width off: area 1/2 * 0.25 * 0.25.
    small = triangle_distance.draw(torch.tensor([[[3.0, 3.0], [3.25, 3.0], [3.0, 3.25]]]))[0, 0]
    assert 1 - small[3, 3] == pytest.approx(1 / 32, abs=1e-5)


def test_rasteriser_is_differentiable() -> None:
    vertices = torch.from_numpy(hold_out(2)).requires_grad_()
    assert torch.autograd.gradcheck(triangle_distance.draw, vertices, fast_mode=True)


def test_corners_are_the_data_sets_and_their_derivative_is_autograds() -> None:
    draws = torch.from_numpy(np.random.default_rng(5).random((4, 4)))
    vertices, derivative = triangle_distance.corners(draws)
    np.testing.assert_allclose(vertices, hold_out(4), atol=1e-12)
    expected = jacobian_of(lambda d: triangle_distance.corners(d)[0].sum(0), draws)
    torch.testing.assert_close(derivative, expected.movedim(2, 0))


def test_linearised_distance_has_autograds_gradient_and_gauss_newtons_curvature() -> None:
    draws = torch.rand(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets = pictures(hold_out(3)).double()

    def residual(d: Tensor) -> Tensor:
        return (triangle_distance.draw(triangle_distance.corners(d)[0]) - targets).flatten(1)

    gap, gradient, curvature = triangle_distance._linearise(draws, targets)
    torch.testing.assert_close(gap, residual(draws).square().sum(1))
    jacobian = jacobian_of(lambda d: residual(d).sum(0), draws).movedim(1, 0)
    torch.testing.assert_close(gradient, torch.einsum("npk,np->nk", jacobian, residual(draws)))
    torch.testing.assert_close(curvature, jacobian.mT @ jacobian)


# --- Distance to the closest triangle ---


def brute_force(image: Tensor) -> float:
    """Least squared distance on a grid over the manifold, then at random about the best points."""
    grid = torch.linspace(0, 1, 14)
    draws = torch.cartesian_prod(grid, grid, grid, torch.tensor([0.0, 1.0]))
    rng = torch.Generator().manual_seed(0)
    for reach in 0.1 * 0.8 ** np.arange(30):
        best = draws[squared_distance(image, draws).topk(5, largest=False).indices]
        offsets = reach * (2 * torch.rand(5, 60, 4, generator=rng) - 1)
        tried = (best[:, None] + offsets).clamp(0, 1).flatten(0, 1)
        draws = torch.cat((best, tried))
    return squared_distance(image, draws).min().item()


def squared_distance(image: Tensor, draws: Tensor) -> Tensor:
    parts = [
        triangle_distance.draw(triangle_distance.corners(part)[0])
        for part in torch.split(draws, 64)
    ]
    return (torch.cat(parts) - image).square().sum((1, 2, 3))


def test_pictures_of_the_data_set_lie_at_zero_within_the_rasterisers_error() -> None:
    assert triangle_distance.distance(pictures(hold_out(64))).max() < 0.1


@pytest.mark.parametrize("moved_px", [2.0, 5.0])
def test_moved_vertex_is_found_at_the_brute_force_distance(moved_px: float) -> None:
    vertices = hold_out(2)
    outward = vertices[:, 0] - triangles.SIZE_PX / 2
    vertices[:, 0] -= moved_px * outward / np.linalg.norm(outward, axis=1, keepdims=True)
    images = pictures(vertices)
    found = triangle_distance.distance(images)
    assert (found > 1).all()  # off the manifold, by more than any rendering error
    expected = [brute_force(image) for image in images]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=2e-3, atol=0.01)


def test_noise_is_found_at_the_brute_force_distance_and_never_beyond_its_norm() -> None:
    clean = triangle_distance.draw(torch.from_numpy(hold_out(2)).float())
    noise = 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    images = (clean + noise).clamp(0, 1)
    norm = (images - clean).square().sum((1, 2, 3))
    found = triangle_distance.distance(images)
    assert (found <= norm + 1e-4).all()
    assert (found > 0.9 * norm).all()  # noise of 784 dimensions has little along 3 of them
    expected = [brute_force(image) for image in images]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-3, atol=0.01)


def test_closest_triangle_of_a_picture_is_the_one_it_shows() -> None:
    vertices = hold_out(16)
    _, found = triangle_distance.closest_triangle(pictures(vertices))
    assert np.abs(found.numpy() - vertices).max() < 0.1  # px


def test_distance_of_bytes_equals_that_of_floats_and_does_not_depend_on_its_company() -> None:
    raw = torch.from_numpy(triangles.render(hold_out(8)))
    torch.testing.assert_close(
        triangle_distance.distance(raw), triangle_distance.distance(raw / 255)
    )
    alone = triangle_distance.distance(raw[3:4], random=0)
    torch.testing.assert_close(
        triangle_distance.distance(raw, random=0)[3:4], alone, rtol=1e-3, atol=1e-5
    )


def test_distance_converges_with_steps_and_starts_and_the_defaults_suffice() -> None:
    rows = triangle_distance.distance_convergence(
        pictures(hold_out(24)), neighbours=(1, 4), random=(0, 1), steps=(0, 3, 12, 24)
    )
    excess = {(r["neighbours"], r["random"], r["steps"]): r["mean_excess"] for r in rows}
    assert len(excess) == 16
    assert excess[1, 0, 0] > excess[1, 0, 3] > excess[4, 1, 12]
    assert excess[4, 1, 24] == 0
    assert excess[descents.NEIGHBOURS, descents.RANDOM_STARTS, descents.STEPS] < 1e-4
    by_start = {(r["neighbours"], r["steps"]): r for r in rows if r["random"] == 0}
    assert by_start[1, 12]["within_delta"] == 1


# --- Distance to the closest generated image ---


class Span(nn.Module):
    """A generator whose nearest image is known: orthogonal columns of very different lengths."""

    def __init__(self) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(1)
        self.lengths = torch.logspace(-1, 0.7, 64)
        self.directions: Tensor = torch.linalg.qr(torch.randn(784, 64, generator=rng))[0]

    def forward(self, z: Tensor) -> Tensor:
        return 0.5 + ((z * self.lengths) @ self.directions.T).view(-1, 1, 28, 28) / 8

    def nearest(self, images: Tensor, bound: float) -> Tensor:
        z = 8 * ((images - 0.5).flatten(1) @ self.directions) / self.lengths
        drawn: Tensor = self(z.clamp(-bound, bound))
        return (drawn - images).square().sum((1, 2, 3))


@pytest.mark.parametrize(("prior", "bound"), [("uniform", 1.0), ("normal", torch.inf)])
def test_descent_on_z_reaches_the_closed_form(prior: Prior, bound: float) -> None:
    span = Span().eval()
    z = torch.randn(8, 64, generator=torch.Generator().manual_seed(2))
    images = span(1.5 * z).clamp(0, 1)
    found = manifold.recall_distance(span, images, prior=prior, steps=300)
    torch.testing.assert_close(found, span.nearest(images, bound), rtol=2e-2, atol=2e-2)


def test_more_steps_never_lose_the_best_start() -> None:
    images = pictures(hold_out(8))
    rows = manifold.recall_convergence(Span().eval(), images, starts=(1, 2), steps=(0, 40))
    distance = {(row["starts"], row["steps"]): row["mean_distance"] for row in rows}
    assert distance[1, 40] < distance[1, 0]
    assert distance[2, 40] <= distance[1, 40]


def test_the_generator_is_left_as_it_was() -> None:
    network = nn.Sequential(nn.Linear(64, 784), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28))).eval()
    before = [p.clone() for p in network.parameters()]
    manifold.recall_distance(network, pictures(hold_out(2)), steps=2)
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert all(torch.equal(p, b) for p, b in zip(network.parameters(), before, strict=True))


# --- Precision, recall, F1: known answers ---


def scores(generator: manifold.GeneratorFunction, images: Tensor, n: int = 32) -> list[float]:
    found = manifold.precision_recall(generator, images, num_images=n, z_steps=40)
    distances = ["precision_distance", "recall_distance"]
    assert list(found) == ["precision", "recall", "f1", *distances]
    return list(found.values())[:3]


def test_exact_triangles_have_precision_and_recall_one() -> None:
    def exact(z: Tensor) -> Tensor:
        return triangle_distance.draw(triangle_distance.corners((z[:, :4] + 1) / 2)[0])

    assert scores(exact, pictures(hold_out(32))) == [1, 1, 1]


def test_half_of_the_manifold_has_precision_one_and_recall_between() -> None:
    def half(z: Tensor) -> Tensor:
        draws = (z[:, :4] + 1) / 2 * torch.tensor([0.5, 1, 1, 1])
        return triangle_distance.draw(triangle_distance.corners(draws)[0])

    # Reached: the first angle in the half that is drawn, or so near it that delta forgives.
    angles = np.random.default_rng(5).random((100, 4))[:, 0]
    precision, recall, f1 = scores(half, pictures(hold_out(100)), 100)
    assert precision == 1
    assert (angles < 0.5).mean() <= recall <= (angles < 0.6).mean()
    assert f1 == pytest.approx(2 * recall / (1 + recall))


def test_one_triangle_has_precision_one_and_recall_near_zero() -> None:
    one = pictures(hold_out(60)[-1:])
    precision, recall, f1 = scores(lambda z: one.expand(len(z), -1, -1, -1), pictures(hold_out(32)))
    assert (precision, recall, f1) == (1, 0, 0)


def test_noise_has_precision_and_recall_zero() -> None:
    weights = torch.randn(64, 784, generator=torch.Generator().manual_seed(0))
    noise = lambda z: (z @ weights).sigmoid().view(-1, 1, 28, 28)  # noqa: E731
    assert scores(noise, pictures(hold_out(32))) == [0, 0, 0]


def test_a_lookup_that_replays_the_test_images_has_both_one() -> None:
    images = pictures(hold_out(32))

    def lookup(z: Tensor) -> Tensor:
        return images[(1e4 * z.abs().sum(1)).long() % len(images)]

    assert scores(lookup, images) == [1, 1, 1]
    unseen = pictures(triangles.vertices(32, np.random.default_rng(6)))
    assert scores(lookup, unseen)[:2] == [1, nearest_share(unseen, images)]


def nearest_share(images: Tensor, memory: Tensor) -> float:
    gaps = torch.cdist(images.flatten(1).double(), memory.flatten(1).double()).square()
    return float((gaps.amin(1) <= descents.DELTA).double().mean())


def test_the_same_seed_gives_the_same_numbers() -> None:
    images = pictures(hold_out(8))
    first, again = (manifold.recall_distance(Span().eval(), images, steps=3) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, manifold.recall_distance(Span().eval(), images, steps=3, seed=1))
    assert torch.equal(triangle_distance.distance(images), triangle_distance.distance(images))


# --- Bad input ---


@pytest.mark.parametrize(
    ("images", "named"),
    [
        (torch.full((2, 1, 28, 28), torch.nan), "nan"),
        (torch.full((2, 1, 28, 28), torch.inf), "inf"),
        (torch.full((2, 1, 28, 28), 255.0), "255"),
        (torch.zeros(2, 28, 28), r"\(2, 28, 28\)"),
        (torch.zeros(2, 3, 32, 32), r"\(2, 3, 32, 32\)"),
        (torch.zeros(0, 1, 28, 28), r"\(0, 1, 28, 28\)"),
    ],
)
def test_unusable_images_are_refused(images: Tensor, named: str) -> None:
    with pytest.raises(StudyError, match=named):
        triangle_distance.distance(images)


@pytest.mark.parametrize(
    ("image", "named"),
    [
        (torch.full((1, 28, 28), torch.nan), "generated images with values from nan"),
        (torch.zeros(3, 32, 32), r"generated images of shape \(\d+, 3, 32, 32\)"),
    ],
)
def test_a_generator_of_unusable_images_is_refused(image: Tensor, named: str) -> None:
    with pytest.raises(StudyError, match=named):
        scores(lambda z: image.expand(len(z), -1, -1, -1), pictures(hold_out(32)))


def test_one_bad_pixel_among_good_ones_is_refused() -> None:
    images = pictures(hold_out(4))
    images[2, 0, 7, 7] = torch.nan
    with pytest.raises(StudyError, match="nan"):
        triangle_distance.distance(images)


def test_other_bad_input_is_refused() -> None:
    images = pictures(hold_out(4))
    with pytest.raises(StudyError, match="4 test images where 1024"):
        manifold.precision_recall(Span().eval(), images)
    with pytest.raises(StudyError, match="training mode"):
        manifold.recall_distance(Span(), images)
    with pytest.raises(StudyError, match="0 starts"):
        manifold.recall_distance(Span().eval(), images, starts=0)
    with pytest.raises(StudyError, match="at least one start"):
        triangle_distance.distance(images, neighbours=0, random=0)

"""How far an image lies from the closest triangle: triangles drawn differentiably, and a descent.

The manifold is what the data set's generator can draw, not every triangle: a triangle is four
draws in [0, 1], three for the corners' angles and one for the rotation, as in
`triangles.vertices`. Distances are sums over the 784 pixels of images in [0, 1].
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from study.datasets import triangles
from study.errors import StudyError
from study.measures.descents import DELTA, NEIGHBOURS, RANDOM_STARTS, STEPS

SIZE_PX = triangles.SIZE_PX
FRESH_TRIANGLES = 10_000  # among which neighbours are looked for
CHUNK = 64  # triangles drawn at once: their tensors fit a core's cache
DAMPING, DAMPING_FACTOR = 1e-2, 4.0  # Levenberg-Marquardt, relative to the diagonal
FLAT_PX = 1e-6  # an edge that runs along a grid line is taken to cross it this far
FAR_PX = 1e4


# --- Drawing triangles, differentiably ---------------------------------------------------------


def draw(vertices: Tensor) -> Tensor:
    """Draw triangles (N, 3, 2) in pixels as images (N, 1, 28, 28): black (0) on white (1).

    Each pixel is white by the exact area that the triangle leaves free (the limit of more and
    more subpixels), so the images are differentiable in the vertices. Against `triangles.render`
    (8 x 8 subpixels, 8 bit) the 10,000 of the hold-out differ by a squared distance of 0.0075 on
    average and 0.065 at most, a pixel by 0.09 at most. Corners may run either way round and lie
    outside the picture.
    """
    edges = vertices.roll(-1, 1) - vertices
    area = edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]
    signed, _, _ = _rasterise(vertices)
    return (1 - area.sign()[:, None, None] * signed).clamp(0, 1)[:, None]


def _rasterise(vertices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coverage (N, 28, 28), negative where corners run against the angle, and the edges' moments.

    An edge is P + t (Q - P), t in [0, 1]. The moments (N, 3, 28, 28) are the integrals of 1 and
    of t over the part of each edge in each pixel. By Green's theorem an edge covers, in its own
    pixels, what lies to its right, and in the pixels further right its height.
    """
    start, edge = vertices, vertices.roll(-1, 1) - vertices
    lines = torch.arange(SIZE_PX + 1, dtype=vertices.dtype, device=vertices.device)
    left_out = torch.cat((lines.new_tensor([-FAR_PX]), lines))  # first column: left of the picture
    low_x, high_x = _between_lines(start[..., 0], edge[..., 0], left_out)
    low_y, high_y = _between_lines(start[..., 1], edge[..., 1], lines)
    low = torch.maximum(low_x[:, :, None, :], low_y[:, :, :, None])
    high = torch.minimum(high_x[:, :, None, :], high_y[:, :, :, None])
    length = (high - low).clamp(min=0)
    moment = length * (high + low) / 2
    x, dx, dy = start[..., 0, None, None], edge[..., 0, None, None], edge[..., 1, None, None]
    own = dy * ((lines - x) * length - dx * moment)  # column j's right border is lines[j]
    further = (dy * length).sum(1).cumsum(-1)
    covered = own.sum(1)[..., 1:] + further[..., :-1]
    return -covered, length[..., 1:], moment[..., 1:]


def _between_lines(start: Tensor, change: Tensor, lines: Tensor) -> tuple[Tensor, Tensor]:
    """First and last t in [0, 1] at which start + t change lies between neighbouring lines."""
    steep = torch.where(change.abs() < FLAT_PX, FLAT_PX, change)
    t = ((lines - start[..., None]) / steep[..., None]).clamp(0, 1)
    return torch.minimum(t[..., :-1], t[..., 1:]), torch.maximum(t[..., :-1], t[..., 1:])


def corners(draws: Tensor) -> tuple[Tensor, Tensor]:
    """Vertices (N, 3, 2) in pixels of draws (N, 4) in [0, 1], and their derivative (N, 3, 2, 4).

    The map of `triangles.vertices`, in torch: three draws place the corners, one rotates.
    """
    spans = draws.new_tensor([triangles.ANGLE_SPAN_DEG, triangles.ROTATION_SPAN_DEG]).deg2rad()
    first = 120.0 * torch.arange(3).to(draws) + triangles.FIRST_ANGLE_DEG
    angles = first.deg2rad() + spans[0] * draws[:, :3] + spans[1] * draws[:, 3:]
    circle = triangles.RADIUS_PX * torch.stack((angles.cos(), angles.sin()), -1)
    tangent = torch.stack((-circle[..., 1], circle[..., 0]), -1)
    eye = torch.eye(3).to(draws)
    by_draw = torch.cat((spans[0] * eye, spans[1].expand(3, 1)), 1)
    derivative = torch.einsum("ji,nic,ik->njck", eye - 1 / 3, tangent, by_draw)
    return circle - circle.mean(1, keepdim=True) + SIZE_PX / 2, derivative


# --- The closest triangle ----------------------------------------------------------------------


def distance(
    images: Tensor,
    *,
    neighbours: int = NEIGHBOURS,
    random: int = RANDOM_STARTS,
    steps: int = STEPS,
    seed: int = 0,
) -> Tensor:
    """Squared Euclidean distance (N,) of images (N, 1, 28, 28) to the closest triangle.

    Images are float in [0, 1] or uint8; other shapes or values are a StudyError. Paper, section
    5, which descends on the vertices from 5 starts; see `closest_triangle`.
    """
    options = {"neighbours": neighbours, "random": random, "steps": steps, "seed": seed}
    return closest_triangle(images, **options)[0]


def closest_triangle(
    images: Tensor,
    *,
    neighbours: int = NEIGHBOURS,
    random: int = RANDOM_STARTS,
    steps: int = STEPS,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Squared distances (N,) to, and vertices (N, 3, 2) of, the triangles closest to the images.

    Levenberg-Marquardt on the four draws of a triangle, kept in [0, 1], from the nearest of
    10,000 fresh triangles and from random ones; the best start counts. `seed` draws both.
    """
    targets = unit(images)
    draws, paths = _descend_from(targets, neighbours, random, steps, seed)
    best = paths[:, :, -1].argmin(1)
    closest = draws[torch.arange(len(targets), device=draws.device), best]
    return paths[:, :, -1].amin(1), corners(closest)[0]


def distance_convergence(
    images: Tensor,
    *,
    neighbours: Iterable[int] = (0, 1, 2, 4, 8),
    random: Iterable[int] = (0, 1, 4, 8),
    steps: Iterable[int] = (0, 1, 2, 4, 8, 12, 16, 32),
    delta: float = DELTA,
    seed: int = 0,
) -> list[dict[str, float]]:
    """What `distance` would find by number of starts and of steps, one row a combination.

    Columns: neighbours, random, steps, mean_distance, mean_excess (over the best of all starts
    and steps here), within_delta (share of images).
    """
    near, far, counts = sorted(neighbours), sorted(random), sorted(steps)
    _, paths = _descend_from(unit(images), near[-1], far[-1], counts[-1], seed)
    best = paths[:, :, -1].amin(1)
    rows: list[dict[str, float]] = []
    for n, r in ((n, r) for n in near for r in far if n + r > 0):
        starts = torch.cat((paths[:, :n], paths[:, near[-1] : near[-1] + r]), 1)
        for count in counts:
            found = starts[:, :, count].amin(1)
            row = {"neighbours": n, "random": r, "steps": count}
            rows.append(row | summary(found, delta) | {"mean_excess": mean(found - best)})
    return rows


def _descend_from(
    targets: Tensor, neighbours: int, random: int, steps: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Final draws (N, starts, 4) and distances (N, starts, steps + 1), nearest neighbours first."""
    if neighbours < 0 or random < 0 or neighbours + random < 1 or steps < 0:
        raise StudyError(
            f"{neighbours} neighbours, {random} random starts, {steps} steps; "
            "allowed: none negative and at least one start"
        )
    rng = torch.Generator().manual_seed(seed)
    fresh = torch.rand(FRESH_TRIANGLES, 4, generator=rng).to(targets)
    pictures = torch.cat([draw(corners(part)[0]) for part in torch.split(fresh, CHUNK)])
    near = fresh[nearest(targets, pictures, neighbours)]
    far = torch.rand(len(targets), random, 4, generator=rng).to(targets)
    starts = torch.cat((near, far), 1)
    parts = zip(
        torch.split(starts.flatten(0, 1), CHUNK),
        torch.split(targets.repeat_interleave(starts.shape[1], 0), CHUNK),
        strict=True,
    )
    found = [_descend(draws, aims, steps) for draws, aims in parts]
    draws, paths = (torch.cat(part) for part in zip(*found, strict=True))
    return draws.view_as(starts), paths.view(*starts.shape[:2], steps + 1)


def _descend(draws: Tensor, targets: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Levenberg-Marquardt from draws (N, 4): where it ends, and distances (N, steps + 1)."""
    state = (draws, *_linearise(draws, targets))
    damping = torch.full_like(state[1], DAMPING)
    path = [state[1]]
    for _ in range(steps):
        trial_draws = _damped_step(state[0], state[2], state[3], damping)
        trial = (trial_draws, *_linearise(trial_draws, targets))
        better = trial[1] < state[1]
        state = (
            torch.where(better[:, None], trial[0], state[0]),
            torch.where(better, trial[1], state[1]),
            torch.where(better[:, None], trial[2], state[2]),
            torch.where(better[:, None, None], trial[3], state[3]),
        )
        damping = torch.where(better, damping / DAMPING_FACTOR, damping * DAMPING_FACTOR)
        damping = damping.clamp(1e-5, 1e5)
        path.append(state[1])
    return state[0], torch.stack(path, 1)


def _damped_step(draws: Tensor, gradient: Tensor, curvature: Tensor, damping: Tensor) -> Tensor:
    """One damped Gauss-Newton step of draws (N, 4) inside [0, 1].

    A draw at its bound that would leave stays there and takes no part in the step.
    """
    outward = ((draws <= 0) & (gradient > 0)) | ((draws >= 1) & (gradient < 0))
    free = (~outward).to(draws)
    diagonal = curvature.diagonal(dim1=1, dim2=2) * damping[:, None] + 1e-6
    system = curvature * free[:, :, None] * free[:, None, :]
    system = system + torch.diag_embed(torch.where(outward, 1.0, diagonal))
    step: Tensor = torch.linalg.solve(system, gradient * free)
    return (draws - step).clamp(0, 1)


def _linearise(draws: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Squared distance (N,), half its gradient (N, 4), and its Gauss-Newton curvature (N, 4, 4).

    A pixel's coverage grows by the integral, over the edges in it, of how fast they move outward;
    the point at t of an edge moves with (1 - t) of one corner and t of the next.
    """
    vertices, derivative = corners(draws)
    coverage, length, moment = _rasterise(vertices)
    residual = (1 - coverage - targets[:, 0]).flatten(1)
    edge = vertices.roll(-1, 1) - vertices
    outward = torch.stack((edge[..., 1], -edge[..., 0]), -1)  # times the edge's length
    first = torch.einsum("nec,neck->nek", outward, derivative)
    second = torch.einsum("nec,neck->nek", outward, derivative.roll(-1, 1))
    speed = torch.cat((first, second - first), 1)  # (N, 6, 4): of the parts in 1 and in t
    jacobian = -torch.bmm(speed.mT, torch.cat((length, moment), 1).flatten(2))  # (N, 4, 784)
    gradient = torch.bmm(jacobian, residual[..., None])[..., 0]
    return residual.square().sum(1), gradient, torch.bmm(jacobian, jacobian.mT)


def nearest(targets: Tensor, pictures: Tensor, k: int) -> Tensor:
    """Indices (N, k) of the k pictures nearest to each target, nearest first."""
    flat = pictures.flatten(1)
    gaps = torch.addmm(flat.square().sum(1), targets.flatten(1), flat.T, alpha=-2)
    return gaps.topk(k, largest=False).indices


def unit(images: Tensor, what: str = "images") -> Tensor:
    """Images (N, 1, 28, 28) as float32 in [0, 1]; anything else is a StudyError."""
    if images.dim() != 4 or images.shape[1:] != (1, SIZE_PX, SIZE_PX) or not len(images):
        raise StudyError(
            f"{what} of shape {tuple(images.shape)}; "
            "allowed: (N, 1, 28, 28) as the triangles are, N at least 1"
        )
    unit = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    low, high = unit.min().item(), unit.max().item()  # NaN passes through min and max
    if not 0 <= low <= high <= 1:
        raise StudyError(
            f"{what} with values from {low:g} to {high:g}; "
            "allowed: finite floats in [0, 1], or uint8"
        )
    return unit


def share(distances: Tensor, delta: float) -> float:
    """The share of distances within delta."""
    return mean((distances <= delta).double())


def mean(values: Tensor) -> float:
    """Their mean, in float64."""
    return float(values.double().mean())


def summary(distances: Tensor, delta: float) -> dict[str, float]:
    """Mean distance and share within delta."""
    return {"mean_distance": mean(distances), "within_delta": share(distances, delta)}

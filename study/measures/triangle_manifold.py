"""Precision and recall on triangles: how far an image lies from the manifold, and from a generator.

The paper (section 5) measures an image's distance to the manifold as the squared Euclidean
distance to the closest triangle, found by gradient descent on the vertices from 5 starts, and
counts images within delta = 0.75 (starts and delta as recalled; the code for this was never
released). Optimisers, steps and starts are this file's choice, made from `distance_convergence`
and `recall_convergence`; `RECIPE` states them so that they can be recorded beside a result.

The manifold is what the data set's generator can draw, not every triangle: a triangle is four
draws in [0, 1], three for the corners' angles and one for the rotation, as in
`triangles.vertices`. Distances are sums over the 784 pixels of images in [0, 1].
"""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor

from study.datasets import triangles
from study.errors import StudyError
from study.training.networks import Prior, draw_z

GeneratorFunction = Callable[[Tensor], Tensor]

SIZE_PX = triangles.SIZE_PX
DELTA = 0.75  # squared distance within which an image counts as on the manifold
NUM_IMAGES = 1024
# On hold-out, noisy and generated images these find, on average, within 0.004 of what 16 starts of
# 32 steps find (`distance_convergence`).
NEIGHBOURS, RANDOM_STARTS, STEPS = 4, 1, 12  # of the descent to the closest triangle
Z_STARTS, Z_STEPS = 1, 200  # of the descent to the closest generated image
RECIPE = {
    "delta": DELTA,
    "num_images": NUM_IMAGES,
    "distance": f"levenberg-marquardt on angles, {STEPS} steps",
    "distance_starts": f"{NEIGHBOURS} neighbours, {RANDOM_STARTS} random",
    "recall": f"adam preconditioned by the mean curvature, {Z_STEPS} steps",
    "recall_starts": f"{Z_STARTS} neighbours",
    "recall_z": "kept in [-1, 1] for the uniform prior, free for the normal one",
}

FRESH_TRIANGLES = 10_000  # among which neighbours are looked for
FRESH_Z = 8192
CHUNK = 64  # triangles drawn at once: their tensors fit a core's cache
Z_CHUNK = 256
DAMPING, DAMPING_FACTOR = 1e-2, 4.0  # Levenberg-Marquardt, relative to the diagonal
Z_RATE, Z_BETAS, Z_RIDGE = 0.25, (0.9, 0.9), 1e-2
CURVATURE_DRAWS = 2048
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
    targets = _unit(images)
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
    _, paths = _descend_from(_unit(images), near[-1], far[-1], counts[-1], seed)
    best = paths[:, :, -1].amin(1)
    rows: list[dict[str, float]] = []
    for n, r in ((n, r) for n in near for r in far if n + r > 0):
        starts = torch.cat((paths[:, :n], paths[:, near[-1] : near[-1] + r]), 1)
        for count in counts:
            found = starts[:, :, count].amin(1)
            row = {"neighbours": n, "random": r, "steps": count}
            rows.append(row | _summary(found, delta) | {"mean_excess": _mean(found - best)})
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
    near = fresh[_nearest(targets, pictures, neighbours)]
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


# --- The closest generated image ---------------------------------------------------------------


def recall_distance(
    generator: GeneratorFunction,
    images: Tensor,
    *,
    starts: int = Z_STARTS,
    steps: int = Z_STEPS,
    prior: Prior = "uniform",
    seed: int = 0,
) -> Tensor:
    """Squared distance (N,) of images (N, 1, 28, 28) to the closest image of the generator.

    `generator` maps z (n, 64) to images (n, 1, 28, 28) in [0, 1] and is left as it is: a module
    must be in evaluation mode (else StudyError). z* = argmin ||x - G(z)||^2 (paper, section 5) is
    sought by descent from those of 8,192 fresh z whose images are nearest; the least distance met
    counts. z stays in [-1, 1] for the uniform prior, where alone the generator was trained, and
    is free for the normal one. The result is an upper bound: on a generator of quarter width,
    200 steps found 0.45 of 128 images within delta, 300 found 0.48 and 600 found 0.49; a second
    start changed the last two by less than 0.01 (`recall_convergence`). A generator without
    gradients (a lookup) is judged by the fresh z alone.
    """
    if starts < 1 or steps < 0:
        raise StudyError(f"{starts} starts, {steps} steps; allowed: at least 1 start, 0 steps")
    targets, rng = _unit(images), torch.Generator().manual_seed(seed)
    fresh = draw_z(FRESH_Z, prior, rng).to(targets)
    near = fresh[_nearest(targets, _generate(generator, fresh), starts)].flatten(0, 1)
    conditioner = _conditioner(generator, fresh[:CURVATURE_DRAWS], rng)
    parts = zip(
        torch.split(near, Z_CHUNK),
        torch.split(targets.repeat_interleave(starts, 0), Z_CHUNK),
        strict=True,
    )
    found = [_descend_z(generator, z, aims, conditioner, steps, prior) for z, aims in parts]
    return torch.cat(found).view(-1, starts).amin(1)


def recall_convergence(
    generator: GeneratorFunction,
    images: Tensor,
    *,
    starts: Iterable[int] = (1, 2, 4),
    steps: Iterable[int] = (0, 25, 50, 100, 150, 300, 600),
    delta: float = DELTA,
    prior: Prior = "uniform",
    seed: int = 0,
) -> list[dict[str, float]]:
    """`recall_distance` by number of starts and of steps, one row a combination.

    Columns: starts, steps, mean_distance, within_delta (share of images: recall).
    """
    rows: list[dict[str, float]] = []
    for s, count in ((s, count) for s in starts for count in steps):
        found = recall_distance(generator, images, starts=s, steps=count, prior=prior, seed=seed)
        rows.append({"starts": s, "steps": count} | _summary(found, delta))
    return rows


def _descend_z(
    generator: GeneratorFunction,
    z: Tensor,
    targets: Tensor,
    conditioner: Tensor,
    steps: int,
    prior: Prior,
) -> Tensor:
    """Least squared distance (n,) to the targets on the way down from z (n, 64).

    Adam with one second moment an image, on gradients times `conditioner`; the rate falls to 0.
    """
    first, second = torch.zeros_like(z), z.new_zeros(len(z), 1)
    least = z.new_full((len(z),), torch.inf)
    for step in range(steps + 1):
        gap, gradient = _value_and_gradient(generator, z, partial(_gap, targets))
        least = torch.minimum(least, gap)
        size = (gradient * (gradient @ conditioner)).mean(1, keepdim=True)
        first = Z_BETAS[0] * first + (1 - Z_BETAS[0]) * gradient
        second = Z_BETAS[1] * second + (1 - Z_BETAS[1]) * size
        mean = first / (1 - Z_BETAS[0] ** (step + 1))
        scale = (second / (1 - Z_BETAS[1] ** (step + 1))).sqrt() + 1e-8
        rate = Z_RATE * (1 - step / max(steps, 1))
        z = z - rate * (mean @ conditioner) / scale
        z = z.clamp(-1, 1) if prior == "uniform" else z
    return least


def _value_and_gradient(
    generator: GeneratorFunction, z: Tensor, value: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """`value` (n,) of the images of z (n, 64), and its gradient in z: 0 where none depends on z.

    The generator's parameters and their .grad are not touched.
    """
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        values = value(generator(z))
        if not values.requires_grad:
            return values, torch.zeros_like(z)
        return values.detach(), torch.autograd.grad(values.sum(), z)[0]


def _conditioner(generator: GeneratorFunction, z: Tensor, rng: torch.Generator) -> Tensor:
    """H^(-1/2) (64, 64), H the mean of J'J over z, where J = dG/dz, scaled to mean eigenvalue 1.

    A generator of triangles moves along three directions and hardly along the others (its
    eigenvalues span 10^5), which plain Adam follows slowly: 150 steps with H^(-1/2) do what 500
    to 750 do without. J'J is estimated by the gradients of random weightings of the pixels.
    """
    gradients = []
    for part in torch.split(z, Z_CHUNK):
        weights = torch.randn(len(part), 1, SIZE_PX, SIZE_PX, generator=rng).to(z)
        gradients.append(_value_and_gradient(generator, part, partial(_weighted, weights))[1])
    stacked = torch.cat(gradients)
    values, vectors = torch.linalg.eigh(stacked.mT @ stacked / len(stacked))
    values = (values / values.mean().clamp(min=1e-12)).clamp(min=0)
    scaled = vectors * (values + Z_RIDGE).rsqrt()
    conditioner: Tensor = scaled @ vectors.mT
    return conditioner


def _weighted(weights: Tensor, images: Tensor) -> Tensor:
    return (weights * images).sum((1, 2, 3))


def _gap(targets: Tensor, images: Tensor) -> Tensor:
    return (images - targets).square().sum((1, 2, 3))


def _generate(generator: GeneratorFunction, z: Tensor) -> Tensor:
    """The generator's images (n, 1, 28, 28) of z (n, 64), checked."""
    if getattr(generator, "training", False):
        raise StudyError(
            "the generator is in training mode, where one image changes another; "
            "call generator.eval() first"
        )
    with torch.no_grad():
        return _unit(
            torch.cat([generator(part) for part in torch.split(z, Z_CHUNK)]), "generated images"
        )


# --- Precision, recall, F1 ---------------------------------------------------------------------


def precision_recall(
    generator: GeneratorFunction,
    images: Tensor,
    *,
    num_images: int = NUM_IMAGES,
    delta: float = DELTA,
    steps: int = STEPS,
    z_starts: int = Z_STARTS,
    z_steps: int = Z_STEPS,
    prior: Prior = "uniform",
    seed: int = 0,
) -> dict[str, float]:
    """Precision, recall and F1, each in [0, 1], of a generator of triangles (paper, section 5).

    Precision: share of `num_images` generated images within `delta` of the manifold. Recall: share
    of the first `num_images` of the test `images` (N, 1, 28, 28) within `delta` of what the
    generator can draw. F1 = 2PR / (P + R), 0 where both are 0. With them come the medians of the
    squared distances that they count, `precision_distance` and `recall_distance`, which still tell
    generators apart where all shares are 0. `generator` as in `recall_distance`. The same seed
    gives the same numbers on one machine and thread count.
    """
    if num_images < 1 or len(images) < num_images:
        raise StudyError(
            f"{len(images)} test images where {num_images} are asked for; "
            "allowed: at least num_images test images, and num_images at least 1"
        )
    z = draw_z(num_images, prior, torch.Generator().manual_seed(seed)).to(images.device)
    fakes = _generate(generator, z)
    found = distance(fakes, steps=steps, seed=seed + 1)
    precision = _share(found, delta)
    reached = recall_distance(
        generator, images[:num_images], starts=z_starts, steps=z_steps, prior=prior, seed=seed + 2
    )
    recall = _share(reached, delta)
    both = precision + recall
    f1 = 2 * precision * recall / both if both else 0.0
    return {
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "precision_distance": found.median().item(),
        "recall_distance": reached.median().item(),
    }


def _share(distances: Tensor, delta: float) -> float:
    return _mean((distances <= delta).double())


def _mean(values: Tensor) -> float:
    return float(values.double().mean())


def _summary(distances: Tensor, delta: float) -> dict[str, float]:
    return {"mean_distance": _mean(distances), "within_delta": _share(distances, delta)}


def _nearest(targets: Tensor, pictures: Tensor, k: int) -> Tensor:
    """Indices (N, k) of the k pictures nearest to each target, nearest first."""
    flat = pictures.flatten(1)
    gaps = torch.addmm(flat.square().sum(1), targets.flatten(1), flat.T, alpha=-2)
    return gaps.topk(k, largest=False).indices


def _unit(images: Tensor, what: str = "images") -> Tensor:
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

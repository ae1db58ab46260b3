"""Precision and recall on triangles: how far an image lies from the manifold, and from a generator.

The paper (section 5) measures an image's distance to the manifold as the squared Euclidean
distance to the closest triangle, found by gradient descent on the vertices from 5 starts, and
counts images within delta = 0.75 (starts and delta as recalled; the code for this was never
released). Optimisers, steps and starts are this file's choice, made from `distance_convergence`
and `recall_convergence`.

The manifold is what the data set's generator can draw, not every triangle: a triangle is four
draws in [0, 1], three for the corners' angles and one for the rotation, as in
`triangles.vertices`. Distances are sums over the 784 pixels of images in [0, 1].
"""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor

from study import datasets
from study.errors import StudyError
from study.measures.descents import DELTA, STEPS, Z_STARTS, Z_STEPS
from study.measures.triangle_distance import SIZE_PX, distance, nearest, share, summary, unit
from study.training.networks import Generator, Prior, draw_z

GeneratorFunction = Callable[[Tensor], Tensor]

NUM_IMAGES = 1024
FRESH_Z = 8192
Z_CHUNK = 256
Z_RATE, Z_BETAS, Z_RIDGE = 0.25, (0.9, 0.9), 1e-2
CURVATURE_DRAWS = 2048


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
    targets, rng = unit(images), torch.Generator().manual_seed(seed)
    fresh = draw_z(FRESH_Z, prior, rng).to(targets)
    near = fresh[nearest(targets, _generate(generator, fresh), starts)].flatten(0, 1)
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
        rows.append({"starts": s, "steps": count} | summary(found, delta))
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
        return unit(
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
    precision = share(found, delta)
    reached = recall_distance(
        generator, images[:num_images], starts=z_starts, steps=z_steps, prior=prior, seed=seed + 2
    )
    recall = share(reached, delta)
    both = precision + recall
    f1 = 2 * precision * recall / both if both else 0.0
    return {
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "precision_distance": found.median().item(),
        "recall_distance": reached.median().item(),
    }


def of_generator(generator: Generator, prior: Prior, device: str) -> dict[str, float]:
    """`precision_recall` of a generator in evaluation mode, named as in the tables."""
    images = datasets.load("triangles", "held_out")[:NUM_IMAGES].to(device)
    shares = precision_recall(generator, images, prior=prior)
    # `precision` alone is a run's arithmetic in every table.
    renamed = {"precision": "manifold_precision", "recall": "manifold_recall"}
    return {renamed.get(name, name): value for name, value in shares.items()}

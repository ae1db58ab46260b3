"""Gradient penalties: one point an image, one norm an image."""

from collections.abc import Callable

import torch
from torch import Tensor

NORM_EPSILON = 1e-4  # under the root, so that the norm has a gradient at 0 (released code)


def interpolate(x: Tensor, y: Tensor, alpha: Tensor) -> Tensor:
    """x + alpha (y - x) for images (N, C, H, W) and one alpha (N, 1, 1, 1) in [0, 1) an image."""
    return x + alpha * (y - x)


def gradient_penalty(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Mean over images of (norm of f's gradient at x - 1)^2, a scalar that can be differentiated.

    `f` maps images (N, C, H, W) to one value each, (N,). The norm is taken per image over all of
    its pixels and channels, sqrt(1e-4 + sum of squares), as in the released code.
    """
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(f(x).sum(), x, create_graph=True)
    norm = (NORM_EPSILON + gradient.square().sum((1, 2, 3))).sqrt()
    return (norm - 1).square().mean()


def one_alpha_an_image(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """U[0, 1) of shape (N, 1, 1, 1), drawn on the CPU so that every device gets the same."""
    return torch.rand(len(x), 1, 1, 1, generator=generator).to(x)

"""Gradient penalties: one point an image, one norm an image."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

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


def squared_gradient(D: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Mean over images of the squared norm of D's gradient at x (N, C, H, W); differentiable.

    The norm runs over all of an image's pixels and channels (Mescheder et al. 2018, arXiv
    1801.04406, eq. 9, without its gamma / 2).
    """
    x = x if x.requires_grad else x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


class Seen(nn.Module):
    """D, with its outputs on batches that it has seen: these very tensors cost no forward."""

    def __init__(self, D: nn.Module, *seen: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self.D, self.seen = D, seen

    def forward(self, x: Tensor) -> Tensor:
        """D's outputs (N,) for x (N, C, H, W)."""
        for images, outputs in self.seen:
            if images is x:
                return outputs
        return cast(Tensor, self.D(x))

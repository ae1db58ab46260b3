"""DRAGAN: Kodali et al. 2017, equation in section 2.4: NS GAN with a penalty around real images.

Where text and released code differ, the code is followed: the noise is one-sided,
x + 0.5 std(batch) U[0, 1), not normal; the penalised gradient is that of the *sigmoid* of D; the
perturbed point is interpolated with the image, and not clipped to [0, 1].
"""

import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from torch import Tensor, nn

from study.losses import ns
from study.losses.base import Draws
from study.training.penalties import gradient_penalty, interpolate, one_alpha_an_image


class Loss(ns.Loss):
    title = "DRAGAN"
    source = "Kodali et al. 2017, arXiv 1705.07215, sec. 2.4"
    defaults = {"lr": 1e-4, "beta1": 0.5, "disc_iters": 1, "batch_norm": True, "lambda_gp": 10.0}
    space = {
        "wide": {"lambda_gp": FloatDistribution(1e-1, 1e2, log=True)},
        "narrow": {
            "lambda_gp": FloatDistribution(1e-1, 1e1, log=True),
            "batch_norm": CategoricalDistribution([False]),
        },
    }
    labels = {"lambda_gp": "λ (penalty)"}

    def __init__(self, lambda_gp: float) -> None:
        super().__init__()
        self.lambda_gp = lambda_gp

    def draws(self, x_real: Tensor, generator: torch.Generator | None = None) -> Draws:
        """alpha (N, 1, 1, 1) and noise (N, C, H, W), both U[0, 1)."""
        alpha = one_alpha_an_image(x_real, generator)
        return {"alpha": alpha, "noise": torch.rand(x_real.shape, generator=generator).to(x_real)}

    def penalty(
        self, D: nn.Module, x_real: Tensor, x_fake: Tensor, draws: Draws | None = None
    ) -> Tensor:
        draws = draws or self.draws(x_real)
        # One standard deviation for the whole batch (biased, as NumPy's).
        perturbed = x_real + 0.5 * x_real.std(correction=0) * draws["noise"]
        point = interpolate(x_real, perturbed, draws["alpha"])
        return self.lambda_gp * gradient_penalty(lambda x: D(x).sigmoid(), point)

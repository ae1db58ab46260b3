"""The Wasserstein GAN with gradient penalty: Gulrajani et al. 2017, equation 3.

The released code takes the norm as sqrt(1e-4 + sum of squares) and gives G's update a fresh z.
Where D has batch normalisation, torch's exact second derivatives are taken; the released graph
stops the gradient through the mean inside the variance.
"""

import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from torch import Tensor, nn

from study.losses.base import Draws, GANLoss
from study.training.penalties import gradient_penalty, interpolate, one_alpha_an_image


class Loss(GANLoss):
    title = "WGAN GP"
    source = "Gulrajani et al. 2017, arXiv 1704.00028, eq. 3"
    defaults = {"lr": 1e-4, "beta1": 0.5, "disc_iters": 5, "batch_norm": False, "lambda_gp": 10.0}
    space = {
        "wide": {"lambda_gp": FloatDistribution(1e-1, 1e2, log=True)},
        "narrow": {
            "lambda_gp": FloatDistribution(1e-1, 1e1, log=True),
            "batch_norm": CategoricalDistribution([False]),
        },
    }
    labels = {"lambda_gp": "λ (penalty)"}
    fresh_z = True

    def __init__(self, lambda_gp: float) -> None:
        super().__init__()
        self.lambda_gp = lambda_gp

    def d_loss_real(self, d_real: Tensor) -> Tensor:
        return -d_real.mean()

    def d_loss_fake(self, d_fake: Tensor) -> Tensor:
        return d_fake.mean()

    def g_loss(self, d_fake: Tensor) -> Tensor:
        return -d_fake.mean()

    def draws(self, x_real: Tensor, generator: torch.Generator | None = None) -> Draws:
        """alpha (N, 1, 1, 1): where between real (0) and fake (1) each image's point lies."""
        return {"alpha": one_alpha_an_image(x_real, generator)}

    def penalty(
        self, D: nn.Module, x_real: Tensor, x_fake: Tensor, draws: Draws | None = None
    ) -> Tensor:
        draws = draws or self.draws(x_real)
        return self.lambda_gp * gradient_penalty(D, interpolate(x_real, x_fake, draws["alpha"]))

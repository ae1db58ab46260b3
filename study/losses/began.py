"""BEGAN: Berthelot et al. 2017, the equations of section 3.4.

D is an autoencoder; its output for an image is the mean absolute reconstruction error. As in the
released code, k is not clipped to [0, 1], the autoencoder is small (`networks.Autoencoder`), and k
moves by losses computed again on the same batch after both updates.
"""

import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from torch import Tensor, nn

from study.losses.base import GANLoss
from study.training.networks import Autoencoder, ImageShape


class Loss(GANLoss):
    title = "BEGAN"
    source = "Berthelot et al. 2017, arXiv 1703.10717, sec. 3.4"
    defaults = {
        "lr": 1e-4,
        "beta1": 0.5,
        "disc_iters": 5,
        "batch_norm": False,
        "lambda_k": 1e-3,
        "gamma": 0.75,
    }
    space = {
        "wide": {
            "gamma": FloatDistribution(0.0, 1.0),
            "lambda_k": FloatDistribution(1e-4, 1e-2, log=True),
        },
        "narrow": {
            "gamma": FloatDistribution(0.6, 0.9),
            "lambda_k": CategoricalDistribution([1e-3]),
        },
    }
    labels = {"gamma": "γ", "lambda_k": "λ (k)"}
    second_look = True
    k: Tensor

    def __init__(self, lambda_k: float, gamma: float) -> None:
        super().__init__()
        self.lambda_k = lambda_k
        self.gamma = gamma
        self.register_buffer("k", torch.zeros(()))

    def discriminator(self, image_shape: ImageShape, batch_norm: bool, width: float) -> nn.Module:
        return Autoencoder(image_shape, batch_norm, width)

    def d_loss_real(self, d_real: Tensor) -> Tensor:
        return d_real.mean()

    def d_loss_fake(self, d_fake: Tensor) -> Tensor:
        return -self.k * d_fake.mean()

    def g_loss(self, d_fake: Tensor) -> Tensor:
        return d_fake.mean()

    @torch.no_grad()
    def after_step(self, d_real: Tensor, d_fake: Tensor) -> None:
        """k += lambda_k (gamma L_real - L_fake)."""
        self.k += self.lambda_k * (self.gamma * d_real.mean() - d_fake.mean())

    def curves(self, d_real: Tensor, d_fake: Tensor) -> dict[str, Tensor]:
        """k, and the convergence measure M = L_real + |gamma L_real - L_fake|."""
        real, fake = d_real.mean(), d_fake.mean()
        return {"k": self.k.clone(), "M": real + (self.gamma * real - fake).abs()}

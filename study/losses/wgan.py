"""The Wasserstein GAN with clipped weights: Arjovsky et al. 2017, algorithm 1.

The WGAN paper uses RMSProp; the study and its released code use Adam. The released graph leaves
the order of Adam and clip open; here the clip follows Adam, as algorithm 1 says, so that no
trainable parameter of D (biases and BN's scale and shift too) ever exceeds the bound.
"""

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor, nn

from study.losses.base import GANLoss


class Loss(GANLoss):
    title = "WGAN"
    source = "Arjovsky et al. 2017, arXiv 1701.07875, alg. 1"
    defaults = {"lr": 5e-5, "beta1": 0.5, "disc_iters": 5, "batch_norm": True, "clip": 0.01}
    space = {
        "wide": {"clip": FloatDistribution(1e-3, 1e0, log=True)},
        "narrow": {"clip": FloatDistribution(1e-2, 1e0, log=True)},
    }

    def __init__(self, clip: float) -> None:
        super().__init__()
        self.clip = clip

    def d_loss_real(self, d_real: Tensor) -> Tensor:
        return -d_real.mean()

    def d_loss_fake(self, d_fake: Tensor) -> Tensor:
        return d_fake.mean()

    def g_loss(self, d_fake: Tensor) -> Tensor:
        return -d_fake.mean()

    @torch.no_grad()
    def after_d_step(self, D: nn.Module) -> None:
        for parameter in D.parameters():
            parameter.clamp_(-self.clip, self.clip)

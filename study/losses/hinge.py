"""The hinge loss: Lim & Ye 2017, equations 3 and 4; as in SNGAN and BigGAN.

The default setting is this study's choice.
"""

from torch import Tensor
from torch.nn.functional import relu

from study.losses.base import GANLoss


class Loss(GANLoss):
    title = "Hinge GAN"
    source = "Lim & Ye 2017, arXiv 1705.02894, eq. 3-4"
    defaults = {"lr": 2e-4, "beta1": 0.5, "disc_iters": 1, "batch_norm": True}

    def d_loss_real(self, d_real: Tensor) -> Tensor:
        return relu(1 - d_real).mean()

    def d_loss_fake(self, d_fake: Tensor) -> Tensor:
        return relu(1 + d_fake).mean()

    def g_loss(self, d_fake: Tensor) -> Tensor:
        return -d_fake.mean()

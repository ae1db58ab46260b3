"""The least-squares GAN: Mao et al. 2017, equation 9 (a = 0, b = c = 1).

The paper's table 1 has an unbounded D; the released code squares the distance of the *sigmoid*
from its target, and halves it. The released code is followed.
"""

from torch import Tensor

from study.losses.base import GANLoss


class Loss(GANLoss):
    title = "LS GAN"
    source = "Mao et al. 2017, arXiv 1611.04076, eq. 9"
    defaults = {"lr": 2e-4, "beta1": 0.5, "disc_iters": 1, "batch_norm": True}

    def d_loss_real(self, d_real: Tensor) -> Tensor:
        return 0.5 * (d_real.sigmoid() - 1).square().mean()

    def d_loss_fake(self, d_fake: Tensor) -> Tensor:
        return 0.5 * d_fake.sigmoid().square().mean()

    def g_loss(self, d_fake: Tensor) -> Tensor:
        return 0.5 * (d_fake.sigmoid() - 1).square().mean()

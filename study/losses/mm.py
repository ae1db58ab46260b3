"""The minimax GAN: the paper's MM GAN, table 1; Goodfellow et al. 2014, equation 1."""

from torch import Tensor
from torch.nn.functional import softplus

from study.losses.base import GANLoss


class Loss(GANLoss):
    title = "MM GAN"
    source = "Goodfellow et al. 2014, arXiv 1406.2661, eq. 1"
    defaults = {"lr": 5e-5, "beta1": 0.0, "disc_iters": 1, "batch_norm": True}

    def d_loss_real(self, d_real: Tensor) -> Tensor:
        return softplus(-d_real).mean()  # -log s(l)

    def d_loss_fake(self, d_fake: Tensor) -> Tensor:
        return softplus(d_fake).mean()  # -log(1 - s(l))

    def g_loss(self, d_fake: Tensor) -> Tensor:
        return -softplus(d_fake).mean()  # log(1 - s(l)), which saturates where D is sure

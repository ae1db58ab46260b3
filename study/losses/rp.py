"""The relativistic pairing loss: Jolicoeur-Martineau 2018, equations 6 and 7 (RSGAN).

D estimates whether a real image is more real than the generated one that shares its index in the
batch; G makes its own the more real of the pair. D's outputs on real images are computed again
after D's update, and are constants to G. The default setting is this study's choice.
"""

from torch import Tensor
from torch.nn.functional import softplus

from study.losses.base import GANLoss


class Loss(GANLoss):
    title = "RpGAN"
    source = "Jolicoeur-Martineau 2018, arXiv 1807.00734, eq. 6-7"
    defaults = {"lr": 2e-4, "beta1": 0.5, "disc_iters": 1, "batch_norm": True}
    g_sees_real = True

    def d_loss(self, d_real: Tensor, d_fake: Tensor) -> Tensor:
        return softplus(d_fake - d_real).mean()  # -log s(r - f)

    def g_loss(self, d_fake: Tensor, d_real: Tensor) -> Tensor:
        return softplus(d_real - d_fake).mean()  # -log s(f - r)

"""NS GAN with one-sided label smoothing: Salimans et al. 2016, section 3.4.

D's target on real images is `real_label` (the paper's alpha) in place of 1; generated images keep
0, and G's loss stays the non-saturating one. The default setting is this study's choice.
"""

from optuna.distributions import FloatDistribution
from torch import Tensor
from torch.nn.functional import softplus

from study.losses import ns


class Loss(ns.Loss):
    title = "NS GAN smooth"
    source = "Salimans et al. 2016, arXiv 1606.03498, sec. 3.4"
    defaults = {"lr": 2e-4, "beta1": 0.5, "disc_iters": 1, "batch_norm": True, "real_label": 0.9}
    space = {
        "wide": {"real_label": FloatDistribution(0.7, 1.0)},
        "narrow": {"real_label": FloatDistribution(0.8, 1.0)},
    }
    labels = {"real_label": "label of real images"}

    def __init__(self, real_label: float) -> None:
        super().__init__()
        self.real_label = real_label

    def d_loss_real(self, d_real: Tensor) -> Tensor:
        a = self.real_label
        return (a * softplus(-d_real) + (1 - a) * softplus(d_real)).mean()

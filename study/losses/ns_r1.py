"""NS GAN with R1: Mescheder et al. 2018, equation 9: D's gradient penalised at real images.

The default setting is this study's choice.
"""

from optuna.distributions import FloatDistribution
from torch import Tensor, nn

from study.losses import ns
from study.losses.base import Draws
from study.training.penalties import squared_gradient


class Loss(ns.Loss):
    title = "NS GAN R1"
    source = "Mescheder et al. 2018, arXiv 1801.04406, eq. 9"
    defaults = {"lr": 1e-4, "beta1": 0.5, "disc_iters": 1, "batch_norm": False, "gamma": 10.0}
    space = {
        "wide": {"gamma": FloatDistribution(1e-3, 1e2, log=True)},
        "narrow": {"gamma": FloatDistribution(1e-1, 1e1, log=True)},
    }
    labels = {"gamma": "γ"}
    penalised = ("real",)

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma

    def penalty(
        self, D: nn.Module, x_real: Tensor, x_fake: Tensor, draws: Draws | None = None
    ) -> Tensor:
        return self.gamma / 2 * squared_gradient(D, x_real)

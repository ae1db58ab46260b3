"""R3GAN's loss: Huang et al. 2024, section 2: relativistic pairing with R1 and R2.

The penalties are D's squared gradients at real and at generated images; only the loss is taken
from that paper, not its networks. The default setting is this study's choice.
"""

from optuna.distributions import FloatDistribution
from torch import Tensor, nn

from study.losses import rp
from study.losses.base import Draws
from study.training.penalties import squared_gradient


class Loss(rp.Loss):
    title = "RpGAN R1+R2"
    source = "Huang et al. 2024, arXiv 2501.05441, sec. 2"
    defaults = {"lr": 2e-4, "beta1": 0.0, "disc_iters": 1, "batch_norm": False, "gamma": 1.0}
    space = {
        "wide": {"gamma": FloatDistribution(1e-3, 1e2, log=True)},
        "narrow": {"gamma": FloatDistribution(1e-1, 1e1, log=True)},
    }
    labels = {"gamma": "γ"}
    penalised = ("real", "fake")

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma

    def penalty(
        self, D: nn.Module, x_real: Tensor, x_fake: Tensor, draws: Draws | None = None
    ) -> Tensor:
        return self.gamma / 2 * (squared_gradient(D, x_real) + squared_gradient(D, x_fake))

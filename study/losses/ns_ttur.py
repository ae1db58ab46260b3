"""NS GAN with two learning rates: Heusel et al. 2017, section 2 (TTUR). `lr` is D's.

The default setting is this study's choice.
"""

from optuna.distributions import FloatDistribution

from study.losses import ns


class Loss(ns.Loss):
    title = "NS GAN TTUR"
    source = "Heusel et al. 2017, arXiv 1706.08500, sec. 2"
    defaults = {"lr": 2e-4, "beta1": 0.5, "disc_iters": 1, "batch_norm": True, "g_lr_ratio": 0.25}
    space = {
        "wide": {"g_lr_ratio": FloatDistribution(10**-1.3, 10**0.6, log=True)},
        "narrow": {"g_lr_ratio": FloatDistribution(0.1, 1.0, log=True)},
    }
    labels = {"g_lr_ratio": "learning rate of G / D"}

    def __init__(self, g_lr_ratio: float) -> None:
        super().__init__()
        self.g_lr_ratio = g_lr_ratio

"""Adam as TensorFlow 1 computes it."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

BETA2 = 0.999
EPSILON = 1e-8


def float32(x: float) -> float:
    """`x` rounded to float32: TensorFlow keeps Adam's constants so, whatever the weights' type."""
    return float(np.float32(x))


class Adam(torch.optim.Adam):
    """torch's fused Adam with TensorFlow's epsilon and powers of beta.

    TensorFlow's update is lr_t m / (sqrt(v) + epsilon) with lr_t = lr sqrt(1 - beta2^t) /
    (1 - beta1^t): epsilon stands outside the bias correction ("epsilon hat", Kingma & Ba 2015,
    section 2), and both powers are float32 products. It matters: while gradients are small,
    torch's own epsilon changes the losses of twelve steps by 1 % (ns) to 90 % (began), and
    1 - beta2^t at t = 2 is off by 1.5e-5. Here torch's kernel is handed the lr and epsilon that
    make its update this one.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, beta1: float) -> None:
        lr, betas = float32(lr), (float32(beta1), float32(BETA2))
        parameters = list(parameters)
        fused = not parameters[0].is_meta  # on the meta device only FLOPs are counted
        super().__init__(parameters, lr=lr, betas=betas, eps=EPSILON, fused=fused)
        (group,) = self.param_groups
        group |= {"tf_lr": lr, "beta1_power": betas[0], "beta2_power": betas[1], "updates": 0}

    def minimise(self, loss: Tensor) -> None:
        """One update of this optimiser's own parameters on the gradient of a scalar `loss`.

        Gradients of anything else that `loss` depends on are not computed.
        """
        self.zero_grad(set_to_none=True)
        parameters = cast(list[Tensor], self.param_groups[0]["params"])
        loss.backward(inputs=parameters)  # type: ignore[no-untyped-call]
        self.step()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update, with the lr and epsilon of TensorFlow's at this step."""
        (group,) = self.param_groups
        group["updates"] += 1
        beta1, beta2 = group["betas"]
        root1, root2 = 1 - beta1 ** group["updates"], (1 - beta2 ** group["updates"]) ** 0.5
        tf_root1, tf_root2 = 1 - group["beta1_power"], (1 - group["beta2_power"]) ** 0.5
        group["lr"] = group["tf_lr"] * (tf_root2 / tf_root1) * (root1 / root2)
        group["eps"] = float32(EPSILON) / root2
        group["beta1_power"] = float32(group["beta1_power"] * beta1)
        group["beta2_power"] = float32(group["beta2_power"] * beta2)
        return super().step(closure)


def adam(parameters: Iterable[nn.Parameter], lr: float, beta1: float) -> Adam:
    """The study's optimiser for both networks: Adam, beta2 0.999, epsilon 1e-8, no weight decay."""
    return Adam(parameters, lr, beta1)

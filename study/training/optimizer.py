"""Adam as TensorFlow 1 computes it."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adam import adam as adam_

from study.errors import StudyError

BETA2 = 0.999
EPSILON = 1e-8
LONG_AGO = 10_000_000
"""So many updates after which the kernel's own bias correction is exactly 1."""


def float32(x: float) -> float:
    """`x` rounded to float32: TensorFlow keeps Adam's constants so, whatever the weights' type."""
    return float(np.float32(x))


class Adam:
    """torch's fused Adam with TensorFlow's epsilon and powers of beta.

    TensorFlow's update is lr_t m / (sqrt(v) + epsilon) with lr_t = lr sqrt(1 - beta2^t) /
    (1 - beta1^t): epsilon stands outside the bias correction ("epsilon hat", Kingma & Ba 2015,
    section 2), and both powers are float32 products. It matters: while gradients are small,
    torch's own epsilon changes the losses of twelve steps by 1 % (ns) to 90 % (began), and
    1 - beta2^t at t = 2 is off by 1.5e-5. Here torch's kernel is handed the lr and epsilon that
    make its update this one.

    It is no torch.optim.Optimizer: those load torch's compiler, two seconds and 150 MB a worker.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, beta1: float) -> None:
        self.parameters = list(parameters)
        self.lr, self.beta1, self.beta2 = float32(lr), float32(beta1), float32(BETA2)
        self.beta1_power, self.beta2_power = self.beta1, self.beta2
        self.updates = 0
        self.moments = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        self.squares = [torch.zeros_like(moment) for moment in self.moments]
        self.counts = [torch.zeros((), device=p.device) for p in self.parameters]  # the kernel's

    def minimise(self, loss: Tensor) -> None:
        """One update of this optimiser's own parameters on the gradient of a scalar `loss`.

        Gradients of anything else that `loss` depends on are not computed.
        """
        self.zero_grad()
        loss.backward(inputs=self.parameters)  # type: ignore[no-untyped-call]
        self.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """One update on the parameters' gradients, with the lr and epsilon of this step."""
        self.updates += 1
        root1, root2 = 1 - self.beta1**self.updates, (1 - self.beta2**self.updates) ** 0.5
        tf_root1, tf_root2 = 1 - self.beta1_power, (1 - self.beta2_power) ** 0.5
        lr = self.lr * (tf_root2 / tf_root1) * (root1 / root2)
        self.beta1_power = float32(self.beta1_power * self.beta1)
        self.beta2_power = float32(self.beta2_power * self.beta2)
        self.update(lr, float32(EPSILON) / root2)

    @torch.no_grad()
    def update(self, lr: float | Tensor, epsilon: float) -> None:
        """One call of torch's kernel; StudyError where a parameter has no gradient."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if len(gradients) < len(self.parameters):
            raise StudyError(
                f"{len(self.parameters) - len(gradients)} of {len(self.parameters)} parameters "
                "have no gradient; a loss must depend on every weight of the network it trains"
            )
        adam_(
            [p.detach() for p in self.parameters],
            gradients,
            self.moments,
            self.squares,
            [],
            self.counts,
            fused=True,
            amsgrad=False,
            beta1=self.beta1,
            beta2=self.beta2,
            lr=lr,
            weight_decay=0.0,
            eps=epsilon,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """All that the next update depends on beside the parameters and their gradients."""
        return {name: value for name, value in vars(self).items() if name != "parameters"}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict` of an optimiser of the same parameters, of either kind."""
        for name, value in self.in_own_words(state).items():
            if isinstance(value, list):
                for own, saved in zip(getattr(self, name), value, strict=True):
                    own.copy_(saved)
            else:
                setattr(self, name, value)

    def in_own_words(self, state: dict[str, Any]) -> dict[str, Any]:
        """A state as this kind of optimiser keeps it; what `GraphAdam` saves has no counts."""
        if "powers" not in state:
            return state
        power1, power2 = (float(power) for power in state["powers"])
        counts = [torch.full_like(count, LONG_AGO) for count in state["counts"]]
        own = {"beta1_power": power1, "beta2_power": power2, "updates": LONG_AGO, "counts": counts}
        return {name: value for name, value in state.items() if name != "powers"} | own


class GraphAdam(Adam):
    """The same update with the powers of beta on the device, where a CUDA graph can move them.

    To torch's kernel this is the update after infinitely many, in which its own bias correction is
    exactly 1. The lr of a step is rounded to float32 on its way to the kernel.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, beta1: float) -> None:
        super().__init__(parameters, lr, beta1)
        for count in self.counts:
            count.fill_(float("inf"))
        device = self.counts[0].device
        self.powers = [torch.tensor(beta, device=device) for beta in (self.beta1, self.beta2)]

    def in_own_words(self, state: dict[str, Any]) -> dict[str, Any]:
        """A state as this kind of optimiser keeps it."""
        if "powers" in state:
            return state
        powers = [torch.tensor(state[name]) for name in ("beta1_power", "beta2_power")]
        counts = [torch.full_like(count, float("inf")) for count in state["counts"]]
        return state | {"powers": powers, "counts": counts}

    def step(self) -> None:
        """One update, by device operations alone."""
        power1, power2 = (power.double() for power in self.powers)
        lr = self.lr * (1 - power2).sqrt() / (1 - power1)
        for power, beta in zip(self.powers, (self.beta1, self.beta2), strict=True):
            power.mul_(beta)
        self.update(lr.float(), float32(EPSILON))


def adam(
    parameters: Iterable[nn.Parameter], lr: float, beta1: float, cuda_graph: bool = False
) -> Adam:
    """The study's optimiser for both networks: Adam, beta2 0.999, epsilon 1e-8, no weight decay."""
    return (GraphAdam if cuda_graph else Adam)(parameters, lr, beta1)

"""The training step as a CUDA graph: hundreds of kernels launched by one call.

On a GPU the paper's small networks wait for Python. A graph records the kernels of a step once and
replays them on the same memory: inputs are copied in, results copied out, and nothing that Python
computes may change from step to step, which is why `GraphAdam` keeps its lr on the device.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from study.losses.base import Draws, GANLoss, Players

WARM_UPS = 3
"""Steps of each kind before it is recorded: libraries set themselves up on first use."""

Curves = dict[str, Tensor]


class GraphStep:
    """`GANLoss.step` replayed, once with G's turn and once without; called like it.

    The networks' optimisers are `GraphAdam`. The first steps of either kind are run as they are;
    replayed ones run the same kernels. Needs a GPU.
    """

    def __init__(self, loss: GANLoss, players: Players) -> None:
        self.loss, self.players = loss, players
        self.inputs: dict[str, Tensor] = {}
        self.warm_ups = {True: WARM_UPS, False: WARM_UPS}
        self.replays: dict[bool, Callable[[], Curves]] = {}

    def __call__(
        self,
        x_real: Tensor,
        z: Tensor,
        *,
        g_turn: bool = True,
        z_g: Tensor | None = None,
        draws: Draws | None = None,
    ) -> Curves:
        """One step; the shapes and the names in `draws` must be those of the first."""
        given = {"x_real": x_real, "z": z} | ({} if z_g is None else {"z_g": z_g}) | (draws or {})
        for name, value in given.items():
            self.inputs.setdefault(name, torch.empty_like(value)).copy_(value)

        def work() -> Curves:
            of = dict(self.inputs)
            x_real, z, z_g = of.pop("x_real"), of.pop("z"), of.pop("z_g", None)
            return self.loss.step(self.players, x_real, z, g_turn=g_turn, z_g=z_g, draws=of)

        if self.warm_ups[g_turn]:
            self.warm_ups[g_turn] -= 1
            return aside(work)
        if g_turn not in self.replays:
            self.replays[g_turn] = record(work)
        return {name: value.clone() for name, value in self.replays[g_turn]().items()}


def aside(work: Callable[[], Curves]) -> Curves:
    """Do the work on a stream of its own, as a recording does."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        curves = work()
    torch.cuda.current_stream().wait_stream(stream)
    return curves


def record(work: Callable[[], Curves]) -> Callable[[], Curves]:
    """Record the work without doing it; what comes back does it, into the same tensors."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        curves = work()

    def replay() -> Curves:
        graph.replay()
        return curves

    return replay

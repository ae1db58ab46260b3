"""A recorder in a CUDA graph's place, where there is no GPU, that keeps its rules.

It remembers operations on tensors and nothing of Python, replays them on the same memory, and
leaves that memory as it was while it records.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from study.training.cuda_graph import Curves


def tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The operations done while it is entered; the old values of what they wrote to."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[tuple[Any, ...]] = []
        self.before: list[tuple[Tensor, Tensor]] = []
        self.made: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        assert func.overloadpacket is not torch.ops.aten._local_scalar_dense, "waits for the GPU"
        arguments = tensors((args, kwargs))
        if func._schema.is_mutable:
            self.before += [(t, t.clone()) for t in arguments if memory(t) not in self.made]
        out = func(*args, **kwargs)
        there = {memory(t) for t in arguments}
        new = [memory(t) not in there for t in tensors(out)]
        self.made |= {memory(t) for t, is_new in zip(tensors(out), new, strict=True) if is_new}
        self.operations.append((func, args, kwargs, out, new))
        return out

    @torch.no_grad()
    def restore(self) -> None:
        for tensor, value in reversed(self.before):
            tensor.copy_(value)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, out, new in self.operations:
            again = func(*args, **kwargs)
            for old, value, is_new in zip(tensors(out), tensors(again), new, strict=True):
                if is_new:
                    old.copy_(value)


def record(work: Callable[[], Curves]) -> Callable[[], Curves]:
    with Recorder() as recorder:
        curves = work()
    recorder.restore()

    def replay() -> Curves:
        recorder.replay()
        return curves

    return replay

"""What a sweep would launch, and what that would cost."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import torch

from study import datasets as data
from study import files
from study.errors import StudyError, in_a_line
from study.losses import load as load_loss
from study.runs.driver import Scheduler
from study.runs.folder import DONE
from study.runs.progress import Progress
from study.runs.table import read_table
from study.settings.config import RunConfig, load_sweep
from study.training.flops import count_flops

PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Flops:
    """What training some runs takes, as it is kept."""

    total: int

    def to_json(self) -> dict[str, Any]:
        """As JSON's own types."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The same back again."""
        return cls(int(content["total"]))


def predicted_flops(configs: Sequence[RunConfig]) -> int:
    """FLOPs of training the runs, by torch's counter; evaluations are not in it.

    Kept in the user's cache: while losses, training, torch and the runs are the same, so is it.
    """
    code = [*sorted(PACKAGE.glob("losses/*.py")), *sorted(PACKAGE.glob("training/*.py"))]
    shapes = {config.dataset: str(data.image_shape(config.dataset)) for config in configs}
    said = [torch.__version__, *shapes.values(), *(config.hash for config in configs)]
    parts = [*(path.read_bytes() for path in code), *(each.encode() for each in said)]
    name = f"flops-{configs[0].sweep}" if configs else "flops"
    return files.kept(name, parts, Flops, lambda: Flops(counted_flops(configs))).total


def counted_flops(configs: Sequence[RunConfig]) -> int:
    """The same, counted."""
    torch.set_num_threads(1)  # several would spend the small networks' time in waiting

    @cache
    def per_step(key: Hashable) -> tuple[int, int]:
        config = examples[key]
        try:
            return count_flops(config, data.image_shape(config.dataset))
        except Exception as error:  # whatever a loss of the user's own raises
            raise StudyError(
                f"{config.loss}: no step can be taken, so none be counted: {in_a_line(error)}; "
                f"mend the loss, `make sweep LOSS={config.loss} TRIALS=1` trains with it"
            ) from error

    @cache
    def g_steps(key: Hashable, name: str, disc_iters: int) -> list[int]:
        """After how many D steps G has had how many."""
        loss = load_loss(name)(**examples[key].own)
        return list(accumulate(loss.g_turn(step, disc_iters) for step in range(longest)))

    keys: list[Hashable] = [
        (c.loss, data.image_shape(c.dataset), c.normalisation, c.width, c.batch_size)
        for c in configs
    ]
    examples = dict(zip(keys, configs, strict=True))
    first = {config.loss: key for key, config in zip(keys, configs, strict=True)}
    longest = max((config.d_steps for config in configs), default=0)
    total = 0
    for key, config in zip(keys, configs, strict=True):
        d_flops, g_flops = per_step(key)
        g_times = g_steps(first[config.loss], config.loss, config.disc_iters)[config.d_steps - 1]
        total += config.d_steps * d_flops + g_times * g_flops
    return total


def flops_per_second(results: Path, sweep: str) -> float | None:
    """The rate of a sweep's finished runs, evaluations included in the time; None without any."""
    rows = read_table(results, sweep).drop_duplicates("config", keep="last")
    return float(rows["flops"].sum() / rows["wall_s"].sum()) if len(rows) else None


def halves(found: Progress) -> bool:
    """Whether the sweep stops worse settings early."""
    return load_sweep(found.configs[0].sweep).halving is not None


def describe(
    found: Progress, results: Path, scheduler: Scheduler, there: Mapping[Path, str], at_once: int
) -> Iterator[str]:
    """What would be launched, line by line: runs, FLOPs, hours, and what that means where they run.

    `there` are the runs that are queued already.
    """
    configs = [
        config
        for config, folder, state in found.runs()
        if state not in (*DONE, "running") and folder.absolute() not in there
    ]
    states = ", ".join(f"{count} {state}" for state, count in found.counts().items())
    yield f"runs: {len(found.configs)} ({states}), of which {len(configs)} would be trained"
    flops = predicted_flops(configs)
    rate = flops_per_second(results, found.configs[0].sweep)
    halved = ", at most: worse settings are stopped" if halves(found) else ""
    yield f"training: {flops:.3g} FLOPs{halved}"
    if rate:
        hours = flops / rate / 3600
        yield (
            f"time: {hours:.1f} hours at the {rate / 1e9:.1f} GFLOP/s of this sweep's finished runs"
            f", {hours / at_once:.1f} with {at_once} runs at once"
        )
    else:
        yield "time: not known before a run of this sweep is done"
    yield from scheduler.describe(len(configs))

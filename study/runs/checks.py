"""What must be true before a sweep's runs can be trained: looked at before anything is written."""

from collections.abc import Sequence

import torch

from study import datasets as data
from study.errors import StudyError
from study.measures import of_a_generator as measure
from study.runs.workers import visible_gpus
from study.settings.config import RunConfig


def require_known_device(device: str) -> None:
    """StudyError unless a device may have that name, on this machine or another."""
    kind, colon, index = device.partition(":")
    if kind == "gpu":
        here = "" if torch.cuda.is_available() else no_such("cuda")
        raise StudyError(f"no device 'gpu': write DEVICE=cuda; {here}")
    if kind not in ("cpu", "cuda", "mps") or (colon and not index.isdecimal()):
        raise StudyError(f"no device '{device}'; allowed: cpu, cuda, cuda:0, cuda:1, …, mps")


def require_device(device: str) -> None:
    """StudyError unless torch can use `device` on this machine."""
    require_known_device(device)
    usable = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    kind, _, index = device.partition(":")
    if not usable[kind]:
        raise StudyError(no_such(kind))
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise StudyError(
            f"no {device} on this machine: it has {torch.cuda.device_count()} GPUs, counted from 0"
        )


def no_such(kind: str) -> str:
    """What to do without a GPU."""
    return f"no {kind.upper()} on this machine; leave DEVICE out, or DEVICE=cpu"


def require_inputs(configs: Sequence[RunConfig]) -> None:
    """Find or fetch what the runs need; StudyError where data, images or weights are missing."""
    for name in {name for config in configs for name in config.all_features}:
        measure.extractor_of(name, "cpu")  # kept for a run in this very process
    wanted = {(c.sweep, c.dataset, c.num_images, c.batch_size) for c in configs}
    for sweep, dataset, num_images, batch_size in wanted:
        train, held_out = (len(data.load(dataset, split)) for split in ("train", "held_out"))
        if batch_size > train:
            raise StudyError(
                f"sweep {sweep} shows {batch_size:,} images a step; {dataset} has {train:,} to "
                f"train on: lower batch_size in sweeps/{sweep}.toml, or add more images"
            )
        if num_images > min(train, held_out):
            raise StudyError(
                f"sweep {sweep} compares {num_images:,} images a side; {dataset} has {train:,} to "
                f"train on and {held_out:,} held out: hold out more of them (data add … "
                f"--held-out {num_images}), or lower num_images in sweeps/{sweep}.toml"
            )


def default_device() -> str:
    """Where runs train on this machine: on a GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def local_gpus() -> list[str]:
    """The GPUs of this machine that may be used, as CUDA_VISIBLE_DEVICES names them."""
    return visible_gpus() or [str(index) for index in range(torch.cuda.device_count())]

"""A run's checkpoint: everything that the rest of the run depends on."""

import errno
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from study import files
from study.errors import StudyError
from study.losses.base import GANLoss, Players
from study.settings.config import RunConfig
from study.training.networks import stream

MADE_OF = ("data_digest", "features_digest", "second_features_digest", "rounding")
"""What a row says once for the whole run: a run goes on with these as it began."""
TOLD = ("processor", "torch")
"""What a run may go on with another of: its row then names all of them, in order."""
THEN = "; then "


def checkpoint(
    state: dict[str, Any],
    config: RunConfig,
    made_by: Mapping[str, Any],
    loss: GANLoss,
    players: Players,
) -> dict[str, Any]:
    """Everything that the rest of the run depends on; `made_by`: `records.provenance`."""
    kept = (*MADE_OF, *TOLD, "commit")
    return state | {
        "config": config.hash,
        "made_by": {name: made_by[name] for name in kept if name in made_by},
        "streams": {name: g.get_state() for name, g in state["streams"].items()},
        "loss": loss.state_dict(),
        "generator": players.generator.state_dict(),
        "discriminator": players.discriminator.state_dict(),
        "g_optimizer": players.g_optimizer.state_dict(),
        "d_optimizer": players.d_optimizer.state_dict(),
    }


def restore(
    folder: Path,
    config: RunConfig,
    made_by: Mapping[str, Any],
    loss: GANLoss,
    players: Players,
) -> dict[str, Any]:
    """The state to go on from: the checkpoint's, or the beginning where there is none.

    Its `made_by` is the given one, with what had made the run until then named before it.
    StudyError where other images, other weights of an extractor or code that rounds otherwise had
    begun the run: its rows could not say what made them. A file that is no whole checkpoint is kept
    under another name, and the log tells. Whatever else keeps one from being read (the disk, the
    memory) is raised: it may be whole.
    """
    streams = {name: stream(config.seed, name) for name in ("z", "penalty")}
    state: dict[str, Any] = {
        "step": 0,
        "g_steps": 0,
        "wall_s": 0.0,
        "evaluations": [],
        "curves": [],
        "streams": streams,
        "made_by": made_by,
    }
    path = folder / "checkpoint.pt"
    if not path.exists():
        return state
    try:
        saved = torch.load(path, weights_only=True, map_location=config.device)
    except Exception as error:
        if isinstance(error, OSError | MemoryError) or is_whole_archive(path):
            raise
        aside = files.set_aside(path)
        files.log(folder, f"{path.name} is no checkpoint ({error!r}); it is kept as {aside.name}")
        return state
    if not isinstance(saved, dict) or saved.get("config") != config.hash:
        raise StudyError(f"{path} belongs to another configuration; delete it to start anew")
    began = saved.get("made_by", {})
    require_same(path, began, made_by)
    told = {name: after(began[name], made_by[name]) for name in TOLD if name in began}
    loss.load_state_dict(saved["loss"])
    players.generator.load_state_dict(saved["generator"])
    players.discriminator.load_state_dict(saved["discriminator"])
    players.g_optimizer.load_state_dict(saved["g_optimizer"])
    players.d_optimizer.load_state_dict(saved["d_optimizer"])
    for name, generator in streams.items():
        generator.set_state(saved["streams"][name].cpu())
    files.log(folder, f"goes on at step {saved['step']}")
    # Whoever counts the steps begins there.
    files.write_json(folder / "progress.json", {"step": saved["step"]})
    kept = {name: saved[name] for name in state if name != "made_by"}
    return kept | {"streams": streams, "made_by": {**made_by, **told}}


def after(began: str, now: str) -> str:
    """What made a run that `began` with one and goes on with another: both, as "A; then B"."""
    return began if now == began.rsplit(THEN, 1)[-1] else f"{began}{THEN}{now}"


def require_same(path: Path, began: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """StudyError where a checkpoint is of other data or other digits than the run would have."""
    for name in MADE_OF:
        if name in began and began[name] != now.get(name):
            raise StudyError(
                f"{path} was made with {name} {began[name]}, by commit {began.get('commit')}, and "
                f"would go on with {now.get(name)}: bring back what it was made with, or delete "
                "the run's folder to start anew"
            )


def is_whole_archive(path: Path) -> bool:
    """Whether a file that torch.save has written has all its bytes, by their checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception as error:  # whatever a changed byte makes the reader raise
        seek_to_nowhere = isinstance(error, OSError) and error.errno == errno.EINVAL
        if isinstance(error, OSError | MemoryError) and not seek_to_nowhere:
            raise
        return False

"""The feature extractors. This folder is the registry: one file each, with a function `extractor`.

`inception` is the network of FID (Heusel et al. 2017, arXiv 1706.08500). Distances in the features
of any other network are Fréchet distances in those features, never FID.
"""

import importlib
import pkgutil
from typing import cast

import torch

from study.errors import StudyError, in_a_line, unknown
from study.features.base import Extractor
from study.features.inception import WEIGHTS_URL, weights_path

__all__ = ["Extractor", "default", "load", "names"]


def names() -> list[str]:
    """The names of all extractors, sorted: the files of this folder."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in modules if name != "base" and not name.startswith("_"))


def load(name: str, device: str = "cpu", *, any_weights: bool = False) -> Extractor:
    """The extractor of that name; an unknown name, missing or damaged weights: StudyError.

    Weights are known by their hash. Others of the same shapes make another measure: they are
    refused, or with `any_weights` taken, and the extractor's name says so.
    """
    if name not in names():
        raise unknown("features", name, names(), "allowed")
    try:
        make = importlib.import_module(f"study.features.{name}").extractor
    except (Exception, SystemExit) as error:  # whatever a half-written file raises
        raise StudyError(f"study/features/{name}.py: {in_a_line(error)}") from error
    extractor = cast(Extractor, make(torch.device(device)))
    if extractor.name != name and not any_weights:
        raise StudyError(
            f"the weights of '{name}' are not the known ones, and would measure something else: "
            f"download {WEIGHTS_URL} to {weights_path()}"
        )
    return extractor


def default() -> str:
    """`inception` where its weights are found, else `lite0`."""
    return "inception" if weights_path().exists() else "lite0"

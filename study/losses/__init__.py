"""The losses of the study. This folder is the registry: one file a loss, each with `class Loss`.

`load` imports a loss, and so torch; what losses say of themselves is known without (`_about`).
"""

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from study import files
from study.errors import StudyError, in_a_line, unknown
from study.losses._about import About, Known
from study.settings.config import say_once

if TYPE_CHECKING:
    from study.losses.base import GANLoss


def names() -> list[str]:
    """The names of all losses, sorted: the files of this folder.

    One that cannot be loaded, or is no loss, is named on stderr and left out.
    """
    there = known(tuple(__path__))
    for problem in there.problems:
        say_once(f"{problem}; it is left out")
    return sorted(there.about)


def about(name: str) -> About:
    """What a loss says of itself; StudyErrors as of `load`."""
    there = known(tuple(__path__)).about
    return there[name] if name in there else About.of(load(name))


@cache
def known(folders: tuple[str, ...]) -> Known:
    """What all losses of the folders say, read from the cache where their files are the same."""
    paths = [path for folder in folders for path in sorted(Path(folder).glob("*.py"))]
    return files.kept("losses", [path.read_bytes() for path in paths], Known, ask_all)


def ask_all() -> Known:
    """Import every loss, and hear what it says or why it cannot be used."""
    found = Known({}, [])
    for name in file_names():
        try:
            found.about[name] = About.of(class_in(name))
        except StudyError as error:
            found.problems.append(str(error))
    return found


def file_names() -> list[str]:
    """The files of this folder that should each hold a loss, sorted; a helper's begins with _."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in modules if name != "base" and not name.startswith("_"))


def class_in(name: str) -> "type[GANLoss]":
    """The class Loss of a file of this folder; StudyError where it cannot be had, or is no loss."""
    try:
        loss = importlib.import_module(f"study.losses.{name}").Loss
    except AttributeError as error:
        raise StudyError(
            f"study/losses/{name}.py: no loss: {error} (a helper's name begins with _)"
        ) from error
    except (Exception, SystemExit) as error:  # whatever half-written code raises
        raise StudyError(f"study/losses/{name}.py: {in_a_line(error)}") from error
    require_contract(name, loss)
    return cast("type[GANLoss]", loss)


def load(name: str) -> "type[GANLoss]":
    """The class of a loss by its name; StudyError on an unknown one, or one that is no loss."""
    if name not in file_names() and name not in names():
        raise unknown("loss", name, names(), "study/losses has")
    return class_in(name)


def require_contract(name: str, loss: object) -> None:
    """StudyError where a file's Loss lacks what every loss states and computes."""
    from study.losses._contract import wrong_with  # noqa: PLC0415 (with torch)

    problem = wrong_with(name, loss)
    if problem is not None:
        raise StudyError(f"study/losses/{name}.py: {problem}")

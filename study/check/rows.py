"""What a check is, and the row that comes of it."""

import difflib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from study.errors import StudyError
from study.runs.resources import Resources

Status = Literal["ok", "off", "not tried"]


class Machine(NamedTuple):
    """Where the checks are made."""

    device: str
    """cpu or cuda."""
    results: Path
    """The results folder, whose disk is looked at."""
    resources: Resources | None = None
    """What a SLURM job may use; None: no cluster is looked at."""


class Off(Exception):  # noqa: N818 (what it says is a finding)
    """What was tried does not hold; the message says by how much."""


class NotTried(Exception):  # noqa: N818 (nothing has gone wrong)
    """What was not tried, and why."""


class Check(NamedTuple):
    """One thing that can be tried: `run` says what it found, or raises Off or NotTried."""

    part: str
    name: str
    run: Callable[[Machine], str]


class Row(NamedTuple):
    """What became of a check."""

    part: str
    name: str
    status: Status
    detail: str
    seconds: float


def row_of(check: Check, machine: Machine) -> Row:
    """Make a check; whatever else it raises is off as well."""
    started = time.monotonic()
    status: Status = "ok"
    try:
        detail = check.run(machine)
    except NotTried as reason:
        status, detail = "not tried", str(reason)
    except (Off, StudyError) as found:
        status, detail = "off", str(found)
    except Exception as error:
        status, detail = "off", f"{type(error).__name__}: {error}"
    seconds = round(time.monotonic() - started, 2)
    return Row(check.part, check.name, status, " ".join(detail.split()), seconds)


def chosen(checks: Sequence[Check], parts: Sequence[str]) -> list[Check]:
    """The checks of some parts, or all; StudyError on an unknown part."""
    known = list(dict.fromkeys(check.part for check in checks))
    for part in parts:
        if part not in known:
            close = difflib.get_close_matches(part, known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(known)}"
            raise StudyError(f"unknown part '{part}' of check; {hint}")
    return [check for check in checks if not parts or check.part in parts]


def require_within(what: str, found: float, bound: float) -> str:
    """`what` with its number; Off where the number is above the bound (or is none)."""
    said = f"{what} {found:.2g}"
    if not found <= bound:
        raise Off(f"{said}, more than {bound:.2g}")
    return f"{said} (at most {bound:.2g})"


def require_gpu(machine: Machine) -> None:
    """NotTried where the device is no GPU."""
    if not machine.device.startswith("cuda"):
        raise NotTried("no CUDA here" if machine.device == "cpu" else f"not on {machine.device}")

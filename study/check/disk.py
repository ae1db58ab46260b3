"""The disk where results lie: what claims, checkpoints and locks rely on."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from study import files
from study.check.rows import Check, Machine, Off, require_within

CLOCK_S = 60.0
"""Seconds by which the file system's clock may differ from this machine's: a run counts as lost
after two minutes without a heartbeat."""
PAUSE_S = 0.05


@contextmanager
def scratch(results: Path) -> Iterator[Path]:
    """A folder of its own on the results disk, gone afterwards."""
    files.require_writable(results)
    with tempfile.TemporaryDirectory(prefix=".check-", dir=results) as folder:
        yield Path(folder)


def renames(machine: Machine) -> str:
    """A file is replaced whole: whoever has the old one open goes on reading the old one."""
    with scratch(machine.results) as folder:
        path = folder / "file"
        files.write_atomically(path, lambda temporary: temporary.write_text("old"))
        with path.open() as reader:
            files.write_atomically(path, lambda temporary: temporary.write_text("new"))
            seen = reader.read(), path.read_text()
        left = [each.name for each in folder.iterdir()]
    if seen != ("old", "new") or left != ["file"]:
        raise Off(f"an open file read {seen[0]!r}, the new one {seen[1]!r}; left: {left}")
    return "a file is replaced whole"


def links(machine: Machine) -> str:
    """A hard link is made once, and not over another file: so a run is claimed."""
    with scratch(machine.results) as folder:
        for name in ("one", "two"):
            (folder / name).write_text(name)
        try:
            os.link(folder / "one", folder / "claim")
        except OSError as error:
            raise Off(
                f"no hard links on {machine.results} ({error.strerror or error}): runs are "
                "claimed by exclusive creation, which old network disks do not keep to"
            ) from error
        try:
            os.link(folder / "two", folder / "claim")
        except FileExistsError:
            return "a link is made once"
        raise Off("a second link took the first one's place: two workers could hold one run")


def exclusive(machine: Machine) -> str:
    """A file is created once where it must not be there yet."""
    with scratch(machine.results) as folder:
        path = folder / "file"
        path.open("x").close()
        try:
            path.open("x").close()
        except FileExistsError:
            return "a file is created once"
        raise Off("a file was created anew over itself: two workers could hold one run")


def locks(machine: Machine) -> str:
    """A lock keeps another process out."""
    with scratch(machine.results) as folder, files.alone(folder):
        asked = [sys.executable, "-c", TAKE_LOCK, str(folder / ".lock")]
        said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    if said != "held":
        raise Off(f"another process asked for a held lock on {machine.results}: {said}")
    return "a lock keeps another process out"


TAKE_LOCK = """
import fcntl, sys
try:
    fcntl.flock(open(sys.argv[1], "a"), fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("it was given: two drivers could write one table at once")
except BlockingIOError:
    print("held")
except OSError as error:
    print(f"no locks: {error.strerror}")
"""


def clock(machine: Machine) -> str:
    """The file system's clock is this machine's, to a minute, and does not stand still."""
    with scratch(machine.results) as folder:
        first, second = (stamp(folder / name) for name in ("first", "second"))
        apart = abs(second - time.time())
        if second <= first:
            raise Off(f"of two files made {PAUSE_S} s apart the second is no newer")
    return require_within("seconds between the disk's clock and this machine's:", apart, CLOCK_S)


def stamp(path: Path) -> float:
    """When a new file was made, by the file system's clock."""
    time.sleep(PAUSE_S)
    path.touch()
    return path.stat().st_mtime


CHECKS = [
    Check("disk", "files are replaced whole", renames),
    Check("disk", "hard links", links),
    Check("disk", "exclusive creation", exclusive),
    Check("disk", "locks", locks),
    Check("disk", "clock", clock),
]

"""Files: written whole or not at all, locked, stamped; and the processes that write them.

Files are written under another name and put in place, so that a reader never sees half of one.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from study.errors import StudyError

STALE_AFTER_S = 120.0
CLOCK_CHECK_S = 5.0


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(path) as temporary:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """An empty file that says whose it is: .NAME.PROCESS@MACHINE.xxxx; gone after the block."""
    prefix = f".{path.name}.{os.getpid()}@{machine_key()}."
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files that processes left behind which are gone."""
    for entry in os.scandir(folder):
        owner = re.match(r"\..+\.(\d+)@(\w+)\.\w+$", entry.name)
        if owner is None:
            continue
        with contextlib.suppress(FileNotFoundError):  # its writer was quicker
            if owner[2] == machine_key():
                gone = process_start(int(owner[1])) is None
            else:
                gone = abs(file_system_time(folder) - entry.stat().st_mtime) > STALE_AFTER_S
            if gone:
                os.unlink(entry)


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically; a diverged run's distance is written Infinity, as Python reads it."""
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))


def read_json(path: Path) -> dict[str, Any] | None:
    """The content of a JSON object's file; None where it is missing, empty or torn."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def log(folder: Path, message: str) -> None:
    """Append a line to the run's log, with the time."""
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    with (folder / "log.txt").open("a") as file:
        file.write(f"{stamp} {message}\n")


def require_writable(folder: Path) -> None:
    """StudyError unless files can be made in `folder`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StudyError(
            f"cannot write to the results folder {folder}: {error.strerror}; "
            "set STUDY_RESULTS to a folder that you may write to"
        ) from error


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes out of the same block on the same folder; a dead one's hold is gone."""
    with (folder / ".lock").open("a") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def file_system_time(folder: Path) -> float:
    """Now, by the clock that stamps heartbeats (a file server's, where there is one); seconds."""
    return time.monotonic() + clock_offset(folder, int(time.monotonic() // CLOCK_CHECK_S))


@lru_cache(maxsize=8)
def clock_offset(folder: Path, check: int) -> float:
    """The file system's clock minus the monotonic one; looked at anew for every `check`."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime - time.monotonic()
    except OSError:  # a reader of somebody else's results, or a full disk
        return time.time() - time.monotonic()


@cache
def machine() -> str:
    """This machine since its last start, as far as processes can be told apart by number."""
    boot, namespace = "", ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(os.stat("/proc/self/ns/pid").st_ino)
    return f"{socket.gethostname()}/{boot}/{namespace}"


@cache
def machine_key() -> str:
    """The machine in eight characters, for the names of temporary files."""
    return hashlib.sha256(machine().encode()).hexdigest()[:8]


def process_start(pid: int) -> str | None:
    """When a process of this machine started, in clock ticks; None if it is gone (or no /proc)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = stat.rsplit(")", 1)[1].split()
    return None if state == "Z" else fields[18]


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Within the block the environment says `values`, too."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@cache
def commit() -> str | None:
    """The commit of the code, with + where study/ differs from it; None outside a git checkout."""
    package = Path(__file__).parent.parent
    answers = []
    for command in ("rev-parse --short=12 HEAD", "status --porcelain -- ."):
        process = subprocess.run(
            ["git", "-C", str(package), *command.split()],
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode != 0:
            return None
        answers.append(process.stdout.strip())
    return answers[0] + ("+" if answers[1] else "")


def seconds_since(start: float) -> float:
    """Seconds since a reading of the monotonic clock, to the millisecond."""
    return round(time.monotonic() - start, 3)

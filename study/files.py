"""Files: written whole or not at all, locked, stamped; and the processes that write them.

Files are written under another name and put in place, so that a reader never sees half of one.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import re
import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO, TypeVar

from study.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd

NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
PASSING = (errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.EINTR)
SECOND_LOOK_S = 0.1
STALE_AFTER_S = 120.0
CLOCK_CHECK_S = 5.0
KEPT = (
    "it is kept as it is: bring back a whole one (git checkout), or move it away to have it made "
    "again"
)


def write_atomically(path: Path, write: Callable[[Path], object], *, synced: bool = True) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place.

    `synced`: it is on the disk before it has the name, so that after a power cut there is the old
    file or the new one; 1 to 10 ms, not worth it for what is made again. OSError with the path
    where there is no room, whatever the writer made of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(path) as temporary:
        try:
            write(temporary)
            if synced:
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
            temporary.replace(path)
        except Exception as error:
            raise cause_of(error, temporary, path) from error


def cause_of(error: Exception, temporary: Path, path: Path) -> Exception:
    """The disk's own error with the path, where that is why writing `temporary` has failed.

    Libraries wrap it in an error of their file format, or leave it out.
    """
    if not isinstance(error, OSError):
        try:
            with temporary.open("ab") as file:
                file.write(bytes(2**16))
        except OSError as full:
            error = full
    if isinstance(error, OSError) and error.errno:
        return OSError(error.errno, os.strerror(error.errno), str(path))
    return error


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """An empty file that says whose it is: .NAME.PROCESS@MACHINE.xxxx; gone after the block."""
    own = f".{path.name}.{os.getpid()}@{machine_key()}.{secrets.token_hex(4)}"
    temporary = path.with_name(own)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # less the umask
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def create(path: Path, text: str) -> bool:
    """Write a file that nobody else has; False where another was quicker. Atomic and exclusive.

    By a hard link, on shared file systems too; where there are none by exclusive creation, whose
    readers may see it empty for a moment.
    """
    with temporary_beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            try:
                with path.open("x", encoding="utf-8") as file:
                    file.write(text)
            except FileExistsError:
                return False
    return True


def set_aside(path: Path) -> Path:
    """Rename what cannot be read, so that it is kept and no longer in the way; its new path."""
    aside = path.with_name(f"{path.name}.unreadable")
    count = 1
    while os.path.lexists(aside):
        count += 1
        aside = path.with_name(f"{path.name}.unreadable.{count}")
    path.rename(aside)
    return aside


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


def strict_json(content: object, indent: int | None = None) -> str:
    """JSON that every reader takes: a number that is infinite or none is null."""
    return json.dumps(_without_infinities(content), indent=indent, allow_nan=False)


def _without_infinities(content: object) -> object:
    if isinstance(content, Mapping):
        return {name: _without_infinities(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_infinities(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_json(path: Path, content: object, *, synced: bool = True) -> None:
    """Write JSON atomically and whole; see `strict_json` and `write_atomically`."""
    text = strict_json(content, indent=1) + "\n"
    write_atomically(
        path, lambda temporary: temporary.write_text(text, encoding="utf-8"), synced=synced
    )


def read_json(path: Path) -> dict[str, Any] | None:
    """The content of a JSON object's file; None where it is missing or no JSON object.

    OSError where it cannot be read at all: it may be whole. A link is not followed.
    """
    try:
        content = json.loads(read_bytes(path))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


class Keepable(Protocol):
    """What `kept` can write down and read again."""

    def to_json(self) -> dict[str, Any]: ...  # noqa: D102

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self: ...  # noqa: D102


K = TypeVar("K", bound=Keepable)


def kept(name: str, parts: Sequence[bytes], kind: type[K], make: Callable[[], K]) -> K:
    """What `make` returns, which depends on `parts` alone: kept in the user's cache folder.

    The file is named by a hash of the parts, and older ones of that name are removed. One that
    cannot be read, or says something else, is made anew; a folder that cannot be written to only
    costs time.
    """
    sizes = ",".join(str(len(part)) for part in parts)
    key = hashlib.sha256(b"".join((sizes.encode(), *parts))).hexdigest()[:16]
    with contextlib.suppress(OSError, LookupError, TypeError, ValueError, AttributeError):
        return kind.from_json(read_json(cache_folder() / f"{name}-{key}.json") or {})
    made = make()
    with contextlib.suppress(OSError):
        cache_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in cache_folder().glob(f"{name}-*.json"):
            old.unlink(missing_ok=True)
        write_json(cache_folder() / f"{name}-{key}.json", made.to_json(), synced=False)
    return made


def cache_folder() -> Path:
    """Where the user's programs keep what they could compute again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "gan-study"


def read_bytes(path: Path) -> bytes:
    """The content of a file; OSError where it is a link, or no file.

    What a file server says once and not again (a stale handle) is no error.
    """
    try:
        return read_once(path)
    except OSError as error:
        if error.errno not in PASSING:
            raise
        time.sleep(SECOND_LOOK_S)
        return read_once(path)


def read_once(path: Path) -> bytes:
    """The content of a file, asked for once."""
    with open(path, "rb", opener=open_no_link) as file:
        return file.read()


def open_at_once(path: str, flags: int) -> int:
    """os.open that waits for no pipe's other end."""
    return os.open(path, flags | os.O_NONBLOCK, 0o666)


def open_no_link(path: str, flags: int) -> int:
    """The same, following no link at the end of `path`."""
    return open_at_once(path, flags | os.O_NOFOLLOW)


def read_text(path: Path) -> str:
    """A text in UTF-8, with a byte order mark or without; StudyError where it is another's."""
    try:
        with open(path, "rb", opener=open_at_once) as file:
            return file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(
            f"{path}: not UTF-8 (byte {error.start}); save it with that encoding"
        ) from error


def read_parquet(path: Path) -> "pd.DataFrame":
    """A table; StudyError where it cannot be read: it is kept, and nothing takes its place."""
    import pandas as pd  # noqa: PLC0415 (whoever writes a file needs none)

    try:
        return pd.read_parquet(path)
    except Exception as error:  # whatever a file from other hands makes the readers raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise StudyError(f"{path} cannot be read: {reason[0][:200]}; {KEPT}") from error


def links_in(folder: Path) -> list[Path]:
    """Links below a folder, to files or folders: whoever writes through one writes elsewhere."""
    return [
        Path(top, name)
        for top, folders, names in os.walk(folder)
        for name in (*folders, *names)
        if os.path.islink(os.path.join(top, name))
    ]


def log(folder: Path, message: str) -> None:
    """Append a line to the folder's log.txt, with the time."""
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    with open_log(folder) as file:
        file.write(f"{stamp} {message}\n")


def open_log(folder: Path) -> TextIO:
    """The folder's log.txt, to append to; OSError where it is a link."""
    return open(folder / "log.txt", "a", buffering=1, encoding="utf-8", opener=open_no_link)


def require_writable(folder: Path) -> None:
    """StudyError unless files can be made in `folder`, which is made where it is not there."""
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
    path = folder / ".lock"
    try:
        handle = open_no_link(str(path), os.O_RDWR | os.O_CREAT)
    except PermissionError:  # another user's file, which may be locked all the same
        handle = open_no_link(str(path), os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


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
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
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
    """The commit of the code, with + where study/ differs; None without git or outside a checkout.

    Asked once, before anything is trained: the code may change meanwhile. A package that pip has
    put below somebody's own repository is not of that repository's commit.
    """
    package = Path(__file__).parent
    asked = ("rev-parse --short=12 HEAD", "status --porcelain -- .", "ls-files -- __init__.py")
    answers = []
    for command in asked:
        try:
            process = subprocess.run(
                ["git", "-C", str(package), *command.split()],
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError:  # no git here
            return None
        if process.returncode != 0:
            return None
        answers.append(process.stdout.strip())
    head, changes, tracked = answers
    if not tracked:
        return None
    return head + ("+" if changes else "")


def seconds_since(start: float) -> float:
    """Seconds since a reading of the monotonic clock, to the millisecond."""
    return round(time.monotonic() - start, 3)

"""python -m study COMMAND."""

import codecs
import io
import os
import signal
import sys
import unicodedata
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

VENV = Path(__file__).parent.parent / ".venv"
"""Of a checkout: what `make` sets up."""

AGAIN_S = 0.05
"""When Ctrl-C that came within an import is looked at again."""


def require_packages() -> None:
    """Go on as the checkout's own Python where this one has not the packages."""
    missing = [name for name in ("typer", "torch") if find_spec(name) is None]
    if not missing:
        return
    python = VENV / "bin/python"
    if python.exists() and sys.executable != str(python):
        os.execv(python, [str(python), "-m", "study", *sys.argv[1:]])
    print(
        f"error: this Python ({sys.executable}) has no package '{missing[0]}'; in a checkout "
        "`make losses` sets up .venv, and the same command then runs in it",
        file=sys.stderr,
    )
    sys.exit(2)


def write_anywhere() -> None:
    """Have letters that a terminal's or pipe's encoding lacks written without their accents."""
    codecs.register_error("plain", plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")


def plain(error: UnicodeError) -> tuple[str, int]:
    """What is written in place of letters that cannot be, and where it goes on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    ascii_ = (unicodedata.normalize("NFKD", letter).encode("ascii", "ignore") for letter in letters)
    return "".join(letter.decode() or "?" for letter in ascii_), error.end


def interrupt(number: int, frame: FrameType | None) -> None:
    """What Ctrl-C does: KeyboardInterrupt, as ever, but none within an import.

    Such a one may be lost (the import machinery has weak references with callbacks, and packages
    try imports that may fail), and then the command goes on; or it ends the process by abort(),
    where C++ that calls Python allows no exception. So it comes once the import is over.
    """
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def once_more(number: int, frame: FrameType | None) -> None:
    """Ctrl-C again, for whoever takes it by now."""
    signal.raise_signal(signal.SIGINT)


def main() -> None:
    """Run the command line; Ctrl-C while it is being loaded, which takes a second, is silent."""
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not so after nohup
    if heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    require_packages()
    write_anywhere()
    from study.cli import main as command_line  # noqa: PLC0415

    if heeded:
        signal.signal(signal.SIGALRM, once_more)
        signal.signal(signal.SIGINT, interrupt)
    command_line()


if __name__ == "__main__":  # a worker imports this file too, and needs none of the commands
    main()

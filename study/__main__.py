"""python -m study COMMAND."""

import codecs
import io
import os
import sys
import unicodedata
from importlib.util import find_spec
from pathlib import Path

VENV = Path(__file__).parent.parent / ".venv"
"""Of a checkout: what `make` sets up."""


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


def main() -> None:
    """Run the command line; Ctrl-C while it is being loaded, which takes a second, is silent."""
    try:
        require_packages()
        write_anywhere()
        from study.cli import main as command_line  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.exit(130)
    command_line()


if __name__ == "__main__":  # a worker imports this file too, and needs none of the commands
    main()

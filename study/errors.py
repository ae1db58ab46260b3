"""The one exception that means "the user can mend this", and how errors are put in words."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches


class StudyError(Exception):
    """Bad input: what was wrong, with the value; what is allowed; what to do, in one line.

    The command line prints it without a traceback and exits with status 2.
    """


def unknown(what: str, word: str, known: Collection[str], where: str) -> StudyError:
    """The error for a word that is not `known`, with the nearest one: "unknown loss 'NS'; ..."."""
    return StudyError(f"unknown {what} '{word}';{meant(word, known)} {where}: {', '.join(known)}")


def meant(word: str, known: Iterable[str]) -> str:
    """ " did you mean 'x'?" where a known word is near, whatever its case; else nothing."""
    by_small = {each.lower(): each for each in known}
    close = get_close_matches(word.lower(), by_small, n=1)
    return f" did you mean '{by_small[close[0]]}'?" if close else ""


def in_a_line(error: BaseException) -> str:
    """The kind of an error and its message."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")

"""The one exception that means "the user can mend this"."""

from collections.abc import Iterable
from difflib import get_close_matches


class StudyError(Exception):
    """Bad input: what was wrong, with the value; what is allowed; what to do, in one line.

    The command line prints it without a traceback and exits with status 2.
    """


def meant(word: str, known: Iterable[str]) -> str:
    """ " did you mean 'x'?" where a known word is near, for an error's line; else nothing."""
    near = get_close_matches(word, known, n=1)
    return f" did you mean '{near[0]}'?" if near else ""

"""The one exception that means "the user can mend this"."""


class StudyError(Exception):
    """Bad input: what was wrong, with the value; what is allowed; what to do, in one line.

    The command line prints it without a traceback and exits with status 2.
    """

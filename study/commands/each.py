"""Going through all sweeps, each of which stands for itself."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import typer

from study.errors import StudyError


@dataclass
class Refused:
    """The sweeps that were refused."""

    asked: bool
    """Whether sweeps were named: then the first that is refused ends it."""
    names: list[str] = field(default_factory=list)

    @contextmanager
    def of(self, sweep: str) -> Iterator[None]:
        """What is done with one sweep; why it is refused is said on stderr."""
        try:
            yield
        except (StudyError, OSError) as error:
            if self.asked:
                raise
            self.names.append(sweep)
            print(f"error: sweep {sweep}: {error}", file=sys.stderr)

    def end(self) -> None:
        """Exit status 2 where any was refused."""
        if self.names:
            raise typer.Exit(2)

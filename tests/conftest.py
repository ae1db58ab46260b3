"""What all tests begin and end with."""

import os
import signal
from collections.abc import Iterator

import pytest

from study import datasets

# A shell starts what it sends to the background with these ignored, and processes hand that on:
# tests that interrupt a command would wait for it in vain.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# `make test` hands its own flags on, and a make that a test runs would say where it is.
for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "FLAGS"):
    os.environ.pop(name, None)

# Values are a processor's: where there is a GPU, commands would train on it unasked.
# `make check DEVICE=cuda` is what looks at that.
os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(autouse=True)
def data_sets_as_they_were() -> Iterator[None]:
    """A test may put small data in a data set's place (`tiny.shrink_data`) for itself alone."""
    before = dict(datasets.SETS)
    yield
    datasets.SETS.clear()
    datasets.SETS.update(before)

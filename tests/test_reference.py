"""The study's own code, replayed in float64 against numbers recorded from the authors' graphs."""

import hashlib

import numpy as np
import pytest

from study.check import replay
from study.training.loop import keep_freed_memory

IMAGES_SHA256 = "382b350dc2ef29b159b1dd86a7fa3e23027962914da1c158e6666288eb0cb42e"


def test_the_inputs_are_those_that_the_graphs_were_given() -> None:
    assert hashlib.sha256(replay.images().tobytes()).hexdigest() == IMAGES_SHA256


@pytest.mark.parametrize("name", replay.CASES)
def test_twelve_steps_equal_the_released_graph(name: str) -> None:
    keep_freed_memory()  # as a run does: float64 asks for blocks of many MB
    found, recorded = replay.replay(name), replay.recorded(name)
    assert found.curves.keys() == recorded.curves.keys()
    for key, values in recorded.curves.items():
        np.testing.assert_allclose(found.curves[key], values, rtol=1e-6, err_msg=key)
    np.testing.assert_allclose(found.images, recorded.images, atol=1e-5)

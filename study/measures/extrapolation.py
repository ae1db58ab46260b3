"""A distance at infinitely many images, from what it is at fewer. No torch: figures fit, too."""

from typing import Any

import numpy as np


def fit_in_inverse_n(sizes: Any, distances: Any) -> tuple[float, float]:
    """The line distance = a + b / n by least squares: (a, b). a: infinitely many images.

    Chong & Forsyth 2020 (arXiv 1911.07023), section 3: the bias falls as 1/n. They vary the number
    of fake images alone; here both sides are divided, so that a is free of the bias of both.
    """
    slope, intercept = np.polyfit(1 / np.asarray(sizes, float), distances, 1)
    return float(intercept), float(slope)

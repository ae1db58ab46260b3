"""A PyTorch reproduction of "Are GANs Created Equal? A Large-Scale Study" (Lucic et al. 2018)."""

import time

__version__ = "0.2.0"
STARTED = time.time()
"""When this process began to import the package: what is younger was perhaps not imported."""

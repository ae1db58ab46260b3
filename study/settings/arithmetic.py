"""The instruction set that a run asks for, so that a newer processor's is not in its digits.

It does not make all processors' digits equal: a run by AVX2 on an Intel and on an AMD processor
came out apart as by another seed (docs/machines.md). MKL and oneDNN choose by more than that.
"""

import contextlib
import platform
import re
from pathlib import Path
from typing import Literal

from study.errors import StudyError

Arithmetic = Literal["native", "avx2"]

ROUNDING = 2
"""Raised by one where a change of the code changes a run's digits by rounding alone.

1: until November 2026. 2: D takes real and generated images together, the image layers have the
gradient of their own, and below full width the channels of images come last.
"""

# What a worker's environment says before torch is loaded, so that processors which differ in their
# instruction sets call the same kernels (with one thread).
ENVIRONMENT: dict[Arithmetic, dict[str, str]] = {
    "native": {},
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",  # NumPy's and SciPy's, for the distances
    },
}


def cpu_flags() -> set[str]:
    """What this processor can do, in Linux's words; empty where it cannot be told."""
    with contextlib.suppress(OSError):
        found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        return set(found[1].split()) if found else set()
    return set()


def require_avx2(who: str) -> None:
    """StudyError where this processor has no AVX2, or does not say so."""
    if "avx2" not in cpu_flags():
        raise StudyError(
            f'{who}: arithmetic = "avx2", which this processor ({platform.machine()}) does not '
            'have; train on an x86 processor of 2013 or later, or state arithmetic = "native"'
        )

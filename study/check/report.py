"""Every check there is, and the lines and the JSON that come of them."""

import os
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import study
from study import files
from study.check import cluster, data, disk, distances, graphs, speed, training
from study.check.rows import Check, Machine, Row
from study.files import commit
from study.training.records import device_name

CHECKS: list[Check] = [
    *disk.CHECKS,
    *training.CHECKS,
    *graphs.CHECKS,
    *distances.CHECKS,
    *data.CHECKS,
    *cluster.CHECKS,
    *speed.CHECKS,
]
PACKAGES = ("torch", "numpy", "scipy", "pandas", "pyarrow", "optuna", "submitit", "torch-fidelity")


def as_json(rows: Iterable[Row], machine: Machine) -> str:
    """What goes with a bug report: versions, the machine, and every row."""
    return files.strict_json(
        {
            "study": study.__version__,
            "commit": commit(),
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": machine.device,
            "machine": about(machine),
            "rows": [row._asdict() for row in rows],
        },
        indent=1,
    )


def about(machine: Machine) -> dict[str, Any]:
    """What a number can depend on, of this machine."""
    gpu = machine.device.startswith("cuda")
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "processor": device_name("cpu"),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": device_name(machine.device) if gpu else None,
        "cuda": torch.version.cuda if gpu else None,
        "cudnn": torch.backends.cudnn.version() if gpu else None,  # type: ignore[no-untyped-call]
        "versions": {name: installed(name) for name in PACKAGES},
        "disk": file_system(machine.results),
    }


def installed(package: str) -> str | None:
    """A package's version; None where it is not installed as one."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def file_system(folder: Path) -> str | None:
    """The type of the file system on which a folder lies (ext4, nfs4, lustre), where Linux says."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return None
    path, best, found = str(folder.resolve()), "", None
    for line in lines:
        _, at, kind, *_ = line.split()
        if (path == at or path.startswith(f"{at.rstrip('/')}/")) and len(at) >= len(best):
            best, found = at, kind
    return found


def line(row: Row) -> str:
    """A row for the terminal."""
    return f"{row.status:<9} {row.seconds:6.1f} s  {row.part}: {row.name}: {row.detail}"


def summary(rows: Sequence[Row]) -> str:
    """How many rows came out how; what is off once more."""
    count = Counter(row.status for row in rows)
    said = ", ".join(f"{count[status]} {status}" for status in ("ok", "off", "not tried"))
    off = [f"{row.part}: {row.name}" for row in rows if row.status == "off"]
    return f"{said}; off: {'; '.join(off)}" if off else said

"""What all benchmarks share: timing side by side, provenance, results, tables."""

import gc
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from study.files import commit
from study.training.records import device_name

HERE = Path(__file__).parent
Rows = list[dict[str, Any]]


def one_thread() -> None:
    """One thread for every library; subnormal numbers are zero, as in training."""
    torch.set_num_threads(1)
    threadpool_limits(1)  # what NumPy and SciPy call
    torch.set_flush_denormal(True)


def side_by_side(
    contestants: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 2
) -> dict[str, tuple[float, float]]:
    """Minimum and median of the process time of one call, milliseconds, for every contestant.

    The contestants take turns, so that whatever else the machine does meets all of them; process
    time leaves out the time in which others have the processor, though not what they do to its
    caches: the minimum is the better estimate on a busy machine.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    gc.disable()
    for turn in range(warm_up + repeats):
        for name, call in contestants.items():
            started = time.process_time()
            call()
            if turn >= warm_up:
                times[name].append(1e3 * (time.process_time() - started))
    gc.enable()
    return {name: (min(t), statistics.median(t)) for name, t in times.items()}


def provenance() -> dict[str, Any]:
    """What made the numbers."""
    packages = ("torch", "numpy", "scipy", "torch-fidelity")
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "processor": device_name("cpu"),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
    }


def machine() -> str:
    """A short name for this kind of machine: its processor and its number of cores."""
    processor = re.sub(r"[^a-z0-9]+", "-", device_name("cpu").lower()).strip("-")
    return f"{processor}-{os.cpu_count()}-cores"


def store(name: str, rows: Rows) -> None:
    """Print `rows` as a table and keep them, with provenance, in results/<machine>.json."""
    path = HERE / "results" / f"{machine()}.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results[name] = {"provenance": provenance(), "rows": rows}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\n{name}\n\n{table(rows)}\n")


def table(rows: Rows) -> str:
    """`rows` as a Markdown table; missing values are dashes."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "| --- " * len(columns) + "|"]
    lines += ["| " + " | ".join(text(row.get(key)) for key in columns) + " |" for row in rows]
    return "\n".join(lines)


def text(value: Any) -> str:
    """A table's cell: three significant digits, no exponent."""
    if value is None:
        return "–"
    if isinstance(value, float):
        digits = max(0, 2 - len(str(int(abs(value)))) + 1) if abs(value) >= 1 else 3
        return f"{value:,.{digits}f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

"""Put the tables of results/*.json into the README, below its marker, and what was aimed at."""

import json
from collections.abc import Iterator
from typing import Any

from common import HERE, Rows, table

MARKER = "<!-- measured: everything below is written by report.py -->"


def main() -> None:
    lines = [MARKER]
    for path in sorted((HERE / "results").glob("*.json")):
        results = json.loads(path.read_text())
        lines += ["", f"## {path.stem}"]
        if reached := list(aims({name: result["rows"] for name, result in results.items()})):
            lines += ["", "### aims", "", table(reached)]
        for name, result in results.items():
            made_by = result["provenance"]
            versions = ", ".join(f"{package} {v}" for package, v in made_by["versions"].items())
            lines += ["", f"### {name}", "", table(result["rows"]), ""]
            lines += [f"{made_by['time']}, commit {made_by['commit']}, {versions}; "]
            lines[-1] += f"load of the machine at the end {made_by['load']}."
    readme = HERE / "README.md"
    before = readme.read_text().split(MARKER)[0]
    readme.write_text(before + "\n".join(lines) + "\n")


def aims(results: dict[str, Rows]) -> Iterator[dict[str, Any]]:
    """What was aimed at, and how far each of its rows is from it."""
    for image, width, began, aim in (
        ("28x28x1", 1, False, 0.70),
        ("28x28x1", 0.25, False, 0.75),
        ("28x28x1", None, True, 0.90),
        ("32x32x3", None, None, 0.85),
    ):
        ratios = {
            f"{row['loss']} at {row['width']:g}": row["study / fastest peer"]
            for row in results.get("step", [])
            if row["image"] == image
            and row["study / fastest peer"] is not None
            and width in (None, row["width"])
            and began in (None, row["loss"] == "began")
        }
        which = {True: "BEGAN's step", False: "step but BEGAN's", None: "step"}[began]
        at = "" if width is None else f", width {width:g}"
        yield from reached(f"{which} / fastest peer's, {image}{at}", ratios, aim)
    by = {row["who"]: row["trials/hour"] for row in results.get("trials", [])}
    peers = [by[who] for who in ("torchgan", "torch-mimicry") if who in by]
    if peers:
        slower = {"ns": max(peers) / by["study"]}
        yield from reached("trials an hour, better peer's / study's", slower, 1 / 1.5)
    scored = [row for name in results if name.startswith("scoring") for row in results[name]]
    own = [row for row in scored if row["by"] == "study"]
    named = {f"{row['features']}, {row['files']:,} files": row for row in own}
    times = {name: row["wall / torch-fidelity's"] for name, row in named.items()}
    yield from reached("scoring, wall / torch-fidelity's", times, 0.7)
    sizes = {name: row["MiB"] for name, row in named.items()}
    yield from reached("scoring, MiB", sizes, 1536)
    starts = {row["run"]: row["wall s"] for row in results.get("start-up", [])}
    yield from reached("a run's start, wall s", starts, 3)


def reached(what: str, values: dict[str, float], aim: float) -> Iterator[dict[str, Any]]:
    """A row of `aims`: the least and the largest value, and those above the aim; none of none."""
    if values:
        above = [f"{name} ({value:.3g})" for name, value in values.items() if value > aim]
        yield {
            "what": what,
            "least": min(values.values()),
            "largest": max(values.values()),
            "aim, at most": aim,
            "missed by": ", ".join(above) or "none",
        }


if __name__ == "__main__":
    main()

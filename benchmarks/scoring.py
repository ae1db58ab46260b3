"""Scoring a folder of images against another, beside torch-fidelity and clean-fid.

Every contestant is a process of its own (scorers.py) over the same two folders of PNG files (32 x
32, drawn with one seed, as large as photographs of that size are), with one thread for torch; it
loads its images as it does by itself: the study in threads, torch-fidelity 0.4.0 in 4 processes,
clean-fid 0.1.35 in 12. The seconds are of the whole process, imports included, with the processes
that it starts. "MiB" is the peak of the one that computes: those that load images come on top,
which the study has not.

The network is the same for all. "random" and "lite0" are the study's extractors, lent to the
others in batches as large as its own: what differs is reading, decoding and the distance.
"inception" is the graph of FID with one seed's weights (its speed does not depend on them, and
nothing is downloaded): the study's and torch-fidelity's own, from one file; clean-fid's own is a
download, so that it gets torch-fidelity's graph. It scales to 299 x 299 by torch's bilinear
(`legacy_pytorch`), where the other two scale as TensorFlow 1 does, so that its distance is another.

The study does more: margin, extrapolation, KID, precision and recall (the last three, over all
pairs of images, in a column), and the hash of every image. The others compute the distance alone.

Run it by `make bench`, or `python benchmarks/scoring.py [features:images a side ...]`.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from evaluation import random_inception
from PIL import Image

from study.datasets.base import Images

CASES = ("random:10000", "random:2000", "lite0:10000", "inception:500")
CONTESTANTS = ("study", "torch-fidelity", "clean-fid")


# --- The images -----------------------------------------------------------------------------------


def pictures(count: int, seed: int, falling: float, size: int = 32) -> Iterator[Images]:
    """Smooth random images (H, W, 3), their spectrum falling so fast, with a little grain."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1 / size
    for _ in range(count):
        noise = rng.standard_normal((3, size, size))
        noise[1:] = 0.7 * noise[0] + 0.3 * noise[1:]  # channels go together
        smooth = np.fft.irfft2(np.fft.rfft2(noise) / frequency**falling, s=(size, size))
        pixels = 128 + 50 * smooth / smooth.std() + 2 * rng.standard_normal(smooth.shape)
        yield pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


def save(folder: Path, images: Iterator[Images]) -> Path:
    """The images as PNG files in a new folder."""
    folder.mkdir()
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{number:05d}.png")
    return folder


# --- Side by side ---------------------------------------------------------------------------------


def measured(who: str, *given: str) -> dict[str, Any]:
    """What a contestant's process takes, and what it prints as JSON."""
    command = [sys.executable, str(common.HERE / "scorers.py"), who, *given]
    started = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert process.stdout
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    row: dict[str, Any] = {"wall s": wall, "process s": usage.ru_utime + usage.ru_stime}
    row["load"] = round(os.getloadavg()[0], 1)
    for found in objects(printed):
        row |= found
    return row


def objects(printed: str) -> Iterator[dict[str, Any]]:
    """The JSON objects among what a process prints."""
    decoder, place = json.JSONDecoder(), 0
    while (place := printed.find("{", place)) >= 0:
        found, place = decoder.raw_decode(printed, place)
        yield found


def rows(cases: list[str], folder: Path) -> Iterator[dict[str, Any]]:
    """Every contestant on every case, with images in `folder`."""
    for case in cases:
        name, count = case.split(":")
        images = folder / count
        if not images.exists():
            images.mkdir()
            save(images / "real", pictures(int(count), seed=0, falling=1.2))
            save(images / "fake", pictures(int(count), seed=1, falling=1.1))
        given = (name, str(images / "real"), str(images / "fake"))
        found = {who: measured(who, *given) for who in CONTESTANTS}
        of, theirs = 2 * int(count), found["torch-fidelity"]
        for who, row in found.items():
            yield {
                "features": name,
                "files": of,
                "by": who,
                "wall s": row["wall s"],
                "process s": row["process s"],
                "of which KID and k-NN s": row.get("of which KID and k-NN s"),
                "MiB": round(row["MiB"]),
                "images / process s": of / row["process s"],
                "wall / torch-fidelity's": row["wall s"] / theirs["wall s"],
                "process / torch-fidelity's": row["process s"] / theirs["process s"],
                "distance": f"{row['distance']:.6g}",
                "relative difference": f"{abs(row['distance'] / theirs['distance'] - 1):.0e}",
                "load": row["load"],
            }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STUDY_INCEPTION"] = str(Path(folder, "weights.pth"))
        torch.save(random_inception(), os.environ["STUDY_INCEPTION"])
        # Cases of one's own are a section of their own: `make bench`'s stay.
        name = " ".join(["scoring", *sys.argv[1:]])
        common.store(name, list(rows(sys.argv[1:] or list(CASES), Path(folder))))


if __name__ == "__main__":
    main()

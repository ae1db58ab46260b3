"""How the measures themselves behave, where the truth is known: no generator is trained for it.

Real images stand in for a generator's: as they are, from some of the classes only, with noise,
blurred, or a few of them repeated. Two further questions need trained runs: whether two extractors
rank generators alike, and how many starts and steps the descent to the manifold takes.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from study import datasets as data
from study import features as extractors
from study import files
from study.analysis.measured import BESIDE, NUM_IMAGES, bias, infinitely_many, of_one_data_set
from study.errors import StudyError
from study.features import Extractor
from study.losses import load
from study.measures import frechet as fid
from study.measures import of_a_generator as measure
from study.measures import of_two_sets as score
from study.measures import triangle_distance
from study.measures import triangle_manifold as manifold
from study.measures.image_sets import drawn
from study.measures.neighbours import kid_and_precision_recall, real_neighbours
from study.measures.of_a_generator import best_generator
from study.settings.config import read_config

Row = dict[str, Any]

SIZES = (500, 1000, 2000, 3000, 5000, 10_000)
LEAST_OF_A_CLASS = 100  # training images, or the question of classes is left out
NOISE_LEVELS = (0, 5, 10, 20, 40, 80)  # standard deviation, of 255
BLUR_PX = (0.0, 0.25, 0.5, 1.0, 2.0)  # standard deviation
MEMORISED = (50, 100, 250, 500, 1000, 2500, 5000)  # training images
KEY = ["dataset", "features", "experiment", "real", "level", "draw"]


# --- Fréchet distance, KID, k-NN precision and recall ---------------------------------------------


def measure_all(
    dataset: str,
    extractor: Extractor,
    draws: int = 3,
    real_draws: int = 10,
    say: Callable[[str], object] = lambda _: None,
) -> pd.DataFrame:
    """Every experiment on a data set, one row a measurement, sorted by KEY.

    `draws` are the repetitions with other random images (`real_draws` where real stands against
    real), each a pure function of its number. Mode dropping is left out where a data set has no
    classes, or one of fewer than LEAST_OF_A_CLASS training images. A StudyError where fewer images
    are held out, or trained on, than the least of SIZES. Columns: KEY; `num_images` of each side,
    `dim` features, `distance` (Fréchet), `kid`, `precision`, `recall`; `level` is what the
    experiment varies.
    """
    sizes = dict(zip(("training", "held-out"), data.sizes(dataset), strict=True))
    for part, count in sizes.items():
        if count < SIZES[0]:
            raise StudyError(
                f"{dataset} has {count:,} {part} images; at least {SIZES[0]:,} are needed to tell "
                "how the measures behave: add more images"
            )
    say(f"features of {dataset}")
    train, held_out = (data.load(dataset, split) for split in ("train", "held_out"))
    held_out = held_out[: len(train)]  # as many of both are taken
    features = {"train": extractor(train).cpu(), "held_out": extractor(held_out).cpu()}
    experiments = {
        "real": (real_against_real(features, rng) for rng in streams(1, real_draws)),
        "noise": (noise(train, features, extractor, rng) for rng in streams(2, draws)),
        "blur": (blur(train, features, extractor, rng) for rng in streams(3, draws)),
        "memorised": (memorised(features, rng) for rng in streams(4, draws)),
    }
    if data.find(dataset).labels:
        classes = data.labels(dataset, "train").numpy()
        least = int(np.unique(classes, return_counts=True)[1].min())
        if least >= LEAST_OF_A_CLASS:
            drop = (mode_dropping(features, classes, rng) for rng in streams(5, draws))
            experiments["classes"] = drop
        else:
            say(f"classes: left out, one has {least} training images")
    about: Row = {"dataset": dataset, "features": extractor.name, "dim": extractor.dim}
    rows: list[Row] = []
    for name, repetitions in experiments.items():
        for draw, found in enumerate(repetitions):
            say(f"{name}, draw {draw + 1}")
            rows += [about | {"experiment": name, "draw": draw} | row for row in found]
    table = pd.DataFrame(rows).sort_values(KEY, ignore_index=True)
    return table[[*KEY, "num_images", "dim", "distance", "kid", "precision", "recall"]]


def streams(experiment: int, draws: int) -> Iterator[np.random.Generator]:
    """A random stream for each repetition of an experiment."""
    return (np.random.default_rng([experiment, draw]) for draw in range(draws))


def real_against_real(features: dict[str, Tensor], rng: np.random.Generator) -> Iterator[Row]:
    """Held-out against training images, by their number: `level` of each side.

    The truth is 0 but for what separates the two splits: what is found is bias. At the held-out
    split's own size all of it is taken, so that draws differ by the training images alone.
    """
    most = len(features["held_out"])
    for n in (size for size in SIZES if size <= most):
        yield _row(
            "held_out", n, features["held_out"][_some(most, n, rng)], _train(features, n, rng)
        )


def mode_dropping(
    features: dict[str, Tensor], classes: Any, rng: np.random.Generator
) -> Iterator[Row]:
    """Held-out images of all classes against training images of `level` random ones of them.

    As many of each as the smallest class has, where those are fewer than are held out.
    """
    there, counts = np.unique(classes, return_counts=True)
    real, order = _real(features)[: counts.min()], there[rng.permutation(len(there))]
    for k in range(1, len(there) + 1):
        among = np.flatnonzero(np.isin(classes, order[:k]))
        chosen = rng.choice(among, len(real), replace=False)
        yield _row("held_out", k, real, features["train"][torch.from_numpy(chosen)])


def noise(
    train: Tensor, features: dict[str, Tensor], extractor: Extractor, rng: np.random.Generator
) -> Iterator[Row]:
    """Training images with normal noise, its standard deviation `level` / 255, clipped."""
    real = _real(features)
    images = train[_some(len(train), len(real), rng)].float() / 255
    normal = torch.from_numpy(rng.standard_normal(tuple(images.shape), np.float32))
    for level in NOISE_LEVELS:
        yield _row("held_out", level, real, extractor((images + normal * level / 255).clamp(0, 1)))


def blur(
    train: Tensor, features: dict[str, Tensor], extractor: Extractor, rng: np.random.Generator
) -> Iterator[Row]:
    """Training images blurred by a normal kernel whose standard deviation is `level` pixels."""
    real = _real(features)
    images = train[_some(len(train), len(real), rng)].float() / 255
    for level in BLUR_PX:
        size = 2 * round(3 * level) + 1
        soft = gaussian_blur(images, [size, size], [level, level]) if size > 1 else images
        yield _row("held_out", level, real, extractor(soft.clamp(0, 1)))


def memorised(features: dict[str, Tensor], rng: np.random.Generator) -> Iterator[Row]:
    """A generator that repeats `level` training images, against held-out images (`real` held_out)
    and against training images that those are among (`real` train)."""
    real = _real(features)
    train = _train(features, len(real), rng)
    for m in (count for count in MEMORISED if count <= len(real)):
        fake = train[torch.arange(len(real)) % m]
        yield _row("held_out", m, real, fake)
        yield _row("train", m, train, fake)


def _some(n: int, k: int, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.choice(n, k, replace=False))


def _real(features: dict[str, Tensor]) -> Tensor:
    return features["held_out"][:NUM_IMAGES]


def _train(features: dict[str, Tensor], n: int, rng: np.random.Generator) -> Tensor:
    return features["train"][_some(len(features["train"]), n, rng)]


def _row(split: str, level: float, real: Tensor, fake: Tensor) -> Row:
    """A measurement between features (n, dim) of both sides."""
    fake = fake.cpu()
    beside = kid_and_precision_recall(real_neighbours(real[:BESIDE]), fake[:BESIDE])
    return {
        "real": split,
        "level": float(level),
        "num_images": len(real),
        "distance": score.frechet(real, fake),
        "kid": beside["kid"],
        "precision": beside["knn_precision"],
        "recall": beside["knn_recall"],
    }


def report(table: pd.DataFrame) -> str:
    """A table of `measure_all` in a few lines a data set and extractor."""
    lines = []
    for (dataset, features), own in table.groupby(["dataset", "features"]):
        lines.append(f"{dataset}, {features} features")
        lines.append(bias(own).drop(columns=["dataset", "features"]).to_string(index=False))
        with contextlib.suppress(StudyError):
            limit = infinitely_many(own)
            interval = f"95 %: {limit.low:.3g} to {limit.high:.3g}"
            lines.append(f"real against real, infinitely many: {limit.value:.3g} ({interval})")
        rest = own[own["experiment"] != "real"].groupby(["experiment", "real", "level"])
        means = rest[["distance", "kid", "precision", "recall"]].mean()
        lines.append(means.to_string(float_format="{:.4g}".format))
    return "\n".join(lines)


# --- Two extractors over many generators ----------------------------------------------------------


def distances_of_runs(
    folders: Sequence[Path],
    names: Sequence[str],
    num_images: int | None = None,
    device: str = "cpu",
) -> pd.DataFrame:
    """The distances of runs' best generators to held-out images in several extractors' features.

    One row a run: sweep, loss, dataset, number, num_images (`num_images` or the run's own), and a
    column for each extractor, named by it. StudyError where the runs are of several data sets.
    """
    configs = {folder: read_config(folder / "config.json") for folder in folders}
    of_one_data_set({config.dataset for config in configs.values()})
    extractor = {name: extractors.load(name, device) for name in names}
    rows = []
    for folder, config in configs.items():
        n = num_images or config.num_images
        images = drawn(folder, n, device)
        row = {key: getattr(config, key) for key in ("sweep", "loss", "dataset", "number")}
        found = {name: _distance(config.dataset, images, extractor[name]) for name in names}
        rows.append(row | {"num_images": n} | found)
    if not rows:
        raise StudyError("no runs with a best.pt; train a sweep first, or name its folder")
    return pd.DataFrame(rows)


def _distance(dataset: str, images: Tensor, extractor: Extractor) -> float:
    real = measure.real_statistics(dataset, "held_out", 0, len(images), extractor)
    moments = fid.Moments(extractor.dim)
    moments.update(extractor(images))
    return fid.distance_to(real, moments)


def runs_below(folders: Sequence[Path]) -> list[Path]:
    """The runs' folders with a generator in or below these folders, sorted."""
    return sorted({best.parent for folder in folders for best in folder.rglob("best.pt")})


# --- The descent to the manifold ------------------------------------------------------------------


def manifold_convergence(folder: Path | None = None, num_images: int = 128) -> pd.DataFrame:
    """Distances found by number of starts and steps, a row a combination.

    `images`: of the triangles' hold-out, the same with noise (standard deviation 0.05) and, where a
    run's `folder` is given, what its best generator draws; `measure` is then also "recall", the
    way to the test images through that generator. Columns else as in
    `triangle_distance.distance_convergence` and `recall_convergence`.
    """
    hold_out = data.load("triangles", "hold_out")[:num_images].float() / 255
    generator = torch.Generator().manual_seed(0)
    noisy = (hold_out + 0.05 * torch.randn(hold_out.shape, generator=generator)).clamp(0, 1)
    sets = {"hold-out": hold_out, "with noise": noisy}
    if folder is not None:
        sets["generated"] = drawn(folder, num_images)
    rows = [
        {"measure": "distance", "images": name} | row
        for name, images in sets.items()
        for row in triangle_distance.distance_convergence(images)
    ]
    if folder is not None:
        rows += [
            {"measure": "recall", "images": "test"} | row for row in _recall(folder, num_images)
        ]
    return pd.DataFrame(rows).assign(num_images=num_images)


def _recall(folder: Path, num_images: int) -> list[dict[str, float]]:
    config = read_config(folder / "config.json").model_copy(update={"device": "cpu"})
    if config.dataset != "triangles":
        raise StudyError(f"{folder} was trained on {config.dataset}; give a run on triangles")
    images = data.load("triangles", "held_out")[:num_images]
    prior = load(config.loss).prior
    return manifold.recall_convergence(best_generator(folder, config), images, prior=prior)


# --- Tables ---------------------------------------------------------------------------------------


def save(table: pd.DataFrame, path: Path, replaced: Sequence[str] = ()) -> pd.DataFrame:
    """Write a table as parquet, the same bytes for the same rows; returns what the file holds.

    Rows of an older file stay, unless they agree with a new row in all columns of `replaced`.
    """
    if replaced and path.exists():
        old = files.read_parquet(path)
        again = old.set_index(list(replaced)).index.isin(table.set_index(list(replaced)).index)
        table = pd.concat([old[~again], table], ignore_index=True)
        table = table.sort_values([c for c in KEY if c in table], ignore_index=True)
    content = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    files.write_atomically(path, lambda place: pq.write_table(content, place, compression="zstd"))
    return table

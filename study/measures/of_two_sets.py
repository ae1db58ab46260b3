"""The distance between two sets of images of anyone's, by exactly the study's recipe.

A set is named by a string: a folder of images, an array's file (.npy, .npz), a part of a data set
(`fashion_mnist:held_out`), or a run's folder, whose best generator then draws the images from the
z of every evaluation. A run scored against the first held-out images of its data set gets the
distance that its record holds. Real comes before fake.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from scipy.stats import t as student
from torch import Tensor

from study import datasets as data
from study.errors import StudyError
from study.features import Extractor
from study.losses import load
from study.measures import frechet as fid
from study.measures import neighbours
from study.measures import of_a_generator as measure
from study.measures.of_a_generator import best_generator
from study.settings.config import read_config
from study.training.networks import draw_z, stream

MOST_IMAGES = 10_000  # of each side unless told: the paper's number
LEAST_IMAGES = 40  # jackknife blocks and quarters of four images, which the k-NN measures need
PARTS = (1, 2, 3, 4)  # the images divided into so many: evenly spaced in 1/n
JACKKNIFE_BLOCKS = 10
KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 100, 1000, 2020  # torch-fidelity's
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


# --- Sets of images -------------------------------------------------------------------------------


def pair(
    real: str, fake: str, num_images: int | None = None, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """The first n images (n, C, H, W) of both sets, uint8 or float in [0, 1].

    n is `num_images`; where none is given, what both have, 10,000 at most. A grey set may stand
    beside a coloured one. Sets of another size in pixels, or with too few images: StudyError.
    """
    sets = {name: load_images(name, num_images, device) for name in (real, fake)}
    x, y = sets[real], sets[fake]
    if x.shape[2:] != y.shape[2:]:
        raise StudyError(
            f"{real} has images of {_size(x)} pixels, {fake} of {_size(y)}; "
            "both must have the same size: scale one of them"
        )
    n = num_images or min(len(x), len(y), MOST_IMAGES)
    if n < LEAST_IMAGES:
        raise StudyError(f"{n} images a side; at least {LEAST_IMAGES} are needed: give more images")
    for name, images in sets.items():
        if len(images) < n:
            raise StudyError(f"{name} has {len(images)} images where {n} are asked for; lower that")
    return x[:n], y[:n]


def load_images(source: str, num_images: int | None = None, device: str = "cpu") -> Tensor:
    """The images (N, C, H, W) that `source` names, uint8 or float in [0, 1], on the CPU.

    `num_images` is how many a run's generator draws (its own number where none is given). What is
    neither a data set's part nor a path, or holds no images: StudyError.
    """
    name, _, split = source.partition(":")
    if name in data.names() and not Path(source).exists():
        if not split:
            raise StudyError(f"{source} is a data set; name a part: {name}:held_out, {name}:train")
        return data.load(name, split)
    path = Path(source)
    if path.suffix in (".npy", ".npz"):
        return _array(path)
    if (path / "config.json").is_file():
        return _drawn(path, num_images, device)
    if path.is_dir():
        return _folder(path)
    raise StudyError(
        f"{source}: no such folder or array; give a folder of images, an .npy or .npz file, a "
        f"run's folder, or a part of a data set such as fashion_mnist:held_out "
        f"(data sets: {', '.join(data.names())})"
    )


def _size(images: Tensor) -> str:
    return " x ".join(str(side) for side in images.shape[2:])


def _array(path: Path) -> Tensor:
    """Images from an array (N, H, W) or (N, H, W, C), uint8 or float in [0, 1]."""
    array = _read_array(path)
    if array.ndim not in (3, 4) or not array.size or array.shape[3:] not in ((), (1,), (3,)):
        raise StudyError(f"{path}: shape {array.shape}; wanted (N, H, W) or (N, H, W, C), C 1 or 3")
    array = array[..., None] if array.ndim == 3 else array
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise StudyError(f"{path}: {array.dtype}; wanted uint8, or float in [0, 1]")
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
        low, high = array.min(), array.max()
        if not (low >= 0 and high <= 1):  # false for NaN too
            raise StudyError(
                f"{path}: values from {low:.4g} to {high:.4g}; "
                "floats must be finite and lie in [0, 1], or give uint8"
            )
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def _read_array(path: Path) -> NDArray[Any]:
    try:
        content = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise StudyError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise StudyError(f"{path}: not an array that NumPy can read ({error})") from error
    if isinstance(content, np.ndarray):
        return content
    with content:
        if len(content.files) != 1:
            held = ", ".join(content.files) or "nothing"
            raise StudyError(f"{path} holds {held}; wanted one array: save the images alone")
        array: NDArray[Any] = content[content.files[0]]
        return array


def _folder(path: Path) -> Tensor:
    """The images of a folder in the order of their names; grey ones have one channel."""
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise StudyError(
            f"{path}: no images there (and no config.json, which makes a run's folder); "
            f"wanted files that end in {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    images = [_image(file) for file in files]
    shapes = {image.shape: file for image, file in zip(images, files, strict=True)}
    if len(shapes) > 1:
        (a, at_a), (b, at_b) = list(shapes.items())[:2]
        raise StudyError(f"{at_a} is {a} but {at_b} is {b}; a folder's images must be alike")
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())


def _image(path: Path) -> NDArray[np.uint8]:
    """An image file as (H, W, C), C 1 or 3."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("1", "L", "P", "RGB"):
                raise StudyError(
                    f"{path}: an image of mode {image.mode}; wanted 8-bit grey or RGB, no alpha"
                )
            pixels = np.asarray(image.convert("L" if image.mode in "1L" else "RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise StudyError(f"{path}: cannot be read as an image ({error})") from error
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _drawn(folder: Path, num_images: int | None, device: str) -> Tensor:
    """Images of a run's best generator from the evaluations' z, not rounded to 8 bit."""
    config = read_config(folder / "config.json").model_copy(update={"device": device})
    try:
        generator = best_generator(folder, config)
    except FileNotFoundError as error:
        raise StudyError(
            f"{folder}: no best.pt, so no generator: the run has not reached its first evaluation"
        ) from error
    except Exception as error:  # torch.load raises whatever the broken bytes lead it to
        raise StudyError(f"{folder}/best.pt does not fit its config.json ({error})") from error
    n = num_images or config.num_images
    prior = load(config.loss).prior
    z = draw_z(max(n, config.num_images), prior, stream(0, "evaluation"))[:n]
    return torch.cat([images.cpu() for images in measure.generate(generator, z.to(device))])


# --- Their distance -------------------------------------------------------------------------------


class Score(NamedTuple):
    """What `compare` finds. Distances are squared Fréchet distances in `features`.

    `bias` is what n images add to the distance, `extrapolated` what is left at infinitely many;
    both lie within `margin` by 95 % (of Gaussian samples, whose distance is known, 90 to 100 %
    did). `bent`: the smallest part held no more images than features, where the law in 1/n fails
    and `extrapolated` is too high. `kid` is unbiased; `precision` and `recall` are those of the k
    nearest neighbours, k = 3.
    """

    features: str
    num_images: int
    distance: float
    margin: float
    bias: float
    extrapolated: float
    bent: bool
    kid: float
    precision: float
    recall: float


def compare(real: Tensor, fake: Tensor, extractor: Extractor, seed: int = 0) -> Score:
    """Everything measured between equally many real and fake images, each seen once."""
    return compare_features(extractor(real), extractor(fake), extractor.name, seed)


def compare_features(real: Tensor, fake: Tensor, name: str, seed: int = 0) -> Score:
    """As `compare`, of features (n, dim) of both sides.

    `seed` deals the images into the parts of the extrapolation and the blocks of the jackknife: a
    folder may be sorted by class.
    """
    n = len(real)
    distance = frechet(real, fake)
    order = np.random.default_rng(seed).permutation
    shuffled = real[torch.from_numpy(order(n))], fake[torch.from_numpy(order(n))]
    error = jackknife_error(*shuffled)
    sizes, means = distances_of_parts(*shuffled, whole=distance)
    extrapolated, _ = fit_in_inverse_n(sizes, means)
    shares = neighbours.kid_and_precision_recall(neighbours.real_neighbours(real), fake)
    return Score(
        features=name,
        num_images=n,
        distance=distance,
        margin=error * float(student.ppf(0.975, JACKKNIFE_BLOCKS - 1)),
        bias=distance - extrapolated,
        extrapolated=extrapolated,
        bent=n // PARTS[-1] <= real.shape[1],
        kid=_kid(real, fake),
        precision=shares["knn_precision"],
        recall=shares["knn_recall"],
    )


def frechet(real: Tensor, fake: Tensor) -> float:
    """Squared Fréchet distance between features (n, dim) and (m, dim); see `fid.distance_to`."""
    of_real, of_fake = fid.Moments(real.shape[1]), fid.Moments(real.shape[1])
    of_real.update(real)
    of_fake.update(fake)
    return fid.distance_to(fid.statistics_of(of_real.mean, of_real.covariance), of_fake)


def distances_of_parts(
    real: Tensor, fake: Tensor, *, whole: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Images a part, and the parts' mean distance: of all images and of halves, thirds, quarters.

    At every size each image counts once, so that all sizes see the same images.
    """
    means = [whole, *(_mean_of_parts(real, fake, parts) for parts in PARTS[1:])]
    return len(real) / np.array(PARTS, float), np.array(means)


def _mean_of_parts(real: Tensor, fake: Tensor, parts: int) -> float:
    cuts = zip(real.tensor_split(parts), fake.tensor_split(parts), strict=True)
    return float(np.mean([frechet(x, y) for x, y in cuts]))


def fit_in_inverse_n(sizes: Any, distances: Any) -> tuple[float, float]:
    """The line distance = a + b / n by least squares: (a, b). a: infinitely many images.

    Chong & Forsyth 2020 (arXiv 1911.07023), section 3: the bias falls as 1/n. They vary the number
    of fake images alone; here both sides have n, so that a is free of the bias of both.
    """
    slope, intercept = np.polyfit(1 / np.asarray(sizes, float), distances, 1)
    return float(intercept), float(slope)


def jackknife_error(
    real: Tensor,
    fake: Tensor,
    statistic: Callable[[Tensor, Tensor], float] = frechet,
    blocks: int = JACKKNIFE_BLOCKS,
) -> float:
    """Standard error of a distance: each block of both sides' images left out once.

    Not a bootstrap: images drawn twice make two sets look further apart than they are.
    """
    cuts = torch.arange(len(real)).tensor_split(blocks)
    rest = [torch.cat([*cuts[:block], *cuts[block + 1 :]]) for block in range(blocks)]
    values = [statistic(real[rows], fake[rows]) for rows in rest]
    return float(np.sqrt((blocks - 1) * np.var(values)))


def _kid(real: Tensor, fake: Tensor) -> float:
    """KID over 100 subsets of 1,000 as papers report it, or of all images where there are fewer."""
    if len(real) <= KID_SUBSET_SIZE:
        return neighbours.kid(real, fake)
    draws = np.random.RandomState(KID_SEED)
    return neighbours.kid_of_subsets(real, fake, draws, KID_SUBSETS, KID_SUBSET_SIZE)[0]


# --- In words -------------------------------------------------------------------------------------


def report(score: Score) -> str:
    """A score as lines for the terminal; only a distance in Inception's features is called FID."""
    inception = score.features == "inception"
    name = "FID" if inception else f"Fréchet distance ({score.features} features)"
    lines = [
        f"{name}: {score.distance:.4g} +- {score.margin:.2g} "
        f"(95 %, jackknife) on {score.num_images:,} images a side",
        f"  for infinitely many images: {score.extrapolated:.4g} +- {score.margin:.2g}; "
        f"{score.bias:.3g} of it is the bias of so few (fit in 1/n)",
        f"KID x 1000: {1000 * score.kid:.4g}",
        f"k-NN precision {score.precision:.3f}, recall {score.recall:.3f} (k = 3)",
    ]
    if score.bent:
        lines.append(
            "note: so few images that a quarter of them holds no more than there are features: "
            "the value for infinitely many is too high"
        )
    return "\n".join(lines)

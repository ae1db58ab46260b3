"""The distance between two sets of images of anyone's, by exactly the study's recipe.

Both sets go through the extractor as they are read (`image_sets`), and what is kept of them does
not grow with their number. A run scored against its data set's held-out images gets the distance
that its record holds. Real comes before fake.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit  # of scipy.stats, whose import takes a second
from torch import Tensor

from study.errors import StudyError
from study.features import Extractor
from study.measures import frechet as fid
from study.measures import neighbours
from study.measures.columns import distance_name
from study.measures.extrapolation import fit_in_inverse_n
from study.measures.image_sets import ImageSet, open_set

LEAST_IMAGES = 40  # of a side: blocks and quarters then hold enough for every measure
BLOCKS = 12  # that the images are dealt into: of the jackknife, and of halves, thirds, quarters
PARTS = (1, 2, 3, 4)  # the images divided into so many: evenly spaced in 1/n
ROWS = 3072  # features that wait until they are worth adding to the blocks' covariances
MOST_NEIGHBOURS = 10_000  # of a side, for KID, precision and recall, whose time grows as its square
# Of a side's images, that may equal another one: those are no draws of their own, and the
# jackknife, which takes them for such, then finds too little spread.
MOST_REPEATS = 0.01
SEED = 0

Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


@contextmanager
def no_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show no progress."""
    yield lambda done, of: None


# --- Both sets ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Two sets that can be compared, and how many of each are taken: None means all."""

    real: ImageSet
    fake: ImageSet
    num_images: int | None


def pair(real: str, fake: str, num_images: int | None = None, device: str = "cpu") -> Pair:
    """The sets of these names; of more than `num_images` in one, as many are taken.

    Where none is given, all of both are taken; beside a run, which draws as many as one wishes, as
    many as its own evaluations compare. A grey set may stand beside a coloured one. Sets of
    another size in pixels, or with too few images: StudyError.
    """
    sets = [open_set(name, num_images, device) for name in (real, fake)]
    if sets[0].size != sets[1].size:
        raise StudyError(
            f"{real} has images of {_size(sets[0])} pixels, {fake} of {_size(sets[1])}; "
            "both must have the same size: scale one of them"
        )
    runs = [side.run.num_images for side in sets if side.run]
    n = num_images or (min(runs) if runs else None)
    for side in sets:
        if (taken := min(n or side.count, side.count)) < LEAST_IMAGES:
            raise StudyError(
                f"{side.name}: {taken} images; at least {LEAST_IMAGES} a side are needed: "
                "give more images"
            )
        if num_images and side.count < num_images:
            raise StudyError(
                f"{side.name} has {side.count} images where {num_images} are asked for; lower that"
            )
    return Pair(sets[0], sets[1], n)


def _size(images: ImageSet) -> str:
    return " x ".join(str(side) for side in images.size)


# --- What is kept of a side -----------------------------------------------------------------------


@dataclass
class Side:
    """A side's features in the moments of BLOCKS, or of one block; some as they are; hashes."""

    blocks: list[fid.Block]
    features: Tensor  # (n, dim) of at most MOST_NEIGHBOURS images, drawn where there are more
    hashes: Counter[bytes] = field(default_factory=Counter)  # of the images -> how many have it

    @property
    def count(self) -> int:
        """How many images there are."""
        return sum(block.count for block in self.blocks)

    def handed_over(self) -> Tensor:
        """The features, which the side then has no longer: they are large."""
        features, self.features = self.features, torch.empty(0, self.features.shape[1])
        return features

    @property
    def repeats(self) -> int:
        """How many images equal another one that was counted already."""
        return self.hashes.total() - len(self.hashes)


def side_of(features: Iterable[Tensor], count: int, dim: int) -> Side:
    """What is kept of features that come as (n, dim) at a time, `count` in all.

    Image i falls into the same block on both sides, where both have as many: the order is drawn
    with one seed. A set may be sorted, or be paired with the other.
    """
    ranks = torch.from_numpy(_ranks(count))
    # With fewer images there is neither margin nor extrapolation: see `Score`.
    blocks = [fid.Block(dim) for _ in range(BLOCKS if count // PARTS[-1] > dim else 1)]
    kept, start = torch.empty(min(count, MOST_NEIGHBOURS), dim), 0
    for part in _gathered(features, dim):
        rank = ranks[start : start + len(part)]
        before = int((ranks[:start] < MOST_NEIGHBOURS).sum())
        drawn = part[rank < MOST_NEIGHBOURS]
        kept[before : before + len(drawn)] = drawn
        for number, block in enumerate(blocks):
            if len(members := part[rank * len(blocks) // count == number]):
                block.update(members)
        start += len(part)
    return Side(blocks, kept)


def _gathered(features: Iterable[Tensor], dim: int) -> Iterator[Tensor]:
    """The features (n, dim) as they come, ROWS at a time, the last fewer; always the same memory.

    Kept as they are, small tensors would lie between the large ones of the extractor, whose memory
    could then be neither given back nor used again.
    """
    buffer, filled = torch.empty(ROWS, dim), 0
    for part in features:
        for piece in torch.split(part, ROWS):
            first = piece[: ROWS - filled]
            buffer[filled : filled + len(first)] = first
            filled += len(first)
            if filled == ROWS:
                yield buffer
                filled = len(piece) - len(first)
                buffer[:filled] = piece[len(first) :]
    if filled:
        yield buffer[:filled]


def _ranks(count: int) -> NDArray[np.intp]:
    """The place of each of so many images in the random order."""
    order = np.random.default_rng(SEED).random(count).argsort()
    ranks = np.empty(count, np.intp)
    ranks[order] = np.arange(count)
    return ranks


def _measured(images: ImageSet, n: int | None, extractor: Extractor, bar: Bar) -> Side:
    count = len(images.places(n))
    hashes: Counter[bytes] = Counter()

    def features() -> Iterator[Tensor]:
        done = 0
        with bar(images.name) as advance:
            for batch in images.batches(n, extractor.batch_of(*images.size)):
                hashes.update(_hashes(batch))
                yield extractor(batch).cpu()
                advance(done := done + len(batch), count)

    side = side_of(features(), count, extractor.dim)
    side.hashes = hashes
    return side


def _hashes(images: Tensor) -> Iterator[bytes]:
    """One of each image as it would be stored: 8 bits, one channel where it is grey.

    So it is known as the same in a set of floats, or of RGB.
    """
    stored = images if images.dtype == torch.uint8 else images.mul(255).round().byte()
    grey = (stored[:, 1:] == stored[:, :1]).flatten(1).all(dim=1)
    for image, is_grey in zip(stored.contiguous().numpy(), grey.tolist(), strict=True):
        # Of a contiguous image the first channel is contiguous, too.
        yield hashlib.blake2b((image[:1] if is_grey else image).data, digest_size=16).digest()


# --- Their distance -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """What `compare` finds. Distances are squared Fréchet distances in `features`.

    `margin` is that of 95 % around `distance`: what as many images of the same sources give on
    average lies within it. `extrapolated` is what the fit in 1/n leaves at infinitely many. Both
    are there only with more images in every quarter than there are features, and hardly one
    twice: with fewer the law in 1/n fails. Even so the extrapolation keeps some bias (between 6,000
    and 6,000 pictures of Fashion-MNIST, 1,280 features: 0.07 to 0.16 where 0 is true), so that it
    has no margin. `kid` is unbiased, over all images; `precision` and `recall` are those of the k
    nearest neighbours, k = 3; these three see `real_neighbours` and `fake_neighbours` images,
    drawn where there are more.
    """

    features: str
    features_digest: str
    real_images: int
    fake_images: int
    distance: float
    margin: float | None
    extrapolated: float | None
    kid: float
    precision: float
    recall: float
    real_neighbours: int
    fake_neighbours: int
    real_repeats: int  # images that equal another one of the same side
    fake_repeats: int
    in_both: int  # different images that both sides have
    notes: dict[str, dict[str, int]]  # set -> what was done to or left out of it -> how many

    @property
    def title(self) -> str:
        """What the distance is called: only in Inception's own features FID."""
        return distance_name(self.features)


def compare(sets: Pair, extractor: Extractor, bar: Bar = no_bar) -> Score:
    """Everything measured between the real and the fake set, each image seen once."""
    real, fake = (_measured(x, sets.num_images, extractor, bar) for x in (sets.real, sets.fake))
    notes = {
        side.name: said
        for side in (sets.real, sets.fake)
        if (said := dict(side.notes) | side.selection(sets.num_images))
    }
    return compare_sides(real, fake, extractor.name, extractor.digest, notes)


def compare_sides(
    real: Side, fake: Side, features: str, digest: str, notes: dict[str, dict[str, int]]
) -> Score:
    """As `compare`, of what was kept of both sides."""
    seen = (len(real.features), len(fake.features))
    there = neighbours.real_neighbours(real.handed_over())
    beside = neighbours.kid_and_precision_recall(there, fake.handed_over())
    del there
    distance = _distance(real.blocks, fake.blocks)
    margin = extrapolated = None
    if _enough(real) and _enough(fake):
        spread = float(stdtrit(BLOCKS - 1, 0.975))  # Student's t
        margin = spread * jackknife_error(real.blocks, fake.blocks)
        extrapolated, _ = fit_in_inverse_n(*distances_of_parts(real.blocks, fake.blocks, distance))
    return Score(
        features=features,
        features_digest=digest,
        real_images=real.count,
        fake_images=fake.count,
        distance=distance,
        margin=margin,
        extrapolated=extrapolated,
        kid=beside["kid"],
        precision=beside["knn_precision"],
        recall=beside["knn_recall"],
        real_neighbours=seen[0],
        fake_neighbours=seen[1],
        real_repeats=real.repeats,
        fake_repeats=fake.repeats,
        in_both=len(real.hashes.keys() & fake.hashes.keys()),
        notes=notes,
    )


def _enough(side: Side) -> bool:
    """Whether margin and extrapolation hold for a side: see `Score`."""
    return len(side.blocks) == BLOCKS and side.repeats <= MOST_REPEATS * side.count


def frechet(real: Tensor, fake: Tensor) -> float:
    """Squared Fréchet distance between features (n, dim) and (m, dim); see `fid.distance_to`."""
    of_real, of_fake = fid.Block(real.shape[1]), fid.Block(real.shape[1])
    of_real.update(real)
    of_fake.update(fake)
    return _distance([of_real], [of_fake])


def _distance(real: Sequence[fid.Block], fake: Sequence[fid.Block]) -> float:
    """Of the images of some blocks of both sides; exactly 0 where both sides have the same ones."""
    x, y = fid.together(real), fid.together(fake)
    if x.same_as(y):
        return 0.0
    return fid.distance_to(fid.statistics_of(x.mean, x.covariance), y)


def distances_of_parts(
    real: Sequence[fid.Block], fake: Sequence[fid.Block], whole: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Images a part, and the parts' mean distance: of all images and of halves, thirds, quarters.

    At every size each image counts once, so that all sizes see the same images.
    """
    means = [whole]
    for parts in PARTS[1:]:
        cuts = [range(i, i + BLOCKS // parts) for i in range(0, BLOCKS, BLOCKS // parts)]
        sides = [[[side[block] for block in cut] for side in (real, fake)] for cut in cuts]
        means.append(float(np.mean([_distance(x, y) for x, y in sides])))
    count = sum(block.count for block in real)
    return count / np.array(PARTS, float), np.array(means)


def jackknife_error(real: Sequence[fid.Block], fake: Sequence[fid.Block]) -> float:
    """Standard error of a distance: each block of both sides' images left out once.

    Not a bootstrap: images drawn twice make two sets look further apart than they are.
    """
    values = [_distance(_without(real, block), _without(fake, block)) for block in range(BLOCKS)]
    return float(np.sqrt((BLOCKS - 1) * np.var(values)))


def _without(blocks: Sequence[fid.Block], left_out: int) -> list[fid.Block]:
    return [block for number, block in enumerate(blocks) if number != left_out]


# --- In words -------------------------------------------------------------------------------------


def report(score: Score) -> Iterator[str]:
    """A score as lines for the terminal; only a distance in Inception's features is called FID."""
    around = "" if score.margin is None else f" +- {score.margin:.2g} (95 %, jackknife)"
    images = f"{score.real_images:,} real and {score.fake_images:,} fake images"
    yield f"{score.title}: {score.distance:.4g}{around} on {images}"
    if score.extrapolated is None:
        yield "  no interval: that needs four times as many images as features, hardly one twice"
    else:
        yield (
            f"  for infinitely many images about {score.extrapolated:.3g}, by a fit in 1/n; "
            f"{score.distance - score.extrapolated:.3g} of it is the bias of so few"
        )
    seen, of = (score.real_neighbours, score.fake_neighbours), ""
    if seen != (score.real_images, score.fake_images):
        of = f"of {seen[0]:,} real and {seen[1]:,} fake images"
    yield f"KID x 1000: {1000 * score.kid:.4g}{of and f' ({of})'}"
    yield (
        f"k-NN precision {score.precision:.3f}, recall {score.recall:.3f} (k = 3{of and f', {of}'})"
    )
    for side, repeats, count in (
        ("real", score.real_repeats, score.real_images),
        ("fake", score.fake_repeats, score.fake_images),
    ):
        if repeats:
            yield f"note: {repeats:,} of {count:,} {side} images equal another one of them"
    if score.in_both:
        yield f"note: both sets have {score.in_both:,} images in common"
    for name, notes in score.notes.items():
        for note, count in sorted(notes.items()):
            yield f"note: {name}: {count:,} {note}"
    yield f"features: {score.features}, digest {score.features_digest[:16]}"

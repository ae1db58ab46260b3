"""Image files as people have them, read as arrays: the one reader of `fid` and `data add`."""

import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from study.datasets.base import Images
from study.errors import StudyError

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_PIXELS = 2**26  # of one image: what claims more is no picture to learn from, but a trap
THREADS, AHEAD = 4, 16
AHEAD_BYTES = 2**26  # that may wait: of photographs that is fewer than AHEAD
ORIENTATION = 0x0112  # EXIF's tag
TURNING = range(2, 9)  # its values but 1, which is upright; any other says nothing
BITS_PER_SAMPLE = 258  # TIFF's tag
# Formats whose files hold no pictures of their own, or are run by another program to get at them.
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
# Pillow's warnings name no file. What they are about is refused by MOST_PIXELS, or does not matter.
warnings.filterwarnings("ignore", module=r"PIL\.")

TURNED = "turned as their EXIF orientation says"
TRANSPARENT = "transparent, laid on white"
FRAMES = "of several frames or pages, of which the first is taken"
DEEP = "of more than 8 bits a channel, rounded to 8"
CUT = "of more than 8 bits a channel, cut to the upper 8"
SMALL = "smaller than asked for, scaled up"


class Found(NamedTuple):
    """The image files below a folder, in the order of their names, and what else lies there."""

    files: list[Path]
    others: Counter[str]  # kind -> how many are left out


class Picture(NamedTuple):
    """An image's pixels (H, W, C), C 1 (grey) or 3, and what was done to them."""

    pixels: Images
    notes: tuple[str, ...]


def formats() -> dict[str, str]:
    """The endings of files that are taken for images, and the format of each."""
    known = Image.registered_extensions().items()
    return {end: kind for end, kind in known if kind in Image.OPEN and kind not in NO_PICTURES}


def find(folder: Path) -> Found:
    """All image files below a folder, its subfolders' too; names that begin with a dot stay out.

    Links to folders are not followed. None at all is a StudyError.
    """
    files, others, wanted = [], Counter[str](), formats()
    for place, folders, names in os.walk(folder, onerror=_refuse):
        linked = [name for name in folders if Path(place, name).is_symlink()]
        others["links to folders"] += len(linked)
        folders[:] = [name for name in folders if name not in linked and name[0] != "."]
        for path in (Path(place, name) for name in names if name[0] != "."):
            if path.suffix.lower() in wanted:
                files.append(path)
            else:
                others[f"{path.suffix.lower() or 'other'} files"] += 1
    if not files:
        raise StudyError(
            f"{folder}: no images there; wanted files that end in .png, .jpg, .webp or another "
            "format that Pillow reads"
        )
    return Found(sorted(files), +others)


def _refuse(error: OSError) -> None:
    raise StudyError(f"{error.filename}: cannot be read ({error.strerror})") from error


def read(path: Path) -> Picture:
    """The image in a file, pixel for pixel but for its EXIF orientation.

    A StudyError names a file that holds no image, one of more than MOST_PIXELS, several frames, an
    alpha channel or transparent colour, or anything but 8-bit grey and RGB. Of JPEG 2000 and AVIF
    in colour Pillow does not tell the bits, and hands over 8.
    """
    return _opened(path, _as_it_is)


def fitted(path: Path, size: int) -> Picture:
    """The central square of the image in a file, scaled to size x size.

    Scaling is Pillow's bicubic with antialiasing (Parmar et al. 2022, arXiv 2104.11222); a JPEG of
    eight times that size or more is decoded at a fraction that leaves at least four times. What
    8-bit grey or RGB does not hold is put into it and noted. A StudyError names a file that holds
    no image, or one of more than MOST_PIXELS.
    """
    return _opened(path, lambda image: _fitted(image, size))


def _opened(path: Path, picture: Callable[[Image.Image], Picture]) -> Picture:
    if not path.is_file() and path.exists():  # a pipe would be waited for
        raise StudyError(f"{path}: no file; remove it from the images")
    try:
        with Image.open(path, formats=_kinds()) as image:
            if image.width * image.height > MOST_PIXELS:
                raise StudyError(
                    f"{path}: {image.width} x {image.height} pixels; at most 67 million are read: "
                    "scale it down"
                )
            return picture(image)
    except StudyError:
        raise
    except Exception as error:  # Pillow raises whatever the broken bytes lead it to
        reason = " ".join(f"{error}".split()) or type(error).__name__
        raise StudyError(f"{path}: cannot be read as an image ({reason})") from error


@cache
def _kinds() -> list[str]:
    """The formats in the order in which they are tried: those of nearly all files come first."""
    return sorted(set(formats().values()), key=lambda kind: (kind not in ("JPEG", "PNG"), kind))


def _as_it_is(image: Image.Image) -> Picture:
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise ValueError(f"{frames} frames or pages; wanted one: save each as a file")
    if image.mode not in ("1", "L", "P", "RGB"):
        raise ValueError(f"mode {image.mode}; wanted 8-bit grey or RGB, no alpha")
    if _to_8_by_pillow(image):
        raise ValueError("16 bits a channel; wanted 8-bit grey or RGB, no alpha")
    image, notes = _turned(image)
    if image.has_transparency_data:
        raise ValueError("it has a transparent colour; wanted 8-bit grey or RGB, no alpha")
    return Picture(_pixels(image), notes)


def _fitted(image: Image.Image, size: int) -> Picture:
    frames = (FRAMES,) if getattr(image, "n_frames", 1) > 1 else ()
    image.draft(None, (4 * size, 4 * size))  # only JPEG: decoded smaller, four times the size left
    deep, bits = _to_8_by_pillow(image), _bits(image)
    image, notes = _turned(image)
    notes += frames + deep
    if image.mode == "F":
        raise ValueError("floats; wanted 8 or 16 bits a channel")
    if image.mode.startswith("I"):
        image = _to_8_bit(image, bits)
        notes += (DEEP,)
    if image.has_transparency_data:
        image, opaque = _on_white(image)
        notes += () if opaque else (TRANSPARENT,)
    if min(image.size) < size:
        notes += (SMALL,)
    return Picture(_pixels(_central_square(image, size)), notes)


def _to_8_by_pillow(image: Image.Image) -> tuple[str, ...]:
    """The note on what Pillow does to 16 bits a channel; asked before it loads the pixels.

    What it keeps whole, in the modes 1, I and F, has no such note.
    """
    if image.mode.startswith(("1", "I", "F")):
        return ()
    for decoder, _, _, told in getattr(image, "tile", ()):
        arguments = told if isinstance(told, tuple) else (told,)
        if decoder in ("ppm", "ppm_plain") and arguments[-1] > 255:
            return (DEEP,)
        # 16 alone stands for a pixel's bits: BGR;16 has 5 or 6 a channel.
        if decoder == "SGI16" or any(f"{x}".endswith((";16B", ";16L", ";16N")) for x in arguments):
            return (CUT,)
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    if max(tags.get(BITS_PER_SAMPLE, (1,))) > 8:
        raise ValueError("16 bits in a plane for each channel, which Pillow misreads")
    return ()


def _turned(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    image.load()
    if image.getexif().get(ORIENTATION) not in TURNING:
        return image, ()
    return ImageOps.exif_transpose(image), (TURNED,)


def _pixels(image: Image.Image) -> Images:
    """(H, W, C): grey where the mode says so, not where all pixels happen to be."""
    mode = "L" if image.mode in ("1", "L") else "RGB"
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _on_white(image: Image.Image) -> tuple[Image.Image, bool]:
    """The image laid on white, and whether all of it was opaque."""
    grey = image.mode in ("L", "LA")
    image = image.convert("RGBA")
    opaque = image.getchannel("A").getextrema()[0] == 255
    laid = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return laid.convert("L" if grey else "RGB"), opaque


def _bits(image: Image.Image) -> int:
    """Bits a channel of a deep image: 16, or the 12 that Pillow reads into 16 as they are."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    return 12 if 12 in tags.get(TiffImagePlugin.BITSPERSAMPLE, ()) else 16


def _to_8_bit(image: Image.Image, bits: int) -> Image.Image:
    """`bits` a pixel, rounded to 8."""
    pixels = np.asarray(image).astype(np.float64) / ((2**bits - 1) / 255)
    if not (pixels.min() >= 0 and pixels.max() <= 255):
        raise ValueError("more than 16 bits a channel")
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def _central_square(image: Image.Image, size: int) -> Image.Image:
    image = image.convert("L" if image.mode in ("1", "L") else "RGB")  # palettes cannot be scaled
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.BICUBIC)


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], size: int = 0
) -> Iterator[Result]:
    """function(item) of each item, in their order, a few of them computed in advance, in threads.

    Pillow decodes without Python's lock. Results, of `size` bytes each, wait in memory only as long
    as AHEAD and AHEAD_BYTES allow.
    """
    ahead = min(AHEAD, max(1, AHEAD_BYTES // max(1, size)))
    with ThreadPoolExecutor(min(THREADS, len(os.sched_getaffinity(0)))) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

"""How figures look: a colour, line and marker a loss; how they are written, byte for byte alike."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, StrMethodFormatter
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from study import files
from study.analysis import scores
from study.analysis.figures import svg

# Of as many as there are, so that no two of 182 losses share colour and marker: Okabe and Ito's
# colours without yellow, and Tol's muted ones. None is grey, which is what stands behind.
COLOURS = [
    *["#E69F00", "#000000", "#56B4E9", "#D55E00", "#CC79A7", "#009E73", "#0072B2", "#882255"],
    *["#117733", "#999933", "#332288", "#44AA99", "#AA4499", "#661100"],
]
MARKERS = "vos^DPXd<>ph8"
LINES: list[Any] = [
    *[(0, (4, 1)), "-", (0, (1, 1)), "-", (0, (4, 1, 1, 1)), (0, (6, 2)), (0, (3, 1, 1, 1, 1, 1))],
    *[(0, (1, 2)), (0, (8, 1)), (0, (2, 1)), (0, (8, 1, 1, 1))],
]
GREY = "#b8b8b8"
"""What stands behind."""
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titley": 1.0,  # where it stands anyway: to look for another place takes time at each draw
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
    "legend.frameon": False,
    "axes.unicode_minus": True,
    "text.parse_math": False,  # names are text, dollars included
    "svg.hashsalt": "study",
    "svg.fonttype": "path",
    "savefig.dpi": 150,
}
styled = matplotlib.rc_context(STYLE)


def style_of(loss: str) -> dict[str, Any]:
    """Colour, line and marker of a loss, by its place in the study's order of losses."""
    place = scores.place(loss)
    looks = {"color": COLOURS, "linestyle": LINES, "marker": MARKERS}
    return {name: of[place % len(of)] for name, of in looks.items()}


def plain_log(axis: Axis, ticks: Sequence[float] = (1, 2, 3, 5, 7)) -> None:
    """Ticks at these times a power of ten, written as plain numbers."""
    axis.set_major_locator(LogLocator(subs=ticks))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


# Files


def remove_stale(folder: Path, written: Iterable[Path]) -> None:
    """Remove the figures in a folder that were drawn here and are not among those just written."""
    for path in set(folder.glob("*.svg")) | set(folder.glob("*.png")):
        if path not in set(written) and path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if svg.MARK.encode() in file.read(2000):
                    path.unlink()


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write stem.svg and stem.png, byte-identical for the same figure."""
    return write(drawn(figure), stem)


@styled
def drawn(figure: Figure) -> dict[str, bytes]:
    """What a figure's files hold, by their suffixes."""
    lay_out(figure)
    return {".svg": svg.file_text(figure).encode(), ".png": _png(figure)}


def write(contents: Mapping[str, bytes], stem: Path) -> list[Path]:
    """Write the files that `drawn` gives; returns their paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(stem.name + suffix) for suffix in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        files.write_atomically(path, partial(Path.write_bytes, data=content))
    return paths


@styled
def inline(figure: Figure, prefix: str) -> str:
    """The figure as an element of an HTML page, without its title and caption (see `words`)."""
    figure.suptitle("")
    figure.supxlabel("")
    lay_out(figure)
    return svg.inline(figure, prefix)


def words(figure: Figure) -> tuple[str, str]:
    """The title and the caption of a figure."""
    return " ".join(figure.get_suptitle().split()), " ".join(figure.get_supxlabel().split())


def lay_out(figure: Figure) -> None:
    """Place everything, once for both files: it takes as long as drawing does."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def _palette(image: Image.Image) -> Image.Image:
    """The 256 most frequent colours, so that those of losses are kept to the last bit."""
    seen = image.getcolors(image.width * image.height) or []
    most = sorted(seen, key=lambda found: (-found[0], found[1]))[:256]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for _, colour in most for part in cast(tuple[int, ...], colour)])
    return palette


def _png(figure: Figure) -> bytes:
    """A PNG's bytes, in the figure's 256 main colours, which is less than half the size."""
    figure.set_dpi(matplotlib.rcParams["savefig.dpi"])
    canvas: Any = FigureCanvasAgg(figure)  # savefig would draw twice
    canvas.draw()
    with BytesIO() as file:
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        mark = PngInfo()
        mark.add_text("Software", svg.MARK)
        reduced = image.quantize(palette=_palette(image), dither=Image.Dither.NONE)
        reduced.save(file, "png", compress_level=6, pnginfo=mark)
        return file.getvalue()

"""How figures look: a colour, line and marker a loss; how they are written, byte for byte alike."""

import re
from collections.abc import Iterable, Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, StrMethodFormatter
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from study.analysis import scores

# Of as many as there are, so that no two of 182 losses share colour and marker: Okabe and Ito's
# colours without yellow and, for losses beyond the paper's, Tol's muted ones.
COLOURS = [
    *["#E69F00", "#000000", "#56B4E9", "#D55E00", "#CC79A7", "#009E73", "#0072B2", "#808080"],
    *["#882255", "#999933", "#332288", "#44AA99", "#AA4499", "#661100"],
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

MARK = "study of GANs"
"""Stands in every file that is drawn here: such a one may be taken away when it is stale."""


def remove_stale(folder: Path, written: Iterable[Path]) -> None:
    """Remove the figures in a folder that were drawn here and are not among those just written."""
    for path in set(folder.glob("*.svg")) | set(folder.glob("*.png")):
        if path not in set(written) and path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if MARK.encode() in file.read(2000):
                    path.unlink()


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write stem.svg and stem.png, byte-identical for the same figure."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(stem.name + suffix) for suffix in (".svg", ".png")]
    paths[0].write_text(svg(figure), encoding="utf-8")
    paths[1].write_bytes(png(figure))
    return paths


@styled
def svg(figure: Figure, prefix: str = "i", fonttype: str = "path") -> str:
    """The figure as SVG, in hundredths of a point; `prefix` keeps its ids apart from others'.

    Processors differ in the last digits of a logarithm, which would show in finer coordinates and
    in matplotlib's ids, which are hashes of them.
    """
    _lay_out(figure)
    with matplotlib.rc_context({"svg.fonttype": fonttype}), StringIO() as file:
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": MARK})
        text = file.getvalue()
    return _numbered(_MARKS.sub(_styled_once, _LONG_NUMBER.sub(_rounded, text)), prefix)


@styled
def png(figure: Figure) -> bytes:
    """The figure as a PNG's bytes, in its 256 main colours, which is less than half the size."""
    _lay_out(figure)
    with BytesIO() as drawn, BytesIO() as file:
        figure.savefig(drawn, format="png")
        image = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        mark = PngInfo()
        mark.add_text("Software", MARK)
        image.save(file, "png", compress_level=6, pnginfo=mark)
        return file.getvalue()


def _lay_out(figure: Figure) -> None:
    """Place everything, once for both files: it takes as long as drawing does."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


_LONG_NUMBER = re.compile(r"(?:scale|matrix)\([^)]*\)|-?\d+\.\d{3,}(?:e-?\d+)?")


def _rounded(found: re.Match[str]) -> str:
    if found[0][0] in "sm":  # a glyph's scale is smaller than what is kept of a coordinate
        return found[0]
    return f"{round(float(found[0]), 2) + 0.0:g}" if "e" not in found[0] else "0"


_MARKS = re.compile(r'(?: *<use [^>]*style="[^"]*"/>\n){3,}')


def _styled_once(found: re.Match[str]) -> str:
    """Many marks of one style as a group that has it, which halves a scatter plot."""
    styles = set(re.findall(r' style="[^"]*"', found[0]))
    if len(styles) > 1:
        return found[0]
    style = styles.pop()
    return f"<g{style}>\n{found[0].replace(style, '')}</g>\n"


_REFERENCE = re.compile(r'((?:href="|url\()#)([\w.-]+)')


def _numbered(text: str, prefix: str) -> str:
    """Ids by order of appearance, and only where something refers to them."""
    used = dict.fromkeys(old for _, old in _REFERENCE.findall(text))
    new = {old: f"{prefix}{number}" for number, old in enumerate(used)}
    text = re.sub(r' id="([\w.-]+)"', lambda m: f' id="{new[m[1]]}"' if m[1] in new else "", text)
    return _REFERENCE.sub(lambda m: m[1] + new[m[2]], text)

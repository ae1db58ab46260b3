"""A figure as SVG: the same bytes on every machine, no larger than it needs to be.

Processors differ in the last digits of a logarithm. They would show in matplotlib's six decimals
and in its ids, which are hashes of coordinates; so coordinates are rounded, and ids are numbers.
"""

import re
from base64 import b64decode, b64encode
from io import BytesIO, StringIO
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

MARK = "study of GANs"
"""Stands in every file that is drawn here: such a one may be taken away when it is stale."""


def file_text(figure: Figure) -> str:
    """The text of an SVG file: letters as outlines, coordinates in hundredths of a point."""
    return _rewritten(_drawn(figure, "path"), 2, "i")


def inline(figure: Figure, prefix: str) -> str:
    """The figure as an element of an HTML page: letters as text, coordinates in tenths of a point.

    `prefix` keeps its ids apart from those of other figures of the page.
    """
    text = _rewritten(_drawn(figure, "none"), 1, prefix)
    text = re.sub(r"<metadata>.*?</metadata>\n", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", text, count=1)
    return text.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")


def _drawn(figure: Figure, fonttype: str) -> str:
    figure.set_dpi(matplotlib.rcParams["savefig.dpi"])  # of the images within
    with matplotlib.rc_context({"svg.fonttype": fonttype}), StringIO() as file:
        canvas: Any = FigureCanvasSVG(figure)  # savefig would draw twice
        canvas.print_svg(file, metadata={"Date": None, "Creator": MARK})
        return file.getvalue()


def _rewritten(text: str, digits: int, prefix: str) -> str:
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*\n\s*", "\n", text)
    text = _LONG_NUMBER.sub(lambda number: _rounded(number, digits), text)
    text = _IMAGE.sub(_grey_where_it_is, text)
    return _numbered(_MARKERS.sub(_styled_once, text), prefix)


_WORDS = r"(?<=>)[^<>]+</t"  # of <text> or <tspan>
_LONG_NUMBER = re.compile(rf"{_WORDS}|(?:scale|matrix)\([^)]*\)|-?\d+\.\d{{2,}}(?:e-?\d+)?")


def _rounded(found: re.Match[str], digits: int) -> str:
    # Words are no coordinates, and a glyph's scale is smaller than what is kept of one.
    if found[0].endswith(("</t", ")")):
        return found[0]
    return f"{round(float(found[0]), digits) + 0.0:g}" if "e" not in found[0] else "0"


_IMAGE = re.compile(r"(?<=data:image/png;base64,)[\w+/=\s]+")


def _grey_where_it_is(found: re.Match[str]) -> str:
    """An embedded image in one channel, not four, where all are the same: a third of the size."""
    with BytesIO(b64decode(found[0])) as drawn, BytesIO() as file:
        image = Image.open(drawn).convert("RGB")
        grey = image.convert("L")
        same = grey.convert("RGB").tobytes() == image.tobytes()
        (grey if same else image).save(file, "png", optimize=True)
        return b64encode(file.getvalue()).decode()


_MARKERS = re.compile(r'(?:<use [^>]*style="[^"]*"/>\n){3,}')


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

"""How figures look: a colour, line and marker a loss; how they are written to files."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from zlib import crc32

import matplotlib
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import (
    LogLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)
from PIL import Image

# Okabe and Ito's colours, without yellow; the baseline is grey. Lines and markers differ too.
LOSSES: dict[str, tuple[str, Any, str]] = {
    "mm": ("#E69F00", (0, (4, 1)), "v"),
    "ns": ("#000000", "-", "o"),
    "ls": ("#56B4E9", (0, (1, 1)), "s"),
    "wgan": ("#D55E00", "-", "^"),
    "wgan_gp": ("#CC79A7", (0, (4, 1, 1, 1)), "D"),
    "dragan": ("#009E73", (0, (6, 2)), "P"),
    "began": ("#0072B2", (0, (3, 1, 1, 1, 1, 1)), "X"),
    "vae": ("#808080", (0, (1, 2)), "d"),
}
_NEW_COLOURS = ["#882255", "#999933", "#332288", "#44AA99", "#AA4499", "#661100"]
_STYLE: Any = {
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
styled = matplotlib.rc_context(_STYLE)


def style_of(loss: str) -> dict[str, Any]:
    """Colour, line and marker of a loss; a new loss's depend on its name alone."""
    if loss in LOSSES:
        color, line, marker = LOSSES[loss]
    else:
        code = crc32(loss.encode())
        color, line, marker = _NEW_COLOURS[code % 6], (0, (8, 1, 1, 1)), "<>ph*8"[code // 6 % 6]
    return {"color": color, "linestyle": line, "marker": marker}


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write stem.svg and stem.png, byte-identical for the same figure."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(stem.name + suffix) for suffix in (".svg", ".png")]
    with matplotlib.rc_context(_STYLE):
        figure.savefig(paths[0], metadata={"Date": None})
    paths[1].write_bytes(png(figure))
    return paths


def png(figure: Figure) -> bytes:
    """The figure as a PNG's bytes, in its 256 main colours, which is less than half the size."""
    with matplotlib.rc_context(_STYLE), BytesIO() as drawn, BytesIO() as file:
        figure.savefig(drawn, format="png")
        image = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        image.save(file, "png", optimize=True)
        return file.getvalue()


def plain_log(axis: Axis, ticks: Sequence[int] = (1, 2, 3, 5, 7)) -> None:
    """Ticks at these times a power of ten, written as plain numbers."""
    axis.set_major_locator(LogLocator(subs=ticks))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())

"""Matplotlib figures as SVG: the same bytes each time, and readable on light and on dark."""

import io
import re
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Three hues that are told apart without red or green, none too light for white nor too dark for black.
BLUE, ORANGE, GREEN = "#2a86c9", "#e06a0c", "#10a37f"
INK = "#0f1e2d"
"""Stands for the colour of the page's text, which the page knows and the picture does not."""

_STYLE: Any = {
    "font.family": "DejaVu Sans",  # Matplotlib brings it: widths are the same everywhere
    "font.size": 9.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.alpha": 0.18,
    "grid.color": INK,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "svg.fonttype": "none",  # text stays text: it can be read out, searched for and copied
    "svg.hashsalt": "triptych",
    "text.color": INK,
    "text.parse_math": False,  # a label may hold a dollar sign
    "xtick.color": INK,
    "ytick.color": INK,
}
_JOINTS = "stroke-linejoin: round; stroke-linecap: butt"
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_FONT = "system-ui, 'DejaVu Sans', sans-serif"
_ON_ITS_OWN = (
    "<style>svg{color:#6e7781;background:transparent}@media(prefers-color-scheme:dark){svg{color:#c9d1d9}}</style>"
)
"""A grey that can be read on both, for viewers that don't say which it is."""


def draw(name: str, width: float, height: float, paint: Callable[[Figure], None]) -> str:
    """An `<svg>` element with what `paint` draws, in the text's colour of whatever page it is put into.

    Args:
        name: what its ids begin with, so that two pictures on a page have none in common.
        width: inches, of 96 CSS pixels.
        height: inches.
        paint: draws on an empty figure.
    """
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # The font measures text; the reader's own draws it.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata=_NO_METADATA)
    text = stream.getvalue()
    text = text[text.index("<svg") :].rstrip().replace(INK, "currentColor")
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, flags=re.DOTALL)  # it would style the page
    text = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", _FONT, text)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    return text.replace("<svg ", f'<svg class="{name}" role="img" style="{_JOINTS}" ', 1)


def standalone(svg: str) -> bytes:
    """The element `svg` as a file of its own."""
    end = svg.index(">") + 1
    return f'<?xml version="1.0" encoding="utf-8"?>\n{svg[:end]}{_ON_ITS_OWN}{svg[end:]}\n'.encode()


def axes(figure: Figure, x: str, y: str, grid: bool = True) -> Axes:
    """The only axes of `figure`, titled."""
    made = figure.subplots()
    made.set_xlabel(x)
    made.set_ylabel(y)
    if grid:
        made.grid(visible=True)
        made.set_axisbelow(True)
    return made

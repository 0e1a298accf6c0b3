"""The confusion matrix as a picture, of two classes or of many."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from training.report import wording
from training.report.svg import BLUE, INK, ORANGE, draw

MANY = 12
"""Classes from which on a cell is too small for its number."""
FEW = 3
"""Classes up to which a cell has room for its count as well, and a label for all of its length."""
LABEL = 18
"""Characters of a label that are shown."""
_STOPS = (0.01, 0.05, 0.25, 0.5, 1.0)
_WHITE_FROM = 0.8


def confusion(matrix: npt.NDArray[np.int64], labels: Sequence[str], order: Sequence[int]) -> str:
    """Row by row, where the samples of each class went: blue where they belong, orange where they don't.

    Args:
        matrix: [C, C], samples of class i that were guessed to be of class j.
        labels: of the classes.
        order: in which classes are shown.
    """
    counts = matrix[np.ix_(order, order)]
    support = counts.sum(axis=1)
    shares = counts / np.maximum(support, 1)[:, None]
    names = [wording.shortened(labels[place], LABEL) for place in order]
    is_large = len(order) > MANY
    cell = 0.19 if is_large else min(1.15, 3.2 / len(order))

    def paint(figure: Figure) -> None:
        plot = figure.subplots()
        size = len(order)
        for row, column in zip(*np.nonzero(counts), strict=True):
            share = float(shares[row, column])
            colour = BLUE if row == column else ORANGE
            plot.add_patch(
                Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=to_rgba(colour, strength(share)), linewidth=0)
            )
            if not is_large:
                text = f"{_percent(share)} %\n{counts[row, column]:,}" if size <= FEW else _percent(share)
                ink = "white" if strength(share) > _WHITE_FROM else INK
                plot.text(column, row, text, ha="center", va="center", color=ink, fontsize=9 if size <= FEW else 8)
        plot.set_xlim(-0.5, size - 0.5)
        plot.set_ylim(size - 0.5, -0.5)
        plot.set_aspect("equal")
        small = 7.5 if is_large else 9
        places = range(size)
        is_upright = size > FEW and max(map(len, names)) > 2
        plot.set_xticks(places, names, rotation=90 if is_upright else 0, fontsize=small)
        rows = [f"{name} ({count:,})" for name, count in zip(names, support, strict=True)]
        plot.set_yticks(places, rows, fontsize=small)
        plot.tick_params(length=0)
        plot.set_xlabel("Guessed class")
        plot.set_ylabel("True class (samples)")
        plot.spines[:].set_visible(True)
        edges = np.arange(size + 1) - 0.5
        plot.hlines(edges, -0.5, size - 0.5, color=INK, alpha=0.12, linewidth=0.5)
        plot.vlines(edges, -0.5, size - 0.5, color=INK, alpha=0.12, linewidth=0.5)
        if is_large:
            _key(plot)
        else:  # the cells say how much
            handles = [Patch(color=BLUE, label="right"), Patch(color=ORANGE, label="wrong")]
            figure.legend(handles=handles, loc="outside upper left", ncols=2, columnspacing=1.2)

    side = cell * len(order) + 1.6
    return draw("confusion", max(4.8, side + 0.4), max(3.5, side + (0.6 if is_large else 0)), paint)


def strength(share: float) -> float:
    """How strongly a share of a row is coloured, 0 to 1: its root, so that one in a hundred can be seen."""
    return float(np.sqrt(share))


def _percent(share: float) -> str:
    """A share as per cent; neither 0 nor 100 where it is neither."""
    if 0 < share < 0.005:
        return "<1"
    return ">99" if 0.995 <= share < 1 else f"{share * 100:.0f}"


def _key(plot: Axes) -> None:
    """Both colours at some shares, above the matrix."""
    key = plot.inset_axes((0, 1.01, 1, 0.02))
    key.set_xlim(0, 16)
    key.set_ylim(0, 1)
    key.axis("off")
    for start, colour, title in ((0, BLUE, "right"), (8, ORANGE, "wrong")):
        for place, share in enumerate(_STOPS, start):
            key.add_patch(Rectangle((place, 0), 1, 1, facecolor=to_rgba(colour, strength(share)), linewidth=0))
            key.text(place + 0.5, 1.2, f"{share * 100:.0f} %", ha="center", va="bottom", fontsize=7.5)
        key.text(start + len(_STOPS) + 0.3, 0.5, title, ha="left", va="center", fontsize=8)

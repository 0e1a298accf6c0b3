"""The pictures of a report, each an `<svg>` element."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from training.data import Array
from training.measure.calibration import Bin
from training.measure.metrics import Band
from training.report import wording
from training.report.curves import Curves, Line
from training.report.svg import BLUE, GREEN, INK, ORANGE, axes, draw

WIDTH, HEIGHT = 4.8, 3.5
"""Inches: two side by side on a desk, and still readable on a phone."""
POINTS = 3_000
"""Most points of a scatter plot; of more, as many are taken evenly from the targets in order."""
FEWEST_BARS, MOST_BARS = 5, 40
"""Of a histogram."""
FEW = 20
"""Epochs up to which each gets a mark of its own."""
_BARS: dict[str, Any] = {"color": to_rgba(BLUE, 0.55), "edgecolor": BLUE, "linewidth": 0.8}
_GUIDE: dict[str, Any] = {"color": INK, "linewidth": 1, "linestyle": (0, (4, 2))}
_COLOURS = {"training": BLUE, "validation": ORANGE, "final": GREEN}
_DASHES: dict[str, Any] = {"training": "-", "validation": "-", "final": (0, (4, 2))}


def learning(found: Curves, unit: str) -> str:
    """Training and validation by epoch."""

    def paint(figure: Figure) -> None:
        plot = axes(figure, "Epoch", wording.axis(found.figure, unit))
        for line in found.lines:
            is_part = line.role == "part"
            plot.plot(
                line.epochs,
                line.values,
                color=_COLOURS[line.kind],
                alpha=0.45 if is_part else 1,
                linestyle=_DASHES[line.kind],
                linewidth=0.8 if is_part else 1.8,
                marker="o" if len(line.epochs) <= FEW and not is_part else None,
                markersize=4,
                zorder=2 if is_part else 3,
            )
        plot.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        if wording.figure(found.figure).form == "share":
            plot.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        _legend(figure, found.lines, found.folds)

    return draw(f"curve-{wording.slug(found.figure)}", WIDTH, HEIGHT, paint)


def _legend(figure: Figure, lines: Sequence[Line], folds: int) -> None:
    kinds = dict.fromkeys(line.kind for line in lines)
    titles = {"training": "training", "validation": "validation", "final": "final training, on all samples"}
    if folds:
        titles |= {"training": f"training, mean of {folds} folds", "validation": f"validation, mean of {folds} folds"}
    handles = [
        Line2D([], [], color=_COLOURS[kind], linestyle=_DASHES[kind], linewidth=1.8, label=titles[kind])
        for kind in kinds
    ]
    _key(figure, *handles, columns=1 if folds else 3)


def reliability(bins: Sequence[Bin]) -> str:
    """How often the guess was right, by the probability it had, over how many samples that were."""
    filled = [each for each in bins if each.count]

    def paint(figure: Figure) -> None:
        plot, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        start = filled[0].low
        plot.bar(
            [each.low for each in filled],
            [each.accuracy or 0 for each in filled],
            [each.high - each.low for each in filled],
            align="edge",
            **_BARS,
        )
        plot.vlines(
            [each.confidence or 0 for each in filled],
            [each.accuracy or 0 for each in filled],
            [each.confidence or 0 for each in filled],
            color=ORANGE,
            linewidth=2,
            zorder=3,
        )
        plot.plot([start, 1], [start, 1], **_GUIDE)
        plot.set_ylabel("Right guesses")
        plot.set_xlim(start, 1)
        plot.set_ylim(0, 1.02)
        counts.bar(
            [each.low for each in filled],
            [each.count for each in filled],
            [each.high - each.low for each in filled],
            align="edge",
            **_BARS,
        )
        counts.set_ylabel("Samples")
        counts.set_xlabel("Probability of the guessed class")
        counts.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        counts.yaxis.set_major_formatter("{x:,.0f}")
        plot.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        counts.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        for each in (plot, counts):
            each.grid(visible=True)
            each.set_axisbelow(True)
        figure.align_ylabels()
        _key(
            figure,
            Line2D([], [], color=BLUE, alpha=0.55, linewidth=7, label="right"),
            Line2D([], [], color=ORANGE, linewidth=2, label="gap"),
            Line2D([], [], **_GUIDE, label="perfectly calibrated"),
        )

    return draw("calibration", WIDTH, 4.4, paint)


def scatter(predictions: Array, targets: Array, target: wording.Target) -> str:
    """Predicted against true."""
    rows = np.argsort(targets, kind="stable")
    if len(rows) > POINTS:
        rows = rows[np.linspace(0, len(rows) - 1, POINTS).astype(int)]
    low, high = (float(edge(np.concatenate([predictions, targets]))) for edge in (np.min, np.max))
    margin = (high - low or 1) * 0.03

    def paint(figure: Figure) -> None:
        unit = f" ({target.unit})" if target.unit else ""
        plot = axes(figure, f"True {target.name}{unit}", f"Predicted {target.name}{unit}")
        plot.plot([low, high], [low, high], **_GUIDE, zorder=1)
        plot.scatter(targets[rows], predictions[rows], s=18, color=BLUE, alpha=0.6, linewidths=0, zorder=2)
        plot.set_xlim(low - margin, high + margin)
        plot.set_ylim(low - margin, high + margin)
        plot.set_aspect("equal")
        for axis in (plot.xaxis, plot.yaxis):
            axis.set_major_locator(MaxNLocator(6))
        _key(
            figure,
            Line2D([], [], color=BLUE, alpha=0.6, marker="o", markersize=4.5, linewidth=0, label="a sample"),
            Line2D([], [], **_GUIDE, label="predicted = true"),
        )

    return draw("scatter", WIDTH, 4.6, paint)


def residuals(predictions: Array, targets: Array, target: wording.Target) -> str:
    """How often each error was made."""
    errors = predictions - targets
    bins = _bins(errors)

    def paint(figure: Figure) -> None:
        unit = f" ({target.unit})" if target.unit else ""
        plot = axes(figure, f"Predicted minus true {target.name}{unit}", "Samples")
        plot.hist(errors, bins=bins.tolist(), **_BARS)
        plot.axvline(0, **_GUIDE)
        plot.axvline(float(errors.mean()), color=ORANGE, linewidth=2)
        plot.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        _key(
            figure,
            Line2D([], [], color=ORANGE, linewidth=2, label="mean (bias)"),
            Line2D([], [], **_GUIDE, label="no error"),
        )

    return draw("residuals", WIDTH, HEIGHT, paint)


def _bins(errors: Array) -> Array:
    """Edges for a histogram by the rule of Freedman and Diaconis, for errors that are all the same as well."""
    low, high = float(errors.min()), float(errors.max())
    if high - low <= 1e-9 * max(1.0, abs(low), abs(high)):
        return np.array([low - 0.5, high + 0.5])
    first, third = np.quantile(errors, [0.25, 0.75])
    width = 2 * (third - first) / len(errors) ** (1 / 3)
    count = int(np.clip((high - low) / max(width, (high - low) / MOST_BARS), FEWEST_BARS, MOST_BARS))
    return np.linspace(low, high, count + 1)


def bands(found: Sequence[Band], mae: float, target: wording.Target) -> str:
    """The mean error by band of targets."""

    def paint(figure: Figure) -> None:
        unit = f" ({target.unit})" if target.unit else ""
        plot = axes(figure, f"True {target.name}{unit}", wording.axis("mae", target.unit))
        plot.grid(visible=False, axis="x")
        places = np.arange(len(found))
        plot.bar(places, [band.mae or 0 for band in found], 0.7, **_BARS)
        height = max(mae, *(band.mae or 0 for band in found))
        for place, band in enumerate(found):
            top = band.mae or 0
            clear = mae if mae - height / 10 < top < mae else top  # not across the line
            text = wording.NONE if band.mae is None else f"{band.mae:.2f}"
            plot.annotate(text, (place, clear), (0, 4), textcoords="offset points", ha="center", fontsize=8.5)
        plot.set_ylim(0, height * 1.12 or 1)
        plot.axhline(mae, color=ORANGE, linewidth=2)
        labels = [f"{wording.band(band.low, band.high)}\nn = {band.rows:,}" for band in found]
        plot.set_xticks(places, labels, fontsize=8.5)
        plot.tick_params(axis="x", length=0)
        handle = Line2D([], [], color=ORANGE, linewidth=2, label="all samples")
        _key(figure, handle)

    return draw("bands", WIDTH, HEIGHT, paint)


def _key(figure: Figure, *handles: Line2D, columns: int = 3) -> None:
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, columnspacing=1.2)

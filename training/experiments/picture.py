"""The picture of a comparison: validation loss and metric by epoch, one row of plots for each thing varied."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.experiments import history
from training.experiments.findings import Records
from training.experiments.history import Curve
from training.experiments.variants import BOOK, VARIANTS
from training.models import RECIPES
from training.report.svg import BLUE, GREEN, INK, ORANGE, draw, standalone
from training.runs import Record

# Inches. Placed by hand: what a constraint solver gives may differ in a last digit from one time to the next.
PLOT_WIDTH, PLOT_HEIGHT = 3.3, 1.6
LEFT, RIGHT, TOP, BOTTOM = 0.55, 0.85, 0.35, 0.5
BETWEEN_ROWS = 0.6
SETTLED = 3
"""Epochs before this one may leave the plot: a first loss with its penalty would flatten all the rest."""
LEAPS = 0.05
"""Share of the highest, and of the lowest, values that may leave it, too."""
GAP = 0.115
"""Least distance of two labels, as a share of a plot's height."""
PURPLE = "#b45fc9"
# A dash of its own for each, too: neither colour nor print should be needed to tell two lines apart.
_LINES: tuple[dict[str, Any], ...] = (
    {"color": BLUE, "linestyle": "-"},
    {"color": ORANGE, "linestyle": (0, (5, 1.5))},
    {"color": GREEN, "linestyle": (0, (1.5, 1.2))},
    {"color": PURPLE, "linestyle": (0, (6, 1.5, 1.5, 1.5))},
)
_MORE_DIGITS = re.compile(r"(?<=\d\.\d\d)\d+")
"""Of coordinates, beyond a hundredth of a point."""
_METRICS = {"accuracy": "Validation accuracy", "mae": "Validation MAE, thousand dollars"}
# Broad and behind the others, so that it shows where one of them is the same.
_BOOK: dict[str, Any] = {"color": INK, "linestyle": "-", "linewidth": 3, "alpha": 0.5}


def picture(model: str, records: Records) -> bytes:
    """An SVG file of the `records` of `model`; the same bytes for the same records."""
    groups = _groups(model, records)
    width = 2 * (LEFT + PLOT_WIDTH + RIGHT)
    height = TOP + len(groups) * (PLOT_HEIGHT + BETWEEN_ROWS) - BETWEEN_ROWS + BOTTOM

    def paint(figure: Figure) -> None:
        figure.set_layout_engine("none")
        grid = figure.add_gridspec(
            len(groups),
            2,
            left=LEFT / width,
            right=1 - RIGHT / width,
            top=1 - TOP / height,
            bottom=BOTTOM / height,
            hspace=BETWEEN_ROWS / PLOT_HEIGHT,
            wspace=(LEFT + RIGHT) / PLOT_WIDTH,
        )
        plots = grid.subplots(squeeze=False)
        for (title, names), (left, right) in zip(groups.items(), plots, strict=True):
            shown = _shown(records, names)
            styles = _styles(list(shown))
            _plot(left, {name: history.loss(record) for name, record in _comparable(shown).items()}, styles)
            _plot(right, {name: history.metric(record) for name, record in shown.items()}, styles)
            left.set_title(title, loc="left", fontsize=10.5, fontweight="bold")
            if RECIPES[model].metric == "accuracy":
                right.yaxis.set_major_formatter(_percent)
        for plot, title in zip(plots[0], ("Validation loss", _METRICS[RECIPES[model].metric]), strict=True):
            plot.set_title(title, loc="right", fontsize=9.5)
        for plot in plots[-1]:
            plot.set_xlabel("Epoch")

    drawn = draw(f"experiments-{model.replace('_', '-')}", width, height, paint)
    return standalone(_MORE_DIGITS.sub("", drawn))


def _groups(model: str, records: Records) -> dict[str, list[str]]:
    """The variants that there are records of, by what they vary."""
    groups: dict[str, list[str]] = {}
    for variant in VARIANTS[model]:
        if variant.group and variant.name in records:
            groups.setdefault(variant.group, []).append(variant.name)
    return groups or {"The book's own": []}


def _percent(share: float, _: int | None) -> str:
    return f"{100 * share:g} %"


def _shown(records: Records, names: list[str]) -> Records:
    """The book's record and those of `names`; not the book's if one of these goes on from where it ends."""
    shown = {name: records[name] for name in names}
    if BOOK not in records:
        return shown
    book = {**records[BOOK].hyperparameters, "epochs": None}
    goes_on = any({**record.hyperparameters, "epochs": None} == book for record in shown.values())
    return shown if goes_on else {BOOK: records[BOOK], **shown}


def _comparable(records: Records) -> Records:
    """The `records` whose loss is of the kind of the first one's: others are on another scale."""
    kinds = {name: _kind(record) for name, record in records.items()}
    first = next(iter(kinds.values()))
    return {name: record for name, record in records.items() if kinds[name] == first}


def _kind(record: Record) -> str:
    loss: str = record.hyperparameters["loss"]
    return "cross-entropy" if loss.endswith("crossentropy") else loss


def _styles(names: list[str]) -> dict[str, dict[str, Any]]:
    """How the curve of each variant is drawn, the same in both plots of a row."""
    lines = iter(_LINES)
    return {name: _BOOK if name == BOOK else next(lines) for name in names}


def _plot(plot: Axes, curves: dict[str, Curve], styles: dict[str, dict[str, Any]]) -> None:
    """Each of `curves` with a dot where it is best and its name at its end."""
    for name, curve in curves.items():
        style = styles[name]
        plot.plot(curve.epochs, curve.values, **({"linewidth": 1.6} | style), label=name)
        plot.plot(curve.best_epoch, curve.best, "o", color=style["color"], markersize=5)
    low, high = limits(list(curves.values()))
    plot.set_ylim(low, high)
    plot.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    plot.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    plot.grid(visible=True)
    plot.set_axisbelow(True)
    ends = [(curve.last - low) / (high - low) for curve in curves.values()]
    for line, place in zip(plot.get_lines()[::2], spread(ends), strict=True):
        right = max(curve.end for curve in curves.values())
        plot.annotate(
            str(line.get_label()),
            (right, place),
            xycoords=("data", "axes fraction"),
            xytext=(6, 0),
            textcoords="offset points",
            color=line.get_color(),
            fontsize=9,
            va="center",
        )


def limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """What a plot reaches from and to: all ends and bests are in it, single leaps and the first epochs may not be."""
    settled = [value for curve in curves for value in curve.values[SETTLED - 1 :]]
    inside = [value for curve in curves for value in (curve.best, curve.last)]
    if settled:
        inside += np.quantile(settled, (LEAPS, 1 - LEAPS)).tolist()
    margin = 0.06 * (max(inside) - min(inside)) or 0.01
    return min(inside) - margin, max(inside) + margin


def spread(places: Sequence[float], gap: float = GAP) -> list[float]:
    """`places`, shares of a height, moved within it so that they are `gap` apart, in the same order."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    groups: list[list[int]] = []
    centres: list[float] = []
    for index in order:
        groups.append([index])
        centres.append(places[index])
        # Labels that would overlap stand together, centred on where their curves end.
        while len(groups) > 1 and _top(groups[-2], centres[-2], gap) > _bottom(groups[-1], centres[-1], gap):
            group = groups[-2] + groups[-1]
            groups[-2:], centres[-2:] = [group], [sum(places[each] for each in group) / len(group)]
    moved = list(places)
    for group, centre in zip(groups, centres, strict=True):
        reach = (len(group) - 1) / 2 * gap
        centre = min(max(centre, reach), 1 - reach)  # none beyond the plot, beside its title or its ticks
        for position, index in enumerate(group):
            moved[index] = centre + (position - (len(group) - 1) / 2) * gap
    return moved


def _top(group: list[int], centre: float, gap: float) -> float:
    return centre + len(group) / 2 * gap


def _bottom(group: list[int], centre: float, gap: float) -> float:
    return centre - len(group) / 2 * gap

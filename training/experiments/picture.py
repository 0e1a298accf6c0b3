"""The picture of a comparison: validation loss and metric by epoch, one row of plots for each thing varied."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from training.experiments import history
from training.experiments.findings import Records
from training.experiments.history import Curve
from training.experiments.variants import BOOK, VARIANTS
from training.report.svg import BLUE, GREEN, INK, ORANGE, draw, standalone
from training.runs import Record

WIDTH, ROW = 9.2, 2.15
"""Inches: of the picture, and of each row of plots in height."""
SETTLED = 3
"""Epochs before this one may leave the plot: a first loss with its penalty would flatten all the rest."""
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
_BOOK: dict[str, Any] = {"color": INK, "linestyle": "-"}


def picture(model: str, records: Records) -> bytes:
    """An SVG file of the `records` of `model`; the same bytes for the same records."""
    groups = _groups(model, records)

    def paint(figure: Figure) -> None:
        plots = figure.subplots(len(groups), 2, squeeze=False)
        for (title, names), (left, right) in zip(groups.items(), plots, strict=True):
            shown = {name: records[name] for name in (BOOK, *names) if name in records}
            _plot(left, {name: history.loss(record) for name, record in _comparable(shown).items()})
            _plot(right, {name: history.metric(record) for name, record in shown.items()})
            left.set_title(title, loc="left", fontsize=10.5, fontweight="bold")
            if next(iter(shown.values())).metric == "accuracy":
                right.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        is_regression = any(record.metric == "mae" for record in records.values())
        plots[0][0].annotate("Validation loss", (1, 1.04), xycoords="axes fraction", ha="right", va="bottom")
        metric = "Validation MAE, thousand dollars" if is_regression else "Validation accuracy"
        plots[0][1].annotate(metric, (1, 1.04), xycoords="axes fraction", ha="right", va="bottom")
        for plot in plots[-1]:
            plot.set_xlabel("Epoch")

    return standalone(draw(f"experiments-{model.replace('_', '-')}", WIDTH, ROW * max(len(groups), 1) + 0.3, paint))


def _groups(model: str, records: Records) -> dict[str, list[str]]:
    """The variants that there are records of, by what they vary."""
    groups: dict[str, list[str]] = {}
    for variant in VARIANTS[model]:
        if variant.group and variant.name in records:
            groups.setdefault(variant.group, []).append(variant.name)
    return groups or {"The book's own": []}


def _comparable(records: Records) -> Records:
    """The `records` whose loss is of the kind of the first one's: others are on another scale."""
    kinds = {name: _kind(record) for name, record in records.items()}
    first = next(iter(kinds.values()))
    return {name: record for name, record in records.items() if kinds[name] == first}


def _kind(record: Record) -> str:
    loss: str = record.hyperparameters["loss"]
    return "cross-entropy" if loss.endswith("crossentropy") else loss


def _plot(plot: Axes, curves: dict[str, Curve]) -> None:
    """Each of `curves` with a dot where it is best and its name at its end."""
    styles = iter(_LINES)
    for name, curve in curves.items():
        style = _BOOK if name == BOOK else next(styles)
        plot.plot(curve.epochs, curve.values, **style, linewidth=1.6, label=name)
        plot.plot(curve.best_epoch, curve.best, "o", color=style["color"], markersize=5)
    settled = [value for curve in curves.values() for value in curve.values[SETTLED - 1 :]] or [0.0, 1.0]
    margin = 0.06 * (max(settled) - min(settled)) or 0.01
    low, high = min(settled) - margin, max(settled) + margin
    plot.set_ylim(low, high)
    plot.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    plot.yaxis.set_major_locator(MaxNLocator(4))
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
            va="center",
        )


def spread(places: Sequence[float], gap: float = GAP) -> list[float]:
    """`places`, shares of a height, moved no further than keeps them `gap` apart, in the same order."""
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
        for position, index in enumerate(group):
            moved[index] = centre + (position - (len(group) - 1) / 2) * gap
    return moved


def _top(group: list[int], centre: float, gap: float) -> float:
    return centre + len(group) / 2 * gap


def _bottom(group: list[int], centre: float, gap: float) -> float:
    return centre - len(group) / 2 * gap

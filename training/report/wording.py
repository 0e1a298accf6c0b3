"""How figures are called and written for people: titles, units, and which way is better."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from training.measure.metrics import PRICE_BANDS

NONE = "–"
"""What stands where there is no value."""


@dataclass(frozen=True)
class Figure:
    """What is said of one figure of a report."""

    title: str
    better: Literal["high", "low", "neither"] = "neither"
    form: Literal["share", "number", "target", "squared"] = "number"
    """A share of 1, a bare number, or one in the target's unit or its square."""
    hint: str = ""


@dataclass(frozen=True)
class Target:
    """What a regression predicts."""

    name: str = "value"
    unit: str = ""
    edges: tuple[float, ...] | None = None
    """Of the bands that errors are shown by; None means the targets' quartiles."""


FIGURES = {
    "accuracy": Figure("Accuracy", "high", "share", "samples whose class was guessed"),
    "top_3_accuracy": Figure("Top-3 accuracy", "high", "share", "class among the three likeliest"),
    "macro_precision": Figure("Precision, macro", "high", "share", "mean over the classes"),
    "macro_recall": Figure("Recall, macro", "high", "share", "mean over the classes"),
    "macro_f1": Figure("F1, macro", "high", "share", "mean over the classes"),
    "roc_auc": Figure("ROC AUC", "high", "number", "area under the ROC curve"),
    "average_precision": Figure("Average precision", "high", "number", "area under the precision-recall curve"),
    "ece": Figure("ECE", "low", "share", "expected calibration error"),
    "brier": Figure("Brier score", "low", "number", "mean squared error of the probabilities"),
    "log_loss": Figure("Log loss", "low", "number", "mean cross-entropy, nats"),
    "mae": Figure("MAE", "low", "target", "mean absolute error"),
    "mse": Figure("MSE", "low", "squared", "mean squared error"),
    "rmse": Figure("RMSE", "low", "target", "root of the mean squared error"),
    "median_absolute_error": Figure("Median error", "low", "target", "half of the errors are smaller"),
    "r2": Figure("R²", "high", "number", "share of the targets' variance explained"),
    "bias": Figure("Bias", "neither", "target", "mean of prediction minus target"),
    "loss": Figure("Loss", "low"),
}
"""By name, in the order in which they are shown."""

TARGETS = {"house_price": Target("price", "k$", PRICE_BANDS)}
"""By model."""


def figure(name: str) -> Figure:
    """What is said of the figure `name`; its bare name where it is not one of ours."""
    return FIGURES.get(name) or Figure(plain(name))


def in_order(names: Mapping[str, Any]) -> list[str]:
    """`names`, those of `FIGURES` first and in its order."""
    known = list(FIGURES)
    return sorted(names, key=lambda name: known.index(name) if name in FIGURES else len(known))


def value(name: str, number: float | None, unit: str) -> str:
    """`number`, the figure `name`, with its unit."""
    if number is None:
        return NONE
    match figure(name).form:
        case "share":
            return share(number, 2)
        case "target":
            return _with(number, 3, unit)
        case "squared":
            return _with(number, 2, unit and f"{unit}²")
        case _:
            return _with(number, 4, "")


def share(number: float | None, decimals: int = 1) -> str:
    """A share of 1 as per cent."""
    return NONE if number is None else _with(number * 100, decimals, "%")


def axis(name: str, unit: str) -> str:
    """The figure `name` as the title of an axis."""
    known = figure(name)
    units = {"share": "", "number": "", "target": unit, "squared": unit and f"{unit}²"}
    return f"{known.title} ({units[known.form]})" if units[known.form] else known.title


def band(low: float, high: float) -> str:
    """The numbers from `low` to `high`."""
    if high == float("inf"):
        return f"≥ {low:g}"
    return f"< {high:g}" if low == 0 else f"{low:.4g}–{high:.4g}"


def seconds(number: float | None) -> str:
    """A time, in minutes where it is long."""
    if number is None:
        return NONE
    return f"{number:.1f} s" if number < 120 else f"{number / 60:.1f} min ({number:,.0f} s)"


def plain(name: str) -> str:
    """A key as words."""
    return name.replace("_", " ")


def slug(name: str) -> str:
    """`name` as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def printable(text: str) -> str:
    """`text` without control characters, which neither HTML nor SVG can hold, each made a visible U+FFFD."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\N{REPLACEMENT CHARACTER}", text)


def shortened(text: str, most: int) -> str:
    """`text` in one line of at most `most` characters."""
    line = " ".join(printable(text).split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def _with(number: float, decimals: int, unit: str) -> str:
    written = f"{number:.{decimals}f}".replace("-", "\N{MINUS SIGN}")
    return f"{written}\N{NO-BREAK SPACE}{unit}" if unit else written

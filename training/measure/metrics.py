"""The figures of a model on samples it did not learn from. What has no value for these samples is None, never NaN."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    median_absolute_error,
    precision_recall_fscore_support,
    r2_score,
    roc_auc_score,
)

from training.data import Array
from training.errors import TrainingError
from training.measure.calibration import BINS, expected_calibration_error, reliability
from training.measure.outputs import Floats, per_class, values

TOP = 3
"""Guesses that top-k accuracy allows."""
PRICE_BANDS = (0.0, 15.0, 20.0, 25.0, 35.0, float("inf"))
"""Edges for house prices, thousand dollars."""


@dataclass(frozen=True)
class ClassFigures:
    """One class against all others."""

    label: str
    support: int
    """Samples of this class."""
    precision: float | None
    """None where the class was never guessed."""
    recall: float | None
    """None where the class has no samples."""
    f1: float | None
    """None where the class has no samples; 0 where it has some and none was found."""


@dataclass(frozen=True)
class ClassificationReport:
    """How well classes were told apart."""

    samples: int
    accuracy: float
    top_3_accuracy: float | None
    """Share of samples whose class is among the three likeliest; None where there are three classes or fewer."""
    macro_precision: float
    """Mean over the classes that occur; 0 for one that was never guessed, as in scikit-learn."""
    macro_recall: float
    """Mean over the classes that occur."""
    macro_f1: float
    """Mean over the classes that occur."""
    roc_auc: float | None
    """Two classes: of class 1. More: the mean, one class against the rest, over those that occur."""
    average_precision: float | None
    """Area under the precision-recall curve as a step function; averaged as `roc_auc` is."""
    ece: float
    """Expected calibration error, with `ece_bins` bins of equal width."""
    ece_bins: int
    brier: float
    """Mean squared error of the probabilities: of class 1 with two classes (0 to 1), summed over more (0 to 2)."""
    log_loss: float
    """Mean cross-entropy, nats; a probability of 0 counts as float64's epsilon."""
    classes: tuple[ClassFigures, ...]
    confusion: npt.NDArray[np.int64] = field(repr=False, compare=False)
    """[C, C]: samples of class i that were guessed to be of class j."""

    def flat(self) -> dict[str, float]:
        """The headline figures by name; those without a value are left out."""
        names = (
            "accuracy",
            "top_3_accuracy",
            "macro_precision",
            "macro_recall",
            "macro_f1",
            "roc_auc",
            "average_precision",
            "ece",
            "brier",
            "log_loss",
        )
        return _present({name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class Band:
    """The samples whose target is from `low` up to, but not including, `high`; the last band includes it."""

    low: float
    high: float
    rows: int
    mae: float | None
    bias: float | None
    """Mean of prediction minus target: above 0 is too dear. None where the band is empty."""


@dataclass(frozen=True)
class RegressionReport:
    """How far predictions are from their targets, in the target's unit; mse in its square."""

    samples: int
    mae: float
    mse: float
    rmse: float
    r2: float | None
    """Share of the targets' variance that is explained; None where they don't vary."""
    median_absolute_error: float
    bias: float
    """Mean of prediction minus target."""
    bands: tuple[Band, ...]

    def flat(self) -> dict[str, float]:
        """The headline figures by name; those without a value are left out."""
        names = ("mae", "mse", "rmse", "r2", "median_absolute_error", "bias")
        return _present({name: getattr(self, name) for name in names})


def classification(
    probabilities: Array, targets: Array, labels: Sequence[str], bins: int = BINS
) -> ClassificationReport:
    """All figures of a classifier; of two classes, the second is guessed where its probability is above 0.5.

    Args:
        probabilities: [N, C], or [N, 1] for two classes: the probability of class 1.
        targets: [N], the class of each sample, from 0.
        labels: a name for each class.
        bins: of the calibration error.

    Raises:
        TrainingError: the arrays or the labels don't go together.
    """
    found, wanted = per_class(probabilities, targets)
    count = found.shape[1]
    if len(labels) != count:
        raise TrainingError(f"{len(labels)} labels for {count} classes: expected one each")
    guesses = found.argmax(axis=1)
    everything = np.arange(count)
    occurring = np.unique(wanted)
    macro = precision_recall_fscore_support(wanted, guesses, labels=occurring, average="macro", zero_division=0)
    one_hot = (wanted[:, None] == everything).astype(np.float64)
    squared = np.square(found - one_hot).sum(axis=1).mean()
    return ClassificationReport(
        samples=len(wanted),
        accuracy=float((guesses == wanted).mean()),
        top_3_accuracy=_top(found, wanted),
        macro_precision=float(macro[0]),
        macro_recall=float(macro[1]),
        macro_f1=float(macro[2]),
        roc_auc=_ranked(roc_auc_score, one_hot, found, occurring),
        average_precision=_ranked(average_precision_score, one_hot, found, occurring),
        ece=expected_calibration_error(reliability(probabilities, targets, bins)),
        ece_bins=bins,
        brier=float(squared / 2 if count == 2 else squared),
        log_loss=float(log_loss(wanted, found, labels=everything)),
        classes=_classes(wanted, guesses, labels),
        confusion=confusion_matrix(wanted, guesses, labels=everything).astype(np.int64),
    )


def regression(predictions: Array, targets: Array, edges: Sequence[float] | None = None) -> RegressionReport:
    """All figures of a regression.

    Args:
        predictions: [N] or [N, 1].
        targets: [N].
        edges: of the bands of targets, ascending, such as `PRICE_BANDS`; None means the targets' quartiles.

    Raises:
        TrainingError: the arrays don't go together, or the bands don't hold every target.
    """
    found, wanted = values(predictions, targets)
    varies = len(wanted) > 1 and wanted.min() < wanted.max()
    mse = float(mean_squared_error(wanted, found))
    return RegressionReport(
        samples=len(wanted),
        mae=float(mean_absolute_error(wanted, found)),
        mse=mse,
        rmse=float(np.sqrt(mse)),
        r2=float(r2_score(wanted, found)) if varies else None,
        median_absolute_error=float(median_absolute_error(wanted, found)),
        bias=float((found - wanted).mean()),
        bands=_bands(found - wanted, wanted, _edges(wanted, edges)),
    )


def _present(figures: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if value is not None}


def _top(found: Floats, wanted: Array) -> float | None:
    if found.shape[1] <= TOP:
        return None
    # A stable sort, so that of equal probabilities the lower class comes first, as in argmax.
    best = np.argsort(-found, axis=1, kind="stable")[:, :TOP]
    return float((best == wanted[:, None]).any(axis=1).mean())


def _ranked(score: Callable[..., float], one_hot: Floats, found: Floats, occurring: Array) -> float | None:
    """A ranking score, which needs samples both of a class and of others."""
    if len(occurring) < 2:
        return None
    columns = np.array([1]) if found.shape[1] == 2 else occurring
    return float(score(one_hot[:, columns], found[:, columns], average="macro"))


def _classes(wanted: Array, guesses: Array, labels: Sequence[str]) -> tuple[ClassFigures, ...]:
    precisions, recalls, f1s, supports = precision_recall_fscore_support(
        wanted, guesses, labels=np.arange(len(labels)), average=None, zero_division=0
    )
    guessed = np.bincount(guesses, minlength=len(labels))
    return tuple(
        ClassFigures(
            label=label,
            support=int(supports[row]),
            precision=float(precisions[row]) if guessed[row] else None,
            recall=float(recalls[row]) if supports[row] else None,
            f1=float(f1s[row]) if supports[row] else None,
        )
        for row, label in enumerate(labels)
    )


def _edges(wanted: Floats, edges: Sequence[float] | None) -> Floats:
    if edges is None:
        return np.unique(np.quantile(wanted, [0, 0.25, 0.5, 0.75, 1]))
    given = np.asarray(edges, np.float64)
    if len(given) < 2 or not (given[1:] > given[:-1]).all():
        raise TrainingError(f"the edges of bands must be two or more and ascend: found {list(edges)}")
    if wanted.min() < given[0] or wanted.max() > given[-1]:
        raise TrainingError(
            f"bands from {given[0]:g} to {given[-1]:g} don't hold all targets, {wanted.min():g} to {wanted.max():g}"
        )
    return given


def _bands(errors: Floats, wanted: Floats, edges: Floats) -> tuple[Band, ...]:
    # Targets that are all the same have one edge, and one band that begins and ends there.
    lows, highs = (edges, edges) if len(edges) == 1 else (edges[:-1], edges[1:])
    places = np.clip(np.searchsorted(edges, wanted, side="right") - 1, 0, len(lows) - 1)
    bands = []
    for place, (low, high) in enumerate(zip(lows, highs, strict=True)):
        inside = errors[places == place]
        mae, bias = (float(np.abs(inside).mean()), float(inside.mean())) if len(inside) else (None, None)
        bands.append(Band(float(low), float(high), len(inside), mae, bias))
    return tuple(bands)

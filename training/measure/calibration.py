"""Calibration: whether a network that says 90 % is right nine times in ten.

Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.data import Array
from training.errors import TrainingError
from training.measure.outputs import per_class

BINS = 15
"""As many as the paper takes."""


@dataclass(frozen=True)
class Bin:
    """The samples whose guessed class has a probability above `low` and up to `high`."""

    low: float
    high: float
    count: int
    confidence: float | None
    """Mean probability of the guessed class; None where the bin is empty."""
    accuracy: float | None
    """Share of right guesses; None where the bin is empty."""


def reliability(probabilities: Array, targets: Array, bins: int = BINS) -> tuple[Bin, ...]:
    """The bars of a reliability diagram: `bins` of equal width over the confidence in the guessed class.

    Args:
        probabilities: [N, C], or [N, 1] for two classes.
        targets: [N], the class of each sample.
        bins: how many.

    Raises:
        TrainingError: the arrays don't go together, or there is no bin.
    """
    if bins < 1:
        raise TrainingError(f"a reliability diagram needs at least 1 bin: found {bins}")
    found, classes = per_class(probabilities, targets)
    confidence, right = found.max(axis=1), found.argmax(axis=1) == classes
    edges = np.linspace(0, 1, bins + 1)
    # Bins are closed on the right, as in the paper.
    places = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    confidences = np.bincount(places, confidence, bins) / np.maximum(counts, 1)
    accuracies = np.bincount(places, right, bins) / np.maximum(counts, 1)
    return tuple(
        Bin(
            low=float(edges[place]),
            high=float(edges[place + 1]),
            count=int(count),
            confidence=float(confidences[place]) if count else None,
            accuracy=float(accuracies[place]) if count else None,
        )
        for place, count in enumerate(counts)
    )


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """ECE, 0 to 1: the mean gap between confidence and accuracy, weighted by the samples in each bin."""
    gaps = sum(
        each.count * abs(each.confidence - each.accuracy)
        for each in bins
        if each.confidence is not None and each.accuracy is not None
    )
    return gaps / sum(each.count for each in bins)

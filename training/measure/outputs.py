"""A network's outputs, checked, and what they say of each sample: the class guessed, and how well it went."""

import numpy as np
import numpy.typing as npt

from training.data import Array
from training.errors import TrainingError

SUM_TOLERANCE = 1e-3
"""How far the probabilities of a sample may be from adding up to 1: float16 softmax is this coarse."""

Floats = npt.NDArray[np.float64]


def per_class(probabilities: Array, targets: Array) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Probabilities as float64 [N, C], a single output p made into the two columns 1 - p and p; targets as int64 [N].

    Args:
        probabilities: [N, C], or [N, 1] or [N] for two classes: the probability of class 1.
        targets: [N], the class of each sample, from 0.

    Raises:
        TrainingError: no samples, shapes that don't go together, what is no probability or no class.
    """
    found, classes = np.asarray(probabilities, np.float64), np.asarray(targets)
    if found.ndim == 1:
        found = found[:, None]
    if found.ndim != 2 or classes.shape != found.shape[:1] or not found.size:
        raise TrainingError(
            f"probabilities {list(np.shape(probabilities))} and targets {list(classes.shape)} don't go together: "
            "expected [N, classes] or [N, 1] and [N], N at least 1"
        )
    if bad := int((~np.isfinite(found)).sum()):
        raise TrainingError(f"{bad:,} of {found.size:,} probabilities are not numbers: the network has diverged")
    if found.min() < 0 or found.max() > 1:
        raise TrainingError(f"probabilities must be from 0 to 1: found {found.min():g} to {found.max():g}")
    if found.shape[1] == 1:
        found = np.hstack([1 - found, found])
    elif (worst := float(np.abs(found.sum(axis=1) - 1).max())) > SUM_TOLERANCE:
        raise TrainingError(f"the probabilities of a sample must add up to 1: found one that is {worst:.3g} off")
    if classes.dtype.kind not in "biu" and not np.array_equal(classes, np.round(classes)):
        raise TrainingError("targets must be classes, whole numbers from 0: found fractions")
    if classes.min() < 0 or classes.max() >= found.shape[1]:
        raise TrainingError(
            f"targets must be from 0 to {found.shape[1] - 1}: found {classes.min():g} to {classes.max():g}"
        )
    # float32 rows are off by about 1e-7; scikit-learn warns of that in float64.
    return found / found.sum(axis=1, keepdims=True), classes.astype(np.int64)


def values(predictions: Array, targets: Array) -> tuple[Floats, Floats]:
    """Predictions [N] or [N, 1] and targets [N] of a regression, both as float64 [N].

    Raises:
        TrainingError: no samples, shapes that don't go together, or what is not a number.
    """
    found, wanted = np.asarray(predictions, np.float64), np.asarray(targets, np.float64)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1 or found.shape != wanted.shape or not found.size:
        raise TrainingError(
            f"predictions {list(np.shape(predictions))} and targets {list(wanted.shape)} don't go together: "
            "expected [N] or [N, 1] and [N], N at least 1"
        )
    if bad := int((~np.isfinite(found)).sum()):
        raise TrainingError(f"{bad:,} of {found.size:,} predictions are not numbers: the network has diverged")
    if bad := int((~np.isfinite(wanted)).sum()):
        raise TrainingError(f"{bad:,} of {wanted.size:,} targets are not numbers")
    return found, wanted


def correct(probabilities: Array, targets: Array) -> Floats:
    """[N]: 1 where the class guessed is the target, else 0; a sample's share in accuracy."""
    found, classes = per_class(probabilities, targets)
    right: Floats = (found.argmax(axis=1) == classes).astype(np.float64)
    return right


def closeness(predictions: Array, targets: Array) -> Floats:
    """[N]: minus the absolute error, so that more is better; a sample's share in the MAE."""
    found, wanted = values(predictions, targets)
    return -np.abs(found - wanted)

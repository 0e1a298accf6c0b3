"""A variant's figures on validation samples, whole and, where they are numbers, with some features hidden."""

from typing import Any

import numpy as np

from training.data import Array, Inputs, Table
from training.evaluate import predict, score
from training.experiments.variants import MISSING
from training.fit import Report, train
from training.models import Network, Recipe

MASKS = 20
"""Ways of hiding features that an error is the mean of: with one, the luck of the draw would show."""


def measure(recipe: Recipe, x: Inputs, y: Array, report: Report) -> tuple[dict[str, float], str]:
    """Train on part of the training samples and measure on the rest, as `training.fit.validate` does.

    Args:
        recipe: a variant's.
        x: [N] training samples.
        y: [N] their targets.
        report: told after each epoch.

    Returns:
        The figures of the last epoch, the mean over the folds where there are some, and how they were measured. Of
        numbers there is each figure with `_missing` after its name, too: with `MISSING` of the features hidden.

    Source: Chollet, Deep Learning with Python, 2nd ed., §4.1.4 (held-out samples) and §4.3.4 (K-fold).
    """
    rows = np.arange(len(y))
    if recipe.folds:
        parts = np.array_split(rows, recipe.folds)
        protocol = f"mean of {recipe.folds}-fold validation on the {len(y):,} training samples"
    else:
        parts = [rows[: recipe.validation_samples]]
        protocol = f"the first {recipe.validation_samples:,} training samples, held out while the rest were trained on"
    scores = []
    for number, held_out in enumerate(parts, start=1):
        stage = f"fold {number}/{len(parts)}" if recipe.folds else "validation"
        rest = np.setdiff1d(rows, held_out)
        seen, unseen = x.take(rest), x.take(held_out)
        network = train(recipe, seen, y[rest], stage, report, (unseen, y[held_out]))
        figures = score(recipe, predict(network, unseen), y[held_out])
        if isinstance(seen, Table) and isinstance(unseen, Table):
            figures |= _missing(recipe, network, seen, unseen, y[held_out])
        scores.append(figures)
    return {name: float(np.mean([each[name] for each in scores])) for name in scores[0]}, protocol


def _missing(recipe: Recipe, network: Network, seen: Table, unseen: Table, y: Array) -> dict[str, float]:
    """The figures with features hidden: imputed, as the served graph does, with their training means."""
    random = np.random.default_rng(recipe.seed)
    means: Any = seen.values.mean(axis=0)
    scores = []
    for _ in range(MASKS):
        hidden = random.random(unseen.values.shape) < MISSING
        scores.append(score(recipe, predict(network, Table(np.where(hidden, means, unseen.values))), y))
    return {f"{name}_missing": float(np.mean([each[name] for each in scores])) for name in scores[0]}

"""A variant's figures on validation samples: whole and, where they are numbers, with some of the features hidden."""

import numpy as np

from training.callbacks import Report
from training.data import Array, Inputs, Table
from training.evaluate import predict, score
from training.experiments.variants import MISSING
from training.fit import splits, train
from training.models import Network, Recipe
from training.options import DEFAULT, Options
from training.placement import home

MASKS = 20
"""Ways of hiding features that an error is the mean of: with one, the luck of the draw would show."""


def measure(
    recipe: Recipe, x: Inputs, y: Array, report: Report, options: Options = DEFAULT
) -> tuple[dict[str, float], str]:
    """Train on a part of the training samples and measure on the rest, as `training.fit.validate` does.

    Args:
        recipe: a variant's.
        x: [N] training samples.
        y: [N] their targets.
        report: told after each epoch.
        options: what it is trained on.

    Returns:
        The figures after the last epoch, the mean over the folds where there are some, and how they were measured.
        Samples that are numbers are measured with `MISSING` of their features hidden, too: `mae_missing` and so on.

    Source: Chollet, Deep Learning with Python, 2nd ed., §4.1.4 (held-out samples) and §4.3.4 (K-fold).
    """
    parts, protocol = splits(recipe, len(y))
    scores = []
    for split in parts:
        seen, unseen, targets = x.take(split.train), x.take(split.validation), y[split.validation]
        network = train(recipe, seen, y[split.train], split.name, report, (unseen, targets), options)
        with home(options):
            figures = score(recipe, predict(recipe, network, unseen), targets)
            if isinstance(seen, Table) and isinstance(unseen, Table):
                figures |= _missing(recipe, network, seen, unseen, targets)
        scores.append(figures)
    return {name: float(np.mean([each[name] for each in scores])) for name in scores[0]}, protocol


def _missing(recipe: Recipe, network: Network, seen: Table, unseen: Table, targets: Array) -> dict[str, float]:
    """The figures with features hidden: imputed, as a served graph does, with their means in training."""
    random = np.random.default_rng(recipe.seed)
    means = seen.values.mean(axis=0)
    scores = []
    for _ in range(MASKS):
        hidden = random.random(unseen.values.shape) < MISSING
        scores.append(score(recipe, predict(recipe, network, Table(np.where(hidden, means, unseen.values))), targets))
    return {f"{name}_missing": float(np.mean([each[name] for each in scores])) for name in scores[0]}

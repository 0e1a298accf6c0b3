"""The recipes there are: for each model the book's own, and for some the best that is known here."""

from dataclasses import replace
from typing import Literal

from training.best import BEST
from training.errors import TrainingError
from training.models import RECIPES, Recipe

VARIANTS = ("book", "best")

Protocol = Literal["hold-out", "k-fold", "iterated-k-fold"]
"""How a recipe is validated (Chollet, Deep Learning with Python, 2nd ed., §5.2.1)."""
FOLDS, ITERATIONS = 4, 3


def recipe(name: str, variant: str, seed: int | None = None) -> Recipe:
    """The recipe `variant` of the model `name`, with its own seed or with `seed`.

    A model that only the book has a recipe for takes that.
    """
    found = RECIPES[name] if variant == "book" else BEST.get(name, RECIPES[name])
    if seed is None:
        return found
    if not 0 <= seed < 2**32:
        raise TrainingError(f"--seed {seed}: expected a number from 0 to {2**32 - 1}")
    return replace(found, seed=seed)


def with_protocol(found: Recipe, protocol: Protocol, folds: int, iterations: int) -> Recipe:
    """`found`, validated in another way than its own.

    Raises:
        TrainingError: it holds out no samples, or the numbers make no sense.
    """
    if protocol == "hold-out":
        if not found.validation_samples:
            raise TrainingError(f"{found.name} has too few samples to hold some out: expected a k-fold one")
        return replace(found, folds=0, iterations=1)
    if folds < 2 or iterations < 1:
        raise TrainingError(f"{folds} folds, {iterations} iterations: expected at least 2 and 1")
    return replace(found, folds=folds, iterations=iterations if protocol == "iterated-k-fold" else 1)

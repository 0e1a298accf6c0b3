"""The recipes there are: for each model the book's own, and for some the best that is known here."""

from dataclasses import replace

from training.best import BEST
from training.errors import TrainingError
from training.models import RECIPES, Recipe

VARIANTS = ("book", "best")


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

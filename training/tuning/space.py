"""The hyperparameters that are searched, and the recipe that a choice of them stands for."""

import keras_tuner

from training.models import Recipe
from training.tuning.best import ACTIVATIONS, OPTIMIZERS, Hyperparameters

LAYERS = 3
UNITS = (16, 32, 64, 128, 256)
DROPOUTS = (0.0, 0.2, 0.35, 0.5)
PENALTIES = (0.0, 1e-5, 1e-4, 1e-3)


def space(recipe: Recipe) -> keras_tuner.HyperParameters:
    """All that can be chosen for `recipe`; the book's own choice is in it."""
    made = keras_tuner.HyperParameters()
    made.Int("layers", 1, LAYERS, default=len(recipe.hidden))
    made.Choice("units", sorted({*UNITS, recipe.hidden[0]}), default=recipe.hidden[0])
    made.Choice("activation", list(ACTIVATIONS), default=recipe.hidden_activation)
    made.Choice("dropout", list(DROPOUTS), default=0.0)
    made.Choice("l2", list(PENALTIES), default=0.0)
    made.Choice("optimizer", list(OPTIMIZERS), default=recipe.optimizer)
    return made


def hyperparameters(values: dict[str, object], epochs: int) -> Hyperparameters:
    """The choice `values` of a trial, in a recipe's terms.

    Args:
        values: by the names of `space`; others, such as the search's own, are left alone.
        epochs: how long to train.
    """
    layers, units = int(str(values["layers"])), int(str(values["units"]))
    return Hyperparameters(
        hidden=(units,) * layers,
        hidden_activation=values["activation"],  # type: ignore[arg-type]
        dropout=float(str(values["dropout"])),
        l2=float(str(values["l2"])),
        optimizer=values["optimizer"],  # type: ignore[arg-type]
        epochs=epochs,
    )

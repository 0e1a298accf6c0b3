"""Fitting: validate on training samples held out, then train on all of them; the test set is not touched here."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from training.data import Array, Data, Inputs, Table
from training.evaluate import predict, score
from training.models import Network, Recipe

Report = Callable[[str, int, int, dict[str, float]], None]
"""Told after each epoch: the stage, the epochs done, the epochs in all, and the epoch's figures: training loss and
metric and, where samples are held out, the same on those, under names that begin with `val_`."""

HeldOut = tuple[Inputs, Array]
"""Inputs and targets that a network is measured on after each epoch, and never trained on."""


@dataclass(frozen=True)
class Fitted:
    """A trained network, and what its training said."""

    network: Network
    validation: dict[str, float]
    protocol: str
    """How the validation figures were measured, for people."""
    training_seconds: float
    """Training of the final network alone, without validation."""


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of samples, encoded one at a time: the dense data set is never whole in memory.

    In a new seeded order each epoch, or in the samples' own where there is no seed.
    """

    def __init__(self, recipe: Recipe, x: Inputs, y: Array, seed: int | None) -> None:
        super().__init__(workers=1)
        self._recipe, self._x, self._y = recipe, x, y
        self._random = None if seed is None else np.random.default_rng(seed)
        self._means = x.values.mean(axis=0) if isinstance(x, Table) and recipe.missing else None
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self._y) // self._recipe.batch_size)

    def __getitem__(self, batch: int) -> tuple[Array, Array]:
        size = self._recipe.batch_size
        rows = self._order[batch * size : (batch + 1) * size]
        x, y = self._x.batch(rows), self._y[rows]
        if self._random is not None and self._means is not None:
            x = np.where(self._random.random(x.shape) < self._recipe.missing, self._means, x)
        if self._recipe.one_hot:
            y = np.eye(self._recipe.outputs, dtype=np.float32)[y]
        return x, y

    def on_epoch_end(self) -> None:
        """Called by Keras after each epoch."""
        count = len(self._y)
        self._order = np.arange(count) if self._random is None else self._random.permutation(count)


def make_deterministic(seed: int) -> None:
    """The same seed gives the same weights on this machine from here on.

    Devices other than the CPU are hidden: networks this small gain nothing from one, and a package should not depend
    on whether the machine that made it had one.
    """
    tf.config.set_visible_devices([], "GPU")
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)


def train(recipe: Recipe, x: Inputs, y: Array, stage: str, report: Report, held_out: HeldOut | None = None) -> Network:
    """A new network trained on `x` and `y` for all of the recipe's epochs, measured on `held_out` after each."""
    # Seeded for each network, so that none depends on how many were made before it.
    make_deterministic(recipe.seed)
    network = recipe.network(x, y)
    x = recipe.encode(x)
    if held_out is not None:
        held_out = (recipe.encode(held_out[0]), held_out[1])

    def on_epoch_end(epoch: int, logs: dict[str, Any]) -> None:
        report(stage, epoch + 1, recipe.epochs, {name: float(value) for name, value in logs.items()})

    network.fit(
        Batches(recipe, x, y, recipe.seed),
        validation_data=None if held_out is None else Batches(recipe, *held_out, seed=None),
        epochs=recipe.epochs,
        shuffle=False,  # Batches shuffles samples; this would shuffle whole batches
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)],
    )
    return network


def fit(recipe: Recipe, data: Data, report: Report) -> Fitted:
    """Validate `recipe`, then train its final network on all training samples."""
    validation, protocol = validate(recipe, data.x_train, data.y_train, report)
    started = time.perf_counter()
    network = train(recipe, data.x_train, data.y_train, "final", report)
    return Fitted(network, validation, protocol, time.perf_counter() - started)


def validate(recipe: Recipe, x: Inputs, y: Array, report: Report) -> tuple[dict[str, float], str]:
    """The recipe's figures on training samples that the network did not see, and how they were measured.

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
        unseen = x.take(held_out)
        network = train(recipe, x.take(rest), y[rest], stage, report, (unseen, y[held_out]))
        scores.append(score(recipe, predict(recipe, network, unseen), y[held_out]))
    return {name: float(np.mean([each[name] for each in scores])) for name in scores[0]}, protocol

"""Fitting: validate on training samples held out, then train on all of them; the test set is not touched here."""

import contextlib
import logging
import time
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from training import distribution, placement
from training.best import BestRecipe
from training.callbacks import VALIDATION_LOSS, Report, callbacks
from training.cluster import is_chief
from training.data import Array, Data, Inputs, Sequences, Table
from training.device import CPU
from training.errors import TrainingError
from training.evaluate import predict, score
from training.measure import protocols
from training.models import Network, Recipe
from training.options import DEFAULT, Options
from training.pipeline import multi_hot_batches, steps
from training.precision import copy_weights, twin
from training.runs import Device, Epoch

HeldOut = tuple[Inputs, Array]
"""Inputs and targets that a network is measured on after each epoch, and never trained on."""


@dataclass(frozen=True)
class Fitted:
    """A trained network, and what its training said."""

    network: Network
    validation: dict[str, float]
    splits: dict[str, dict[str, float]]
    """The same figures for each split of the validation, by its name."""
    protocol: str
    """How the validation figures were measured, for people."""
    training_seconds: float
    """Training of the final network alone, without validation."""
    epochs: int
    """How many the final network trained for: the recipe's, or those that early stopping found best."""
    devices: list[Device]
    """What it was trained on."""


@dataclass(frozen=True)
class Validation:
    """What training on a part of the samples, and measuring on the rest, said of a recipe."""

    figures: dict[str, float]
    """The mean over the splits."""
    splits: dict[str, dict[str, float]]
    """The figures of each split, by its name."""
    protocol: str
    """How they were measured, for people."""
    epochs: int
    """The recipe's; or those that early stopping found best, the mean over the folds, rounded."""


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of samples, encoded one at a time: the dense data set is never whole in memory.

    In a new seeded order each epoch, or in the samples' own where there is no seed. Split over several devices, each
    has its own part of every batch, and together they have the batches of one.

    Args:
        recipe: what they are for.
        x: [N] samples, as `recipe.encode` gives them.
        y: [N] their targets.
        seed: of the order, and of the features that are taken for absent.
        index: which device's part.
        of: how many devices there are.
    """

    def __init__(self, recipe: Recipe, x: Inputs, y: Array, seed: int | None, index: int = 0, of: int = 1) -> None:
        super().__init__(workers=1)
        self._recipe, self._x, self._y = recipe, x, y
        self._random = None if seed is None else np.random.default_rng(seed)
        # Apart where batches are split: the devices hide other features, and must still agree on the order.
        self._hiding = self._random if seed is None or of == 1 else np.random.default_rng([seed, index])
        self._part = slice(index, None, of)
        self._means = x.values.mean(axis=0) if isinstance(x, Table) and recipe.missing else None
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self._y) // self._recipe.batch_size)

    def __getitem__(self, batch: int) -> tuple[Array, Array]:
        rows = self._rows(batch)[self._part]
        x, y = self._x.batch(rows), self._y[rows]
        if self._hiding is not None and self._means is not None:
            x = np.where(self._hiding.random(x.shape) < self._recipe.missing, self._means, x)
        if self._recipe.one_hot:
            y = np.eye(self._recipe.outputs, dtype=np.float32)[y]
        return x, y

    def size(self, batch: int) -> int:
        """Samples of the whole batch, on however many devices."""
        return len(self._rows(batch))

    def _rows(self, batch: int) -> Array:
        size = self._recipe.batch_size
        return self._order[batch * size : (batch + 1) * size]

    def on_epoch_end(self) -> None:
        """Called by Keras after each epoch."""
        count = len(self._y)
        self._order = np.arange(count) if self._random is None else self._random.permutation(count)


def make_deterministic(seed: int, options: Options = DEFAULT) -> None:
    """The same seed gives the same weights on this machine from here on.

    GPUs are hidden unless `options` ask for one: a package should not depend on whether the machine that made it had
    one.
    """
    if options.computes_on == CPU:
        placement.hide_gpus()
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)
    tf.get_logger().addFilter(_worth_telling)


def _worth_telling(record: logging.LogRecord) -> bool:
    """Whether a message of TensorFlow's is about this code: each network is compiled once, and K folds are several."""
    return "triggered tf.function retracing" not in record.getMessage()


def train(
    recipe: Recipe,
    x: Inputs,
    y: Array,
    stage: str,
    report: Report,
    held_out: HeldOut | None = None,
    options: Options = DEFAULT,
) -> Network:
    """A new network trained on `x` and `y`, measured on `held_out` after each epoch.

    For all of the recipe's epochs; or, where samples are held out and `options` ask for early stopping, until these
    say no more, and then with the weights that were best on them. It is a float32 network on one device, whatever it
    was trained with.

    Raises:
        TrainingError: `options` ask for what can't be had here.
    """
    distributed = options.is_distributed
    if (distributed or options.precision != "float32") and type(recipe) is not Recipe:
        # Others bring networks of their own, some with sparse inputs or their own idea of the metric.
        raise TrainingError(
            f"{recipe.name}, recipe {recipe.variant}: trains on one device and in float32 only. "
            "--distribute and --precision are for the book's recipes: add --recipe book."
        )
    if options.early_stopping and isinstance(recipe, BestRecipe):
        # What is left of a falling rate where it stops is another schedule than one that falls to nothing by then.
        raise TrainingError(
            f"{recipe.name}, recipe {recipe.variant}: its learning rate falls over all its epochs. --early-stopping is "
            "for the book's recipes: add --recipe book."
        )
    if distributed:
        if options.computes_on == CPU:
            placement.hide_gpus()
        strategy = distribution.strategy(options.distribute)
        keras.utils.set_random_seed(recipe.seed)
    else:
        # Seeded for each network, so that none depends on how many were made before it.
        make_deterministic(recipe.seed, options)
    with placement.home(options):
        raw = x
        network, x = recipe.begin(raw, y)
        if held_out is not None:
            held_out = (recipe.encode(held_out[0], network), held_out[1])
    writes = is_chief(options.distribute)
    called = callbacks(options, stage, recipe.epochs, len(y), report, held_out is not None, writes)
    if distributed:
        with strategy.scope():
            learner = twin(network, options.precision, recipe.metric)
        split = _split(recipe, x, y, recipe.seed)
        distribution.train(
            learner, recipe, split, None if held_out is None else _split(recipe, *held_out, None), called
        )
    else:
        learner = _learner(recipe, network, raw, y, options)
        with placement.home(options):  # TensorFlow makes batches on the CPU, from what is there
            batches = _batches(recipe, x, y, recipe.seed)
            unseen = None if held_out is None else _batches(recipe, *held_out, None)
        learner.fit(
            batches,
            validation_data=unseen,
            epochs=recipe.epochs,
            steps_per_epoch=steps(recipe, len(y)) if isinstance(x, Sequences) else None,
            shuffle=False,  # Batches shuffles samples; this would shuffle whole batches
            verbose=0,
            callbacks=called,
        )
    placement.check_used(learner, options, x.batch(np.arange(1)))
    with placement.home(options):
        if learner is not network:
            copy_weights(learner, network)
        return recipe.finished(network)


def _learner(recipe: Recipe, network: Network, x: Inputs, y: Array, options: Options) -> Network:
    """What is trained in place of `network`, with its weights: it itself, or one in 16 bits, or one on a GPU."""
    on = placement.target(options)
    with contextlib.nullcontext() if on is None else tf.device(on):
        if options.precision != "float32":
            return twin(network, options.precision, recipe.metric)
        if on is None:
            return network
        learner = recipe.network(x, y)
        copy_weights(network, learner)
        return learner


def _batches(recipe: Recipe, x: Inputs, y: Array, seed: int | None) -> Any:
    """What Keras takes batches from: TensorFlow's own pipeline for texts, the quicker one; else Python's."""
    return multi_hot_batches(recipe, x, y, seed) if isinstance(x, Sequences) else Batches(recipe, x, y, seed)


def _split(recipe: Recipe, x: Inputs, y: Array, seed: int | None) -> distribution.Split:
    return lambda index, of: Batches(recipe, x, y, seed, index, of)


def fit(recipe: Recipe, data: Data, report: Report, options: Options = DEFAULT) -> Fitted:
    """Validate `recipe`, then train its final network on all training samples.

    With early stopping, the final network trains for as many epochs as validation found best: it has no samples left
    that could say when to stop.
    """
    validation = validate(recipe, data.x_train, data.y_train, report, options)
    started = time.perf_counter()
    last = replace(recipe, epochs=validation.epochs)
    network = train(last, data.x_train, data.y_train, "final", report, options=options)
    seconds = time.perf_counter() - started
    return Fitted(
        network=network,
        validation=validation.figures,
        splits=validation.splits,
        protocol=validation.protocol,
        training_seconds=seconds,
        epochs=validation.epochs,
        devices=placement.devices(options),
    )


@dataclass
class _Losses:
    """Takes reports on their way, and keeps each epoch's loss on the held-out samples."""

    report: Report
    epochs: list[float] = field(default_factory=list)

    def __call__(self, epoch: Epoch) -> None:
        self.epochs.append(epoch.figures[VALIDATION_LOSS])
        self.report(epoch)


def validate(recipe: Recipe, x: Inputs, y: Array, report: Report, options: Options = DEFAULT) -> Validation:
    """The recipe's figures on training samples that the network did not see.

    Source: Chollet, Deep Learning with Python, 2nd ed., §4.1.4 (held-out samples) and §4.3.4 (K-fold).
    """
    best: list[int] = []

    def fitted(rows: protocols.Rows) -> protocols.Predict:
        held_out = np.setdiff1d(np.arange(len(y)), rows)
        losses = _Losses(report)
        stage = stages[len(best)]
        unseen = (x.take(held_out), y[held_out])
        network = train(recipe, x.take(rows), y[rows], stage, losses, unseen, options)
        best.append(_best(losses.epochs, recipe) if options.early_stopping else recipe.epochs)

        def predicted(rows: protocols.Rows) -> Array:
            with placement.home(options):
                return predict(recipe, network, x.take(rows))

        return predicted

    parts, protocol = splits(recipe, len(y))
    stages = [split.name for split in parts]
    scores = protocols.evaluate(parts, fitted, lambda found, rows: score(recipe, found, y[rows]), lambda *_: None)
    if options.early_stopping:
        protocol += f", at the epoch with the lowest loss on them, with a patience of {options.early_stopping}"
    return Validation(scores.mean, scores.splits, protocol, max(1, round(float(np.mean(best)))))


def _best(losses: list[float], recipe: Recipe) -> int:
    """The epoch, from 1, with the lowest of `losses`."""
    if not np.isfinite(losses).any():
        raise TrainingError(f"{recipe.name}: the network diverged: its validation loss is not a number")
    return int(np.nanargmin(losses)) + 1


def splits(recipe: Recipe, count: int) -> tuple[list[protocols.Split], str]:
    """Which of the `count` training samples are held out when, and that for people."""
    if not recipe.folds:
        held = recipe.validation_samples
        return (
            [replace(split, name="validation") for split in protocols.hold_out(count, held)],
            f"the first {held:,} training samples, held out while the rest were trained on",
        )
    if recipe.iterations == 1:
        return (
            protocols.k_fold(count, recipe.folds),
            f"mean of {recipe.folds}-fold validation on the {count:,} training samples",
        )
    return (
        protocols.iterated_k_fold(count, recipe.folds, recipe.iterations, recipe.seed),
        f"mean of {recipe.iterations} times {recipe.folds}-fold validation on the {count:,} training samples, shuffled "
        "each time",
    )

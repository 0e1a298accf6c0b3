"""Training one network on several devices or machines: each computes its share of every batch (tf.distribute).

Keras 3's own `fit` can't do it over several machines (as of 3.15 it fails to convert a PerReplica value
to a tensor), so the loop is written out here, for both. Gradients are sums over a batch's samples divided by its
size, so that they are those of one device, however unevenly a batch splits.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from training.cluster import cluster
from training.data import Array
from training.errors import TrainingError, one_line
from training.models import Network, Recipe
from training.options import Distribute

PREFETCH = 2


class Parts(Protocol):
    """One device's part of each batch of an epoch: what `training.fit.Batches` gives."""

    def __len__(self) -> int: ...

    def __getitem__(self, batch: int) -> tuple[Array, Array]: ...

    def size(self, batch: int) -> int:
        """Samples of the whole batch."""
        ...

    def on_epoch_end(self) -> None:
        """Called after each epoch."""
        ...


Split = Callable[[int, int], Parts]
"""The part of device `index` of `of` devices."""


@functools.cache  # one for a process: a second would meet the other workers again, out of step
def strategy(kind: Distribute) -> tf.distribute.Strategy:
    """The strategy for `kind`; to be made before TensorFlow computes anything. Waits for all workers to be there.

    Raises:
        TrainingError: TensorFlow has started already, or `TF_CONFIG` is not as it should be.
    """
    try:
        if kind == "mirrored":
            devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
            return tf.distribute.MirroredStrategy([device.name for device in devices])
        cluster()
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"can't train {kind}: {one_line(error)}") from error


def train(
    network: Network,
    recipe: Recipe,
    split: Split,
    held_out: Split | None,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Train `network`, made and compiled in a strategy's scope, as its `fit` would, for the recipe's epochs.

    Args:
        network: to be trained.
        recipe: its recipe.
        split: training samples.
        held_out: samples that it is measured on after each epoch.
        callbacks: called at the beginning and the end, and of each epoch.
    """
    scope = network.distribute_strategy
    step, test = _steps(network, recipe)
    training = _distribute(network, recipe, split)
    unseen = None if held_out is None else _distribute(network, recipe, held_out)
    called = keras.callbacks.CallbackList(list(callbacks), model=network, epochs=recipe.epochs)
    with scope.scope():
        network.optimizer.build(network.trainable_variables)
        learn = tf.function(lambda *part: _sums(scope, step, part), input_signature=training.element_spec)
        look = tf.function(lambda *part: _sums(scope, test, part), input_signature=training.element_spec)
    # Callbacks stay out of the scope: a variable made in it is broadcast by the chief, which alone writes files, to
    # workers that don't wait for it.
    network.stop_training = False
    called.on_train_begin()
    for epoch in range(recipe.epochs):
        called.on_epoch_begin(epoch)
        logs = _figures(recipe, learn, training)
        if unseen is not None:
            called.on_test_begin()
            measured = _figures(recipe, look, unseen)
            called.on_test_end()
            logs |= {f"val_{name}": value for name, value in measured.items()}
        called.on_epoch_end(epoch, logs)
        if network.stop_training:
            break
    called.on_train_end()


def _distribute(network: Network, recipe: Recipe, split: Split) -> tf.distribute.DistributedDataset:
    """A data set that gives each device its part of every batch; a part may be empty, and none is left out."""
    (taken,) = network.inputs
    # Numbers of classes are one number for a sample; every other target has a column for each output.
    columns = () if recipe.outputs > 1 and not recipe.one_hot else (recipe.outputs,)
    kind = np.float32 if columns else np.int64
    signature = (
        tf.TensorSpec(taken.shape, taken.dtype),
        tf.TensorSpec([None, *columns], kind),
        tf.TensorSpec([], tf.float32),
    )

    def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
        # One pipeline for each worker; what it gives goes to the worker's devices in turn.
        own = context.num_replicas_in_sync // context.num_input_pipelines
        first = context.input_pipeline_id * own
        parts = [split(first + number, context.num_replicas_in_sync) for number in range(own)]

        def epoch() -> Iterator[tuple[Array, Array, int]]:
            for part in parts:
                part.on_epoch_end()  # before the first one, too, as Keras does: so both see the same batches
            for batch in range(len(parts[0])):
                for part in parts:
                    x, y = part[batch]
                    yield x, y.reshape(len(y), *columns).astype(kind), part.size(batch)

        return tf.data.Dataset.from_generator(epoch, output_signature=signature).prefetch(PREFETCH)

    return network.distribute_strategy.distribute_datasets_from_function(pipeline)


def _steps(network: Network, recipe: Recipe) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What each device does with its part of a batch: learn from it, or be measured on it.

    Both give the sums of the losses and of the metric over the part's samples, and their number.
    """
    found = keras.losses.get(network.loss)
    losses = found.call if isinstance(found, keras.losses.Loss) else found
    metric = _metric(recipe)
    devices = network.distribute_strategy.num_replicas_in_sync

    def measure(x: Any, y: Any, training: bool) -> tuple[Any, Any, tuple[Any, Any, Any]]:
        outputs = network(x, training=training)
        each, penalty = tf.cast(losses(y, outputs), tf.float32), tf.add_n([0.0, *network.losses])
        count = tf.cast(tf.shape(x)[0], tf.float32)
        sums = (tf.reduce_sum(each) + count * penalty, tf.reduce_sum(tf.cast(metric(y, outputs), tf.float32)), count)
        return tf.reduce_sum(each), penalty, sums

    def step(x: Any, y: Any, size: Any) -> tuple[Any, Any, Any]:
        with tf.GradientTape() as tape:
            loss, penalty, sums = measure(x, y, training=True)
            # The devices' gradients are added up, so that each brings its share of the whole batch's.
            scaled = network.optimizer.scale_loss(loss / size + penalty / devices)
        gradients = tape.gradient(scaled, network.trainable_weights)
        if isinstance(network.optimizer, keras.optimizers.LossScaleOptimizer):
            gradients = _all_or_none(gradients)
        network.optimizer.apply_gradients(zip(gradients, network.trainable_weights, strict=True))
        return sums

    def test(x: Any, y: Any, size: Any) -> tuple[Any, Any, Any]:
        return measure(x, y, training=False)[2]

    return step, test


def _all_or_none(gradients: list[Any]) -> list[Any]:
    """Gradients that are infinite on every device where they are on one: Keras looks at one device's only."""
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
    devices = tf.distribute.get_replica_context().all_reduce("SUM", tf.cast(tf.logical_not(finite), tf.float32))
    return [tf.where(devices > 0, np.inf, gradient) for gradient in gradients]


def _metric(recipe: Recipe) -> Callable[..., Any]:
    """The recipe's metric for each sample, as Keras would choose it."""
    if recipe.metric == "mae":
        name = "mean_absolute_error"
    elif recipe.outputs == 1:
        name = "binary_accuracy"
    else:
        name = "categorical_accuracy" if recipe.one_hot else "sparse_categorical_accuracy"
    metric: Callable[..., Any] = getattr(keras.metrics, name)
    return metric


def _sums(scope: tf.distribute.Strategy, step: Callable[..., Any], part: tuple[Any, ...]) -> Any:
    return scope.reduce("SUM", scope.run(step, args=part), axis=None)


def _figures(recipe: Recipe, step: Callable[..., Any], data: tf.distribute.DistributedDataset) -> dict[str, float]:
    """Loss and metric over an epoch's samples, the same on every worker."""
    sums = [[float(value) for value in step(*part)] for part in data]
    loss, metric, count = (sum(column) for column in zip(*sums, strict=True))
    return {"loss": loss / count, recipe.metric: metric / count}

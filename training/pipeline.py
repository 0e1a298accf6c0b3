"""Batches of texts for the book's networks, made multi-hot by TensorFlow itself while the batch before them is learnt.

What stays in memory is the words' ids; what is dense is two batches at a time. Python has no part in it once a fit has
begun, so an epoch is as quick as on one dense array of all samples.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from training.data import NUM_WORDS, OUT_OF_VOCABULARY, Array, Sequences
from training.models import Recipe

AHEAD = 2
"""Batches that are made before they are asked for."""


def steps(recipe: Recipe, samples: int) -> int:
    """Batches an epoch."""
    return -(-samples // recipe.batch_size)


def multi_hot_batches(recipe: Recipe, x: Sequences, y: Array, seed: int | None) -> Any:
    """A tf.data.Dataset of batches: float32 [batch, NUM_WORDS], and the targets as the recipe's loss takes them.

    With a seed, `recipe.epochs` epochs one after the other, each in a new order, the very orders in which Keras asks
    `training.fit.Batches` for them; without, one epoch in the samples' own order.

    Args:
        recipe: what they are for.
        x: [N] texts.
        y: [N] their targets.
        seed: of the orders.
    """
    orders = tf.constant(_orders(len(y), recipe.epochs, seed))
    columns = np.where(x.ids < NUM_WORDS, x.ids, OUT_OF_VOCABULARY).astype(np.int32)
    texts = tf.RaggedTensor.from_row_splits(tf.constant(columns), tf.constant(x.offsets), validate=False)
    targets = tf.constant(np.eye(recipe.outputs, dtype=np.float32)[y] if recipe.one_hot else y)
    size, per_epoch = recipe.batch_size, steps(recipe, len(y))

    def batch(number: Any) -> tuple[Any, Any]:
        start = number % per_epoch * size
        rows = orders[number // per_epoch, start : start + size]
        words = tf.gather(texts, rows)
        present = tf.math.bincount(
            words, minlength=NUM_WORDS, maxlength=NUM_WORDS, dtype=tf.float32, binary_output=True, axis=-1
        )
        return tf.ensure_shape(present, (None, NUM_WORDS)), tf.gather(targets, rows)

    numbers = tf.data.Dataset.range(per_epoch * orders.shape[0])
    return numbers.map(batch, num_parallel_calls=AHEAD, deterministic=True).prefetch(AHEAD)


def _orders(count: int, epochs: int, seed: int | None) -> Array:
    """int64 [epochs, count]: the order of each epoch; without a seed one epoch, in their own order."""
    if seed is None:
        return np.arange(count)[None]
    random = np.random.default_rng(seed)
    # Keras looks at the first batches of a dataset of Python's before it begins, and takes that for an epoch.
    return np.stack([random.permutation(count) for _ in range(1 + epochs)])[1:]

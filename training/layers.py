"""Keras layers of the better models. Importing this module is what lets Keras load a network that has them."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from training.data import Array

PACKAGE = "triptych"


@keras.saving.register_keras_serializable(package=PACKAGE)
class TermSum(keras.layers.Layer):  # type: ignore[misc]
    """A weighted sum over the terms of a text, divided by the length of the text.

    y = Σ count · scale · kernel / √max(Σ count · square, floor) + bias, over the terms that the text has.

    A dense layer for sparse inputs, each scaled by what naive Bayes or its rarity says of it. With the inverse document
    frequency as scale and its square as square, that is tf-idf on a sphere.

    Input: tf.SparseTensor float32 [N, terms], counts; output: float32 [N, units]. What training data says of each term
    (its key, scale and square) is kept in weights that are not trained, so that a saved network knows its vocabulary.

    Args:
        units: outputs.
        terms: how many there are.
        floor: least squared length.
        penalty: times the squared kernel, added to the loss.
    """

    def __init__(self, units: int, terms: int, floor: float, penalty: float = 0.0, **base: Any):
        super().__init__(**base)
        self.units, self.terms, self.floor, self.penalty = units, terms, floor, penalty

    def build(self, _: Any) -> None:
        """Make the weights."""
        fixed = {"shape": (self.terms,), "trainable": False, "initializer": "zeros"}
        self.keys = self.add_weight(**fixed, dtype="int64", name="keys")
        self.scale = self.add_weight(**fixed, name="scale")
        self.square = self.add_weight(**fixed, name="square")
        self.kernel = self.add_weight(
            shape=(self.terms, self.units),
            initializer="zeros",
            regularizer=keras.regularizers.L2(self.penalty) if self.penalty else None,
            name="kernel",
        )
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.built = True

    def adapt(self, keys: Array, scale: Array, square: Array) -> None:
        """Take over what the training data says of each term, [terms] each; keys ascending."""
        for weight, values in ((self.keys, keys), (self.scale, scale), (self.square, square)):
            weight.assign(values)

    def call(self, counts: Any) -> Any:
        """The sums."""
        total = tf.sparse.sparse_dense_matmul(counts, self.scale[:, None] * self.kernel)
        squared_length = tf.sparse.sparse_dense_matmul(counts, tf.convert_to_tensor(self.square)[:, None])
        return total / tf.sqrt(tf.maximum(squared_length, self.floor)) + self.bias

    def compute_output_shape(self, shape: Any) -> Any:
        return (shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        names = ("units", "terms", "floor", "penalty")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package=PACKAGE)
class Log(keras.layers.Layer):  # type: ignore[misc]
    """The natural logarithm of some features, the others as they are: [N, features] in and out.

    It keeps the training means of the raw features, as a Normalization that comes first would.

    Args:
        features: which ones.
        floor: what is less counts as this.
    """

    def __init__(self, features: tuple[int, ...], floor: float, **base: Any):
        super().__init__(**base)
        self.features, self.floor = tuple(features), floor

    def build(self, shape: Any) -> None:
        """Make the weight."""
        self.means = self.add_weight(shape=(shape[-1],), trainable=False, initializer="zeros", name="means")
        self.built = True

    def adapt(self, values: Array) -> None:
        """Take over the means of the training samples `values` [N, features], which stand in for absent features."""
        self.means.assign(values.mean(axis=0, dtype=np.float64))

    def call(self, values: Any) -> Any:
        """The features."""
        chosen = np.isin(np.arange(values.shape[-1]), self.features)
        return keras.ops.where(chosen, keras.ops.log(keras.ops.maximum(values, self.floor)), values)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "features": self.features, "floor": self.floor}


@keras.saving.register_keras_serializable(package=PACKAGE)
class Members(keras.layers.Layer):  # type: ignore[misc]
    """A dense layer for each member of an ensemble, all at once: [N, in] or [members, N, in] to [members, N, units].

    Args:
        members: how many.
        units: of each.
        activation: after it.
    """

    def __init__(self, members: int, units: int, activation: Any = None, **base: Any):
        super().__init__(**base)
        self.members, self.units, self.activation = members, units, keras.activations.get(activation)

    def build(self, shape: Any) -> None:
        """Make the weights; each member starts as if it were alone (Glorot and Bengio, AISTATS 2010)."""
        limit = float(np.sqrt(6 / (shape[-1] + self.units)))
        self.kernel = self.add_weight(
            shape=(self.members, shape[-1], self.units),
            initializer=keras.initializers.RandomUniform(-limit, limit),
            name="kernel",
        )
        self.bias = self.add_weight(shape=(self.members, 1, self.units), initializer="zeros", name="bias")
        self.built = True

    def call(self, values: Any) -> Any:
        """The members' outputs."""
        return self.activation(keras.ops.matmul(values, self.kernel) + self.bias)

    def get_config(self) -> dict[str, Any]:
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "members": self.members, "units": self.units, "activation": activation}

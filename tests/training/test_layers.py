"""The layers compute what NumPy does, and come back from a file with all that they know."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from training.data import Array
from training.layers import Log, Members, TermSum
from training.packaging.saved import load_network, save_network

# Keras's own, where it saves: TensorFlow's variables are older than NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TERMS, UNITS, FLOOR = 6, 3, 0.5


@dataclasses.dataclass(frozen=True)
class Sum:
    """A TermSum with random weights, and the same in NumPy."""

    layer: TermSum
    keys: Array
    scale: Array
    square: Array
    kernel: Array
    bias: Array

    def answer(self, counts: Array) -> Array:
        squared_length = np.maximum((counts * self.square).sum(axis=1, keepdims=True), FLOOR)
        answer: Array = (counts * self.scale) @ self.kernel / np.sqrt(squared_length) + self.bias
        return answer


@pytest.fixture
def total() -> Sum:
    random = np.random.default_rng(0)
    layer = TermSum(UNITS, TERMS, FLOOR, penalty=0.01)
    layer.build((None, TERMS))
    keys = np.array([4, 88_587, 1 << 17, 2**34 + 1, 2**50, 2**51 - 1])
    scale, kernel, bias = (random.normal(size=shape) for shape in (TERMS, (TERMS, UNITS), UNITS))
    square = np.array([1.0, 0.3, 0.2, 0, 0, 0])
    layer.adapt(keys, scale, square)
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)
    return Sum(layer, keys, scale, square, kernel, bias)


COUNTS = np.float32(
    [[1, 0, 2, 0, 1, 0], [0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 3], [0, 0, 0, 2, 0, 0], [9, 9, 9, 9, 9, 9]]
)


def test_sums_are_numpys_and_short_texts_have_the_least_length(total: Sum) -> None:
    got = np.asarray(total.layer(tf.sparse.from_dense(COUNTS)))
    np.testing.assert_allclose(got, total.answer(COUNTS), rtol=1e-5)
    np.testing.assert_allclose(got[1], total.bias, rtol=1e-6)  # a text without terms
    # 0.3 is less than the floor, so the length is the floor's.
    expected = (total.scale[1] * total.kernel[1] + 3 * total.scale[5] * total.kernel[5]) / np.sqrt(FLOOR) + total.bias
    np.testing.assert_allclose(got[2], expected, rtol=1e-5)
    assert total.layer.compute_output_shape((None, TERMS)) == (None, UNITS)


def test_only_the_kernel_and_the_bias_are_learnt_and_only_the_kernel_is_penalised(total: Sum) -> None:
    assert [weight.name for weight in total.layer.trainable_weights] == ["kernel", "bias"]
    total.layer(tf.sparse.from_dense(COUNTS))
    [penalty] = total.layer.losses
    assert float(penalty) == pytest.approx(0.01 * np.square(total.kernel).sum(), rel=1e-5)
    free = TermSum(UNITS, TERMS, FLOOR)
    free.build((None, TERMS))
    assert free.losses == []


def test_a_saved_network_knows_its_vocabulary(total: Sum, tmp_path: Path) -> None:
    given = keras.Input((TERMS,), sparse=True)
    save_network(keras.Model(given, total.layer(given)), tmp_path / "sum.keras")
    loaded = load_network(tmp_path / "sum.keras")
    layer = loaded.layers[-1]
    assert isinstance(layer, TermSum)
    assert (layer.units, layer.terms, layer.floor, layer.penalty) == (UNITS, TERMS, FLOOR, 0.01)
    np.testing.assert_array_equal(np.asarray(layer.keys), total.keys)
    got = np.asarray(loaded(tf.sparse.from_dense(COUNTS)))
    np.testing.assert_array_equal(got, np.asarray(total.layer(tf.sparse.from_dense(COUNTS))))


VALUES = np.float32([[1, 0, -5], [np.e, 2, 100], [0.25, -1, 1]])


def test_some_features_become_logarithms() -> None:
    layer = Log((0, 2), floor=0.5)
    layer.build((None, 3))
    layer.adapt(VALUES)
    expected = VALUES.copy()
    expected[:, [0, 2]] = np.log(np.maximum(VALUES[:, [0, 2]], 0.5))
    np.testing.assert_allclose(np.asarray(layer(VALUES)), expected, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(layer.means), VALUES.mean(axis=0), rtol=1e-6)  # of the raw features
    assert layer.trainable_weights == []


def test_members_are_dense_layers_side_by_side() -> None:
    keras.utils.set_random_seed(0)
    first, second = Members(4, 5, "relu"), Members(4, 1)
    rows = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    got = np.asarray(second(first(rows)))
    assert got.shape == (4, 7, 1)
    for layer in (first, second):
        layer.bias.assign(np.random.default_rng(1).normal(size=layer.bias.shape))
    got = np.asarray(second(first(rows)))
    for member in range(4):
        kernels, biases = zip(
            *((np.asarray(layer.kernel)[member], np.asarray(layer.bias)[member]) for layer in (first, second)),
            strict=True,
        )
        alone = np.maximum(rows @ kernels[0] + biases[0], 0) @ kernels[1] + biases[1]
        np.testing.assert_allclose(got[member], alone, rtol=1e-4, atol=1e-6)


def test_each_member_starts_as_if_it_were_alone() -> None:
    keras.utils.set_random_seed(0)
    members = Members(8, 200)
    members.build((None, 100))
    kernel = np.asarray(members.kernel)
    limit = np.sqrt(6 / 300)  # of Glorot's uniform distribution: in + out, and not times the members
    assert 0.99 * limit < np.abs(kernel).max() <= limit
    assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.01)
    assert np.abs(np.corrcoef(kernel.reshape(8, -1)) - np.eye(8)).max() < 0.05, "no two begin alike"
    assert not np.asarray(members.bias).any()


def test_houses_layers_are_saved_with_what_they_know(tmp_path: Path) -> None:
    given = keras.Input((3,))
    logs = Log((1,), floor=0.1)
    network = keras.Model(given, Members(2, 4, "relu")(logs(given)))
    logs.adapt(VALUES)
    save_network(network, tmp_path / "houses.keras")
    loaded = load_network(tmp_path / "houses.keras")
    np.testing.assert_array_equal(np.asarray(loaded(VALUES)), np.asarray(network(VALUES)))
    found = loaded.layers[1]
    assert (tuple(found.features), found.floor) == ((1,), 0.1)
    np.testing.assert_array_equal(np.asarray(found.means), np.asarray(logs.means))

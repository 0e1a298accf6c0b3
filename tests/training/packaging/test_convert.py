"""The graph of a package computes what its Keras network does, and depends on the network alone."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from onnx import ModelProto

from serving.package.manifest import NUMPY_TYPES
from serving.package.text import flatten
from training.data import Data, Sequences, Table, load
from training.errors import ExportError
from training.evaluate import open_session, predict
from training.models import Network, Recipe, build
from training.packaging.convert import CONVERTER_OPSET, convert, convert_network
from training.packaging.graph import IR_VERSION
from training.packaging.signature import of_network
from training.text import encode, normalise

from ..conftest import Tiny

TEXT_NAMES = ["sentiment", "topic"]
NAMES = [*TEXT_NAMES, "house_price", "digits"]


def untrained(recipe: Recipe, data: Data) -> Network:
    """A network with random biases, too: those of a new one are zero, and would hide that one was lost."""
    keras.utils.set_random_seed(0)
    network = build(recipe, data.x_train)
    random = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.Dense):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, random.normal(size=bias.shape)])
    return network


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest, tiny: Tiny) -> tuple[Recipe, Data, Network, ModelProto]:
    recipe = tiny.recipes[request.param]
    data = load(recipe.dataset, tiny.data)
    network = untrained(recipe, data)
    return recipe, data, network, convert(recipe, network, data.word_index)


def test_the_same_network_gives_the_same_bytes(case: tuple[Recipe, Data, Network, ModelProto]) -> None:
    recipe, data, network, model = case
    build(recipe, data.x_train)  # moves on Keras's counters of names
    again = convert(recipe, network, data.word_index)
    assert again.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


def test_the_network_is_left_as_it_was(case: tuple[Recipe, Data, Network, ModelProto]) -> None:
    recipe, data, network, _ = case
    for weight, fresh in zip(network.get_weights(), untrained(recipe, data).get_weights(), strict=True):
        np.testing.assert_array_equal(weight, fresh)


def test_signature(case: tuple[Recipe, Data, Network, ModelProto]) -> None:
    recipe, _, _, model = case
    shapes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    if recipe.is_text:
        expected = {"text": [1], "text_tokens": ["N"], recipe.output: ["N", recipe.outputs], "known_words": ["N"]}
    else:
        expected = {recipe.input: ["N", *recipe.sample], recipe.output: ["N", recipe.outputs]}
    assert shapes == expected
    assert list(shapes) == list(expected)  # in this order


def test_nothing_superfluous(case: tuple[Recipe, Data, Network, ModelProto]) -> None:
    recipe, _, _, model = case
    used = {operand for node in model.graph.node for operand in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used
    assert not any(node.doc_string for node in model.graph.node)
    assert (model.doc_string, model.graph.doc_string, model.producer_name) == ("", "", "triptych")
    assert model.graph.name == recipe.name
    assert [(opset.domain, opset.version) for opset in model.opset_import] == (
        [("", CONVERTER_OPSET)] if recipe.image else [("", 20), ("ai.onnx.ml", 4)]
    )
    assert model.ir_version == (8 if recipe.image else IR_VERSION) <= 10


@pytest.mark.parametrize("case", TEXT_NAMES, indirect=True)
def test_texts_are_answered_as_keras_answers_their_encoding(
    case: tuple[Recipe, Data, Network, ModelProto], word_index: dict[str, int]
) -> None:
    recipe, _, network, model = case
    texts = ["w1 w2 W3, café don't", "", "unheard-of", "most\x85and w4\n" * 50, "\x00 日本 É é"]
    ids = [encode(text, word_index) for text in texts]
    sequences = Sequences(np.concatenate(ids), np.cumsum([0, *map(len, ids)]))
    [got] = open_session(model.SerializeToString()).run(
        [recipe.output], flatten("text", [normalise(text) for text in texts])
    )
    np.testing.assert_allclose(got, predict(recipe, network, sequences), atol=1e-6)


@pytest.mark.parametrize("variant", ["book", "best"])
def test_absent_features_are_answered_as_keras_answers_their_mean(variant: str, tiny: Tiny) -> None:
    recipe = (tiny.best if variant == "best" else tiny.recipes)["house_price"]
    data = load(recipe.dataset, tiny.data)
    assert isinstance(data.x_train, Table)
    assert isinstance(data.x_test, Table)
    if variant == "best":
        network = recipe.finished(recipe.network(data.x_train, data.y_train))
    else:
        network = untrained(recipe, data)
    features, present = data.x_test.values.copy(), data.x_test.values.copy()
    for row, absent in enumerate(np.random.default_rng(0).integers(0, 2, features.shape).astype(bool)):
        features[row, absent] = np.nan
        present[row, absent] = data.x_train.values.mean(axis=0)[absent]
    model = convert(recipe, network, {}).SerializeToString(deterministic=True)
    assert convert(recipe, network, {}).SerializeToString(deterministic=True) == model
    [got] = open_session(model).run(None, {"features": features})
    np.testing.assert_allclose(got, predict(recipe, network, Table(present)), rtol=1e-5, atol=1e-5)


def test_grey_values_are_answered_as_keras_answers_them(tiny: Tiny) -> None:
    recipe = tiny.recipes["digits"]
    data = load(recipe.dataset, tiny.data)
    network = untrained(recipe, data)
    assert isinstance(data.x_test, Table)
    session = open_session(convert(recipe, network, {}).SerializeToString())
    assert [(given.name, given.type) for given in session.get_inputs()] == [("pixels", "tensor(uint8)")]
    [got] = session.run(None, {"pixels": data.x_test.values})
    # The book's own preparation, by hand, through the same weights.
    rows = data.x_test.values.reshape(-1, 784).astype(np.float32) / 255
    dense = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
    np.testing.assert_allclose(got, np.asarray(dense[1](dense[0](rows))), rtol=1e-5, atol=1e-6)


def test_a_digits_network_of_floats_is_refused(tiny: Tiny) -> None:
    recipe = tiny.recipes["digits"]
    other = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)])
    with pytest.raises(ExportError, match=r"digits: the network has tensors \[\('FP32', .*not \[\('UINT8'"):
        convert(recipe, other, {})


def test_another_networks_shape_is_refused(tiny: Tiny, word_index: dict[str, int]) -> None:
    recipe = tiny.recipes["topic"]
    other = build(dataclasses.replace(recipe, outputs=45))
    with pytest.raises(ExportError, match=r"topic: the network maps .*45\), not .*46\)"):
        convert(recipe, other, word_index)


def test_a_house_network_that_does_not_scale_is_refused(tiny: Tiny) -> None:
    recipe = tiny.recipes["house_price"]
    with pytest.raises(ExportError, match="first layer is Dense, expected Normalization"):
        convert(recipe, build(recipe), {})


# Networks of any shape.

Layers = keras.layers


def numbers(kind: str = "float32", *shape: int) -> Any:
    return keras.Input(shape or (3,), dtype=kind, name="x")


def recurrent(layer: Any) -> Network:
    x = numbers("float32", 5, 3)
    return keras.Model(x, layer(x))


def image() -> Network:
    x = numbers("uint8", 8, 8, 3)
    y = Layers.BatchNormalization()(Layers.Conv2D(4, 3)(Layers.Rescaling(1 / 255)(x)))
    return keras.Model(x, Layers.Dense(2)(Layers.GlobalAveragePooling2D()(Layers.MaxPooling2D()(y))))


def attention() -> Network:
    x = numbers("float32", 5, 4)
    return keras.Model(x, Layers.LayerNormalization()(Layers.MultiHeadAttention(2, 4)(x, x)))


def one_behind_the_other() -> Network:
    x = numbers()
    y = Layers.Dense(2, name="first")(x)
    return keras.Model(x, {"b": y, "a": Layers.Dense(1, name="second")(y)})


@pytest.mark.parametrize(
    "make",
    [
        lambda: recurrent(Layers.LSTM(4)),
        lambda: recurrent(Layers.GRU(4)),
        lambda: recurrent(Layers.Bidirectional(Layers.SimpleRNN(4, return_sequences=True))),
        image,
        attention,
        one_behind_the_other,
        lambda: keras.Sequential([keras.Input((), dtype="int64"), Layers.Embedding(3, 4)]),
        *(lambda kind=kind: keras.Sequential([numbers(kind), Layers.Dense(2)]) for kind in ("int8", "float64", "bool")),
        lambda: keras.Sequential([numbers("float16"), Layers.Dense(2, dtype="float16")]),
    ],
    ids=["LSTM", "GRU", "two ways", "image", "attention", "chain", "scalars", "int8", "float64", "bool", "float16"],
)
def test_any_network_is_answered_as_keras_answers_it(make: Callable[[], Network]) -> None:
    keras.utils.set_random_seed(0)
    network = make()
    signature = of_network(network)
    model = convert_network("any", network, signature).SerializeToString(deterministic=True)
    assert convert_network("any", network, signature).SerializeToString(deterministic=True) == model

    [spec] = signature.inputs
    rows = np.random.default_rng(0).integers(0, 3, (6, *spec.shape[1:])).astype(NUMPY_TYPES[spec.datatype])
    session = open_session(model)
    assert [output.shape for output in session.get_outputs()] == [["N", *each.shape[1:]] for each in signature.outputs]
    expected = tf.nest.flatten(keras.Model(network.inputs, network.outputs)([rows]))
    for got, wanted in zip(session.run(None, {spec.name: rows}), expected, strict=True):
        assert got.dtype == wanted.dtype.as_numpy_dtype
        np.testing.assert_allclose(got, np.asarray(wanted), rtol=2e-5, atol=1e-5)


def test_operators_that_onnx_does_not_have_are_named() -> None:
    x = numbers()
    y = Layers.Lambda(lambda t: tf.raw_ops.Betainc(a=t, b=t, x=t), output_shape=(3,))(x)
    network = keras.Model(x, y)
    with pytest.raises(ExportError, match="any: the network needs what ONNX does not have: Betainc"):
        convert_network("any", network, of_network(network))


def test_an_output_of_another_type_than_declared_is_refused() -> None:
    x = numbers()
    network = keras.Model(x, Layers.Lambda(lambda t: tf.argmax(t, 1), output_shape=())(x))
    with pytest.raises(ExportError, match="does not compute what its outputs are declared to be") as caught:
        convert_network("any", network, of_network(network))
    assert "\n" not in str(caught.value)

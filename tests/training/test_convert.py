"""The graph of a package computes what its Keras network does, and depends on the network alone."""

import dataclasses

import keras
import numpy as np
import pytest
from onnx import ModelProto

from serving.package.text import flatten
from training.convert import convert
from training.data import Data, Sequences, Table, load
from training.errors import ExportError
from training.evaluate import open_session, predict
from training.graph import IR_VERSION
from training.models import Network, Recipe, build
from training.text import encode, normalise

from .conftest import Tiny

TEXT_NAMES = ["sentiment", "topic"]
NAMES = [*TEXT_NAMES, "house_price"]


def untrained(recipe: Recipe, data: Data) -> Network:
    """A network with random biases, too: those of a new one are zero, and would hide that one was lost."""
    keras.utils.set_random_seed(0)
    network = build(recipe, data.x_train if isinstance(data.x_train, Table) else None)
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
    build(recipe, data.x_train if isinstance(data.x_train, Table) else None)  # moves on Keras's counters of names
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
        expected = {"features": ["N", recipe.features], recipe.output: ["N", recipe.outputs]}
    assert shapes == expected
    assert list(shapes) == list(expected)  # in this order


def test_nothing_superfluous(case: tuple[Recipe, Data, Network, ModelProto]) -> None:
    recipe, _, _, model = case
    used = {operand for node in model.graph.node for operand in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used
    assert not any(node.doc_string for node in model.graph.node)
    assert (model.doc_string, model.graph.doc_string, model.producer_name) == ("", "", "triptych")
    assert model.graph.name == recipe.name
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20), ("ai.onnx.ml", 4)]
    assert model.ir_version == IR_VERSION <= 10


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
    np.testing.assert_allclose(got, predict(network, sequences), atol=1e-6)


def test_absent_features_are_answered_as_keras_answers_their_mean(tiny: Tiny) -> None:
    recipe = tiny.recipes["house_price"]
    data = load(recipe.dataset, tiny.data)
    assert isinstance(data.x_train, Table)
    assert isinstance(data.x_test, Table)
    network = untrained(recipe, data)
    features, present = data.x_test.values.copy(), data.x_test.values.copy()
    for row, absent in enumerate(np.random.default_rng(0).integers(0, 2, features.shape).astype(bool)):
        features[row, absent] = np.nan
        present[row, absent] = data.x_train.values.mean(axis=0)[absent]
    session = open_session(convert(recipe, network, {}).SerializeToString())
    [got] = session.run(None, {"features": features})
    np.testing.assert_allclose(got, predict(network, Table(present)), rtol=1e-5, atol=1e-5)


def test_another_networks_shape_is_refused(tiny: Tiny, word_index: dict[str, int]) -> None:
    recipe = tiny.recipes["topic"]
    other = build(dataclasses.replace(recipe, outputs=45))
    with pytest.raises(ExportError, match=r"topic: the network maps .*45\), not .*46\)"):
        convert(recipe, other, word_index)


def test_a_house_network_that_does_not_scale_is_refused(tiny: Tiny) -> None:
    recipe = tiny.recipes["house_price"]
    with pytest.raises(ExportError, match="first layer is Dense, expected Normalization"):
        convert(recipe, build(recipe), {})

"""A package's tensors are called and shaped as the network's own, or the network is refused with what was expected."""

from typing import Any

import keras
import pytest
from onnx import TensorProto

from serving.package.manifest import InputSpec, OutputSpec, TextRules
from training.errors import ExportError
from training.models import DIGITS, HOUSE_PRICE, TOPIC, Network
from training.packaging.canonical import Tensor
from training.packaging.signature import Signature, described, fitting, of_network, of_recipe, tensor
from training.text import RULES

Dense = keras.layers.Dense


def given(name: str | None = None, *shape: int | None, kind: str = "float32") -> Any:
    return keras.Input(shape or (3,), dtype=kind, name=name)


def refusal(network: Network) -> str:
    with pytest.raises(ExportError) as caught:
        of_network(network)
    return str(caught.value)


def test_reference_models() -> None:
    assert isinstance(RULES, TextRules)
    assert of_recipe(TOPIC) == Signature(
        (InputSpec("text", "BYTES", (-1,), RULES, "flat"),),
        (OutputSpec("probability", "FP32", (-1, 46)), OutputSpec("known_words", "FP32", (-1,))),
    )
    assert of_recipe(HOUSE_PRICE).inputs == (InputSpec("features", "FP32", (-1, 13)),)
    assert of_recipe(DIGITS) == Signature(
        (InputSpec("pixels", "UINT8", (-1, 28, 28)),), (OutputSpec("probability", "FP32", (-1, 10)),)
    )


def test_a_networks_own_names_types_and_shapes_in_its_own_order() -> None:
    image, kind = given("Zoom.Image-1", 4, 5, 3, kind="uint8"), given("Kind", kind="int64")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(0.5)(image))
    outputs = [Dense(2, name="price.usd")(flat), Dense(1, name="mood", dtype="float16")(kind)]
    assert of_network(keras.Model([image, kind], outputs)) == Signature(
        (InputSpec("zoom_image_1", "UINT8", (-1, 4, 5, 3)), InputSpec("kind", "INT64", (-1, 3))),
        (OutputSpec("price_usd", "FP32", (-1, 2)), OutputSpec("mood", "FP16", (-1, 1))),
    )


def test_a_sequential_network_has_the_names_of_its_first_and_last_layer() -> None:
    signature = of_network(keras.Sequential([given("rows"), Dense(4), Dense(2, name="answer")]))
    assert [spec.name for spec in (*signature.inputs, *signature.outputs)] == ["rows", "answer"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("features", "features"),
        ("a__b_", "a__b_"),
        ("My Input", "my_input"),
        ("block_2/Dense-1:0", "block_2_dense_1_0"),
        ("2_hot", "hot"),
        ("__x__", "x__"),
        ("größe", "gr_e"),
        ("日本", ""),
        ("42", ""),
    ],
)
def test_fitting_names(name: str, expected: str) -> None:
    assert fitting(name) == expected


def test_names_that_become_the_same_are_refused() -> None:
    a, b = given("size-1"), given("Size_1")
    message = refusal(keras.Model([a, b], Dense(1)(keras.layers.Concatenate()([a, b]))))
    assert message.startswith("the input 'size-1' and the input 'Size_1' would both be called 'size_1': expected")
    x = given("x")
    assert "the input 'x' and the output 'X'" in refusal(keras.Model(x, Dense(1, name="X")(x)))
    y = Dense(1, name="y")(x)
    assert "the output 'y' and the output 'y'" in refusal(keras.Model(x, [y, y]))


@pytest.mark.parametrize("name", ["42", "x" * 65])
def test_names_that_no_package_can_have_are_refused(name: str) -> None:
    assert refusal(keras.Sequential([given(name), Dense(1)])).startswith(
        f"the input '{name}' can't be named in a package: expected a name with a letter a-z"
    )


def test_axes_without_a_size_are_refused() -> None:
    message = refusal(keras.Sequential([given("words", None, 3), Dense(1)]))
    assert message == (
        "words has shape [None, None, 3]: expected None, the batch, and then a fixed size for every other axis"
    )
    fixed = keras.Sequential([keras.Input(batch_shape=(8, 3), name="rows"), Dense(1)])
    assert refusal(fixed).startswith("rows has shape [8, 3]: expected None, the batch")


def test_types_that_no_package_can_have_are_refused() -> None:
    x = given("title", kind="string")
    network = keras.Model(x, keras.layers.Lambda(lambda t: t, output_shape=(3,))(x))
    assert refusal(network).startswith("title is of type string: expected one of bool, float16, float32")


def test_a_network_that_does_not_say_what_it_takes_is_refused() -> None:
    assert "begun with keras.Input(shape)" in refusal(keras.Sequential([Dense(2)]))


def test_a_tensor_of_the_graph_has_the_batch_as_a_named_axis() -> None:
    spec = InputSpec("pixels", "UINT8", (-1, 28, 28))
    assert tensor(spec) == Tensor("pixels", TensorProto.UINT8, ("N", 28, 28))
    assert described(spec) == "pixels UINT8 [N, 28, 28]"
    assert described(OutputSpec("n", "INT64", (-1,))) == "n INT64 [N]"

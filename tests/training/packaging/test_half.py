"""A graph in half precision is the same to clients, loses no more than half precision must, or is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from serving.package.manifest import MODEL
from serving.package.text import flatten
from training.data import Array
from training.errors import ExportError
from training.evaluate import open_session
from training.packaging.graph import model_of
from training.packaging.half import half
from training.packaging.half_parity import PARITY, hold
from training.packaging.rounding import rounded

from ..conftest import REPOSITORY

SHIPPED = sorted((REPOSITORY / "models").glob("*/[12]"))
node = helper.make_node


def two_layers(scale: float = 1.0, **more: Array) -> onnx.ModelProto:
    """x [N, 3], divided by 1,000,000 · `scale` first, through four hidden units: y [N, 2]."""
    random = np.random.default_rng(0)
    constants: dict[str, Any] = {
        "unit": np.float32([1e-6 / scale]),
        "first": random.normal(size=(3, 4)).astype(np.float32),
        "bias": random.normal(size=4).astype(np.float32),
        "second": random.normal(size=(4, 2)).astype(np.float32),
        **more,
    }
    model = model_of(
        [
            node("Mul", ["x", "unit"], ["scaled"]),
            node("MatMul", ["scaled", "first"], ["product"]),
            node("Add", ["product", "bias"], ["sum"]),
            node("Relu", ["sum"], ["hidden"]),
            node("MatMul", ["hidden", "second"], ["y"]),
        ],
        inputs={"x": (TensorProto.FLOAT, ["N", 3])},
        outputs={"y": (TensorProto.FLOAT, ["N", 2])},
        constants=constants,
    )
    model.graph.name = "own"
    return model


def answers(model: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    session = open_session(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def halves(model: onnx.ModelProto) -> set[str]:
    """Nodes that give float16, casts left out."""
    inferred = shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    return {
        each.name
        for each in model.graph.node
        if each.op_type != "Cast" and types.get(each.output[0]) == TensorProto.FLOAT16
    }


@pytest.mark.parametrize("package", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_shipped_graph_keeps_its_signature_and_gets_the_same_bytes_twice(package: Path) -> None:
    model = onnx.load(package / MODEL)
    before = model.SerializeToString(deterministic=True)
    made = half(model)
    for mine, its in ((made.graph.input, model.graph.input), (made.graph.output, model.graph.output)):
        assert [value.SerializeToString() for value in mine] == [value.SerializeToString() for value in its]
    assert made.ByteSize() < model.ByteSize()
    assert halves(made)
    assert model.SerializeToString(deterministic=True) == before
    assert half(model).SerializeToString(deterministic=True) == made.SerializeToString(deterministic=True)


def test_what_comes_before_the_first_product_and_the_last_layer_keep_float32() -> None:
    made = half(two_layers())
    assert halves(made) == {"product", "sum", "hidden"}
    kept = {tensor.name for tensor in made.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    assert kept == {"unit", "second"}
    casts = [each.input[0] for each in made.graph.node if each.op_type == "Cast"]
    assert len(casts) == 2, "one on the way in, one on the way out"


def test_the_multi_hot_matrix_is_made_in_float16_and_counts_are_not() -> None:
    made = half(onnx.load(REPOSITORY / "models" / "sentiment" / "1" / MODEL))
    assert {"zeros", "ones", "flat", "multi_hot"} <= halves(made)
    assert not {"word_count_or_one", "known_words"} & halves(made)
    many = b" ".join([b"film"] * 70_000 + [b"zzzzz"] * 7)  # more words than float16 has numbers
    known = answers(made, flatten("text", [many, b"film"]))["known_words"]
    np.testing.assert_array_equal(known, np.float32([70_000 / 70_007, 1]))


def test_raw_features_beyond_float16_are_scaled_before() -> None:
    rows = np.float32([[7e6, -1e6, 123_456], [70_000, 1, 0]])
    expected = answers(two_layers(), {"x": rows})
    held = hold("own", half(two_layers()), expected, lambda: [{"x": rows}], "regression")
    assert 0 < held.difference < 0.05


def test_rounding_is_numpys() -> None:
    rows = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32) * np.float32(1e6)
    numbers = {tensor.name: numpy_helper.to_array(tensor) for tensor in two_layers().graph.initializer}

    def round16(array: Array) -> Array:
        return array.astype(np.float16).astype(np.float32)

    product = round16(round16(rows * numbers["unit"]) @ round16(numbers["first"]))
    hidden = np.maximum(round16(product + round16(numbers["bias"])), 0)
    got = answers(rounded(half(two_layers())), {"x": rows})["y"]
    np.testing.assert_allclose(got, hidden @ numbers["second"], rtol=2e-6, atol=2e-6)
    exact = answers(two_layers(), {"x": rows})["y"]
    assert np.abs(got - exact).max() > 1e-4, "the CPU itself rounds nothing between"


def test_a_weight_that_float16_has_not_is_named() -> None:
    first = np.float32([[1, 2, 3, 1e6]] * 3)
    with pytest.raises(ExportError, match=r"own: first holds 1e\+06, and float16 ends at 65,504: expected smaller"):
        half(two_layers(first=first))


def test_a_sum_that_float16_has_not_is_refused_by_the_bound() -> None:
    """Weights and features fit, their products do not; the CPU would never notice."""
    model = two_layers(first=np.full((3, 4), 6e4, np.float32))
    rows = np.full((2, 3), 1e6, np.float32)
    with pytest.raises(
        ExportError, match=r"own, float16 with every result rounded.*: y leaves .* is row 0: -?(inf|nan)"
    ):
        hold("own", half(model), answers(model, {"x": rows}), lambda: [{"x": rows}], "regression")


def test_a_graph_that_is_off_is_refused_by_the_bound() -> None:
    rows = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32) * np.float32(1e6)
    expected = answers(two_layers(), {"x": rows})
    made = half(two_layers())
    [first] = [tensor for tensor in made.graph.initializer if tensor.name == "first"]
    first.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(first) * np.float16(1.02), "first"))
    with pytest.raises(ExportError, match=r"y leaves the tolerance \(atol 0.00195312, .* or float32\."):
        hold("own", made, expected, lambda: [{"x": rows}], "regression", PARITY)


def test_decisions_that_change_are_counted() -> None:
    rows = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32) * np.float32(1e6)
    expected = answers(two_layers(), {"x": rows})["y"]
    swapped = expected.copy()
    row = np.abs(expected[:, 0] - expected[:, 1]).argmax()
    swapped[row] = expected[row, ::-1]
    loose = type(PARITY)(atol=10, rtol=0)
    held = hold("own", half(two_layers()), {"y": swapped}, lambda: [{"x": rows}], "multiclass-classification", loose)
    assert (held.changed, held.rows) == (1, 50)


def test_a_number_that_both_halves_use_stays_exact_for_the_other() -> None:
    model = two_layers()
    model.graph.node[2].input[1] = "shared"
    model.graph.node[4].output[0] = "last"
    model.graph.node.append(node("Add", ["last", "shared_pair"], ["y"], name="y"))
    model.graph.node.insert(0, node("Slice", ["shared", "zero", "two"], ["shared_pair"], name="shared_pair"))
    shared = np.float32([1 / 3, 1 / 7, 0, 0])
    for name, value in (("shared", shared), ("zero", np.int64([0])), ("two", np.int64([2]))):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    made = half(model)
    kept = {tensor.name: tensor for tensor in made.graph.initializer}
    np.testing.assert_array_equal(numpy_helper.to_array(kept["shared"]), shared)
    assert kept["shared_half"].data_type == TensorProto.FLOAT16


def test_a_graph_that_gains_nothing_is_refused() -> None:
    model = two_layers()
    del model.graph.node[1:]
    model.graph.node[0].output[0] = "y"
    with pytest.raises(ExportError, match="own: nothing in it multiplies with weights"):
        half(model)


def test_what_is_float16_already_is_refused() -> None:
    with pytest.raises(ExportError, match="own is float16 already"):
        half(half(two_layers()))


def test_a_name_that_is_taken_stays_another_s() -> None:
    model = two_layers()
    for name, value in (("one", [1]), ("one_half", [5, 6, 7, 8])):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    model.graph.node[0].output[0] = "before"
    model.graph.node.insert(1, node("Mul", ["before", "one"], ["scaled"], name="scaled_too"))
    model.graph.node[3].output[0] = "sum_before"
    model.graph.node.insert(4, node("Mul", ["sum_before", "one"], ["sum_one"], name="sum_one"))
    model.graph.node.insert(5, node("Add", ["sum_one", "one_half"], ["sum"], name="sum_half"))
    rows = np.float32([[7e6, -1e6, 123_456]])
    expected = answers(model, {"x": rows})
    assert hold("own", half(model), expected, lambda: [{"x": rows}], "regression").difference < 0.05


def test_weights_elsewhere_are_refused() -> None:
    model = two_layers()
    model.graph.initializer[1].data_location = TensorProto.EXTERNAL
    with pytest.raises(ExportError, match="own keeps its weights in another file"):
        half(model)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_no_number_is_named(value: float) -> None:
    with pytest.raises(ExportError, match=f"own: first holds {value}: expected finite numbers"):
        half(two_layers(first=np.full((3, 4), value, np.float32)))


def test_float64_is_left_alone() -> None:
    model = two_layers()
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    with pytest.raises(ExportError, match="own: nothing in it multiplies with weights in float32"):
        half(model)


def test_nodes_need_no_names() -> None:
    model = two_layers()
    for each in model.graph.node:
        each.name = ""
    rows = np.float32([[7e6, -1e6, 123_456]])
    np.testing.assert_array_equal(answers(half(model), {"x": rows})["y"], answers(half(two_layers()), {"x": rows})["y"])


def test_a_loop_is_refused() -> None:
    model = two_layers()
    body = helper.make_graph(
        [node("Identity", ["hidden"], ["out"])], "b", [], [helper.make_empty_tensor_value_info("out")]
    )
    model.graph.node.append(node("If", ["condition"], ["z"], name="z", then_branch=body, else_branch=body))
    with pytest.raises(ExportError, match="own: If can't be made float16: expected layers that need no loop"):
        half(model)

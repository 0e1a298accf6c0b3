"""The canonical form depends on what a graph computes, not on how it was written down."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from training.canonical import canonical
from training.errors import ExportError

KERNEL = np.arange(6, dtype=np.float32).reshape(3, 2)
BIAS = np.array([0.5, -1], np.float32)


def network(mark: str = "", shuffled: bool = False, unused: bool = False, doc: str = "") -> onnx.ModelProto:
    """Two branches of one input, added up; names carry `mark`."""
    nodes = [
        helper.make_node("MatMul", [f"in{mark}", f"k{mark}"], [f"left{mark}"], name=f"n1{mark}", doc_string=doc),
        helper.make_node("MatMul", [f"in{mark}", f"k2{mark}"], [f"right{mark}"], name=f"n2{mark}"),
        helper.make_node("Add", [f"left{mark}", f"b{mark}"], [f"sum{mark}"], name=f"n3{mark}"),
        helper.make_node("Sub", [f"sum{mark}", f"right{mark}"], [f"out{mark}"], name=f"n4{mark}"),
    ]
    tensors = [
        numpy_helper.from_array(KERNEL, f"k{mark}"),
        numpy_helper.from_array(KERNEL * 2, f"k2{mark}"),
        numpy_helper.from_array(BIAS, f"b{mark}"),
    ]
    if shuffled:
        nodes = [nodes[1], nodes[0], *nodes[2:]]
        tensors.reverse()
    if unused:
        tensors.append(numpy_helper.from_array(KERNEL, "unused"))
    return helper.make_model(
        helper.make_graph(
            nodes,
            f"graph{mark}",
            [helper.make_tensor_value_info(f"in{mark}", TensorProto.FLOAT, ["batch", 3])],
            [helper.make_tensor_value_info(f"out{mark}", TensorProto.FLOAT, ["batch", 2])],
            tensors,
            doc_string=doc,
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )


def canonical_bytes(model: onnx.ModelProto) -> bytes:
    return canonical(model, "network", "y", (3, 2)).SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    "other",
    [
        network(mark="_17"),
        network(shuffled=True),
        network(unused=True),
        network(doc="made on a Tuesday"),
        network("/x:0", shuffled=True, unused=True, doc="and so on"),
    ],
    ids=["names", "order", "unused", "doc", "all"],
)
def test_the_same_network_gives_the_same_bytes(other: onnx.ModelProto) -> None:
    assert canonical_bytes(other) == canonical_bytes(network())


def test_another_network_gives_other_bytes() -> None:
    other = network()
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(KERNEL + 1, "k"))
    assert canonical_bytes(other) != canonical_bytes(network())


def test_names_say_what_things_are() -> None:
    graph = canonical(network(), "network", "y", (3, 2)).graph
    assert [node.name for node in graph.node] == [
        "network/MatMul_1",
        "network/Add_1",
        "network/MatMul_2",
        "network/Sub_1",
    ]
    assert {tensor.name for tensor in graph.initializer} == {
        "network/MatMul_1.B",
        "network/Add_1.B",
        "network/MatMul_2.B",
    }
    assert (graph.input[0].name, graph.output[0].name) == ("network/input", "y")


def test_graphs_within_graphs_are_refused() -> None:
    model = network()
    body = helper.make_graph([], "body", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("then_branch", body))
    with pytest.raises(ExportError, match="MatMul holds a graph of its own"):
        canonical(model, "network", "y", (3, 2))


def test_two_inputs_are_refused() -> None:
    model = network()
    model.graph.input.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, [1]))
    with pytest.raises(ExportError, match="got 2 and 1"):
        canonical(model, "network", "y", (3, 2))

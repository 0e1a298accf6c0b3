"""The canonical form depends on what a graph computes, not on how it was written down."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from training.data import Array
from training.errors import ExportError
from training.evaluate import open_session
from training.packaging.canonical import Tensor, canonical

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
    return of_two_widths(model).SerializeToString(deterministic=True)


def of_two_widths(model: onnx.ModelProto) -> onnx.ModelProto:
    given = Tensor("network/input", TensorProto.FLOAT, ("N", 3))
    return canonical(model, "network", [given], [Tensor("y", TensorProto.FLOAT, ("N", 2))])


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
    graph = of_two_widths(network()).graph
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


def test_another_number_of_inputs_is_refused() -> None:
    model = network()
    model.graph.input.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, [1]))
    with pytest.raises(ExportError, match="expected 1 inputs and 1 outputs, got 2 and 1"):
        of_two_widths(model)


def test_a_graph_that_reads_what_nothing_makes_is_refused() -> None:
    model = network()
    del model.graph.initializer[0]
    with pytest.raises(ExportError, match="reads k, which nothing in it makes"):
        of_two_widths(model)


def test_a_graph_deeper_than_pythons_stack() -> None:
    depth = 3_000
    nodes = [helper.make_node("Neg", [f"t{number}"], [f"t{number + 1}"]) for number in range(depth)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 3]) for name in ("t0", f"t{depth}")]
    graph = helper.make_graph(nodes, "deep", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    tensors = [Tensor(name, TensorProto.FLOAT, ("N", 3)) for name in ("x", "y")]
    assert len(canonical(model, "network", tensors[:1], tensors[1:]).graph.node) == depth


# Identity nodes: a converter puts one where a tensor is given out twice, and not always in the same place.

PAIR = [Tensor("first", TensorProto.FLOAT, ("N", 3)), Tensor("second", TensorProto.FLOAT, ("N", 3))]
GIVEN = [Tensor("x", TensorProto.FLOAT, ("N", 3))]


def twice(outputs: list[str], *nodes: tuple[str, str, str]) -> onnx.ModelProto:
    """A graph of one input, `in`, and of nodes with an operator, an operand and a result; every tensor [N, 3]."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 3]) for name in ("in", *outputs)]
    made = [helper.make_node(kind, [operand], [result]) for kind, operand, result in nodes]
    graph = helper.make_graph(made, "pair", values[:1], values[1:])
    return canonical(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), "network", GIVEN, PAIR
    )


def test_it_does_not_matter_which_of_two_equal_outputs_is_the_copy() -> None:
    one = twice(["a", "b"], ("Relu", "in", "a"), ("Identity", "a", "b"))
    other = twice(["a", "b"], ("Relu", "in", "b"), ("Identity", "b", "c"), ("Identity", "c", "a"))
    assert one == other
    assert [node.op_type for node in one.graph.node] == ["Relu", "Identity"]
    found = ort_run(one, np.array([[-1, 0, 2]], np.float32))
    assert [array.tolist() for array in found] == [[[0, 0, 2]]] * 2


def test_an_input_that_is_passed_on_and_an_output_that_others_read() -> None:
    model = twice(["a", "b"], ("Identity", "in", "a"), ("Neg", "in", "b"))
    assert [output.name for output in model.graph.output] == ["first", "second"]
    assert [array.tolist() for array in ort_run(model, np.ones((1, 3), np.float32))] == [[[1, 1, 1]], [[-1, -1, -1]]]
    model = twice(["a", "b"], ("Neg", "in", "a"), ("Exp", "a", "b"))
    first, second = ort_run(model, np.zeros((1, 3), np.float32))
    assert (first.tolist(), second.tolist()) == ([[0, 0, 0]], [[1, 1, 1]])


def ort_run(model: onnx.ModelProto, values: Array) -> list[Array]:
    onnx.checker.check_model(model, full_check=True)
    found: list[Array] = open_session(model.SerializeToString()).run(["first", "second"], {"x": values})
    return found


# Loops: a graph within the graph, which reads what the outer one makes.


def loop(mark: str = "", copy: str = "state") -> onnx.ModelProto:
    """The input, doubled and shifted three times; `copy` says which of the loop's equal results is the copy."""
    other = {"state": "scan", "scan": "state"}[copy]
    body = helper.make_graph(
        [
            helper.make_node("Add", [f"s{mark}", f"s{mark}"], [f"double{mark}"]),
            helper.make_node("Add", [f"double{mark}", f"shift{mark}"], [f"{other}{mark}"]),
            helper.make_node("Identity", [f"{other}{mark}"], [f"{copy}{mark}"]),
            helper.make_node("Identity", [f"c{mark}"], [f"again{mark}"]),
        ],
        f"body{mark}",
        [
            helper.make_tensor_value_info(f"i{mark}", TensorProto.INT64, []),
            helper.make_tensor_value_info(f"c{mark}", TensorProto.BOOL, []),
            helper.make_tensor_value_info(f"s{mark}", TensorProto.FLOAT, [f"axis{mark}", 3]),
        ],
        [
            helper.make_tensor_value_info(f"again{mark}", TensorProto.BOOL, []),
            helper.make_tensor_value_info(f"state{mark}", TensorProto.FLOAT, [f"axis{mark}", 3]),
            helper.make_tensor_value_info(f"scan{mark}", TensorProto.FLOAT, [f"axis{mark}", 3]),
        ],
    )
    nodes = [
        helper.make_node("Neg", [f"bias{mark}"], [f"shift{mark}"]),
        helper.make_node("Loop", [f"n{mark}", f"yes{mark}", "in"], [f"last{mark}", f"all{mark}"], body=body),
        helper.make_node("ReduceSum", [f"all{mark}", f"axis0{mark}"], [f"sum{mark}"], keepdims=0),
    ]
    tensors = [
        numpy_helper.from_array(np.ones(3, np.float32), f"bias{mark}"),
        numpy_helper.from_array(np.array(3), f"n{mark}"),
        numpy_helper.from_array(np.array(True), f"yes{mark}"),
        numpy_helper.from_array(np.array([0]), f"axis0{mark}"),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 3]) for name in ("in", f"last{mark}", f"sum{mark}")
    ]
    graph = helper.make_graph(nodes, f"loop{mark}", values[:1], values[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return canonical(model, "network", GIVEN, PAIR)


@pytest.mark.parametrize("other", [{"mark": "_5"}, {"copy": "scan"}], ids=["names", "copies"])
def test_the_same_loop_gives_the_same_bytes(other: dict[str, str]) -> None:
    assert loop(**other).SerializeToString(deterministic=True) == loop().SerializeToString(deterministic=True)


def test_a_loop_computes_what_it_did() -> None:
    last, total = ort_run(loop(), np.array([[1, 2, 3]], np.float32))
    # x becomes 2x - 1, three times.
    assert last.tolist() == [[1, 9, 17]]
    assert total.tolist() == [[1 + 1 + 1, 3 + 5 + 9, 5 + 9 + 17]]

"""Rules for graphs: what comes from outside or explodes is refused unseen by ONNX Runtime, and all else is not."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper, numpy_helper

from serving.repository import graph, tensors, wire
from serving.repository.disk import LoadError
from tests.serving import packages
from tests.serving.packages import DOUBLE, FRAGILE


def refusal(model: bytes | ModelProto) -> str:
    with pytest.raises(LoadError) as caught:
        graph.check(model if isinstance(model, bytes) else model.SerializeToString())
    assert caught.value.outcome == "load_error"
    return str(caught.value)


def accept(model: ModelProto) -> None:
    graph.check(model.SerializeToString())


def model_of(*nodes: onnx.NodeProto, functions: list[onnx.FunctionProto] | None = None, **constants: Any) -> ModelProto:
    made = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [
            value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value), name)
            for name, value in constants.items()
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=9, functions=functions or [])


ADD = helper.make_node("Add", ["x", "x"], ["y"])


def body(*nodes: onnx.NodeProto, tensors: list[TensorProto] | None = None) -> GraphProto:
    return helper.make_graph(nodes, "body", [], [], tensors)


def branches(inner: GraphProto) -> onnx.NodeProto:
    return helper.make_node("If", ["x"], ["y"], "choice", then_branch=inner, else_branch=inner)


# What is good.


@pytest.mark.parametrize("name", packages.NAMES)
def test_shipped_graphs_pass_and_cost_next_to_nothing(name: str) -> None:
    model = (packages.SHIPPED / name / "1" / "model.onnx").read_bytes()
    started = time.process_time()
    graph.check(model)
    assert time.process_time() - started < 0.5


def test_small_graphs_pass() -> None:
    graph.check(DOUBLE)
    graph.check(FRAGILE)


VALUES = {
    TensorProto.FLOAT: [1.5, 2.5, -1.0],
    TensorProto.COMPLEX64: [1 + 2j, 3 - 1j, 0j],
    TensorProto.COMPLEX128: [1 + 2j, 3 - 1j, 0j],
    TensorProto.BOOL: [True, False, True],
    TensorProto.STRING: [b"a", b"", b"c" * 300],
}


@pytest.mark.parametrize("shape", [[3], [3, 1], [], [0], [2, 0]])
@pytest.mark.parametrize("number", sorted(tensors._TYPES))
def test_every_way_to_store_a_tensor_passes(number: int, shape: list[int]) -> None:
    """Held against the library: whatever it writes is as large as it says."""
    elements = int(np.prod(shape, dtype=int))
    values = (VALUES.get(number) or [1, 0, 1])[:elements]
    typed = helper.make_tensor("t", number, shape, values)
    accept(model_of(ADD, t=typed))
    if number != TensorProto.STRING:
        raw = TensorProto(name="t", data_type=number, dims=shape, raw_data=numpy_helper.to_array(typed).tobytes())
        if number in (21, 22, 23, 25, 26):
            per_byte = 8 // tensors._TYPES[number].bits
            raw.raw_data = bytes(-(-elements // per_byte))
        accept(model_of(ADD, t=raw))
        raw.raw_data += b"\0"
        assert "tensor 't' of" in refusal(model_of(ADD, t=raw))


def test_all_data_types_of_the_library_that_onnx_runtime_may_know_are_known() -> None:
    known = {number: name for name, number in TensorProto.DataType.items() if number}
    assert {number: kind.name for number, kind in tensors._TYPES.items()}.items() <= known.items()


def test_unpacked_numbers_are_as_good_as_packed_ones() -> None:
    shape = b"\x38\x03\x38\x04"  # int64_data, one by one
    dims = b"\x08\x02"
    tensor = dims + b"\x10\x07" + shape + b"\x42\x01t"
    framed = b"\x2a" + bytes([len(tensor)]) + tensor
    node = helper.make_node("ConstantOfShape", ["t"], ["y"]).SerializeToString()
    inner = b"\x0a" + bytes([len(node)]) + node + framed
    model = b"\x3a" + bytes([len(inner)]) + inner
    assert onnx.load_from_string(model).graph.initializer[0].int64_data == [3, 4]
    graph.check(model)
    graph.check(model.replace(shape, b"\x3a\x02\x03\x04"))


# What comes from outside.


def outside(name: str = "secret") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


def entries_only() -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "secret")
    tensor.external_data.add(key="location", value="weights")
    return tensor


def in_sparse() -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=outside(), indices=numpy_helper.from_array(np.zeros(2, np.int64)), dims=[9])


def in_graph_sparse() -> ModelProto:
    model = model_of(ADD)
    model.graph.sparse_initializer.append(in_sparse())
    return model


def in_function(tensor: TensorProto) -> ModelProto:
    node = helper.make_node("Constant", [], ["z"], value=tensor)
    function = helper.make_function("own", "f", ["a"], ["z"], [node], [helper.make_opsetid("", 17)])
    return model_of(ADD, functions=[function])


def in_function_default() -> ModelProto:
    function = helper.make_function("own", "f", ["a"], ["a"], [], [helper.make_opsetid("", 17)])
    function.attribute_proto.append(helper.make_attribute("value", outside()))
    return model_of(ADD, functions=[function])


def in_training() -> ModelProto:
    model = model_of(ADD)
    model.training_info.add().algorithm.initializer.append(outside())
    return model


def in_list() -> ModelProto:
    attribute = AttributeProto(name="values", type=AttributeProto.TENSORS, tensors=[outside()])
    node = helper.make_node("Add", ["x", "x"], ["y"])
    node.attribute.append(attribute)
    return model_of(node)


@pytest.mark.parametrize(
    "model",
    [
        model_of(ADD, secret=outside()),
        model_of(ADD, secret=entries_only()),
        model_of(helper.make_node("Constant", [], ["y"], value=outside())),
        model_of(helper.make_node("Constant", [], ["y"], sparse_value=in_sparse())),
        model_of(branches(body(tensors=[outside()]))),
        model_of(branches(body(branches(body(branches(body(tensors=[outside()]))))))),
        model_of(helper.make_node("Loop", ["", ""], ["y"], body=body(tensors=[outside()]))),
        model_of(helper.make_node("Scan", ["x"], ["y"], num_scan_inputs=1, body=body(tensors=[outside()]))),
        in_graph_sparse(),
        in_function(outside()),
        in_function_default(),
        in_training(),
        in_list(),
    ],
    ids=lambda model: "",
)
def test_data_outside_of_the_graph_is_refused_wherever_it_is(model: ModelProto) -> None:
    assert refusal(model) == "tensor 'secret' keeps its data outside of the graph; a package has it all in one file"


def test_segments_are_refused() -> None:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "t")
    tensor.segment.begin = 0
    assert "keeps its data outside" in refusal(model_of(ADD, t=tensor))


@pytest.mark.parametrize("domain", ["evil", "ai.onnx.contrib", "com.microsoft.experimental", "AI.ONNX"])
def test_operators_of_other_domains_are_refused(domain: str) -> None:
    node = helper.make_node("Add", ["x", "x"], ["y"], "sum", domain=domain)
    expected = f"node 'sum' ('Add') is of domain '{domain}', which is none that is known"
    assert refusal(model_of(node)) == expected
    assert refusal(model_of(branches(body(node)))) == expected
    assert refusal(in_body_of_function(node)) == expected


def in_body_of_function(node: onnx.NodeProto) -> ModelProto:
    return model_of(ADD, functions=[helper.make_function("own", "f", ["x"], ["y"], [node], [])])


@pytest.mark.parametrize("domain", ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"])
def test_operators_of_known_domains_pass(domain: str) -> None:
    accept(model_of(helper.make_node("Add", ["x", "x"], ["y"], domain=domain)))


def test_what_another_program_compiled_is_refused() -> None:
    assert "may hold anything" in refusal(model_of(helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft")))


# Functions.


def function(name: str, *calls: str) -> onnx.FunctionProto:
    nodes = [helper.make_node(called, ["a"], [f"b{i}"], domain="own") for i, called in enumerate(calls)]
    nodes = nodes or [helper.make_node("Neg", ["a"], ["b0"])]
    return helper.make_function("own", name, ["a"], ["b0"], nodes, [helper.make_opsetid("", 17)])


CALL = helper.make_node("f0", ["x"], ["y"], domain="own")


def test_functions_of_the_model_pass() -> None:
    accept(model_of(CALL, functions=[function("f0", "f1", "f1"), function("f1")]))


def test_a_function_that_calls_itself_is_refused() -> None:
    assert refusal(model_of(CALL, functions=[function("f0", "f1"), function("f1", "f0")])) == (
        "function 'f0' calls itself"
    )


def test_functions_that_double_until_nothing_holds_them_are_refused() -> None:
    chain = [function(f"f{i}", f"f{i + 1}", f"f{i + 1}") for i in range(30)]
    assert "more than 1000000 nodes" in refusal(model_of(CALL, functions=[*chain, function("f30")]))
    accept(model_of(CALL, functions=[*chain[15:], function("f30"), function("f0", "f15")]))


def test_functions_too_deep_are_refused() -> None:
    chain = [function(f"f{i}", f"f{i + 1}") for i in range(1000)]
    assert "functions that call functions" in refusal(model_of(CALL, functions=[*chain, function("f1000")]))


# Sizes.


def sized(*dims: int, data_type: int = TensorProto.FLOAT, raw: bytes = b"") -> ModelProto:
    return model_of(ADD, t=TensorProto(name="t", data_type=data_type, dims=dims, raw_data=raw))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (sized(3, raw=bytes(8)), "tensor 't' of 3 FLOAT should hold 12 raw bytes or 3 items, not 8 raw bytes"),
        (sized(1, raw=bytes(8)), "tensor 't' of 1 FLOAT should hold 4 raw bytes or 1 items, not 8 raw bytes"),
        (sized(10**6), "tensor 't' of 1000000 FLOAT should hold 4000000 raw bytes or 1000000 items, not 0 raw bytes"),
        (sized(-1, raw=bytes(4)), "tensor 't' has the shape [-1]"),
        (sized(2**62, 4), "tensor 't' has the shape [4611686018427387904, 4]"),
        (sized(2**32, 2**32, 0), "tensor 't' has the shape [4294967296, 4294967296, 0]"),
        (sized(2**29 + 1), "tensor 't' has the shape [536870913], which is more than 2147 MB"),
        (sized(*[1] * 65, raw=bytes(4)), "tensor 't' has more than 64 dimensions"),
        (sized(1, data_type=0, raw=b"1"), "tensor 't' is of data type 0"),
        (sized(1, data_type=99, raw=b"1"), "tensor 't' is of data type 99"),
        (sized(1, data_type=TensorProto.STRING, raw=bytes(8)), "tensor 't' has raw bytes for its strings"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_tensor_that_is_not_as_large_as_it_says_is_refused(model: ModelProto, message: str) -> None:
    assert refusal(model).startswith(message)


@pytest.mark.parametrize("field", ["float_data", "int32_data", "double_data"])
def test_a_tensor_with_items_of_another_kind_is_refused(field: str) -> None:
    tensor = TensorProto(name="t", data_type=TensorProto.INT64, dims=[2])
    getattr(tensor, field).extend([1, 2])
    assert "tensor 't' of 2 INT64 should hold" in refusal(model_of(ADD, t=tensor))


def test_a_sparse_tensor_that_is_large_once_it_is_not_sparse_is_refused() -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "v")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    for dims, good in (([1000, 1000], True), ([10**6, 10**6], False)):
        sparse = onnx.SparseTensorProto(values=values, indices=indices, dims=dims)
        model = model_of(helper.make_node("Constant", [], ["y"], sparse_value=sparse))
        if good:
            accept(model)
        else:
            assert "a sparse tensor has the shape [1000000, 1000000]" in refusal(model)


def maker(operator: str, inputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, ["y"], "bomb", **attributes)


DOUBLE_ZERO = numpy_helper.from_array(np.zeros(1), "")
LARGE = np.array([50_000, 50_000])


@pytest.mark.parametrize(
    ("node", "constants", "bytes_"),
    [
        (maker("ConstantOfShape", ["s"]), {"s": LARGE}, "10 GB"),
        (maker("ConstantOfShape", ["s"], value=DOUBLE_ZERO), {"s": LARGE}, "20 GB"),
        (maker("ConstantOfShape", ["s"]), {"s": [2**62, 2**62]}, "more bytes than there are"),
        (maker("Expand", ["one", "s"]), {"s": LARGE, "one": np.float32(1)}, "10 GB"),
        (maker("Expand", ["x", "s"]), {"s": LARGE}, "2500 MB"),
        (maker("Tile", ["block", "s"]), {"s": [10**4, 10**4], "block": np.zeros((9, 9))}, "65 GB"),
        (maker("Resize", ["x", "", "", "s"]), {"s": [1, 3, 10**5, 10**5]}, "30 GB"),
        (maker("Pad", ["x", "s"]), {"s": [0, 0, 10**5, 10**5]}, "10000 MB"),
        (maker("Pad", ["x"], pads=[10**5, 10**5, 0, 0]), {}, "10000 MB"),
        (maker("Range", ["a", "b", "c"]), {"a": 0, "b": -(10**12), "c": -1}, "8000 GB"),
        (maker("OneHot", ["x", "d", "v"]), {"d": 10**10}, "10 GB"),
        (maker("HannWindow", ["s"]), {"s": 10**10}, "10 GB"),
        (maker("MelWeightMatrix", ["a", "b", "c"]), {"a": 10**5, "b": 10**5}, "40 GB"),
        (maker("RandomNormal", [], shape=[10**5, 10**5]), {}, "40 GB"),
        (maker("ConstantOfShape", ["s"]), {"s": np.array([10**6, 10**6], np.int64)}, "4000 GB"),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else "",
)
def test_a_node_that_makes_too_much_out_of_constants_is_refused(
    node: onnx.NodeProto, constants: dict[str, Any], bytes_: str
) -> None:
    message = f"node 'bomb' ('{node.op_type}') makes {bytes_} or more out of constants; the limit is 1074 MB"
    assert refusal(model_of(node, **constants)) == message
    assert refusal(model_of(branches(body(node)), **constants)) == message, "constants of a graph are seen within"


def test_shapes_may_come_from_constant_nodes_that_stand_behind() -> None:
    for attributes in (
        {"value": numpy_helper.from_array(LARGE)},
        {"value_ints": [50_000, 50_000]},
        {"value_int": 10**10},
    ):
        shape = helper.make_node("Constant", [], ["s"], **attributes)
        assert "makes" in refusal(model_of(maker("ConstantOfShape", ["s"]), shape))


def test_many_small_ones_add_up() -> None:
    def nodes(count: int) -> list[onnx.NodeProto]:
        return [helper.make_node("ConstantOfShape", ["s"], [f"y{i}"]) for i in range(count)]

    accept(model_of(*nodes(26), s=[10**7]))
    assert "node 'y26' ('ConstantOfShape') makes 40 MB or more" in refusal(model_of(*nodes(27), s=[10**7]))


def test_shapes_that_are_found_out_later_pass() -> None:
    accept(model_of(maker("Expand", ["x", "s"]), s=[-1, 1]))
    accept(model_of(maker("ConstantOfShape", ["s"]), s=[0, 10**9]))
    accept(model_of(maker("ConstantOfShape", ["x"])))
    accept(model_of(maker("Range", ["a", "b", "c"]), a=0, b=10**12, c=0))


def nested(depth: int) -> ModelProto:
    inner = body()
    for _ in range(depth - 2):
        inner = body(helper.make_node("If", ["x"], ["y"], then_branch=inner))
    return model_of(helper.make_node("If", ["x"], ["y"], then_branch=inner))


def test_graphs_too_deep_are_refused() -> None:
    accept(nested(graph.MAX_NESTING))
    assert refusal(nested(graph.MAX_NESTING + 1)) == "graphs within graphs, more than 16 deep"


# What a parser would put together.


def test_two_graphs_are_refused() -> None:
    assert "it has 2 graphs" in refusal(DOUBLE + DOUBLE)


@pytest.mark.parametrize("kind", ["t", "g", "sparse_tensor"])
def test_an_attribute_of_two_parts_is_refused(kind: str) -> None:
    attribute = AttributeProto(name="value")
    if kind == "t":
        attribute.t.CopyFrom(numpy_helper.from_array(np.zeros(2, np.float32)))
    getattr(attribute, kind).SetInParent()
    if kind == "sparse_tensor":
        attribute.sparse_tensor.values.CopyFrom(numpy_helper.from_array(np.zeros(2, np.float32)))
    twice = attribute.SerializeToString() * 2
    node = b"\x22\x08Constant" + b"\x12\x01y" + b"\x2a" + bytes([len(twice)]) + twice
    inner = b"\x0a" + bytes([len(node)]) + node
    assert "attribute 'value' has two values" in refusal(b"\x3a" + bytes([len(inner)]) + inner)


def test_an_attribute_given_twice_is_refused() -> None:
    node = maker("ConstantOfShape", ["s"], value=DOUBLE_ZERO)
    node.attribute.append(node.attribute[0])
    assert "has attribute 'value' twice" in refusal(model_of(node))


# What is no model.


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"", "for it has no graph"),
        (b"<html>404 Not Found</html>", "there is no field at byte 0"),
        (bytes(100), "there is no field at byte 0"),
        (DOUBLE[:-1], "is cut off"),
        (DOUBLE + b"\x3b", "there is no field at byte"),
        (b"\xff" * 20, "the number at byte 0 does not end"),
        (b"\x8a\x80\x80\x80\x80\x00\x00", "there is no field at byte 0"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "the field at byte 0 is cut off"),
    ],
)
def test_what_is_no_model_is_refused(model: bytes, message: str) -> None:
    found = refusal(model)
    assert found.startswith("ONNX Runtime can't load it: model.onnx is no ONNX model, ")
    assert message in found


def framed(tag: int, content: bytes) -> bytes:
    length, size = b"", len(content)
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([tag]) + length + bytes([size]) + content


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\x0a\x00" * 4_000_000, id="nodes"),
        pytest.param(framed(0x0A, framed(0x2A, b"\x4a\x00" * 30_000_000)), id="strings"),
        pytest.param(framed(0x0A, framed(0x2A, b"\x40\xff\xff\x01" * 30_000_000)), id="numbers"),
        pytest.param(framed(0x0A, framed(0x2A, b"\x40\xff\xff\xff\xff\x01" * 8_000_000)), id="large numbers"),
        pytest.param(framed(0x2A, b"\x08\x01" * 4_000_000), id="dimensions"),
        pytest.param(framed(0x2A, b"\x10\x07" + framed(0x3A, bytes(60_000_000))), id="packed"),
    ],
)
def test_a_file_of_nothing_but_parts_takes_bounded_time(content: bytes) -> None:
    started = time.process_time()
    with pytest.raises(LoadError):
        graph.check(framed(0x3A, content))
    assert time.process_time() - started < 30


def test_a_vocabulary_of_a_million_words_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    words = framed(0x0A, framed(0x2A, b"\x4a\x05words" * 1_000_000 + b"\x40\x85\x20" * 1_000_000))
    graph.check(framed(0x3A, words))
    monkeypatch.setattr(wire, "MAX_WORK", 1_000_000)
    assert "more fields than can be looked at" in refusal(framed(0x3A, words))


SEEDS = [
    DOUBLE,
    FRAGILE,
    (packages.SHIPPED / "house_price" / "1" / "model.onnx").read_bytes(),
    in_function(numpy_helper.from_array(np.zeros(2))).SerializeToString(),
    nested(5).SerializeToString(),
    model_of(maker("Tile", ["block", "s"]), s=[3, 2], block=np.zeros((9, 9))).SerializeToString(),
    model_of(maker("Range", ["a", "b", "c"]), a=0, b=5, c=1).SerializeToString(),
]

Edit = tuple[str, int, bytes]
EDITS = st.lists(
    st.tuples(st.sampled_from(["replace", "insert", "delete", "repeat"]), st.integers(0), st.binary(max_size=6)),
    min_size=1,
    max_size=8,
)


def edited(model: bytes, edits: list[Edit]) -> bytes:
    data = bytearray(model)
    for kind, where, content in edits:
        at = where % (len(data) + 1)
        if kind == "insert":
            data[at:at] = content
        elif kind == "repeat":
            data[at:at] = data[at : at + 40]
        else:
            data[at : at + len(content)] = content if kind == "replace" else b""
    return bytes(data)


@given(st.sampled_from(SEEDS), EDITS)
@settings(max_examples=400, deadline=2000)
@example(DOUBLE, [("replace", 0, b"")])
def test_whatever_is_done_to_a_model_it_passes_or_is_refused(model: bytes, edits: list[Edit]) -> None:
    with contextlib.suppress(LoadError):
        graph.check(edited(model, edits))


def tensors_of(made: GraphProto | onnx.FunctionProto) -> list[TensorProto]:
    """All tensors, found with the library."""
    found = list(made.initializer) if isinstance(made, GraphProto) else []
    for node in made.node:
        for attribute in node.attribute:
            found += [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                found += tensors_of(inner)
    return found


PLACES: list[Callable[[TensorProto], ModelProto]] = [
    lambda tensor: model_of(ADD, t=tensor),
    lambda tensor: model_of(helper.make_node("Constant", [], ["y"], value=tensor)),
    lambda tensor: model_of(branches(body(tensors=[tensor]))),
    in_function,
]


@given(st.sampled_from([place(outside("t")).SerializeToString() for place in PLACES]), EDITS)
@settings(max_examples=300, deadline=2000)
def test_what_the_library_sees_of_data_outside_is_never_missed(model: bytes, edits: list[Edit]) -> None:
    data = edited(model, edits)
    try:
        parsed = ModelProto.FromString(data)
    except DecodeError:
        return
    found = [tensor for made in (parsed.graph, *parsed.functions) for tensor in tensors_of(made)]
    if any(tensor.external_data or tensor.data_location == TensorProto.EXTERNAL for tensor in found):
        refusal(data)

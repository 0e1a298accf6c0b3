"""Rules for graphs: what comes from outside or explodes is refused unseen by ONNX Runtime, and all else is not."""

import contextlib
import time
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper, numpy_helper

from serving.repository.disk import LoadError
from serving.repository.rules import graph, wire
from tests.serving import packages
from tests.serving.packages import DOUBLE, FRAGILE
from tests.serving.repository.graphs import ADD, accept, body, branches, maker, model_of, refusal

# What is good.


@pytest.mark.parametrize(("name", "version"), packages.EVERY)
def test_shipped_graphs_pass_and_cost_next_to_nothing(name: str, version: int) -> None:
    model = (packages.SHIPPED / name / str(version) / "model.onnx").read_bytes()
    started = time.process_time()
    graph.check(model)
    assert time.process_time() - started < 0.5


def test_small_graphs_pass() -> None:
    graph.check(DOUBLE)
    graph.check(FRAGILE)


# What comes from outside.


def outside(name: str = "secret") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


def entries_only() -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "secret")
    tensor.external_data.add(key="location", value="weights")
    return tensor


def place_only() -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "secret")
    tensor.data_location = TensorProto.EXTERNAL
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
        model_of(ADD, secret=place_only()),
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


@pytest.mark.parametrize(("domain", "called"), [("", "ai.onnx"), ("ai.onnx", ""), ("own", "own")])
def test_a_domain_with_two_names_is_one(domain: str, called: str) -> None:
    node = helper.make_node("f", ["a"], ["b"], domain=called)
    function = helper.make_function(domain, "f", ["a"], ["b"], [node], [helper.make_opsetid("", 17)])
    assert refusal(model_of(ADD, helper.make_node("f", ["x"], ["z"], domain=called), functions=[function])) == (
        "function 'f' calls itself"
    )


def test_functions_that_double_until_nothing_holds_them_are_refused() -> None:
    chain = [function(f"f{i}", f"f{i + 1}", f"f{i + 1}") for i in range(30)]
    assert "more than 1000000 nodes" in refusal(model_of(CALL, functions=[*chain, function("f30")]))
    accept(model_of(CALL, functions=[*chain[15:], function("f30"), function("f0", "f15")]))


def test_functions_too_deep_are_refused() -> None:
    chain = [function(f"f{i}", f"f{i + 1}") for i in range(1000)]
    assert "functions that call functions" in refusal(model_of(CALL, functions=[*chain, function("f1000")]))


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
    node = maker("ConstantOfShape", ["s"], value=numpy_helper.from_array(np.zeros(1)))
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


@pytest.mark.parametrize("run", [b"\x40", b"\x40\x80", b"\x4a", b"\x4a\x05ab", b"\x4a\x80", b"\x3d\x00\x00"])
@pytest.mark.parametrize("rest", [b"", b"\x12\x01y"])
def test_a_list_that_is_cut_off_is_refused(run: bytes, rest: bytes) -> None:
    assert "ONNX Runtime can't load it" in refusal(framed(0x3A, framed(0x0A, framed(0x2A, run) + rest)))


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
@settings(max_examples=1000, deadline=None)
@example(DOUBLE, [("replace", 0, b"")])
def test_whatever_is_done_to_a_model_it_passes_or_is_refused(model: bytes, edits: list[Edit]) -> None:
    started = time.process_time()
    with contextlib.suppress(LoadError):
        graph.check(edited(model, edits))
    assert time.process_time() - started < 2


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
@settings(max_examples=600, deadline=None)
def test_what_the_library_sees_of_data_outside_is_never_missed(model: bytes, edits: list[Edit]) -> None:
    data = edited(model, edits)
    try:
        parsed = ModelProto.FromString(data)
    except DecodeError:
        return
    found = [tensor for made in (parsed.graph, *parsed.functions) for tensor in tensors_of(made)]
    if any(tensor.external_data or tensor.data_location == TensorProto.EXTERNAL for tensor in found):
        refusal(data)

"""Graphs to hold against the rules: small, and made of one odd thing."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from serving.repository.disk import LoadError
from serving.repository.rules import graph


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


def maker(operator: str, inputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, ["y"], "bomb", **attributes)

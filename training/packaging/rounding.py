"""How a float16 graph answers where its numbers are really rounded, found out on a CPU.

ONNX Runtime on an x86 CPU computes float16 nodes in float32 and rounds nothing between them, so what it answers says
little of a GPU. The graph made here rounds explicitly: each node takes and gives numbers that float16 has, and computes
in float32 between, which is what tensor cores do (NVIDIA, CUDA C++ Programming Guide, "Warp Matrix Functions").
"""

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper, shape_inference

from training.packaging.half import MOVING

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with every float16 node computing in float32 and its results rounded; inputs and outputs stay the same.

    What is inside of a recurrent operator is not rounded.
    """
    inferred = shape_inference.infer_shapes(model).graph
    values = [*inferred.input, *inferred.output, *inferred.value_info]
    halves = {value.name for value in values if value.type.tensor_type.elem_type == HALF}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    for tensor in graph.initializer:
        _widen(tensor)
    borders = {value.name for value in (*graph.input, *graph.output)} & halves
    nodes = [_cast(value.name, _inner(value.name), FLOAT) for value in graph.input if value.name in borders]
    for node in graph.node:
        widened = onnx.NodeProto()
        widened.CopyFrom(node)
        to_half = False
        for attribute in widened.attribute:
            if attribute.type == AttributeProto.TENSOR:
                _widen(attribute.t)
            elif attribute.name in ("to", "dtype") and attribute.i == HALF:
                attribute.i, to_half = FLOAT, True
        for place, name in enumerate(node.input):
            widened.input[place] = _inner(name) if name in borders else name
        nodes.append(widened)
        for place, name in enumerate(node.output):
            if name in halves:
                inner = _inner(name) if name in borders else name
                exact = node.op_type in MOVING and not to_half
                widened.output[place] = inner if exact else f"{name}/exact"
                if not exact:
                    nodes += [_cast(f"{name}/exact", f"{name}/rounded", HALF), _cast(f"{name}/rounded", inner, FLOAT)]
    nodes += [_cast(_inner(value.name), value.name, HALF) for value in graph.output if value.name in borders]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.ClearField("value_info")
    return copy


def _inner(name: str) -> str:
    return f"{name}/float32"


def _cast(source: str, name: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [name], name=f"{name}/cast", to=to)


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == HALF:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))

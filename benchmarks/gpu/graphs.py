"""Surgery on the shipped graphs: wider networks in them, and the text's words cut from its arithmetic."""

from typing import NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.utils import Extractor

WIDE = 512
"""Units of each hidden layer of the wider variant."""

_SEED = 0
"""Of the weights: any, since no kernel looks at their values."""


class Halves(NamedTuple):
    """A graph in two: what must run on the CPU, and what need not."""

    front: bytes
    network: bytes
    outputs: tuple[str, ...]
    """Of the whole, in order; each is an output of one of the two."""


def widened(model: bytes, units: int = WIDE) -> bytes:
    """The same graph with `units` units in each hidden layer, and weights drawn at random.

    Weights are drawn as He et al. 2015 ("Delving Deep into Rectifiers", section 2.2) start them, so that values stay
    of one size from layer to layer; biases are 0. What it computes means nothing, how fast it does so does: time does
    not depend on the weights' values.

    Args:
        model: a graph of dense layers one after the other, each a MatMul with a matrix [inputs, units] and an Add.
        units: of each hidden layer; the last keeps its own.

    Raises:
        ValueError: it has no such layers, or fewer than two.
    """
    proto = onnx.load_from_string(model)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    kernels = [node.input[1] for node in proto.graph.node if node.op_type == "MatMul" and node.input[1] in tensors]
    if len(kernels) < 2 or any(len(tensors[name].dims) != 2 for name in kernels):
        raise ValueError("the graph is not one of dense layers one after the other")
    biases = [_bias(proto, name, set(tensors)) for name in kernels]
    random = np.random.default_rng(_SEED)
    width = int(tensors[kernels[0]].dims[0])
    for name, bias in zip(kernels, biases, strict=True):
        wide = int(tensors[name].dims[1]) if name == kernels[-1] else units
        values = random.normal(0.0, np.sqrt(2 / width), (width, wide)).astype(np.float32)
        tensors[name].CopyFrom(numpy_helper.from_array(values, name))
        tensors[bias].CopyFrom(numpy_helper.from_array(np.zeros(wide, np.float32), bias))
        width = wide
    del proto.graph.value_info[:]
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


def cuts(model: bytes) -> dict[str, str]:
    """Where a text graph can be cut in two, as names of tensors; none in a graph that takes no text.

    `words`: the ids of the words, 8 bytes a word, the first that is no text. `matrix`: the multi-hot matrix, 40 kB a
    row, in graphs that have one.
    """
    graph = onnx.load_from_string(model).graph
    weights = {tensor.name for tensor in graph.initializer}
    lookups = [node for node in graph.node if node.op_type == "LabelEncoder"]
    strings = [node for node in lookups if any(one.name == "keys_strings" for one in node.attribute)]
    if not strings:
        return {}
    found = {"words": strings[0].output[0]}
    products = [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    return {**found, "matrix": products[0].input[0]} if products else found


def split(model: bytes, tensor: str) -> Halves:
    """Cut a graph at `tensor`: what comes before it, and what needs it.

    Outputs that don't need it are computed by the first.

    Raises:
        ValueError: there is no such tensor, or a node behind it takes text.
    """
    proto = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
    graph = proto.graph
    made_by = next((node for node in graph.node if tensor in node.output), None)
    if made_by is None:
        raise ValueError(f"no node makes {tensor}")
    # The words' number is asked of the words themselves, which are text; there are as many ids.
    if made_by.op_type == "LabelEncoder":
        for node in graph.node:
            if node.op_type == "Shape" and node.input[0] == made_by.input[0]:
                node.input[0] = tensor
    outputs = [one.name for one in graph.output]
    behind = {tensor}
    for node in graph.node:
        if behind & set(node.input):
            behind.update(node.output)
    later = [name for name in outputs if name in behind]
    given = [one.name for one in graph.input]
    extractor = Extractor(proto)
    front = extractor.extract_model(given, [tensor, *(name for name in outputs if name not in behind)])
    network = extractor.extract_model([tensor, *given], later)
    for half in (front, network):
        _drop_unused_inputs(half)
    strings = [one.name for one in network.graph.input if one.type.tensor_type.elem_type == onnx.TensorProto.STRING]
    if strings:
        raise ValueError(f"what is behind {tensor} still takes the text {', '.join(strings)}")
    return Halves(bytes(front.SerializeToString()), bytes(network.SerializeToString()), tuple(outputs))


def _bias(proto: onnx.ModelProto, kernel: str, weights: set[str]) -> str:
    [product] = [node for node in proto.graph.node if kernel in node.input]
    for node in proto.graph.node:
        if node.op_type == "Add" and product.output[0] in node.input:
            return next(name for name in node.input if name in weights)
    raise ValueError(f"nothing is added behind {kernel}")


def _drop_unused_inputs(proto: onnx.ModelProto) -> None:
    used = {name for node in proto.graph.node for name in node.input}
    kept = [one for one in proto.graph.input if one.name in used]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)

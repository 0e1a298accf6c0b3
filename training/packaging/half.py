"""Half precision: a package's graph, made to compute in float16 where a GPU's tensor cores gain by it.

What gains is products with weights, and what lies between them: half as many bytes travel, and tensor cores multiply
float16 several times as fast as float32 and add up in float32. All else keeps float32: inputs and outputs, so that
clients see the same tensors; what comes before the first product (text, counts, the scaling of raw features); the last
layer, as in training (`training.precision`; Micikevicius et al., Mixed Precision Training, ICLR 2018); and operators
that half precision is too narrow for.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, checker, numpy_helper, shape_inference
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from training.errors import ExportError, one_line

LARGEST = float(np.finfo(np.float16).max)
"""65,504 (IEEE 754 binary16)."""

PRODUCTS = {"Conv", "ConvTranspose", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "RNN"}
SENSITIVE = {
    *("Acos", "Asin", "BatchNormalization", "Cosh", "Div", "Erf", "Exp", "GroupNormalization", "Log", "LogSoftmax"),
    *("InstanceNormalization", "LayerNormalization", "LpNormalization", "Mean", "MeanVarianceNormalization", "Pow"),
    *("Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd"),
    *("ReduceSum", "ReduceSumSquare", "Sinh", "Softmax", "Softplus", "Sqrt", "Sum", "Tan"),
}
"""ONNX's names for what PyTorch's autocast keeps in float32, and the normalisations ("CUDA Ops that can autocast to
float32", pytorch.org/docs/stable/amp.html)."""
MOVING = {"Concat", "ConstantOfShape", "Expand", "Flatten", "Identity", "Reshape", "ScatterElements", "Slice"}
MOVING |= {"Squeeze", "Transpose", "Unsqueeze"}
"""Rounding before these is rounding after them."""


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with its products in float16, of the same inputs and outputs. The same graph, the same bytes.

    Args:
        model: a package's graph; it is left as it was.

    Raises:
        ExportError: nothing in it gains, it has float16 already, it holds a number that float16 has not, or a loop, or
            it keeps weights elsewhere or sparse.
    """
    name = model.graph.name
    if has_half(model):
        raise ExportError(f"{name} is float16 already, wholly or in part: expected float32")
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ExportError(f"{name} keeps its weights in another file: expected a graph that holds them itself")
    if model.graph.sparse_initializer:
        raise ExportError(f"{name} keeps weights as sparse tensors: expected dense ones")
    model = _named(model)
    if looped := sorted({node.op_type for node in model.graph.node if any(_graphs(node))}):
        raise ExportError(
            f"{name}: {', '.join(looped)} can't be made float16: expected layers that need no loop or branch"
        )
    chosen = _chosen(model)
    if not chosen:
        raise ExportError(f"{name}: nothing in it multiplies with weights in float32, so float16 gains nothing")
    apart = _apart(model, chosen)
    _check_range(apart, chosen)
    kept = [node.name for node in apart.graph.node if node.name not in chosen]
    known = {node.name for node in model.graph.node}
    try:
        converted: onnx.ModelProto = convert_float_to_float16(
            apart, keep_io_types=True, op_block_list=[], node_block_list=kept, max_finite_val=LARGEST
        )
        _straighten(converted.graph, known)
        converted.graph.ClearField("value_info")
        checker.check_model(converted, full_check=True)
    except Exception as error:  # of a graph that is odd the converter says anything
        raise ExportError(f"{name}: can't be made float16: {one_line(error)}") from error
    return converted


def has_half(model: onnx.ModelProto) -> bool:
    """Whether anything in `model` is float16."""
    graph = model.graph
    types = {tensor.data_type for tensor in graph.initializer}
    types |= {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    for each in (attribute for node in graph.node for attribute in node.attribute):
        types |= {each.t.data_type} | ({each.i} if each.name in ("to", "dtype") else set())
    return TensorProto.FLOAT16 in types


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model`, or a copy of it in which every node has a name of its own."""
    if len({node.name for node in model.graph.node}) == len(model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for place, node in enumerate(copy.graph.node):
        node.name = f"{node.op_type}_{place}"
    return copy


def _chosen(model: onnx.ModelProto) -> set[str]:
    """The names of the nodes that are to compute in float16."""
    nodes = list(model.graph.node)
    tables = {tensor.name for tensor in model.graph.initializer if _is_float(tensor) and len(tensor.dims) > 1}
    inferred = shape_inference.infer_shapes(model).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    types = {tensor.name: tensor.data_type for tensor in inferred.initializer}
    types |= {value.name: value.type.tensor_type.elem_type for value in values}
    # Left alone: other types of number, and other people's operators, of which nothing says what they take.
    foreign = {
        node.name
        for node in nodes
        if node.domain or TensorProto.DOUBLE in {types.get(tensor) for tensor in (*node.input, *node.output)}
    }
    products = {
        node.name
        for node in nodes
        if (
            node.op_type in PRODUCTS
            and node.name not in foreign
            and types.get(node.output[0], TensorProto.FLOAT) == TensorProto.FLOAT
        )
        or (node.op_type == "Gather" and node.input[0] in tables)
    }
    maker = {output: node.name for node in nodes for output in node.output}
    sources = {node.name: {maker[tensor] for tensor in node.input if tensor in maker} for node in nodes}
    readers: dict[str, set[str]] = {node.name: set() for node in nodes}
    for node in nodes:
        for source in sources[node.name]:
            readers[source].add(node.name)
    behind: set[str] = set()  # a product comes before
    for node in nodes:
        if sources[node.name] & (behind | products):
            behind.add(node.name)
    ahead: set[str] = set()  # a product comes after
    for node in reversed(nodes):
        if readers[node.name] & (ahead | products):
            ahead.add(node.name)
    sensitive = SENSITIVE | set(DEFAULT_OP_BLOCK_LIST)
    chosen = {
        node.name
        for node in nodes
        if (node.name in products and (node.name in ahead or node.name not in behind))
        or (node.name in ahead & behind and node.name not in products | foreign and node.op_type not in sensitive)
    }
    for node in reversed(nodes):
        adds = any(attribute.name == "reduction" and attribute.s != b"none" for attribute in node.attribute)
        if node.op_type in MOVING and not adds and readers[node.name] and readers[node.name] <= chosen:
            chosen.add(node.name)
    return chosen


def _apart(model: onnx.ModelProto, chosen: set[str]) -> onnx.ModelProto:
    """A copy of `model` in which no number is shared between the nodes `chosen` and the rest."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    numbers = {tensor.name: tensor for tensor in copy.graph.initializer if _is_float(tensor)}
    others = {tensor for node in copy.graph.node if node.name not in chosen for tensor in node.input}
    taken = {tensor for node in copy.graph.node for tensor in (*node.input, *node.output)}
    names: dict[str, str] = {}
    for node in copy.graph.node:
        for place, tensor in enumerate(node.input):
            if node.name in chosen and tensor in numbers and tensor in others:
                if tensor not in names:
                    names[tensor] = f"{tensor}_half"
                    while names[tensor] in taken:
                        names[tensor] += "_"
                    copy.graph.initializer.add().CopyFrom(numbers[tensor])
                    copy.graph.initializer[-1].name = names[tensor]
                node.input[place] = names[tensor]
    return copy


def _check_range(model: onnx.ModelProto, chosen: set[str]) -> None:
    """See that float16 has every number that the nodes `chosen` hold: the converter would cut off silently."""
    numbers = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.name in chosen:
            own = [
                (f"{node.name}.{each.name}", each.t) for each in node.attribute if each.type == AttributeProto.TENSOR
            ]
            for name, tensor in [*((name, numbers[name]) for name in node.input if name in numbers), *own]:
                if not _is_float(tensor):
                    continue
                largest = np.abs(numpy_helper.to_array(tensor)).max(initial=0)
                if not np.isfinite(largest):
                    raise ExportError(f"{model.graph.name}: {name} holds {largest:g}: expected finite numbers")
                if largest > LARGEST:
                    raise ExportError(
                        f"{model.graph.name}: {name} holds {largest:g}, and float16 ends at {LARGEST:,.0f}: expected "
                        "smaller weights, or float32"
                    )


def _straighten(graph: onnx.GraphProto, known: set[str]) -> None:
    """Take out what the converter puts between any two nodes that keep float32, to float16 and back; sort the rest.

    Such a way there and back would round what is to stay as it is, and make large raw features infinite.
    """
    made: dict[str, onnx.NodeProto] = {output: node for node in graph.node for output in node.output}
    same = {}  # tensors that are another one there and back
    for node in graph.node:
        if node.name not in known and node.attribute[0].i == TensorProto.FLOAT:
            before = made.get(node.input[0])
            if before is not None and before.name not in known and before.op_type == "Cast":
                same[node.output[0]] = before.input[0]
    for given in graph.output:
        if given.name in same:
            # Nobody else may keep the old name of what the graph now gives itself.
            old = same.pop(given.name)
            same |= {name: given.name for name, source in same.items() if source == old} | {old: given.name}
            producer = made[old]
            producer.output[list(producer.output).index(old)] = given.name
            del made[given.name].output[:]
    for node in graph.node:
        for place, tensor in enumerate(node.input):
            node.input[place] = same.get(tensor, tensor)
    made = {output: node for node in graph.node for output in node.output}
    ordered: list[onnx.NodeProto] = []
    done = {"", *(given.name for given in graph.input), *(tensor.name for tensor in graph.initializer)}

    def add(tensor: str) -> None:
        if tensor not in done:
            node = made[tensor]
            for each in node.input:
                add(each)
            done.update(node.output)
            ordered.append(node)

    for node in (node for node in graph.node if node.name in known):
        for tensor in node.output:
            add(tensor)
    for given in graph.output:
        add(given.name)
    # The converter renames what keeps float32; where its own name is free again it gets that back.
    given_out = {given.name for given in graph.output}
    names = {
        tensor: tensor if tensor in given_out else tensor.removesuffix("_cast_to_fp16")
        for node in ordered
        for tensor in node.output
    }
    taken = {tensor for tensor, name in names.items() if tensor == name}
    copies = []
    for node in ordered:
        copies.append(copy := onnx.NodeProto())
        copy.CopyFrom(node)
        for tensors in (copy.input, copy.output):
            for place, tensor in enumerate(tensors):
                if (name := names.get(tensor, tensor)) not in taken:
                    tensors[place] = name
    del graph.node[:]
    graph.node.extend(copies)


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _is_float(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT

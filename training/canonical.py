"""Canonical form of an ONNX graph: names and order that follow from what it computes, not from how it was made.

A converter numbers things as it meets them, so the same network converted twice gives different bytes. Walking back
from the outputs meets every node in an order that depends on the graph alone.
"""

import onnx
from onnx import TensorProto, defs, helper

from training.errors import ExportError


def canonical(model: onnx.ModelProto, prefix: str, output: str, widths: tuple[int, int]) -> onnx.ModelProto:
    """`model`, a network with one input and one output, renamed and reordered; unused initialisers are gone.

    Args:
        model: float32 [N, widths[0]] in, [N, widths[1]] out; it is left as it was.
        prefix: goes before all names: the input becomes `<prefix>/input`, the first MatMul `<prefix>/MatMul_1`, its
            weights `<prefix>/MatMul_1.B` (ONNX's own name for that operand).
        output: the output's name, without prefix.
        widths: of the input and of the output.

    Raises:
        ExportError: the graph isn't one input, one output and plain nodes between them.
    """
    graph = model.graph
    if len(graph.input) != 1 or len(graph.output) != 1:
        raise ExportError(f"expected one input and one output, got {len(graph.input)} and {len(graph.output)}")
    producers = {output: node for node in graph.node for output in node.output}
    initialisers = {tensor.name: tensor for tensor in graph.initializer}
    opsets = {opset.domain: opset.version for opset in model.opset_import}

    names = {"": "", graph.input[0].name: f"{prefix}/input"}  # "" is an optional operand left out
    nodes: list[onnx.NodeProto] = []
    kept: list[onnx.TensorProto] = []
    counts: dict[str, int] = {}

    def visit(node: onnx.NodeProto) -> None:
        """Name what `node` reads, then `node` itself: operands come before it, in the order in which it takes them."""
        if any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute):
            raise ExportError(f"{node.op_type} holds a graph of its own; only plain nodes have a canonical form")
        for operand in node.input:
            if operand not in names and operand in producers:
                visit(producers[operand])
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
        name = f"{prefix}/{node.op_type}_{counts[node.op_type]}"
        operands = defs.get_schema(node.op_type, opsets[node.domain], node.domain).inputs
        for position, operand in enumerate(node.input):
            if operand not in names:
                tensor = onnx.TensorProto()
                tensor.CopyFrom(initialisers[operand])
                # A variadic operator names its last operand once for all that follow.
                tensor.name = f"{name}.{operands[position].name if position < len(operands) else position}"
                tensor.ClearField("doc_string")
                names[operand] = tensor.name
                kept.append(tensor)
        for position, output in enumerate(node.output):
            names[output] = f"{name}:{position}" if position else name
        copy = helper.make_node(node.op_type, [], [], name=name, domain=node.domain)
        copy.input.extend(names[operand] for operand in node.input)
        copy.output.extend(names[output] for output in node.output)
        copy.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
        nodes.append(copy)

    last = producers[graph.output[0].name]
    visit(last)
    nodes[-1].output[list(last.output).index(graph.output[0].name)] = output
    return helper.make_model(
        helper.make_graph(
            nodes,
            prefix,
            [helper.make_tensor_value_info(f"{prefix}/input", TensorProto.FLOAT, ["N", widths[0]])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", widths[1]])],
            kept,
        ),
        opset_imports=sorted(model.opset_import, key=lambda opset: opset.domain),
        ir_version=model.ir_version,
    )

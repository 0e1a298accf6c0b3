"""Canonical form of an ONNX graph: names and order that follow from what it computes, not from how it was made.

A converter numbers things as it meets them, so the same network converted twice gives different bytes. Walking back
from the outputs meets every node in an order that depends on the graph alone. Identity nodes, which a converter puts
where it likes, are taken out, and put back only where a tensor is given out twice or was only passed on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import defs, helper

from training.errors import ExportError


@dataclass(frozen=True)
class Tensor:
    """An input or output of the canonical graph."""

    name: str
    element_type: int
    """ONNX's number for it, such as `TensorProto.FLOAT`."""
    shape: tuple[str | int, ...]
    """Sizes; a named axis is a string."""


def canonical(
    model: onnx.ModelProto, prefix: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> onnx.ModelProto:
    """`model` renamed and reordered; unused initialisers and nodes are gone.

    Args:
        model: a network; it is left as it was.
        prefix: goes before the names of all that is inside: the first MatMul is `<prefix>/MatMul_1`, its weights
            `<prefix>/MatMul_1.B` (ONNX's own name for that operand).
        inputs: what the model's inputs become, in its order.
        outputs: what its outputs become, in its order.

    Raises:
        ExportError: the graph has another number of inputs or outputs, or reads what nothing in it makes.
    """
    graph = model.graph
    if (len(graph.input), len(graph.output)) != (len(inputs), len(outputs)):
        raise ExportError(
            f"expected {len(inputs)} inputs and {len(outputs)} outputs, got {len(graph.input)} and {len(graph.output)}"
        )
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    taken = {given.name: tensor.name for given, tensor in zip(graph.input, inputs, strict=True)}
    scope = _Scope(graph, prefix, taken, opsets, None)
    scope.give([tensor.name for tensor in outputs])
    return helper.make_model(
        helper.make_graph(
            scope.nodes,
            prefix,
            [helper.make_tensor_value_info(tensor.name, tensor.element_type, tensor.shape) for tensor in inputs],
            [helper.make_tensor_value_info(tensor.name, tensor.element_type, tensor.shape) for tensor in outputs],
            scope.kept,
        ),
        opset_imports=sorted(model.opset_import, key=lambda opset: opset.domain),
        ir_version=model.ir_version,
    )


class _Scope:
    """One graph being named: the model's, or the body of a loop, which may read what the graphs around it compute."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        prefix: str,
        taken: Mapping[str, str],
        opsets: Mapping[str, int],
        outer: "_Scope | None",
    ) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.kept: list[onnx.TensorProto] = []
        self._graph, self._prefix, self._opsets, self._outer = graph, prefix, opsets, outer
        self._same = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
        self._producers = {output: node for node in graph.node for output in node.output if output not in self._same}
        self._initialisers = {tensor.name: tensor for tensor in graph.initializer}
        self._names = {"": "", **taken}  # "" is an optional operand left out
        self._fixed: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def give(self, wanted: Sequence[str] = ()) -> list[str]:
        """Name the graph's outputs, all that they are computed from named before; `wanted` names are theirs, if any."""
        sources = [self._origin(output.name) for output in self._graph.output]
        owned = [source in self._producers and source not in sources[:place] for place, source in enumerate(sources)]
        self._fixed = {source: name for source, name, own in zip(sources, wanted, owned, strict=False) if own}
        given = []
        for place, (source, own) in enumerate(zip(sources, owned, strict=True)):
            name = self.need(source)
            if not own:
                node = self._count("Identity")
                output = wanted[place] if wanted else node
                self.nodes.append(helper.make_node("Identity", [name], [output], name=node))
                name = output
            given.append(name)
        return given

    def need(self, tensor: str) -> str:
        """The name of `tensor`, all that it is computed from named before it, operands in the order of their use."""
        tensor = self._origin(tensor)
        if tensor not in self._names:
            if tensor in self._producers:
                self._walk(self._producers[tensor])
            elif tensor in self._initialisers:
                self._keep(tensor, self._count("constant"))
            elif self._outer is not None:
                self._names[tensor] = self._outer.need(tensor)
            else:
                raise ExportError(f"the graph reads {tensor}, which nothing in it makes")
        return self._names[tensor]

    def _origin(self, tensor: str) -> str:
        while tensor in self._same:
            tensor = self._same[tensor]
        return tensor

    def _walk(self, last: onnx.NodeProto) -> None:
        waiting = [last]  # not by recursion: networks are deeper than Python's stack
        while waiting:
            node = waiting[-1]
            unnamed = (operand for operand in map(self._origin, node.input) if operand not in self._names)
            before = next((operand for operand in unnamed if operand in self._producers), None)
            if before is not None:
                waiting.append(self._producers[before])
            else:
                self._add(node)
                waiting.pop()

    def _add(self, node: onnx.NodeProto) -> None:
        name = self._count(node.op_type)
        operands = defs.get_schema(node.op_type, self._opsets[node.domain], node.domain).inputs
        for position, operand in enumerate(map(self._origin, node.input)):
            if operand not in self._names and operand in self._initialisers:
                # A variadic operator names its last operand once for all that follow.
                self._keep(operand, f"{name}.{operands[position].name if position < len(operands) else position}")
        copy = helper.make_node(node.op_type, [], [], name=name, domain=node.domain)
        copy.input.extend(self.need(operand) for operand in node.input)
        for attribute in sorted(node.attribute, key=lambda attribute: attribute.name):
            added = copy.attribute.add()
            added.CopyFrom(attribute)
            if attribute.type == onnx.AttributeProto.GRAPH:
                added.g.CopyFrom(self._body(attribute.g, f"{name}/{attribute.name}"))
        for position, output in enumerate(node.output):
            self._names[output] = self._fixed.get(output) or (f"{name}:{position}" if position else name)
        self._names[""] = ""  # a node may leave an output out, too
        copy.output.extend(self._names[output] for output in node.output)
        self.nodes.append(copy)

    def _body(self, graph: onnx.GraphProto, prefix: str) -> onnx.GraphProto:
        """The graph that a node of this one holds."""
        taken = {given.name: f"{prefix}/input_{number}" for number, given in enumerate(graph.input, start=1)}
        scope = _Scope(graph, prefix, taken, self._opsets, self)
        outputs = [_renamed(output, name) for output, name in zip(graph.output, scope.give(), strict=True)]
        inputs = [_renamed(given, taken[given.name]) for given in graph.input]
        return helper.make_graph(scope.nodes, prefix, inputs, outputs, scope.kept)

    def _count(self, kind: str) -> str:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return f"{self._prefix}/{kind}_{self._counts[kind]}"

    def _keep(self, tensor: str, name: str) -> None:
        copy = onnx.TensorProto()
        copy.CopyFrom(self._initialisers[tensor])
        copy.name = name
        copy.ClearField("doc_string")
        self._names[tensor] = name
        self.kept.append(copy)


def _renamed(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    """`value` under another name, without the names of its axes, which are the converter's."""
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    copy.name = name
    copy.ClearField("doc_string")
    for size in copy.type.tensor_type.shape.dim:
        size.ClearField("dim_param")
    return copy

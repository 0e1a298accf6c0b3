"""Rules that a graph must keep before ONNX Runtime sees it: nothing from outside, nothing that explodes.

Walks the wire format of a ModelProto (onnx.proto of the ONNX repository, the numbers of whose fields are here): the
library that parses it is no part of a running server. Anything odd that does no harm is left to ONNX Runtime.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from serving.package.manifest import MODEL
from serving.repository.disk import LoadError
from serving.repository.rules.growth import Attribute, Node, Scope, Span, constant_of, grows, made
from serving.repository.rules.tensors import refuse, size, sparse_tensor, tensor, text
from serving.repository.rules.wire import LENGTH, VARINT, MalformedError, Wire

MAX_MADE_BYTES: Final = 1024**3
"""What nodes may make out of constants, all together. A lower bound is held against it; the trial finds the rest."""
MAX_NESTING: Final = 16
"""Graphs within graphs, as of If and Loop."""
MAX_CALLS: Final = 64
"""Functions that call functions."""
MAX_NODES: Final = 1_000_000
"""Nodes once every call of a function is replaced by its body, as ONNX Runtime does it."""

DOMAINS: Final = frozenset({b"", b"ai.onnx", b"ai.onnx.ml", b"com.microsoft"})
"""Whose operators may be used, besides the model's own functions."""

_COMPILED: Final = b"EPContext"
"""An operator of com.microsoft that runs whatever some other program has compiled."""

# The tag of a field is its number and wire type.
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTION = 7 << 3 | LENGTH, 20 << 3 | LENGTH, 25 << 3 | LENGTH
_TRAINING_GRAPHS: Final = frozenset({1 << 3 | LENGTH, 2 << 3 | LENGTH})
_GRAPH_NODE, _GRAPH_TENSOR, _GRAPH_SPARSE = 1 << 3 | LENGTH, 5 << 3 | LENGTH, 15 << 3 | LENGTH
_FUNCTION_NAME, _FUNCTION_NODE, _FUNCTION_DOMAIN = 1 << 3 | LENGTH, 7 << 3 | LENGTH, 10 << 3 | LENGTH
_FUNCTION_ATTRIBUTE = 11 << 3 | LENGTH
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OPERATOR = (number << 3 | LENGTH for number in (1, 2, 3, 4))
_NODE_ATTRIBUTE, _NODE_DOMAIN = 5 << 3 | LENGTH, 7 << 3 | LENGTH
_NAME, _TENSOR, _GRAPH, _TENSORS = 1 << 3 | LENGTH, 5 << 3 | LENGTH, 6 << 3 | LENGTH, 10 << 3 | LENGTH
_INT, _INTS, _PACKED_INTS = 3 << 3 | VARINT, 8 << 3 | VARINT, 8 << 3 | LENGTH
_GRAPHS, _SPARSE, _SPARSES = 11 << 3 | LENGTH, 22 << 3 | LENGTH, 23 << 3 | LENGTH
_ATTRIBUTE_RUNS: Final = frozenset({7 << 3 | 5, _INTS, 9 << 3 | LENGTH})
"""Lists of numbers and strings: a vocabulary has its words there."""

_MAX_INTS: Final = 64
"""Of longer lists the values do not matter: none is a shape."""

Key = tuple[bytes, bytes]
"""Domain and name of an operator."""


@dataclass
class _Body:
    """What is called from somewhere: operators, and how often."""

    nodes: int = 0
    calls: Counter[Key] = field(default_factory=Counter)


def check(model: bytes) -> None:
    """Hold a serialised model against the rules.

    Raises:
        LoadError: `load_error`, saying which tensor or node breaks which rule.
    """
    try:
        _Check(model).model()
    except MalformedError as error:
        raise LoadError("load_error", f"ONNX Runtime can't load it: {MODEL} is no ONNX model, {error}") from error


def _key(domain: bytes, operator: bytes) -> Key:
    return b"" if domain == b"ai.onnx" else domain, operator


class _Check:
    def __init__(self, model: bytes) -> None:
        self._wire = Wire(model)
        self._functions: dict[Key, _Body] = {}
        self._made = 0

    def model(self) -> None:
        functions: list[Span] = []
        training: list[Span] = []
        graphs: list[Span] = []
        for tag, start, stop, _ in self._wire.fields(0, len(self._wire.data)):
            if tag == _MODEL_GRAPH:
                graphs.append((start, stop))
            elif tag == _MODEL_FUNCTION:
                functions.append((start, stop))
            elif tag == _MODEL_TRAINING:
                training.append((start, stop))
        if len(graphs) != 1:
            # A parser merges graphs that follow one another: each would have to be judged together with the others.
            raise MalformedError(f"for it has {len(graphs) or 'no'} graph{'s' if graphs else ''}")
        bodies = [(self._function_key(*span), span) for span in functions]
        self._functions = {key: _Body() for key, _ in bodies}
        for key, span in bodies:
            self._function(key, *span)
        main = _Body()
        self._graph(*graphs[0], None, main, 1)
        for start, stop in training:
            for tag, begin, end, _ in self._wire.fields(start, stop):
                if tag in _TRAINING_GRAPHS:
                    self._graph(begin, end, None, _Body(), 1)
        if self._nodes_of(main, {}, []) > MAX_NODES:
            raise refuse(f"its functions call one another until there are more than {MAX_NODES} nodes")

    def _function_key(self, start: int, stop: int) -> Key:
        found = {_FUNCTION_NAME: b"", _FUNCTION_DOMAIN: b""}
        for tag, begin, end, _ in self._wire.fields(start, stop):
            if tag in found:
                found[tag] = self._wire.data[begin:end]
        return _key(found[_FUNCTION_DOMAIN], found[_FUNCTION_NAME])

    def _function(self, key: Key, start: int, stop: int) -> None:
        scope, nodes = Scope(), list[Span]()
        for tag, begin, end, _ in self._wire.fields(start, stop):
            if tag == _FUNCTION_NODE:
                nodes.append((begin, end))
            elif tag == _FUNCTION_ATTRIBUTE:
                self._subgraphs(self._attribute(begin, end), scope, self._functions[key], 1)
        self._nodes(nodes, scope, self._functions[key], 1)

    def _graph(self, start: int, stop: int, outer: Scope | None, body: _Body, depth: int) -> None:
        if depth > MAX_NESTING:
            raise refuse(f"graphs within graphs, more than {MAX_NESTING} deep")
        scope, nodes = Scope(outer), list[Span]()
        for tag, begin, end, _ in self._wire.fields(start, stop):
            if tag == _GRAPH_NODE:
                nodes.append((begin, end))
            elif tag == _GRAPH_TENSOR:
                name, constant = tensor(self._wire, begin, end)
                scope.constants[name] = constant
            elif tag == _GRAPH_SPARSE:
                sparse_tensor(self._wire, begin, end)
        self._nodes(nodes, scope, body, depth)

    def _nodes(self, spans: Iterable[Span], scope: Scope, body: _Body, depth: int) -> None:
        later: list[Node] = []  # what depends on constants, which may stand behind
        for span in spans:
            node = self._node(*span)
            key = _key(node.domain, node.operator)
            body.nodes += 1
            if key in self._functions:
                body.calls[key] += 1
            elif node.domain not in DOMAINS:
                raise refuse(f"{node} is of domain {text(node.domain)}, which is none that is known")
            elif node.operator == _COMPILED:
                raise refuse(f"{node} may hold anything, and is not served")
            if node.operator == b"Constant" and node.outputs:
                if (constant := constant_of(node)) is not None:
                    scope.constants[node.outputs[0]] = constant
            elif grows(node) or any(attribute.graphs for attribute in node.attributes.values()):
                later.append(node)
        for node in later:
            self._made += (growth := made(node, scope))
            if self._made > MAX_MADE_BYTES:
                raise refuse(
                    f"{node} makes {size(growth)} or more out of constants; the limit is {size(MAX_MADE_BYTES)}"
                )
            for attribute in node.attributes.values():
                self._subgraphs(attribute, scope, body, depth)

    def _subgraphs(self, attribute: Attribute, scope: Scope, body: _Body, depth: int) -> None:
        for span in attribute.graphs:
            self._graph(*span, scope, body, depth + 1)

    def _node(self, start: int, stop: int) -> Node:
        node, data = Node(), self._wire.data
        for tag, begin, end, _ in self._wire.fields(start, stop):
            if tag == _NODE_INPUT:
                node.inputs.append(data[begin:end])
            elif tag == _NODE_OUTPUT:
                node.outputs.append(data[begin:end])
            elif tag == _NODE_NAME:
                node.name = data[begin:end]
            elif tag == _NODE_OPERATOR:
                node.operator = data[begin:end]
            elif tag == _NODE_DOMAIN:
                node.domain = data[begin:end]
            elif tag == _NODE_ATTRIBUTE:
                attribute = self._attribute(begin, end)
                if attribute.name in node.attributes:
                    raise refuse(f"{node} has attribute {text(attribute.name)} twice")
                node.attributes[attribute.name] = attribute
        return node

    def _attribute(self, start: int, stop: int) -> Attribute:
        wire, attribute, ints, seen = self._wire, Attribute(), list[int](), set[int]()
        for tag, begin, end, count in wire.fields(start, stop, _ATTRIBUTE_RUNS):
            if tag in (_TENSOR, _GRAPH, _SPARSE):
                if tag in seen:  # a parser would merge them
                    raise refuse(f"attribute {text(attribute.name)} has two values")
                seen.add(tag)
            if tag == _NAME:
                attribute.name = wire.data[begin:end]
            elif tag == _TENSOR:
                attribute.tensor = tensor(wire, begin, end)[1]
            elif tag == _TENSORS:
                tensor(wire, begin, end)
            elif tag in (_SPARSE, _SPARSES):
                sparse_tensor(wire, begin, end)
            elif tag in (_GRAPH, _GRAPHS):
                attribute.graphs.append((begin, end))
            elif tag == _INT:
                ints.append(wire.integer(begin, end))
            elif tag == _INTS and len(ints) + count <= _MAX_INTS:
                ints.extend(wire.integer(first, last) for _, first, last, _ in wire.fields(begin, end))
            elif tag == _PACKED_INTS and end - begin <= _MAX_INTS:
                while begin < end:
                    ints.append(wire.integer(begin, end))
                    begin = wire.varint(begin, end)[1]
        attribute.ints = tuple(ints)
        return attribute

    def _nodes_of(self, body: _Body, known: dict[Key, int], calling: list[Key]) -> int:
        """Nodes of a body with those of everything that it calls."""
        if len(calling) > MAX_CALLS:
            raise refuse(f"functions that call functions, more than {MAX_CALLS} deep")
        total = body.nodes
        for key, times in body.calls.items():
            if key in calling:
                raise refuse(f"function {text(key[1])} calls itself")
            if key not in known:
                known[key] = self._nodes_of(self._functions[key], known, [*calling, key])
            total += times * known[key]
        return total

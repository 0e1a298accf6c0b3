"""What the nodes of a graph make out of constants alone: a shape of two numbers can ask for all memory there is.

ONNX Runtime computes such nodes while it loads a graph. What is said here is a lower bound; what only turns out when
the graph runs is found by a trial.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from serving.repository.rules.tensors import Constant, text

Span = tuple[int, int]
"""Start and end of a message."""


@dataclass
class Attribute:
    """What matters of an AttributeProto."""

    name: bytes = b""
    tensor: Constant | None = None
    ints: tuple[int, ...] | None = None
    graphs: list[Span] = field(default_factory=list)


@dataclass
class Node:
    """What matters of a NodeProto."""

    name: bytes = b""
    operator: bytes = b""
    domain: bytes = b""
    inputs: list[bytes] = field(default_factory=list)
    outputs: list[bytes] = field(default_factory=list)
    attributes: dict[bytes, Attribute] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"node {text(self.name or b', '.join(self.outputs))} ({text(self.operator)})"


@dataclass
class Scope:
    """The constants that a graph sees: its own, and those of the graphs around it."""

    outer: "Scope | None" = None
    constants: dict[bytes, Constant] = field(default_factory=dict)

    def get(self, name: bytes) -> Constant | None:
        """The constant of a name, or None for what is none."""
        found = self.constants.get(name)
        return found if found is not None or self.outer is None else self.outer.get(name)


def constant_of(node: Node) -> Constant | None:
    """The value of a Constant node, if it is a tensor or integers."""
    if (attribute := node.attributes.get(b"value")) and attribute.tensor:
        return attribute.tensor
    for name in (b"value_int", b"value_ints"):
        if (attribute := node.attributes.get(name)) and attribute.ints:
            return Constant(8 * len(attribute.ints), 8, attribute.ints)
    return None


def grows(node: Node) -> bool:
    """Is it one of the operators that `made` knows?"""
    return node.operator in _MAKERS


def made(node: Node, scope: Scope) -> int:
    """Bytes that a node makes at least; 0 where that depends on more than constants."""
    maker = _MAKERS.get(node.operator)
    return maker(node, scope) if maker else 0


Maker = Callable[[Node, Scope], int]


def _given(node: Node, scope: Scope, index: int) -> Constant | None:
    return scope.get(node.inputs[index]) if index < len(node.inputs) else None


def _values(node: Node, scope: Scope, index: int) -> tuple[int, ...]:
    """The integers of a constant input, or none."""
    found = _given(node, scope, index)
    return (found.values or ()) if found else ()


def _product(sizes: tuple[int, ...]) -> int:
    """Elements of a shape, 0 where it is not known. What is negative stands for a size that is found out later."""
    return math.prod(max(size, 1) if size else 0 for size in sizes) if sizes else 0


def _shaped(index: int) -> Maker:
    """A tensor of the shape that an input gives, of elements that may have one byte only."""
    return lambda node, scope: _product(_values(node, scope, index))


def _filled(node: Node, scope: Scope) -> int:
    value = node.attributes.get(b"value")
    return _product(_values(node, scope, 0)) * (value.tensor.item if value and value.tensor else 4)


def _expanded_to(node: Node, scope: Scope) -> int:
    given = _given(node, scope, 0)
    return _product(_values(node, scope, 1)) * (given.item if given else 1)


def _tiled(node: Node, scope: Scope) -> int:
    given = _given(node, scope, 0)
    return _product(_values(node, scope, 1)) * (given.bytes if given else 1)


def _padded(node: Node, scope: Scope) -> int:
    attribute = node.attributes.get(b"pads")
    pads = _values(node, scope, 1) or (attribute.ints if attribute and attribute.ints else ())
    half = len(pads) // 2
    return math.prod(max(1, before + after) for before, after in zip(pads[:half], pads[half:], strict=False)) - 1


def _counted(node: Node, scope: Scope) -> int:
    start, limit, step = (_values(node, scope, index) for index in range(3))
    return 8 * max(0, -(-(limit[0] - start[0]) // step[0])) if start and limit and step and step[0] else 0


def _drawn(node: Node, scope: Scope) -> int:
    attribute = node.attributes.get(b"shape")
    return 4 * _product(attribute.ints or ()) if attribute else 0


def _weights(node: Node, scope: Scope) -> int:
    return 4 * _product(_values(node, scope, 0)[:1] + _values(node, scope, 1)[:1])


_MAKERS: Final[dict[bytes, Maker]] = {
    b"ConstantOfShape": _filled,
    b"Expand": _expanded_to,
    b"Tile": _tiled,
    b"Pad": _padded,
    b"Range": _counted,
    b"Resize": _shaped(3),
    b"OneHot": _shaped(1),
    b"CenterCropPad": _shaped(1),
    b"AffineGrid": _shaped(1),
    b"HannWindow": _shaped(0),
    b"HammingWindow": _shaped(0),
    b"BlackmanWindow": _shaped(0),
    b"MelWeightMatrix": _weights,
    b"RandomNormal": _drawn,
    b"RandomUniform": _drawn,
}

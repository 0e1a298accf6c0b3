"""Where ONNX Runtime really computed each node of a graph, from its own profile, and why some are not on the GPU."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

_TEXT = "string"
_INTEGERS = frozenset({"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})
_SUFFIX = "_kernel_time"

NO_KERNEL = frozenset({"TfIdfVectorizer", "TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor", "Unique"})
"""Operators that ONNX Runtime has for the CPU only, whatever their types."""


_SHAPE = frozenset({"Shape", "Size"})
"""Asks nothing of a tensor but its dimensions, which the host knows."""


class Node(NamedTuple):
    """A node that ran."""

    name: str
    op: str
    provider: str
    types: frozenset[str]
    """Of its inputs and outputs, as ONNX Runtime calls them: float, int64, string."""

    @property
    def excuse(self) -> str | None:
        """Why it may run on the CPU beside a GPU, or None where it should not."""
        if _TEXT in self.types:
            return "text"
        if self.op in _SHAPE:
            return "shape"
        if self.op in NO_KERNEL:
            return "no CUDA kernel"
        if self.types <= _INTEGERS:
            return "integers"  # ONNX Runtime keeps the arithmetic of shapes and positions where they are read
        return None


class Placement:
    """The nodes of one graph, each once."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes = {node.name: node for node in nodes}

    @classmethod
    def of_profile(cls, events: list[dict[str, Any]]) -> "Placement":
        """What ran while ONNX Runtime profiled; `events` are those of its file (Trace Event Format)."""
        return cls(
            Node(
                event["name"].removesuffix(_SUFFIX), event["args"]["op_name"], event["args"]["provider"], _types(event)
            )
            for event in events
            if event.get("cat") == "Node" and "provider" in event.get("args", {})
        )

    @classmethod
    def read(cls, text: str) -> "Placement":
        """The same, of the file's text."""
        return cls.of_profile(json.loads(text))

    @property
    def nodes(self) -> dict[str, Counter[str]]:
        """How many nodes of which operators ran, by provider."""
        found: dict[str, Counter[str]] = {}
        for node in self._nodes.values():
            found.setdefault(node.provider, Counter())[node.op] += 1
        return found

    def count(self, provider: str) -> int:
        """Nodes that ran there."""
        return self.nodes.get(provider, Counter()).total()

    def excuses(self, provider: str) -> dict[str, Counter[str]]:
        """Operators that did not run on `provider`, by what excuses them; those without under ""."""
        found: dict[str, Counter[str]] = {}
        for node in self._nodes.values():
            if node.provider != provider:
                found.setdefault(node.excuse or "", Counter())[node.op] += 1
        return found


def _types(event: dict[str, Any]) -> frozenset[str]:
    arguments = event["args"]
    tensors = [*arguments.get("input_type_shape", ()), *arguments.get("output_type_shape", ())]
    return frozenset(name for tensor in tensors for name in tensor)

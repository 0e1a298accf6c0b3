"""An inference request as the Open Inference Protocol has it, whatever it was written in, and what comes of it.

The gRPC and the HTTP form of the protocol make an `InferRequest` of what they read and write down an `InferResult`;
all that a request may hold and what is wrong with it is decided here, once for both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy.typing as npt

from serving.api.inference import classification, tensors
from serving.api.inference.tensors import Tensor
from serving.engine.request import Outputs, Rows
from serving.package.manifest import OutputSpec
from serving.repository.version import Version
from serving.status import invalid, shown

KNOWN_WORDS = "known_words"
"""The output of a text model that tells whether the language drifts."""


class RequestedOutput(NamedTuple):
    """An output that the caller asks for."""

    name: str
    class_count: int = 0
    """How many classes, best first, instead of the tensor itself (Triton's extension "classification"); 0: none."""
    binary: bool = False
    """Whether the HTTP form sends it as binary data; of no meaning here."""


@dataclass(slots=True)
class InferRequest:
    """One request."""

    model: str
    version: str = ""
    """A number, a label, or empty for the default."""
    id: str = ""
    inputs: Sequence[Tensor] = ()
    """Emptied by `InferForm.encode`: the rows are all that is needed while the request waits."""
    outputs: Sequence[RequestedOutput] = ()
    """None: all of the model's."""
    timeout: int = 0
    """Microseconds from arrival within which the answer is wanted; 0: no limit (extension "schedule policy")."""
    priority: int = 0
    """1, the highest, to 3; anything else stands for the default, 2 (extension "schedule policy")."""
    carried: Any = None
    """Whatever the form of the protocol wants to find again when it answers."""


class OutputTensor(NamedTuple):
    """One tensor of an answer."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: npt.NDArray[Any]
    """Of `shape`; elements of BYTES are bytes or str."""


@dataclass(slots=True)
class InferResult:
    """The answer to a request."""

    model: str
    version: str
    """The number of the version that answered."""
    id: str
    outputs: list[OutputTensor] = field(default_factory=list)
    """In the order in which they were asked for, or the model's own."""


class InferForm:
    """How requests for one model become rows of tensors, and outputs an `InferResult`: a `Form` of exchanges."""

    __slots__ = ("model",)

    def __init__(self, model: str) -> None:
        self.model = model

    def encode(self, request: InferRequest, version: Version, max_words: int) -> tuple[list[Rows], int, int]:
        """The rows of each input in the manifest's order, how many they are, and the bytes of all.

        Raises:
            StatusError: INVALID_ARGUMENT naming the input or output and the row.
        """
        wanted(request.outputs, version)
        inputs = _by_position(request.inputs, version)
        count = tensors.count_rows(inputs, version)
        classification.check(request.outputs, version, count)
        rows = [tensors.read(found, version, max_words) for found in inputs]
        request.inputs = ()
        return [column for column, _ in rows], count, sum(size for _, size in rows)

    def respond(self, request: InferRequest, version: Version, outputs: Outputs) -> Any:
        """An `InferResult`, which a form of the protocol may go on to serialise."""
        self.observe(version, outputs)
        manifest = version.manifest
        result = InferResult(manifest.name, version.label, request.id)
        for spec, class_count in wanted(request.outputs, version):
            data = outputs[version.outputs[spec.name]]
            if class_count:
                best = classification.classify(data, spec, manifest, class_count)
                result.outputs.append(OutputTensor(spec.name, "BYTES", best.shape, best))
            else:
                result.outputs.append(OutputTensor(spec.name, spec.datatype, data.shape, data))
        return result

    def observe(self, version: Version, outputs: Outputs) -> None:
        """Count what an answer tells of its texts."""
        position = version.outputs.get(KNOWN_WORDS)
        if position is not None and version.manifest.outputs[position].shape == (-1,):
            observe = version.metrics.known_words.observe
            for share in outputs[position].tolist():
                observe(share)


def wanted(asked: Sequence[RequestedOutput], version: Version) -> list[tuple[OutputSpec, int]]:
    """The outputs asked for, all where none is named, and of how many classes each.

    Raises:
        StatusError: INVALID_ARGUMENT: one is unknown, or asked for twice.
    """
    manifest = version.manifest
    if not asked:
        return [(spec, 0) for spec in manifest.outputs]
    found: dict[str, tuple[OutputSpec, int]] = {}
    for index, output in enumerate(asked):
        position = version.outputs.get(output.name)
        if position is None:
            raise invalid(
                f"outputs[{index}]: {shown(output.name)} is not an output of {manifest.name} version {version.label}, "
                f"which has: {', '.join(spec.name for spec in manifest.outputs)}"
            )
        if output.name in found:
            raise invalid(f"outputs[{index}] ({output.name}): asked for twice")
        found[output.name] = manifest.outputs[position], output.class_count
    return list(found.values())


def _by_position(given: Sequence[Tensor], version: Version) -> list[tensors.Input]:
    """The inputs in the manifest's order, each there once."""
    manifest = version.manifest
    known = {spec.name: spec for spec in manifest.inputs}
    found: dict[str, tensors.Input] = {}
    for index, tensor in enumerate(given):
        spec = known.get(tensor.name)
        if spec is None:
            has = ", ".join(f"{spec.name} ({spec.datatype} {list(spec.shape)})" for spec in manifest.inputs)
            raise invalid(
                f"inputs[{index}]: {shown(tensor.name)} is not an input of {manifest.name} version {version.label}, "
                f"which has: {has}"
            )
        if spec.name in found:
            raise invalid(f"inputs[{index}] ({spec.name}): given twice")
        found[spec.name] = tensors.Input(index, tensor, spec)
    for spec in manifest.inputs:
        if spec.name not in found:
            raise invalid(
                f"inputs: {spec.name} ({spec.datatype} {list(spec.shape)}) is missing; "
                f"{manifest.name} version {version.label} needs {len(known)}, got {len(found)}"
            )
    return [found[spec.name] for spec in manifest.inputs]

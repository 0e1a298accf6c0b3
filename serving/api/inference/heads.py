"""Requests whose like has been read before: the bytes before the tensor decide, and need no parser twice.

A ModelInferRequest of one tensor of numbers is a head (names, parameters, shape), which a client sends the same every
time but for the id in it, and the tensor's raw bytes. A message that begins with a known head and is as long as that
request was can only differ in id and tensor (Protocol Buffers, "Encoding": the head ends with the tensor's length). The
answer, too, is the same every time but for id and tensors.

Bounded, and good for the manifest it was learnt with only.
"""

from typing import Any, Final, NamedTuple

from tritonclient.grpc import service_pb2 as pb

from serving.api.fields import fields, varint
from serving.api.inference import tensors
from serving.api.inference.form import KNOWN_WORDS, InferForm, InferRequest, wanted
from serving.api.inference.messages import FINAL, Manner, write
from serving.engine.request import Outputs, Rows
from serving.repository.models import Models
from serving.repository.version import Version
from serving.status import StatusError

MAX_LENGTHS: Final = 256
"""Lengths of messages of which heads are known."""

MAX_OF_A_LENGTH: Final = 4
MAX_BYTES: Final = 1024
"""Of one head."""

_REQUEST: Final = pb.ModelInferRequest.DESCRIPTOR.fields_by_name
_RESPONSE: Final = pb.ModelInferResponse.DESCRIPTOR.fields_by_name
_ID: Final = _REQUEST["id"].number << 3 | 2
_RAW: Final = _REQUEST["raw_input_contents"].number << 3 | 2
_ANSWER_RAW: Final = bytes([_RESPONSE["raw_output_contents"].number << 3 | 2])
_ANSWER_ID: Final = bytes([_RESPONSE["id"].number << 3 | 2])
_GROUPS: Final = (3, 4)
"""Wire types of a group's ends."""


class Quick(NamedTuple):
    """All there is to know of a request whose head is known."""

    version: str
    id: bytes
    data: bytes


class Head(InferForm):
    """A head, and the form of exchanges for requests that begin with it."""

    __slots__ = (
        "_answer_before",
        "_answer_outputs",
        "_outputs",
        "_rows",
        "_spec",
        "_stop",
        "after",
        "before",
        "digest",
        "id_start",
        "id_stop",
        "priority",
        "streamed",
        "timeout",
        "version",
    )

    def __init__(self, request: InferRequest, version: Version, rows: int, places: "_Places") -> None:
        super().__init__(version.manifest.name)
        manner: Manner = request.carried
        self.id_start, self.id_stop, self._stop = places
        self.before = manner.message[: self.id_start]
        self.after = manner.message[self.id_stop : self._stop]
        self.streamed = manner.streamed
        self.version = request.version
        self.digest = version.digest
        self.timeout = request.timeout
        self.priority = request.priority
        self._rows = rows
        self._spec = version.manifest.inputs[0]
        self._outputs = request.outputs
        # The fields of an answer in their order: names, id, parameters, then what the tensors are, then the tensors.
        varies = self.id_stop > self.id_start
        self._answer_before: bytes = pb.ModelInferResponse(
            model_name=self.model, model_version=version.label, id="" if varies else request.id
        ).SerializeToString()
        if varies:
            self._answer_before += _ANSWER_ID + varint(self.id_stop - self.id_start)
        self._answer_outputs = self._prepare(version)

    def _prepare(self, version: Version) -> list[tuple[int, tuple[int, ...], bytes]]:
        """Of each output: its position, its shape, and what stands before its tensor."""
        about = pb.ModelInferResponse()
        if self.streamed:
            about.parameters[FINAL].bool_param = True
        found: list[tuple[int, tuple[int, ...], bytes]] = []
        for spec, _ in wanted(self._outputs, version):
            shape = (self._rows, *spec.shape[1:])
            about.outputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
            head = _ANSWER_RAW + varint(self._rows * tensors.width(spec))
            found.append((version.outputs[spec.name], shape, head))
        position, shape, head = found[0]
        found[0] = position, shape, about.SerializeToString() + head
        return found

    def read(self, message: bytes) -> Quick:
        """The request that a message which begins so holds."""
        return Quick(self.version, message[self.id_start : self.id_stop], message[self._stop :])

    def encode(self, request: Any, version: Version, max_words: int) -> tuple[list[Rows], int, int]:
        """All that can still be wrong is a number."""
        data: bytes = request.data
        tensors.check_values(data, self._spec, 0)
        return [data], self._rows, len(data)

    def respond(self, request: Any, version: Version, outputs: Outputs) -> bytes:
        """A ModelInferResponse."""
        parts = [self._answer_before, request.id]
        for position, shape, head in self._answer_outputs:
            data = outputs[position]
            if data.shape != shape:
                return self._respond_slowly(request, version, outputs)
            parts += (head, data.tobytes())
        return b"".join(parts)

    def _respond_slowly(self, request: Quick, version: Version, outputs: Outputs) -> bytes:
        """Whatever the graph may give."""
        plain = InferRequest(self.model, self.version, request.id.decode(), outputs=self._outputs)
        return write(super().respond(plain, version, outputs), raw=True, streamed=self.streamed)


class _Places(NamedTuple):
    """Where in a message its id begins and ends, both 0 where it is part of the head, and where its tensor begins."""

    id_start: int
    id_stop: int
    stop: int


class Heads:
    """The heads that are known, by the length of a whole message."""

    def __init__(self) -> None:
        self._by_length: dict[tuple[int, bool], list[Head]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_length.values()))

    def find(self, message: bytes, models: Models, *, streamed: bool = False) -> Head | None:
        """The head with which a message begins, where it still means what it did."""
        for head in self._by_length.get((len(message), streamed), ()):
            if (
                message.startswith(head.before)
                and message.startswith(head.after, head.id_stop)
                and message[head.id_start : head.id_stop].isascii()
            ):
                try:
                    version = models.resolve(head.model, head.version)
                except StatusError:
                    return None
                return head if version.digest == head.digest else None
        return None

    def learn(self, request: InferRequest, version: Version, rows: int) -> None:
        """Know the head of a request that was found good, if it is of that kind."""
        manner: Manner = request.carried
        manifest = version.manifest
        if not (
            manner.raw
            and len(manifest.inputs) == 1
            and manifest.inputs[0].datatype != "BYTES"
            and KNOWN_WORDS not in version.outputs
            and not any(output.class_count for output in request.outputs)
            and all(spec.datatype != "BYTES" for spec, _ in wanted(request.outputs, version))
        ):
            return
        places = _places(manner.message)
        if places is None:
            return
        head = Head(request, version, rows, places)
        key = len(manner.message), manner.streamed
        others = [
            other
            for other in self._by_length.pop(key, ())
            if (other.id_start, other.before, other.after) != (head.id_start, head.before, head.after)
        ]
        self._by_length[key] = [head, *others[: MAX_OF_A_LENGTH - 1]]
        if len(self._by_length) > MAX_LENGTHS:
            del self._by_length[next(iter(self._by_length))]


def _places(message: bytes) -> _Places | None:
    """None where the message doesn't end with its tensor, or is odd in any other way."""
    ids: list[tuple[int, int]] = []
    tag = start = stop = 0
    for tag, start, stop in fields(message, 0, len(message)):
        if start > MAX_BYTES or tag & 7 in _GROUPS:
            return None
        if tag == _ID:
            ids.append((start, stop))
    if tag != _RAW or stop != len(message):
        return None
    return _Places(*(ids[0] if len(ids) == 1 else (0, 0)), start)

"""Requests whose like has been read before: the bytes before the tensor decide, and need no parser twice.

A ModelInferRequest of one tensor is a head (names, parameters, shape), which a client sends the same every time but
for the id in it, and then the tensor's raw bytes. A message that begins with a known head and ends with its tensor
can only differ from the first in the id and the tensor (Protocol Buffers, "Encoding"), and its answer, too, differs in
no more.

Learnt are tensors of numbers, by the length of the whole message, and single texts: of more, the texts are the cost.
Bounded, and good for the manifest it was learnt with only.
"""

from typing import Any, Final, NamedTuple

from tritonclient.grpc import service_pb2 as pb

from serving.api.fields import fields, read_varint, varint
from serving.api.inference import tensors
from serving.api.inference.form import InferForm, InferRequest, wanted
from serving.api.inference.messages import FINAL, Manner, write
from serving.api.inference.tensors import Input, Tensor
from serving.engine.request import Outputs, Rows
from serving.repository.models import Models
from serving.repository.version import Version
from serving.status import StatusError

MAX_LENGTHS: Final = 256
"""Lengths of messages of which heads are known."""

MAX_OF_A_LENGTH: Final = 4
MAX_OF_TEXTS: Final = 16
"""A message that begins with none is compared with them all, which takes a microsecond."""

MAX_BYTES: Final = 1024
"""Of one head."""

_TEXTS: Final = 0
"""Stands for the length of messages that have none of their own."""

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


class Places(NamedTuple):
    """Where in a message the parts of it begin that vary."""

    id_start: int
    """The id's; 0, and so is where it ends, where there is none."""
    id_stop: int
    length: int
    """The tensor's, in bytes."""
    data: int


class Head(InferForm):
    """A head, and the form of exchanges for requests that begin with it."""

    __slots__ = (
        "_after",
        "_answer_before",
        "_answer_outputs",
        "_before",
        "_data",
        "_id_start",
        "_id_stop",
        "_input",
        "_length",
        "_outputs",
        "_rows",
        "digest",
        "priority",
        "streamed",
        "timeout",
        "version",
    )

    def __init__(
        self, request: InferRequest, version: Version, rows: int, shape: tuple[int, ...], places: Places
    ) -> None:
        super().__init__(version.manifest.name)
        manner: Manner = request.carried
        spec = version.manifest.inputs[0]
        self._id_start, self._id_stop, self._length, self._data = places
        stop = self._data
        if spec.datatype == "BYTES":
            stop, self._data = self._length, 0
        self._before = manner.message[: self._id_start]
        self._after = manner.message[self._id_stop : stop]
        self._input = Input(0, Tensor(spec.name, spec.datatype, shape, b""), spec)
        self._rows = rows
        self._outputs = request.outputs
        self.version = request.version
        self.digest = version.digest
        self.streamed = manner.streamed
        self.timeout = request.timeout
        self.priority = request.priority
        # The fields of an answer in their order: names, id, parameters, what the tensors are, then the tensors.
        varies = self._id_stop > self._id_start
        self._answer_before: bytes = pb.ModelInferResponse(
            model_name=self.model, model_version=version.label, id="" if varies else request.id
        ).SerializeToString()
        if varies:
            self._answer_before += _ANSWER_ID + varint(self._id_stop - self._id_start)
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

    def same(self, other: "Head") -> bool:
        """Do they begin the same messages?"""
        mine, its = ((head._id_start, head._id_stop, head._before, head._after) for head in (self, other))
        return mine == its

    def read(self, message: bytes) -> Quick | None:
        """The request that a message holds, if it begins so."""
        start, stop = self._id_start, self._id_stop
        if not (message.startswith(self._before) and message.startswith(self._after, stop)):
            return None
        item = message[start:stop]
        if not item.isascii():
            return None  # whether it is UTF-8 is for the parser to say
        data = self._data
        if not data:
            length, data = read_varint(message, self._length, len(message))
            if not length or data + length != len(message):
                return None
        return Quick(self.version, item, message[data:])

    def encode(self, request: Any, version: Version, max_words: int) -> tuple[list[Rows], int, int]:
        """All that can still be wrong is in the tensor."""
        data: bytes = request.data
        found = self._input
        if self._data:
            tensors.check_values(data, found.spec, 0)
            return [data], self._rows, len(data)
        rows, size = tensors.read(found._replace(tensor=found.tensor._replace(data=data)), version, max_words)
        return [rows], self._rows, size

    def respond(self, request: Any, version: Version, outputs: Outputs) -> bytes:
        """A ModelInferResponse."""
        parts = [self._answer_before, request.id]
        for position, shape, head in self._answer_outputs:
            data = outputs[position]
            if data.shape != shape:
                return self._respond_slowly(request, version, outputs)
            parts += (head, data.tobytes())
        self.observe(version, outputs)
        return b"".join(parts)

    def _respond_slowly(self, request: Quick, version: Version, outputs: Outputs) -> bytes:
        """Whatever the graph may give."""
        plain = InferRequest(self.model, self.version, request.id.decode(), outputs=self._outputs)
        return write(super().respond(plain, version, outputs), raw=True, streamed=self.streamed)


class Heads:
    """The heads that are known."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, bool], list[Head]] = {}
        """By the length of the messages, and whether they come on a stream."""

    def __len__(self) -> int:
        return sum(map(len, self._known.values()))

    def find(self, message: bytes, models: Models, *, streamed: bool = False) -> tuple[Head, Quick] | None:
        """The head with which a message begins, where it still means what it did, and what the message asks."""
        for length in (len(message), _TEXTS):
            for head in self._known.get((length, streamed), ()):
                quick = head.read(message)
                if quick is not None:
                    try:
                        version = models.resolve(head.model, head.version)
                    except StatusError:
                        return None
                    return (head, quick) if version.digest == head.digest else None
        return None

    def learn(self, request: InferRequest, version: Version, rows: int, shape: tuple[int, ...]) -> None:
        """Know the head of a request that was found good, its tensor of `shape`, if it is of that kind."""
        manner: Manner = request.carried
        specs = version.manifest.inputs
        text = specs[0].datatype == "BYTES"
        if not (
            manner.raw
            and len(specs) == 1
            and (rows == 1 or not text)
            and not any(output.class_count for output in request.outputs)
            and all(spec.datatype != "BYTES" for spec, _ in wanted(request.outputs, version))
        ):
            return
        places = _places(manner.message)
        if places is None:
            return
        head = Head(request, version, rows, shape, places)
        key = _TEXTS if text else len(manner.message), manner.streamed
        others = [other for other in self._known.pop(key, ()) if not other.same(head)]
        self._known[key] = [head, *others][: MAX_OF_TEXTS if text else MAX_OF_A_LENGTH]
        if len(self._known) > MAX_LENGTHS:
            del self._known[next(key for key in self._known if key[0] != _TEXTS)]


def _places(message: bytes) -> Places | None:
    """None where the message doesn't end with its tensor, or is odd in any other way."""
    id_start = id_stop = 0
    begin = end = data = 0
    for tag, start, stop in fields(message, 0, len(message)):
        if start > MAX_BYTES or tag & 7 in _GROUPS:
            return None
        if tag == _ID:
            id_start, id_stop = start, stop  # the last one counts
        begin, data, end = end, start, stop
    if message[begin] != _RAW or end != len(message):
        return None
    return Places(id_start, id_stop, begin + 1, data)

"""How much a ModelInferRequest holds, before it is parsed: every part of it becomes an object.

A few megabytes are enough for millions of empty tensors, which would hold up every other call.
"""

from typing import Final, NamedTuple

from tritonclient.grpc import service_pb2

from serving.api.fields import fields
from serving.status import StatusError, invalid

MAX_FIELDS: Final = 1024
"""Of a request and its tensors, without their elements: no request has as many."""

_REQUEST: Final = service_pb2.ModelInferRequest.DESCRIPTOR.fields_by_name
_TENSOR: Final = service_pb2.ModelInferRequest.InferInputTensor.DESCRIPTOR.fields_by_name
_NAME: Final = _REQUEST["model_name"].number << 3 | 2
_ID: Final = _REQUEST["id"].number << 3 | 2
_INPUT: Final = _REQUEST["inputs"].number << 3 | 2
_CONTENTS: Final = _TENSOR["contents"].number << 3 | 2
_ELEMENT: Final = service_pb2.InferTensorContents.DESCRIPTOR.fields_by_name["bytes_contents"].number << 3 | 2


class TooMuch(NamedTuple):
    """A request that is refused unread."""

    model: str
    id: str
    error: StatusError


def check(message: bytes, most: int) -> TooMuch | None:
    """What is wrong with a request of too many fields, or of more than `most` elements of BYTES; None if nothing is."""
    model, name = b"", b""
    error: StatusError | None = None
    count, elements = 0, 0
    for tag, start, stop in fields(message, 0, len(message)):
        count += 1
        if tag == _NAME:
            model = message[start:stop]
        elif tag == _ID:
            name = message[start:stop]
        elif tag == _INPUT:
            for part, first, last in fields(message, start, stop):
                count += 1
                # Every element has its tag: where there are not as many bytes like it, there is nothing to walk.
                if part == _CONTENTS and message.count(_ELEMENT, first, last) > most - elements:
                    elements += _elements(message, first, last, most - elements)
                if count > MAX_FIELDS or elements > most:
                    break
        if elements > most:
            error = invalid(f"inputs: more than {most} elements of BYTES in one request (--max-queue-rows)")
            break
        if count > MAX_FIELDS:
            error = invalid(f"the request and its tensors have more than {MAX_FIELDS} fields")
            break
    return None if error is None else TooMuch(_text(model), _text(name), error)


def _elements(message: bytes, start: int, stop: int, most: int) -> int:
    """The elements that stand there, counted no further than it takes to see that they are more than `most`."""
    count = 0
    for walked, (tag, _, _) in enumerate(fields(message, start, stop)):
        count += tag == _ELEMENT
        if count > most or walked > most + MAX_FIELDS:
            return most + 1
    return count


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")

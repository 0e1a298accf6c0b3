"""Errors over HTTP: a status, and `{"error": "..."}`, which is how the Open Inference Protocol has them.

Beside the message stands what gRPC's clients find in `google.rpc.Status` (`serving.details`).
"""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec

from serving import details, request_id
from serving.status import Code, StatusError

Fields = Sequence[tuple[bytes, bytes]]
"""Header fields, their names in lower case."""

JSON: Final = (b"content-type", b"application/json")
CLOSE: Final = (b"connection", b"close")

STATUSES: Final = {
    Code.CANCELLED: 499,  # nobody is there to read it
    Code.UNKNOWN: HTTPStatus.INTERNAL_SERVER_ERROR,
    Code.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    Code.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    Code.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    Code.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    Code.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    Code.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    Code.ABORTED: HTTPStatus.CONFLICT,
    Code.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    Code.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    Code.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    Code.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.DATA_LOSS: HTTPStatus.INTERNAL_SERVER_ERROR,
    Code.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
}
"""Of each code that is an error."""

_NOTHING: Final[Mapping[str, Any]] = {}


class Reply(NamedTuple):
    """An answer."""

    body: bytes = b""
    status: int = HTTPStatus.OK
    fields: Fields = (JSON,)
    """Without the length of the body."""


class HttpError(Exception):
    """An error that HTTP has a status for and gRPC has not."""

    def __init__(self, status: HTTPStatus, message: str, fields: Fields = ()) -> None:
        super().__init__(message)
        self.status = status
        self.fields = fields


def error_body(message: str, more: Mapping[str, Any] = _NOTHING) -> bytes:
    """The body of an answer that is an error."""
    return msgspec.json.encode({"error": message, **more})


def error_reply(error: StatusError | HttpError, asked: str) -> Reply:
    """The answer that an error is, to the request of that id."""
    named = (request_id.HEADER.encode(), asked.encode())
    if isinstance(error, HttpError):
        return Reply(error_body(str(error), {"request_id": asked}), error.status, (JSON, named, *error.fields))
    fields = [JSON, named]
    if error.code is Code.RESOURCE_EXHAUSTED:
        # Whole seconds (RFC 9110, section 10.2.3).
        fields.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after or 0))))
    if error.reason == "draining":
        fields.append(CLOSE)
    return Reply(error_body(error.message, _more(error, asked)), STATUSES[error.code], fields)


def _more(error: StatusError, asked: str) -> dict[str, Any]:
    more: dict[str, Any] = {"code": error.code.name, "reason": details.reason(error), "request_id": asked}
    if error.field:
        more["violations"] = [{"field": error.field, "description": details.description(error)}]
    if error.resource is not None:
        more["resource"] = {"type": error.resource.kind, "name": error.resource.name}
    if error.retry_after is not None:
        more["retry_after"] = round(error.retry_after, 3)
    return more

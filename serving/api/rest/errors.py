"""Errors over HTTP: a status, and `{"error": "..."}`, which is how the Open Inference Protocol has them."""

import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

import msgspec

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


def error_body(message: str) -> bytes:
    """The body of an answer that is an error."""
    return msgspec.json.encode({"error": message})


def error_reply(error: StatusError | HttpError) -> Reply:
    """The answer that an error is."""
    if isinstance(error, HttpError):
        return Reply(error_body(str(error)), error.status, (JSON, *error.fields))
    fields = [JSON]
    if error.code is Code.RESOURCE_EXHAUSTED:
        # Whole seconds (RFC 9110, section 10.2.3).
        fields.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after or 0))))
    if error.reason == "draining":
        fields.append(CLOSE)
    return Reply(error_body(error.message), STATUSES[error.code], fields)

"""What an error says to programs: `google.rpc.Status` and the details it carries (AIP-193, "Errors").

Refusals come by the ten thousand when a server is overloaded: what can be written once is. Serialised messages of one
type that stand behind one another are one message ("Encoding", Last One Wins): that is how the parts are put together.
"""

import math
from functools import lru_cache
from typing import Final

from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as pb
from google.rpc.status_pb2 import Status

from serving.status import Code, StatusError

KEY: Final = "grpc-status-details-bin"
"""In a call's trailing metadata; its value is bytes."""

DOMAIN: Final = "triptych"
"""Whose reasons these are."""

MAX_DESCRIPTION: Final = 256
"""Characters of a violation's description: the message has all of it."""

_QUOTAS: Final = {
    "queue_full": ("queue", "rows, or bytes, that may wait for one version of a model"),
    "too_late": ("queue", "work that can be done before the request's deadline"),
    "client_limit": ("client", "what one client may ask of this server"),
}
"""What was exhausted and whose it is, by reason; of other things there is no quota."""


def encode(error: StatusError, request_id: str) -> bytes:
    """A serialised `google.rpc.Status`: why, where in the request, when to try again, and the request's id."""
    parts = [_fixed(error.code, error.reason, reason(error)), _serialised(Status(message=error.message))]
    parts += (_before_id(len(request_id)), request_id.encode())
    if error.retry_after is not None:
        parts.append(_retry(math.ceil(error.retry_after * 1e3)))  # as the pushback has it
    if error.field:
        violation = pb.BadRequest.FieldViolation(field=error.field, description=description(error))
        parts.append(_detail(pb.BadRequest(field_violations=[violation])))
    if error.resource is not None:
        kind, name = error.resource
        parts.append(_detail(pb.ResourceInfo(resource_type=kind, resource_name=name)))
    return b"".join(parts)


def reason(error: StatusError) -> str:
    """Why, in a word that a program may compare: UPPER_SNAKE_CASE, as ErrorInfo has it."""
    if error.reason:
        return error.reason.upper()
    if error.fault:
        return "FAULT"
    if error.resource is not None:
        return f"{error.resource.kind.upper()}_{error.code.name}"
    return error.code.name


def description(error: StatusError) -> str:
    """What is wrong with the field that an error is about."""
    return error.message[len(error.field) :].removeprefix(": ").lstrip()[:MAX_DESCRIPTION]


@lru_cache(maxsize=64)
def _fixed(code: Code, label: str, word: str) -> bytes:
    """What errors with one reason have in common."""
    fixed = _serialised(Status(code=code)) + _detail(pb.ErrorInfo(reason=word, domain=DOMAIN))
    if label in _QUOTAS:
        subject, what = _QUOTAS[label]
        fixed += _detail(pb.QuotaFailure(violations=[pb.QuotaFailure.Violation(subject=subject, description=what)]))
    return fixed


@lru_cache(maxsize=256)
def _before_id(length: int) -> bytes:
    """A RequestInfo, but for the id of that many characters, which is the last of it."""
    return _detail(pb.RequestInfo(request_id="x" * length)).removesuffix(b"x" * length)


@lru_cache(maxsize=1024)
def _retry(milliseconds: int) -> bytes:
    found = pb.RetryInfo()
    found.retry_delay.FromMilliseconds(milliseconds)
    return _detail(found)


def _detail(message: Message) -> bytes:
    packed = Packed()
    packed.Pack(message)
    return _serialised(Status(details=[packed]))


def _serialised(message: Message) -> bytes:
    return message.SerializeToString()

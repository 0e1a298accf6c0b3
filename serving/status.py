"""The outcome of a call that did not succeed: a gRPC status code and a message that says what to do."""

import logging
import re
from collections.abc import Mapping
from enum import IntEnum
from functools import partial
from typing import Any, Final, NamedTuple

from serving import redaction, request_id

log = logging.getLogger(__name__)

MAX_MESSAGE: Final = 1024
"""Bytes of a message: it travels twice, once of it percent-encoded, and clients bound the trailers that they take."""


class Code(IntEnum):
    """gRPC status codes (gRPC core concepts, "Status codes and their use in gRPC")."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Resource(NamedTuple):
    """What a request named, and is not there."""

    kind: str
    name: str


class StatusError(Exception):
    """A call ends with this status."""

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        reason: str = "",
        retry_after: float | None = None,
        resource: Resource | None = None,
        fault: str = "",
    ) -> None:
        """Say what is wrong.

        Args:
            code: the status.
            message: says what to do; cut to `MAX_MESSAGE`.
            reason: the label under which `triptych_rejected_total` counts it, where it is a refusal.
            retry_after: the pushback in seconds that the client is told to wait before it tries again.
            resource: what was not found.
            fault: under what the log tells more.
        """
        message = _bounded(message)
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.retry_after = retry_after
        self.resource = resource
        self.fault = fault

    def __reduce__(self) -> tuple[Any, ...]:
        also = {name: getattr(self, name) for name in ("reason", "retry_after", "resource", "fault")}
        return partial(StatusError, **also), (self.code, self.message)

    @property
    def field(self) -> str:
        """The field, and instance, that an INVALID_ARGUMENT is about, with which its message begins; else nothing."""
        found = _FIELD.match(self.message) if self.code is Code.INVALID_ARGUMENT else None
        return "" if found is None else found[1]


_FIELD: Final = re.compile(r"([A-Za-z_][\w-]*(?:\[\w+\])?(?:\.[A-Za-z_]\w*(?:\[\w+\])?)*)(?: \([^()]{1,80}\))?: ")
"""`houses[1].tax_rate: ` or `inputs[0] (features): `: every message about a field begins so."""


def _bounded(message: str) -> str:
    if message.isascii():
        return message[:MAX_MESSAGE]
    return message.encode("utf-8", "replace")[:MAX_MESSAGE].decode("utf-8", "ignore")


SHOWN = 64
"""Characters of a client's own words that an error message repeats."""


def shown(words: str) -> str:
    """A client's own words, shortened and escaped, for an error message."""
    return repr(words if len(words) <= SHOWN else words[:SHOWN] + "…")


def invalid(message: str) -> StatusError:
    """INVALID_ARGUMENT: the message names the field and the instance and says what was expected."""
    return StatusError(Code.INVALID_ARGUMENT, message, reason="invalid")


def fault(where: str, error: BaseException, ids: Mapping[str, str] | None = None) -> StatusError:
    """INTERNAL for a fault of our own: logged in full under an id, of which the caller sees only the id.

    `ids` are those of the request, where it is known; the log line has them all. Else the fault gets one of its own.
    """
    ids = ids or {"fault": request_id.made()}
    name, number = next(iter(ids.items()))
    log.error("fault", exc_info=redaction.exc_info(error), extra={**ids, "where": where})
    return StatusError(
        Code.INTERNAL, f"a fault of the server; its log has the details under {name}={number}", fault=number
    )

"""The outcome of a call that did not succeed: a gRPC status code and a message that says what to do."""

import itertools
import logging
from enum import IntEnum
from functools import partial
from typing import Any

log = logging.getLogger(__name__)

_faults = itertools.count(1)


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


class StatusError(Exception):
    """A call ends with this status.

    `reason` is the label under which `triptych_rejected_total` counts it, where it is a refusal;
    `retry_after` is the pushback in seconds that the client is told to wait before it tries again.
    """

    def __init__(self, code: Code, message: str, *, reason: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(StatusError, reason=self.reason, retry_after=self.retry_after), (self.code, self.message)


SHOWN = 64
"""Characters of a client's own words that an error message repeats."""


def shown(words: str) -> str:
    """A client's own words, shortened and escaped, for an error message."""
    return repr(words if len(words) <= SHOWN else words[:SHOWN] + "…")


def invalid(message: str) -> StatusError:
    """INVALID_ARGUMENT: the message names the field and the instance and says what was expected."""
    return StatusError(Code.INVALID_ARGUMENT, message, reason="invalid")


def fault(where: str, error: BaseException) -> StatusError:
    """INTERNAL for a fault of our own: logged in full under a number, of which the caller sees only the number."""
    number = next(_faults)
    log.error("fault", exc_info=error, extra={"fault": number, "where": where})
    return StatusError(Code.INTERNAL, f"a fault of the server; its log has the details under fault={number}")

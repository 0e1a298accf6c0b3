"""The one error that a call can end with, made of what gRPC says about it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo
from google.rpc.status_pb2 import Status

_PUSHBACK = "grpc-retry-pushback-ms"
_DETAILS = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with a part of a request."""

    field: str
    """Which: `houses[1].tax_rate`."""
    description: str


class PredictionError(Exception):
    """A call that was answered with an error, or not at all."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        retry_after: float | None = None,
        reason: str = "",
        request_id: str = "",
        violations: Iterable[Violation] = (),
    ) -> None:
        violations = tuple(violations)
        super().__init__(code, message, retry_after, reason, request_id, violations)
        self.code = code
        """What kind of failure: `grpc.StatusCode.INVALID_ARGUMENT`, `UNAVAILABLE`, …"""
        self.message = message
        """What the server, or the connection, says about it."""
        self.retry_after = retry_after
        """Seconds after which the server expects to have room again, where it says so."""
        self.reason = reason
        """Why, in a word that a program may compare, such as `QUEUE_FULL`; empty where the server says nothing."""
        self.request_id = request_id
        """Under which the server's log speaks of the call; empty where the server says nothing."""
        self.violations = violations
        """The parts of the request that are wrong, where the server names any."""

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


@contextmanager
def translated() -> Iterator[None]:
    """Turn what a call and the reading of its answer can raise into `PredictionError`."""
    try:
        yield
    except grpc.RpcError as error:
        raise _error(error) from error
    except (DecodeError, KeyError) as error:  # no message, or a value that this client does not know
        raise PredictionError(grpc.StatusCode.INTERNAL, f"the answer cannot be read: {error!r}") from error


def _error(error: grpc.RpcError) -> PredictionError:
    told: dict[str, Any] = {}
    for key, value in error.trailing_metadata() or ():
        # By gRPC's rules, a pushback that is negative or no number means "do not retry".
        if key == _PUSHBACK and value.isdecimal():
            told["retry_after"] = int(value) / 1000
        elif key == _DETAILS:
            told |= _details(value)
    return PredictionError(error.code(), error.details() or "", **told)


def _details(value: bytes) -> dict[str, Any]:
    """What a `google.rpc.Status` tells; nothing, where it is none."""
    told: dict[str, Any] = {}
    info, request, bad = ErrorInfo(), RequestInfo(), BadRequest()
    try:
        for detail in Status.FromString(value).details:
            if detail.Unpack(info):
                told["reason"] = info.reason
            elif detail.Unpack(request):
                told["request_id"] = request.request_id
            elif detail.Unpack(bad):
                told["violations"] = [Violation(each.field, each.description) for each in bad.field_violations]
    except DecodeError:
        return {}
    return told

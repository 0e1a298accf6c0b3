"""The one error that a call can end with, made of what gRPC says about it."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from google.protobuf.message import DecodeError

_PUSHBACK = "grpc-retry-pushback-ms"


class PredictionError(Exception):
    """A call that was answered with an error, or not at all."""

    def __init__(self, code: grpc.StatusCode, message: str, retry_after: float | None = None) -> None:
        super().__init__(code, message, retry_after)
        self.code = code
        """What kind of failure: `grpc.StatusCode.INVALID_ARGUMENT`, `UNAVAILABLE`, …"""
        self.message = message
        """What the server, or the connection, says about it."""
        self.retry_after = retry_after
        """Seconds after which the server expects to have room again, where it says so."""

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


@contextmanager
def translated() -> Iterator[None]:
    """Turn what a call and the reading of its answer can raise into `PredictionError`."""
    try:
        yield
    except grpc.RpcError as error:
        raise PredictionError(error.code(), error.details() or "", _retry_after(error)) from error
    except (DecodeError, KeyError) as error:  # no message, or a value that this client does not know
        raise PredictionError(grpc.StatusCode.INTERNAL, f"the answer cannot be read: {error!r}") from error


def _retry_after(error: grpc.RpcError) -> float | None:
    """The server's pushback in seconds; by gRPC's rules, one that is negative or no number means "do not retry"."""
    for key, value in error.trailing_metadata() or ():
        if key == _PUSHBACK and value.isdecimal():
            return int(value) / 1000
    return None

"""What both pipelines are, but for the way they wait: the items of one stream, paired with their answers by id."""

import asyncio
import concurrent.futures
import itertools
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc

from protos.prediction.v1 import prediction_pb2 as pb
from serving.client.errors import PredictionError, translated
from serving.client.messages import Call

MAX_IN_FLIGHT = 256
"""Calls of one pipeline that may wait for their answers: the rows of the server's largest batch."""

Future: TypeAlias = "asyncio.Future[Any] | concurrent.futures.Future[Any]"

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def expired() -> PredictionError:
    """The error of a call whose deadline passed here."""
    return PredictionError(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before the answer came")


def at_least_one(max_in_flight: int) -> int:
    """Check the bound of a pipeline."""
    if max_in_flight < 1:
        raise ValueError(f"max_in_flight: expected 1 or more, got {max_in_flight}")
    return max_in_flight


@dataclass(frozen=True, slots=True)
class Item:
    """One call that was sent and is not answered yet."""

    call: Call[Any]
    future: Future
    deadline: float


class Items:
    """The calls that were sent on a stream and are not answered yet; may be used by several threads."""

    def __init__(self, send: Callable[[bytes | None], object], deadline: float) -> None:
        """Send messages by `send`, which does not wait; None is the last. `deadline` is that of the stream's start."""
        self._send = send
        self._numbers = itertools.count(1)
        self._open: dict[str, Item] = {}
        self._closed = False
        self._over: tuple[grpc.StatusCode, str] | None = None
        self._lock = threading.Lock()
        self.last_deadline = deadline
        """When the last of all calls has been given up."""

    def check_open(self) -> None:
        """Raise ValueError for a call after the end."""
        if self._closed:
            raise ValueError("the pipeline is closed")

    def add(self, call: Call[Any], future: Future, deadline: float) -> bool:
        """Send a call; say False where it is too late for that, and the future has failed."""
        with self._lock:
            if not self._over and not self._closed:
                number = str(next(self._numbers))
                self._open[number] = Item(call, future, deadline)
                self.last_deadline = max(self.last_deadline, deadline)
                self._send(pb.PredictStreamRequest(id=number, **{call.kind: call.request}).SerializeToString())
                return True
        # It waited for room while somebody closed the pipeline, or the stream broke.
        why = self._over or (grpc.StatusCode.CANCELLED, "the pipeline was closed before this was sent")
        future.set_exception(PredictionError(*why))
        return False

    def answered(self, message: bytes) -> bool:
        """Hand an answer to its call; say whether one waited for it."""
        response = pb.PredictStreamResponse.FromString(message)
        with self._lock:
            item = self._open.pop(response.id, None)
        if item is None:
            return False
        try:
            with translated():
                _settle(item.future, _result(item.call, response))
        except PredictionError as error:
            _settle(item.future, error)
        return True

    def expire(self, now: float) -> float:
        """Fail the calls whose deadline has passed; say when the next one does.

        They stay open: the server is still at work on them.
        """
        with self._lock:
            items = [item for item in self._open.values() if not item.future.done()]
        for item in items:
            if item.deadline <= now:
                _settle(item.future, expired())
        return min((item.deadline for item in items if item.deadline > now), default=math.inf)

    def close(self) -> None:
        """Take no more calls; those that were sent are still answered."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._send(None)

    def end(self, code: grpc.StatusCode, reason: str) -> int:
        """The stream is over: fail what is open, and what is still to come. Says how many were open."""
        with self._lock:
            self._over = self._over or (code, reason)
            items, self._open = self._open, {}
            self._send(None)
        for item in items.values():
            _settle(item.future, PredictionError(code, reason))
        return len(items)


def _result(call: Call[Any], response: pb.PredictStreamResponse) -> Any:
    kind = response.WhichOneof("result")
    if kind == "error":
        raise PredictionError(_CODES.get(response.error.code, grpc.StatusCode.UNKNOWN), response.error.message)
    if kind != call.kind:
        raise PredictionError(grpc.StatusCode.INTERNAL, f"the answer is not for this request: {kind}, not {call.kind}")
    return call.read(getattr(response, kind))


def _settle(future: Future, result: Any) -> None:
    """Set the outcome of a call, unless its caller has given up."""
    with suppress(asyncio.InvalidStateError, concurrent.futures.InvalidStateError):
        if isinstance(result, PredictionError):
            future.set_exception(result)
        else:
            future.set_result(result)

"""The typed API, `prediction.v1.PredictionService`: from request bytes to reply bytes, without waiting."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError, Message

from protos.prediction.v1 import prediction_pb2 as pb
from serving.api.call import Call, Context, Receiver, Routes, Stream, Streaming, Unary, shutting_down, too_late
from serving.api.instances import SMALL_MESSAGE, check_instances, check_item
from serving.api.tasks import TASKS, Task
from serving.engine.request import Outputs, Request
from serving.metrics import UNKNOWN, Metrics
from serving.repository.models import Models, Version
from serving.status import Code, StatusError, fault, invalid

SERVICE = pb.DESCRIPTOR.services_by_name["PredictionService"].full_name

MAX_STREAM_IN_FLIGHT = 1024
"""Unanswered items of one stream beyond which no more of it is read."""

Answer = Callable[[bytes | StatusError], None]
"""Takes a serialised response, or why there is none."""

_STREAMED = {task.model: task for task in TASKS}
"""By the name that each has in a stream's item."""


class PredictionService:
    """Answers the typed RPCs from a set of models."""

    def __init__(self, models: Models, metrics: Metrics, max_words: int) -> None:
        self.models = models
        self.metrics = metrics
        self.max_words = max_words
        self.draining = False
        """Set when no more requests are taken; those taken are still answered."""

    def routes(self) -> Routes:
        """The service's methods."""
        unary = {f"/{SERVICE}/{task.method}": Unary(partial(self._unary, task)) for task in TASKS}
        return {**unary, f"/{SERVICE}/PredictStream": Streaming(partial(_PredictStream, self))}

    def _unary(self, task: Task, call: Call, message: bytes) -> None:
        exchange = Exchange(self, task, task.method, call.end)
        call.on_cancel = exchange.cancel
        if exchange.refused(call.deadline, self.draining):
            return
        try:
            if len(message) > SMALL_MESSAGE:
                check_instances(task, message, self.models.max_rows)
            request = task.read(message)
        except DecodeError:
            exchange.finish(_unreadable(task.request))
        except StatusError as error:
            exchange.finish(error)
        else:
            exchange.start(request, call)


class Exchange:
    """One prediction on its way: request, wait in the engine, answer; counted and timed."""

    __slots__ = ("_answer", "_method", "_request", "_service", "_submitted", "_task", "_version", "started")

    def __init__(self, service: PredictionService, task: Task, method: str, answer: Answer) -> None:
        self._service = service
        self._task = task
        self._method = method
        self._answer: Answer | None = answer
        self.started = time.monotonic()
        self._request: Any = None
        self._version: Version | None = None
        self._submitted: Request | None = None

    def refused(self, deadline: float, draining: bool) -> bool:
        """Finish at once, before any work, where the server is going or the deadline has passed."""
        error = shutting_down() if draining else too_late(deadline, self.started)
        if error is not None:
            self.finish(error)
        return error is not None

    def start(self, request: Any, context: Context) -> None:
        """Hand the request to the engine, or finish at once with what is wrong with it."""
        service = self._service
        self._request = request
        try:
            version = self._version = service.models.resolve(self._task.model, self._request.version)
            version.engine.check(self.started, context.deadline)
            rows, count, size = self._task.encode(request, version, service.max_words)
            submitted = Request([rows], count, size, self.started, self._done, context.deadline)
            version.engine.submit(submitted)
            self._submitted = submitted
            version.metrics.in_flight.inc()
        except StatusError as error:
            self.finish(error)
        except Exception as error:  # noqa: BLE001 - the caller must be answered, whatever it is
            self.finish(fault(self._method, error))

    def cancel(self) -> None:
        """The client is gone."""
        if self._submitted is not None and not self._submitted.finished:
            assert self._version is not None  # noqa: S101 - nothing is submitted without one
            self._version.engine.cancel(self._submitted)
            self._count(Code.CANCELLED)
            self._service.metrics.rejected(self._task.model, "cancelled")
            self._let_go()

    def finish(self, result: bytes | StatusError) -> None:
        """Answer and count."""
        if isinstance(result, StatusError):
            if result.reason:
                self._service.metrics.rejected(self._task.model, result.reason)
            self._count(result.code)
        else:
            self._count(Code.OK)
        answer = self._let_go()
        assert answer is not None  # noqa: S101 - an exchange is finished once
        answer(result)

    def _let_go(self) -> Answer | None:
        """Call and request hold us, and we hold them: without a collector's help none would ever go."""
        answer, self._answer, self._submitted = self._answer, None, None
        return answer

    def _done(self, submitted: Request, result: Outputs | StatusError) -> None:
        assert self._version is not None  # noqa: S101 - nothing is submitted without one
        if isinstance(result, StatusError):
            self.finish(result)
            return
        try:
            response = self._task.respond(self._request, self._version, result)
        except StatusError as error:
            self.finish(error)
            return
        except Exception as error:  # noqa: BLE001 - nor may it disturb the others of its batch
            self.finish(fault(self._method, error))
            return
        self.finish(response)

    def _count(self, code: Code) -> None:
        version = self._version
        if self._submitted is not None and version is not None:
            version.metrics.in_flight.dec()
        self._service.metrics.answered(
            self._task.model,
            UNKNOWN if version is None else version.label,
            self._method,
            code.name,
            time.monotonic() - self.started,
        )


class _PredictStream(Receiver):
    """One PredictStream: each item is an exchange of its own, answered as soon as it is ready."""

    def __init__(self, service: PredictionService, stream: Stream) -> None:
        self._service = service
        self._stream = stream
        self._open: set[Exchange] = set()
        self._half_closed = False
        self._draining = False
        stream.on_cancel = self._cancel

    def message(self, message: bytes) -> None:
        """Start one item."""
        if len(message) > SMALL_MESSAGE and self._too_many(message):
            return
        try:
            item = pb.PredictStreamRequest.FromString(message)
        except DecodeError:
            self._cancel()
            self._refused()
            self._stream.finish(_unreadable(pb.PredictStreamRequest))
            return
        kind = item.WhichOneof("request")
        if kind is None:
            self._refused()
            self._send(item.id, invalid(f"request: expected one of {', '.join(_STREAMED)}, got none"))
            return
        task = _STREAMED[kind]

        def answer(result: bytes | StatusError) -> None:
            self._open.discard(exchange)
            self._send(item.id, result, kind)
            if len(self._open) == MAX_STREAM_IN_FLIGHT - 1:
                self._stream.resume_reading()
            self._maybe_finish()

        exchange = Exchange(self._service, task, "PredictStream", answer)
        if exchange.refused(self._stream.deadline, self._draining or self._service.draining):
            return
        self._open.add(exchange)
        if len(self._open) == MAX_STREAM_IN_FLIGHT:
            self._stream.pause_reading()
        exchange.start(getattr(item, kind), self._stream)

    def half_closed(self) -> None:
        """No more items: the stream ends with its last answer."""
        self._half_closed = True
        self._maybe_finish()

    def draining(self) -> None:
        """No more items either, though the client may have meant to send some: it is told so."""
        self._draining = True
        self._maybe_finish()

    def _maybe_finish(self) -> None:
        if self._open:
            return
        if self._half_closed:
            self._stream.finish()
        elif self._draining:
            self._stream.finish(shutting_down())

    def _too_many(self, message: bytes) -> bool:
        """Answer an item that would be too much to parse; whether it is one."""
        found = check_item(message, self._service.models.max_rows)
        if found is None:
            return False
        if found.task is None:
            self._refused()
            self._send(found.id, found.error)
        else:
            Exchange(self._service, found.task, "PredictStream", partial(self._send, found.id)).finish(found.error)
        return True

    def _refused(self) -> None:
        """Count an item of which not even the model is known."""
        metrics = self._service.metrics
        metrics.rejected(UNKNOWN, "invalid")
        metrics.answered(UNKNOWN, UNKNOWN, "PredictStream", Code.INVALID_ARGUMENT.name, 0.0)

    def _send(self, item: str, result: bytes | StatusError, kind: str = "") -> None:
        response = pb.PredictStreamResponse(id=item)
        if isinstance(result, StatusError):
            response.error.code, response.error.message = result.code, result.message
        else:
            getattr(response, kind).MergeFromString(result)
        self._stream.send(response.SerializeToString())

    def _cancel(self) -> None:
        for exchange in self._open:
            exchange.cancel()
        self._open.clear()


def _unreadable(kind: type[Message]) -> StatusError:
    return invalid(f"the message can't be read as {kind.DESCRIPTOR.full_name}: not of this type, or text not UTF-8")

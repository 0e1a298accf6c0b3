"""The typed API, `prediction.v1.PredictionService`: from request bytes to reply bytes, without waiting."""

from functools import partial

from google.protobuf.message import DecodeError, Message

from protos.prediction.v1 import prediction_pb2 as pb
from serving.api.call import Call, Routes, Stream, Streaming, Unary
from serving.api.exchange import Backend
from serving.api.instances import SMALL_MESSAGE, check_instances, check_item
from serving.api.items import ItemStream
from serving.api.tasks import TASKS, Task
from serving.status import Code, StatusError, invalid
from serving.telemetry.metrics import UNKNOWN

SERVICE = pb.DESCRIPTOR.services_by_name["PredictionService"].full_name

_STREAMED = {task.model: task for task in TASKS}
"""By the name that each has in a stream's item."""


class PredictionService:
    """Answers the typed RPCs."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def routes(self) -> Routes:
        """The service's methods."""
        unary = {f"/{SERVICE}/{task.method}": Unary(partial(self._unary, task)) for task in TASKS}
        return {**unary, f"/{SERVICE}/PredictStream": Streaming(partial(_PredictStream, self))}

    def _unary(self, task: Task, call: Call, message: bytes) -> None:
        exchange = self.backend.exchange(task, task.method, call, call.end)
        call.on_cancel = exchange.cancel
        if exchange.refused(call.deadline):
            return
        try:
            if len(message) > SMALL_MESSAGE:
                check_instances(task, message, self.backend.models.max_rows)
            request = task.read(message)
        except DecodeError:
            exchange.finish(_unreadable(task.request))
        except StatusError as error:
            exchange.finish(error)
        else:
            exchange.start(request, call.deadline)


class _PredictStream(ItemStream):
    """One PredictStream."""

    def __init__(self, service: PredictionService, stream: Stream) -> None:
        super().__init__(service.backend, stream, "PredictStream")

    def message(self, message: bytes) -> None:
        """Start one item."""
        if len(message) > SMALL_MESSAGE and self._too_many(message):
            return
        try:
            item = pb.PredictStreamRequest.FromString(message)
        except DecodeError:
            self.cancel()
            self._refused()
            self.stream.finish(_unreadable(pb.PredictStreamRequest))
            return
        kind = item.WhichOneof("request")
        if kind is None:
            self._refused()
            self._send(item.id, invalid(f"request: expected one of {', '.join(_STREAMED)}, got none"))
            return
        self.begin(
            _STREAMED[kind],
            partial(self._send, item.id, kind=kind),
            lambda exchange: exchange.start(getattr(item, kind), self.stream.deadline),
        )

    def _too_many(self, message: bytes) -> bool:
        """Answer an item that would be too much to parse; whether it is one."""
        found = check_item(message, self.backend.models.max_rows)
        if found is None:
            return False
        if found.task is None:
            self._refused()
            self._send(found.id, found.error)
        else:
            send = partial(self._send, found.id)
            self.backend.exchange(found.task, "PredictStream", self.stream, send).finish(found.error)
        return True

    def _refused(self) -> None:
        """Count an item of which not even the model is known."""
        metrics = self.backend.metrics
        metrics.rejected(UNKNOWN, "invalid")
        metrics.answered(UNKNOWN, UNKNOWN, "PredictStream", Code.INVALID_ARGUMENT.name, 0.0)

    def _send(self, item: str, result: bytes | StatusError, kind: str = "") -> None:
        response = pb.PredictStreamResponse(id=item)
        if isinstance(result, StatusError):
            response.error.code, response.error.message = result.code, result.message
        else:
            getattr(response, kind).MergeFromString(result)
        self.stream.send(response.SerializeToString())


def _unreadable(kind: type[Message]) -> StatusError:
    return invalid(f"the message can't be read as {kind.DESCRIPTOR.full_name}: not of this type, or text not UTF-8")

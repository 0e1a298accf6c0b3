"""One ModelStreamInfer: each item is an exchange of its own, answered as soon as it is ready (Triton's extension).

A bad item does not end the stream: its answer is an error message, with its id.
"""

from typing import Final

from tritonclient.grpc import service_pb2 as pb

from serving.api.call import Receiver, Stream, shutting_down
from serving.api.exchange import Backend, Exchange
from serving.api.fields import varint
from serving.api.inference.asking import Asking
from serving.api.prediction import MAX_STREAM_IN_FLIGHT
from serving.status import StatusError

METHOD: Final = "ModelStreamInfer"

_ANSWER: Final = bytes([pb.ModelStreamInferResponse.DESCRIPTOR.fields_by_name["infer_response"].number << 3 | 2])


class InferStream(Receiver):
    """The server's side of a stream."""

    def __init__(self, backend: Backend, asking: Asking, stream: Stream) -> None:
        self._backend = backend
        self._asking = asking
        self._stream = stream
        self._open: set[Exchange] = set()
        self._half_closed = False
        self._draining = False
        stream.on_cancel = self._cancel

    def message(self, message: bytes) -> None:
        """Start one item."""
        asked = self._asking.read(message)

        def answer(result: bytes | StatusError) -> None:
            self._open.discard(exchange)
            self._send(asked.id, result)
            if len(self._open) == MAX_STREAM_IN_FLIGHT - 1:
                self._stream.resume_reading()
            self._maybe_finish()

        exchange = Exchange(self._backend, asked.form, METHOD, answer)
        if exchange.refused(self._stream.deadline, draining=self._draining):
            return
        self._open.add(exchange)
        if len(self._open) == MAX_STREAM_IN_FLIGHT:
            self._stream.pause_reading()
        self._asking.start(exchange, asked, self._stream.deadline)

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

    def _send(self, item: str | bytes, result: bytes | StatusError) -> None:
        if isinstance(result, StatusError):
            response = pb.ModelStreamInferResponse(error_message=result.message)
            response.infer_response.id = item.decode() if isinstance(item, bytes) else item
            self._stream.send(response.SerializeToString())
        else:
            self._stream.send(b"".join((_ANSWER, varint(len(result)), result)))

    def _cancel(self) -> None:
        for exchange in self._open:
            exchange.cancel()
        self._open.clear()

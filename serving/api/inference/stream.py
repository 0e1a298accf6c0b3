"""One ModelStreamInfer: each item is an exchange of its own, answered as soon as it is ready (Triton's extension).

A bad item does not end the stream: its answer is an error message, with its id.
"""

from functools import partial
from typing import Final

from tritonclient.grpc import service_pb2 as pb

from serving.api.call import Stream
from serving.api.exchange import Backend
from serving.api.fields import varint
from serving.api.inference.asking import Asking
from serving.api.items import ItemStream
from serving.status import StatusError

METHOD: Final = "ModelStreamInfer"

_ANSWER: Final = bytes([pb.ModelStreamInferResponse.DESCRIPTOR.fields_by_name["infer_response"].number << 3 | 2])


class InferStream(ItemStream):
    """The server's side of a stream."""

    def __init__(self, backend: Backend, asking: Asking, stream: Stream) -> None:
        super().__init__(backend, stream, METHOD)
        self._asking = asking

    def message(self, message: bytes) -> None:
        """Start one item."""
        asked = self._asking.read(message)
        self.begin(
            asked.form,
            partial(self._send, asked.id),
            lambda exchange: self._asking.start(exchange, asked, self.stream.deadline),
        )

    def _send(self, item: str | bytes, result: bytes | StatusError) -> None:
        if isinstance(result, StatusError):
            response = pb.ModelStreamInferResponse(error_message=result.message)
            response.infer_response.id = item.decode() if isinstance(item, bytes) else item
            self.stream.send(response.SerializeToString())
        else:
            self.stream.send(b"".join((_ANSWER, varint(len(result)), result)))

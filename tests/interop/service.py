"""gRPC's interop test service, made of routes as our own services are, and in this process."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc  # type: ignore[import-untyped]

from serving.api.call import Call, Receiver, Routes, Stream, Streaming, Unary
from serving.status import Code, StatusError

MAX_MESSAGE = 4 * 1024 * 1024


def _messages() -> dict[str, Any]:
    folder = Path(__file__).parent
    with tempfile.NamedTemporaryFile() as out:
        arguments = ["protoc", f"-I{folder}", f"--descriptor_set_out={out.name}", str(folder / "messages.proto")]
        assert protoc.main(arguments) == 0
        files = descriptor_pb2.FileDescriptorSet.FromString(Path(out.name).read_bytes()).file
    return message_factory.GetMessages(files, pool=descriptor_pool.DescriptorPool())


MESSAGES = _messages()


def make(name: str, **fields: Any) -> Any:
    """A message of the interop tests."""
    return MESSAGES[f"grpc.testing.{name}"](**fields)


def payload(size: int) -> Any:
    return make("Payload", body=bytes(size))


def _status(request: Any) -> StatusError | None:
    status = request.response_status
    return StatusError(Code(status.code), status.message) if status.code else None


class Service:
    """What the test descriptions ask of a server; it keeps the contexts of its calls."""

    def __init__(self) -> None:
        self.contexts: asyncio.Queue[Call | Stream] = asyncio.Queue()
        self.cancelled = asyncio.Event()
        """A call ended other than by its answer, or a stream in any way."""

    def routes(self) -> Routes:
        service = "/grpc.testing.TestService"
        return {
            f"{service}/EmptyCall": Unary(self._empty),
            f"{service}/UnaryCall": Unary(self._unary),
            f"{service}/StreamingInputCall": Streaming(lambda stream: _Input(self, stream)),
            f"{service}/StreamingOutputCall": Streaming(lambda stream: _Output(self, stream)),
            f"{service}/FullDuplexCall": Streaming(lambda stream: _Output(self, stream)),
        }

    def began(self, context: Call | Stream) -> None:
        context.on_cancel = self.cancelled.set
        self.contexts.put_nowait(context)

    def _empty(self, call: Call, message: bytes) -> None:
        self.began(call)
        assert message == b""
        call.reply(make("Empty").SerializeToString())

    def _unary(self, call: Call, message: bytes) -> None:
        self.began(call)
        request = make("SimpleRequest").FromString(message)
        error = _status(request)
        if error:
            call.fail(error)
        else:
            # as long as asked for; and, so that a request is seen to have come whole, it must hold zeros only
            assert not any(request.payload.body)
            call.reply(make("SimpleResponse", payload=payload(request.response_size)).SerializeToString())


class _Input(Receiver):
    """Adds up what it gets."""

    def __init__(self, service: Service, stream: Stream) -> None:
        service.began(stream)
        self._stream = stream
        self._size = 0

    def message(self, message: bytes) -> None:
        self._size += len(make("StreamingInputCallRequest").FromString(message).payload.body)

    def half_closed(self) -> None:
        response = make("StreamingInputCallResponse", aggregated_payload_size=self._size)
        self._stream.send(response.SerializeToString())
        self._stream.finish()

    def draining(self) -> None:
        pass


class _Output(Receiver):
    """Sends what it is asked for."""

    def __init__(self, service: Service, stream: Stream) -> None:
        service.began(stream)
        self._stream = stream

    def message(self, message: bytes) -> None:
        request = make("StreamingOutputCallRequest").FromString(message)
        error = _status(request)
        if error:
            self._stream.finish(error)
        for parameters in request.response_parameters:
            response = make("StreamingOutputCallResponse", payload=payload(parameters.size))
            self._stream.send(response.SerializeToString())

    def half_closed(self) -> None:
        self._stream.finish()

    def draining(self) -> None:
        pass

"""grpcio's two clients behind one interface, so that every case is written once."""

import asyncio
import queue
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self

import grpc
import grpc.aio

PREFIX = "/grpc.testing.TestService/"
OPTIONS = [("grpc.max_receive_message_length", -1)]


class Talk(Protocol):
    """One call on which messages go both ways."""

    async def write(self, message: Any) -> None: ...

    async def done_writing(self) -> None: ...

    async def read(self) -> bytes | None:
        """The next message, None at the end, however it came."""

    def cancel(self) -> None: ...

    async def status(self) -> tuple[grpc.StatusCode, str]: ...


class Caller(Protocol):
    """A client."""

    async def unary(self, method: str, message: Any, **options: Any) -> bytes:
        """Raises grpc.RpcError."""

    def talk(self, method: str, **options: Any) -> Talk: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def full(method: str) -> str:
    return method if method.startswith("/") else PREFIX + method


class _SyncTalk:
    def __init__(self, channel: Any, method: str, options: Any) -> None:
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._call = channel.stream_stream(full(method))(iter(self._requests.get, None), **options)

    async def write(self, message: Any) -> None:
        self._requests.put(message.SerializeToString())

    async def done_writing(self) -> None:
        self._requests.put(None)

    async def read(self) -> bytes | None:
        return await asyncio.to_thread(self._read)

    def _read(self) -> bytes | None:
        try:
            message: bytes | None = next(self._call, None)
        except grpc.RpcError:
            message = None
        if message is None:
            self._requests.put(None)
        return message

    def cancel(self) -> None:
        self._call.cancel()
        self._requests.put(None)

    async def status(self) -> tuple[grpc.StatusCode, str]:
        return await asyncio.to_thread(self._call.code), await asyncio.to_thread(self._call.details)


class SyncCaller:
    """`grpc`, in threads."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(target, options=OPTIONS)

    async def unary(self, method: str, message: Any, **options: Any) -> bytes:
        call = self._channel.unary_unary(full(method))
        answer: bytes = await asyncio.to_thread(call, message.SerializeToString(), **options)
        return answer

    def talk(self, method: str, **options: Any) -> Talk:
        return _SyncTalk(self._channel, method, options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._channel.close)


class _AioTalk:
    def __init__(self, channel: Any, method: str, options: Any) -> None:
        self._call = channel.stream_stream(full(method))(**options)

    async def write(self, message: Any) -> None:
        with suppress(grpc.RpcError, asyncio.InvalidStateError):  # the call has ended: `status` says how
            await self._call.write(message.SerializeToString())

    async def done_writing(self) -> None:
        await self._call.done_writing()

    async def read(self) -> bytes | None:
        try:
            message = await self._call.read()
        except (grpc.RpcError, asyncio.CancelledError):
            return None
        return None if message is grpc.aio.EOF else message

    def cancel(self) -> None:
        self._call.cancel()

    async def status(self) -> tuple[grpc.StatusCode, str]:
        return await self._call.code(), await self._call.details()


class AioCaller:
    """`grpc.aio`."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.aio.insecure_channel(target, options=OPTIONS)

    async def unary(self, method: str, message: Any, **options: Any) -> bytes:
        answer: bytes = await self._channel.unary_unary(full(method))(message.SerializeToString(), **options)
        return answer

    def talk(self, method: str, **options: Any) -> Talk:
        return _AioTalk(self._channel, method, options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

"""A transport of either kind that serves handlers which do one thing each, and real clients of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from serving.api.call import Call, Receiver, Routes, Stream, Streaming, Unary
from serving.status import Code, StatusError
from serving.transport.grpcio import GrpcioTransport
from serving.transport.interface import Transport
from serving.transport.native.limits import Limits
from serving.transport.native.transport import NativeTransport

MAX_MESSAGE = 100_000
PATIENCE = 30.0
"""Seconds after which a test has failed. Nothing here waits that long, or for any time at all, to pass."""


class Recorder(Receiver):
    """The handler's side of one stream: it keeps what comes, and a test answers."""

    def __init__(self, stream: Stream, echo: Callable[[bytes], bytes] | None = None) -> None:
        self.stream = stream
        self.messages: list[bytes] = []
        self.ended = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.told_to_drain = False
        self._came = asyncio.Event()
        self._echo = echo
        self._cancels = 0
        stream.on_cancel = self._cancel

    def message(self, message: bytes) -> None:
        self.messages.append(message)
        self._came.set()
        if message == b"break":
            raise ZeroDivisionError("private words")
        if self._echo:
            self.stream.send(self._echo(message))

    def half_closed(self) -> None:
        self.ended.set()
        if self._echo:
            self.stream.finish()

    def draining(self) -> None:
        self.told_to_drain = True
        self.stream.finish(StatusError(Code.UNAVAILABLE, "draining"))

    async def until(self, messages: int) -> None:
        while len(self.messages) < messages:
            self._came.clear()
            await self._came.wait()

    def _cancel(self) -> None:
        self._cancels += 1
        assert self._cancels == 1, "on_cancel is called at most once"
        self.cancelled.set()


KINDS: dict[str, Callable[[], Transport]] = {
    "grpcio": lambda: GrpcioTransport(MAX_MESSAGE),
    "native": lambda: NativeTransport(Limits(max_message_bytes=MAX_MESSAGE)),
}
AGEING: dict[str, Callable[[float, float], Transport]] = {
    "grpcio": lambda age, grace: GrpcioTransport(MAX_MESSAGE, max_age=age, age_grace=grace),
    "native": lambda age, grace: NativeTransport(Limits(MAX_MESSAGE, max_age=age, age_grace=grace)),
}
kind = "native"
"""The transport that the running test is for."""


def make() -> Transport:
    return KINDS[kind]()


class Rig:
    """A transport that serves the test's routes, and what arrived there."""

    def __init__(self, transport: Transport | None = None) -> None:
        self.transport = transport or make()
        self.port = self.transport.bind("127.0.0.1:0")
        self.target = f"127.0.0.1:{self.port}"
        self.calls: asyncio.Queue[Call] = asyncio.Queue()
        self.streams: asyncio.Queue[Recorder] = asyncio.Queue()
        self.cancelled = asyncio.Event()
        self.received: list[bytes] = []

    def routes(self) -> Routes:
        return {
            "/test.Unary/Echo": Unary(self._echo),
            "/test.Unary/Hold": Unary(lambda call, message: self._hold(call)),
            "/test.Unary/Fail": Unary(self._fail),
            "/test.Unary/Break": Unary(self._break),
            "/test.Stream/Hold": Streaming(self._open),
            "/test.Stream/Echo": Streaming(lambda stream: self._open(stream, lambda message: message)),
            "/test.Stream/Grow": Streaming(lambda stream: self._open(stream, lambda message: message * 65_536)),
            "/test.Stream/Paused": Streaming(self._open_paused),
            "/test.Stream/Break": Streaming(self._break_stream),
        }

    def _echo(self, call: Call, message: bytes) -> None:
        self.received.append(message)
        self.calls.put_nowait(call)
        call.reply(message)

    def _hold(self, call: Call) -> None:
        call.on_cancel = self.cancelled.set
        self.calls.put_nowait(call)

    def _fail(self, call: Call, message: bytes) -> None:
        number, _, after = message.decode().partition(" ")
        call.fail(StatusError(Code(int(number)), "why:\n100 % · ü", retry_after=float(after) if after else None))

    def _break(self, call: Call, message: bytes) -> None:
        raise ZeroDivisionError("private words")

    def _open(self, stream: Stream, echo: Callable[[bytes], bytes] | None = None) -> Receiver:
        recorder = Recorder(stream, echo)
        self.streams.put_nowait(recorder)
        return recorder

    def _open_paused(self, stream: Stream) -> Receiver:
        stream.pause_reading()
        return self._open(stream)

    def _break_stream(self, stream: Stream) -> Receiver:
        raise ZeroDivisionError("private words")


def unary(channel: grpc.aio.Channel, method: str, message: bytes = b"", **options: Any) -> Any:
    return channel.unary_unary(f"/test.Unary/{method}")(message, **options)


def stream(channel: grpc.aio.Channel, method: str, **options: Any) -> Any:
    return channel.stream_stream(f"/test.Stream/{method}")(**options)


async def error_of(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def everything(call: Any) -> tuple[list[bytes], grpc.StatusCode]:
    """All messages of a stream, and how it ended."""
    messages = []
    with contextlib.suppress(grpc.aio.AioRpcError):
        messages = [message async for message in _kept(call, messages)]
    return messages, await call.code()


async def _kept(call: Any, messages: list[bytes]) -> AsyncIterator[bytes]:
    async for message in call:
        messages.append(message)
        yield message


@asynccontextmanager
async def ageing(age: float, grace: float) -> AsyncIterator[Rig]:
    rig = Rig(AGEING[kind](age, grace))
    await rig.transport.start(rig.routes())
    try:
        async with asyncio.timeout(PATIENCE):
            yield rig
    finally:
        await rig.transport.stop(0)

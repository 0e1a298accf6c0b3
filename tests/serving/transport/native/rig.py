"""A native transport with handlers that do one thing each, and a bystander whose calls must go on."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from serving.api.call import Call, Receiver, Routes, Stream, Streaming, Unary
from serving.status import Code, StatusError
from serving.transport.native.limits import Limits
from serving.transport.native.link import Link
from serving.transport.native.transport import NativeTransport
from serving.transport.tls import Tls
from tests.serving.certificates import live
from tests.serving.transport.native.client import Client, message

PATIENCE = 20.0


class Echoing(Receiver):
    def __init__(self, stream: Stream, size: int) -> None:
        self.stream = stream
        self.size = size
        self.messages = 0
        self.drained = False
        self.over = asyncio.Event()
        stream.on_cancel = self.over.set

    def message(self, message: bytes) -> None:
        self.messages += 1
        self.stream.send(message + bytes(self.size))

    def half_closed(self) -> None:
        self.stream.finish()

    def draining(self) -> None:
        self.drained = True
        self.stream.finish(StatusError(Code.UNAVAILABLE, "draining"))


class Rig:
    def __init__(self, limits: Limits, tls: Tls | None, chance: Callable[[], float]) -> None:
        self.transport = NativeTransport(limits, None if tls is None else live(tls), chance)
        self.port = self.transport.bind("127.0.0.1:0")
        self.calls: asyncio.Queue[Call] = asyncio.Queue()
        self.streams: list[Echoing] = []
        self.handled = 0
        self.cancelled = 0
        self.answer = b""

    def routes(self) -> Routes:
        return {
            "/t/Echo": Unary(self._echo),
            "/t/Hold": Unary(self._hold),
            "/t/Answer": Unary(self._answer),
            "/t/Stream": Streaming(lambda stream: self._open(stream, 0)),
            "/t/Grow": Streaming(lambda stream: self._open(stream, 10_000)),
        }

    def _echo(self, call: Call, message: bytes) -> None:
        self.handled += 1
        call.reply(message)

    def _answer(self, call: Call, message: bytes) -> None:
        self.handled += 1
        call.reply(self.answer)

    def _hold(self, call: Call, message: bytes) -> None:
        self.handled += 1
        call.on_cancel = self._cancel
        self.calls.put_nowait(call)

    def _cancel(self) -> None:
        self.cancelled += 1

    def _open(self, stream: Stream, size: int) -> Receiver:
        self.streams.append(Echoing(stream, size))
        return self.streams[-1]

    def client(self, tls: ssl.SSLContext | None = None) -> Client:
        return Client(self.port, tls)

    def only(self) -> Link:
        """The one connection that there is."""
        [connection] = self.transport.connections
        return connection

    async def gone(self) -> None:
        """Until no connection is left."""
        while self.transport.connections:
            self.transport._empty.clear()
            await self.transport._empty.wait()


@asynccontextmanager
async def serving(
    limits: Limits | None = None, tls: Tls | None = None, chance: Callable[[], float] = random.random
) -> AsyncIterator[Rig]:
    """In the end nothing may be left of any connection."""
    rig = Rig(limits or Limits(), tls, chance)
    await rig.transport.start(rig.routes())
    made: list[Link] = []

    class Kept(set[Link]):
        def add(self, connection: Link) -> None:
            made.append(connection)
            super().add(connection)

    rig.transport.connections = Kept()
    async with asyncio.timeout(PATIENCE):
        try:
            yield rig
        finally:
            await rig.transport.stop(0)
    for connection in made:
        assert not getattr(connection, "streams")  # noqa: B009
        assert not getattr(connection, "blocked")  # noqa: B009
        assert not getattr(connection, "held")  # noqa: B009


@asynccontextmanager
async def beside(rig: Rig) -> AsyncIterator[None]:
    """Another connection is served before and after whatever happens."""
    async with rig.client() as other:
        other.greet()
        other.send(other.call(1, "/t/Echo", b"before"))
        assert await other.answer(1) == (0, message(b"before"))
        yield
        other.send(other.call(3, "/t/Echo", b"after"))
        assert await other.answer(3) == (0, message(b"after"))

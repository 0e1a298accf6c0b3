"""A connection without a socket: its transport, its server and its clock-free loop are stood in for."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from serving.api.call import Call, Receiver, Routes, Stream, Streaming, Unary
from serving.status import Code, StatusError
from serving.transport.native.connection import Connection
from serving.transport.native.frames import HEADER, HEADER_BYTES, PeerError
from serving.transport.native.limits import Limits
from serving.transport.native.turn import Turn


class Handle:
    def cancel(self) -> None:
        """Timers never fire here."""


class Loop:
    """Callbacks of the next turn, run when the test says so."""

    def __init__(self) -> None:
        self.turns: deque[Callable[[], None]] = deque()

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.turns.append(callback)

    def call_later(self, delay: float, callback: Callable[..., None], *arguments: Any) -> Handle:
        return Handle()

    def run(self) -> None:
        while self.turns:
            self.turns.popleft()()


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 5000) if name == "peername" else default


class Server:
    """What a connection asks of its transport."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.turn = Turn(cast("Any", self.loop), 0.0)
        self.connections: set[Connection] = set()
        self.stopping = False
        self.errors: list[PeerError] = []

    def connection_gone(self) -> None:
        pass

    def refused(self, peer: str, error: PeerError) -> None:
        self.errors.append(error)

    def cut(self, peer: str, why: str) -> None:
        raise AssertionError("no timer fires here")


class Handlers:
    """Routes whose handlers count how each call came to its end."""

    def __init__(self) -> None:
        self.taken = 0
        self.cancelled = 0
        self.answered = 0
        self.held: list[Call] = []
        self.opened = 0
        self.over = 0
        self.routes: Routes = {
            "/t/Echo": Unary(self._echo),
            "/t/Hold": Unary(self._hold),
            "/t/Grow": Unary(lambda call, message: call.reply(message * 50 + bytes(1000))),
            "/t/Fail": Unary(lambda call, message: call.fail(StatusError(Code.NOT_FOUND, "no\n"))),
            "/t/Stream": Streaming(lambda stream: _Echoing(self, stream)),
        }

    def _echo(self, call: Call, message: bytes) -> None:
        call.reply(message)

    def _hold(self, call: Call, message: bytes) -> None:
        self.taken += 1
        cancels = 0

        def cancel() -> None:
            nonlocal cancels
            cancels += 1
            assert cancels == 1, "cancelled twice"
            assert call in self.held, "cancelled after its answer"
            self.cancelled += 1
            self.held.remove(call)

        call.on_cancel = cancel
        self.held.append(call)

    def release(self) -> None:
        """Answer all that is held."""
        while self.held:
            call = self.held.pop()
            self.answered += 1
            call.reply(b"late")


class _Echoing(Receiver):
    def __init__(self, handlers: Handlers, stream: Stream) -> None:
        self._handlers = handlers
        self._stream = stream
        self._over = False
        handlers.opened += 1
        stream.on_cancel = self._end

    def _end(self) -> None:
        assert not self._over, "over twice"
        self._over = True
        self._handlers.over += 1

    def message(self, message: bytes) -> None:
        assert not self._over, "a message after the end"
        if message[:1] == b"p":
            self._stream.pause_reading()
            self._stream.resume_reading()
        self._stream.send(message)

    def half_closed(self) -> None:
        assert not self._over
        self._stream.finish()

    def draining(self) -> None:
        self._stream.finish(StatusError(Code.UNAVAILABLE, "draining"))


class Rig:
    """A connection that was just made."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.server = Server()
        self.handlers = Handlers()
        self.wire = Wire()
        self.connection = Connection(cast("Any", self.server), self.handlers.routes, limits)
        self.connection.connection_made(self.wire)

    def feed(self, data: bytes) -> None:
        """What the client sends next, and all that follows from it."""
        if not self.wire.closed:
            self.connection.data_received(data)
            self.check()
            self.server.loop.run()

    def check(self) -> None:
        """What holds at every moment."""
        connection, limits = self.connection, self.limits
        assert len(connection.streams) <= limits.max_streams
        assert set(connection.blocked) <= set(connection.streams)
        assert set(connection.held) <= set(connection.streams)
        waiting = sum(sum(map(len, stream.pending or ())) for stream in connection.streams.values())
        assert connection.unsent == waiting
        assert connection.send_window >= 0
        granted = sum(stream.granted for stream in connection.streams.values())
        assert granted + connection.budget._left == max(limits.message_budget, limits.max_message_bytes)

    def end(self) -> None:
        """The client goes; nothing may be left."""
        self.handlers.release()
        self.server.loop.run()
        self.check()
        self.connection.connection_lost(None)
        self.server.loop.run()
        handlers = self.handlers
        assert not self.connection.streams
        assert not self.connection.blocked
        assert not self.server.connections
        assert handlers.taken == handlers.cancelled + handlers.answered, "answered or cancelled, once"
        assert handlers.opened == handlers.over
        assert len(self.server.errors) <= 1
        self.frames()

    def frames(self) -> list[tuple[int, int, int, bytes]]:
        """What was written, as whole frames: type, flags, stream and payload."""
        found = []
        data, position = bytes(self.wire.written), 0
        while position < len(data):
            high, low, kind, flags, number = HEADER.unpack_from(data, position)
            start = position + HEADER_BYTES
            position = start + (high << 8 | low)
            assert position <= len(data), "a frame is cut off"
            found.append((kind, flags, number, data[start:position]))
        return found

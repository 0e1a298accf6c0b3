"""A connection's bytes and times: frames out of what comes, one write for what goes in a turn, and peers that are
silent, stall or never say that they speak HTTP/2.
"""

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from serving.api.peer import certified, located
from serving.transport.native import frames
from serving.transport.native.fields import MAX_LIST_BYTES
from serving.transport.native.frames import (
    HEADER,
    HEADER_BYTES,
    MAX_FRAME_BYTES,
    PREFACE,
    STREAM_MASK,
    ErrorCode,
    PeerError,
)
from serving.transport.native.limits import Limits
from serving.transport.native.patience import Patience

if TYPE_CHECKING:
    from serving.transport.native.transport import NativeTransport

_PORTION: Final = 2 * MAX_FRAME_BYTES
"""Bytes that are taken without a look at the clock: a whole frame is among them."""
_MAX_WAITING: Final = 4 * MAX_FRAME_BYTES
"""Bytes that may wait for another turn of the loop; beyond it no more is read."""
_KEEPALIVE_PING: Final = b"alive? 1"
_KIND: Final = 3
"""Where a frame's type stands in its header."""


class Link(asyncio.Protocol, ABC):
    """One connection, below the meaning of its frames."""

    def __init__(self, server: "NativeTransport", limits: Limits) -> None:
        self.limits = limits
        self.patience = Patience(limits)
        self.peer = ""
        self.paused = False
        """The client does not read what was sent."""
        self._server = server
        self._loop = server.loop
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._rest = b""
        self._waiting = False
        """For another turn of the loop, to take what has come."""
        self._full = False
        """More waits so than should: nothing is read."""
        self._greeted = False
        self._out: list[bytes] = []
        self._flushing = False
        self._closing = False
        self._last_stream = 0
        """The highest that the client has opened."""
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._age: asyncio.TimerHandle | None = None
        self._goodbye: asyncio.TimerHandle | None = None
        self._heard = 0.0
        self.came = 0.0
        """When what is being taken came, as far as that is known: deadlines count from then."""
        self._unread_since = math.inf
        """When reading was given up, in favour of others."""
        self._pinged = False
        self._block_of = 0
        """The stream whose header block is not complete: nothing else may come before it is (section 4.3)."""
        self._handlers: tuple[Callable[[int, int, bytes], None], ...] = ()
        """What takes each type of frame: its flags, stream and payload."""

    # What a connection does beyond.

    @abstractmethod
    def drain(self) -> None:
        """Ask the client to go."""

    @abstractmethod
    def _cancel(self) -> None:
        """The connection is gone, and all calls with it."""

    @abstractmethod
    def _pump(self) -> None:
        """Send what waited for the client to read."""

    # What asyncio tells us.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what we allow; the client must say that it speaks HTTP/2, soon."""
        limits = self.limits
        self._begin(cast("asyncio.Transport", transport))
        self._transport.set_write_buffer_limits(high=limits.write_buffer_bytes)
        self._hello()
        if len(self._server.connections) > limits.max_connections:
            self._server.crowded(self.peer)
            self.write(frames.goaway(0, ErrorCode.ENHANCE_YOUR_CALM, b"too many connections"))
            self._close()
            return
        self._timer = self._loop.call_later(limits.preface_timeout, self._cut, "it sent no HTTP/2 preface in time")
        if limits.max_age < float("inf"):
            self._age = self._loop.call_later(self._server.lifetime(), self._grow_old)
        if self._server.stopping:
            self.drain()

    def data_received(self, data: bytes) -> None:
        """Take frames as they come; a part of one waits for the rest."""
        if self._closing:
            return
        self._heard = now = time.monotonic()
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if self._waiting:
            self._rest = data
            if len(data) > _MAX_WAITING and not self._full:
                self._full = True
                self._unread_since = min(now, self._unread_since)
                self._transport.pause_reading()
            return
        # What came while nothing was read may be as old as that.
        self.came, self._unread_since = min(now, self._unread_since), math.inf
        if self._server.turn.has_time(now):
            self._take(data)
        else:
            self._wait(data)

    def go_on(self) -> None:
        """Take what waited for another turn of the loop."""
        self._waiting = False
        if self._closing:
            return
        data, self._rest = self._rest, b""
        self._take(data)
        if self._full and len(self._rest) <= _MAX_WAITING:
            self._full = False
            if not self.paused:
                self._transport.resume_reading()

    def _wait(self, data: bytes) -> None:
        """Take no more in this turn of the loop."""
        self._rest = data
        self._waiting = True
        self._server.turn.wait(self)

    def _take(self, data: bytes) -> None:
        """Take the frames of `data`, as far as there is time; a part of one waits for the rest of it."""
        position, whole = 0, len(data)
        try:
            if not self._greeted:
                position = self._greet(data)
                if not position:
                    self._rest = data
                    return
            while True:
                end = min(position + _PORTION, whole)
                position = self._frames(data, position, end)
                if end == whole or self._closing:
                    break
                if not self._server.turn.has_time(time.monotonic()):
                    self._wait(data[position:])
                    return
        except PeerError as error:
            self._fail(error)
            return
        if position < whole:
            self._rest = data[position:]

    def _frames(self, data: bytes, position: int, end: int) -> int:
        """Take the whole frames between two positions; returns where the next one begins."""
        unpack, handlers = HEADER.unpack_from, self._handlers
        while end - position >= HEADER_BYTES and not self._closing:
            high, low, kind, flags, number = unpack(data, position)
            length = high << 8 | low
            if length > MAX_FRAME_BYTES:
                raise PeerError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            start = position + HEADER_BYTES
            stop = start + length
            if stop > end:
                break
            position = stop
            if self._block_of and kind != frames.CONTINUATION:
                raise PeerError(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")
            if kind < len(handlers):
                handlers[kind](flags, number & STREAM_MASK, data[start:stop])
            else:
                self.patience.spend(1)  # unknown types are ignored (section 4.1)
        return position

    def eof_received(self) -> None:
        """The client closed: what it did not wait for is not worth finishing."""

    def connection_lost(self, exception: Exception | None) -> None:
        """Every call on it is gone."""
        self._closing = True
        self._server.connections.discard(self)
        for timer in (self._timer, self._stall, self._age, self._goodbye):
            if timer is not None:
                timer.cancel()
        self._cancel()
        self._server.connection_gone()

    def pause_writing(self) -> None:
        """The client does not read: nor do we."""
        self.paused = True
        self._transport.pause_reading()
        self._stall = self._loop.call_later(self.limits.stall_timeout, self._cut, "it does not read its answers")

    def resume_writing(self) -> None:
        """It reads again."""
        self.paused = False
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        if not self._closing:
            self._pump()
            if not self._full:
                self._transport.resume_reading()

    # What streams and the transport ask of us.

    def write(self, data: bytes) -> None:
        """Send, together with all else that is sent in this turn of the loop."""
        self._out.append(data)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def later(self, callback: Callable[[], None]) -> None:
        """Call back in the next turn of the loop."""
        self._loop.call_soon(callback)

    def abort(self) -> None:
        """Drop the connection and all its calls."""
        self._transport.abort()

    # The rest.

    def _begin(self, transport: asyncio.Transport) -> None:
        """Be one of the server's connections."""
        self._transport = transport
        self.peer = _peer(transport)
        self._server.connections.add(self)

    def _hello(self) -> None:
        """Our own preface (section 3.4)."""
        limits = self.limits
        self.write(
            frames.settings(
                {frames.MAX_CONCURRENT_STREAMS: limits.max_streams, frames.MAX_HEADER_LIST_SIZE: MAX_LIST_BYTES}
            )
        )
        self.write(frames.window_update(0, limits.connection_window - frames.DEFAULT_WINDOW))

    def _greet(self, data: bytes) -> int:
        """The client's preface (section 3.4): the magic string, and then SETTINGS first of all.

        Returns where the SETTINGS begin, or 0 while too little has come.
        """
        if not data.startswith(PREFACE[: len(data)]):
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface")
        start = len(PREFACE)
        if len(data) < start + HEADER_BYTES:
            return 0
        if data[start + _KIND] != frames.SETTINGS or data[start + _KIND + 1] & frames.ACK:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "a preface without SETTINGS")
        self._greeted = True
        assert self._timer is not None  # noqa: S101 - set when the connection was made
        self._timer.cancel()
        self._timer = self._loop.call_later(self.limits.keepalive_interval, self._keep_alive)
        return start

    def _grow_old(self) -> None:
        """Go, so that the client connects again, to another server perhaps (gRFC A9)."""
        self._age = self._loop.call_later(self.limits.age_grace, self._cut, "it is old, and its calls did not end")
        self.drain()

    def _keep_alive(self) -> None:
        """Ping a peer that has been silent, and cut one that stays so: it may be gone without a word."""
        limits = self.limits
        silent = time.monotonic() - self._heard
        if self._pinged and silent >= limits.keepalive_timeout:
            self._cut("it does not answer pings")
            return
        wait = limits.keepalive_interval - silent
        if wait <= 0:
            self._pinged = True
            self.write(frames.frame(frames.PING, 0, 0, _KEEPALIVE_PING))
            wait = limits.keepalive_timeout
        else:
            self._pinged = False
        self._timer = self._loop.call_later(wait, self._keep_alive)

    def _flush(self) -> None:
        self._flushing = False
        out, self._out = self._out, []
        if not self._transport.is_closing():
            self._transport.write(b"".join(out))

    def _fail(self, error: PeerError) -> None:
        """End the connection, saying why (section 5.4.1)."""
        self._server.refused(self.peer, error)
        self.write(frames.goaway(self._last_stream, error.code, str(error).encode()[:256]))
        self._close()

    def _close(self) -> None:
        """Close once what is written is sent."""
        if not self._closing:
            self._closing = True
            self._flush()
            self._transport.close()

    def _cut(self, why: str) -> None:
        self._server.cut(self.peer, why)
        self._transport.abort()


def _peer(transport: asyncio.BaseTransport) -> str:
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple):
        return "unix:"
    return located(name[0], name[1], certified(transport.get_extra_info("peercert")))

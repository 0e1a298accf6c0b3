"""One HTTP/2 connection: frames in, frames out, and the rules of RFC 9113 that are the connection's own."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from serving.api.call import Routes, Unary, unimplemented
from serving.status import StatusError
from serving.transport.native import frames, wire
from serving.transport.native.fields import MAX_LIST_BYTES, FieldDecoder
from serving.transport.native.frames import (
    DEFAULT_WINDOW,
    HEADER,
    HEADER_BYTES,
    MAX_FRAME_BYTES,
    MAX_WINDOW,
    PREFACE,
    STREAM_MASK,
    ErrorCode,
    PeerError,
)
from serving.transport.native.head import Malformed, read_head
from serving.transport.native.limits import Limits
from serving.transport.native.streams import Flow, MessageStream, UnaryStream

if TYPE_CHECKING:
    from serving.transport.native.transport import NativeTransport

AnyStream = UnaryStream | MessageStream

_AGE_PING: Final = b"goodbye?"
_KEEPALIVE_PING: Final = b"alive? 1"


class Connection(asyncio.Protocol):
    """The server's side of one connection."""

    def __init__(self, server: "NativeTransport", routes: Routes, limits: Limits) -> None:
        self.limits = limits
        self.peer = ""
        self.send_window = DEFAULT_WINDOW
        """Bytes of DATA that we may send, over all streams."""
        self.peer_window = DEFAULT_WINDOW
        """With how much a stream's own window for us begins."""
        self.blocked: dict[int, Flow] = {}
        """Streams that wait for room in a window."""
        self.streams: dict[int, AnyStream] = {}
        self._server = server
        self._routes = routes
        self._loop = server.loop
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._fields = FieldDecoder()
        self._rest = b""
        self._greeted = False
        self._out: list[bytes] = []
        self._flushing = False
        self._last_stream = 0
        self._receive_window = limits.connection_window
        self._budget = limits.message_budget
        self._waiting: deque[tuple[Flow, int]] = deque()
        self._block: tuple[int, int, bytes, int] | None = None
        """A header block that is not complete: stream, flags, bytes so far, CONTINUATION frames so far."""
        self._patience = limits.patience
        self._idle_pings = 0
        self._last_ping = 0.0
        self._goaway_sent = False
        self._final = False
        """No stream above `_last_stream` is taken any more."""
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._age: asyncio.TimerHandle | None = None
        self._heard = 0.0
        self._pinged = False
        self._handlers: tuple[Callable[[int, int, bytes], None], ...] = (
            self._on_data,
            self._on_headers,
            self._on_priority,
            self._on_reset,
            self._on_settings,
            self._on_push_promise,
            self._on_ping,
            self._on_goaway,
            self._on_window_update,
            self._on_continuation,
        )

    # What asyncio tells us.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what we allow; the client must say that it speaks HTTP/2, soon."""
        self._transport = cast("asyncio.Transport", transport)
        limits = self.limits
        self.peer = _peer_name(transport)
        self._server.connections.add(self)
        self._transport.set_write_buffer_limits(high=limits.write_buffer_bytes)
        self.write(
            frames.settings(
                {
                    frames.MAX_CONCURRENT_STREAMS: limits.max_streams,
                    frames.MAX_HEADER_LIST_SIZE: MAX_LIST_BYTES,
                }
            )
        )
        self.write(frames.window_update(0, limits.connection_window - DEFAULT_WINDOW))
        self._timer = self._loop.call_later(limits.preface_timeout, self._cut, "it sent no HTTP/2 preface in time")
        if limits.max_age < float("inf"):
            self._age = self._loop.call_later(limits.max_age, self.drain)
        if self._server.stopping:
            self.drain()

    def data_received(self, data: bytes) -> None:
        """Take frames as they come; a part of one waits for the rest."""
        self._heard = time.monotonic()
        if self._rest:
            data = self._rest + data
            self._rest = b""
        position, end = 0, len(data)
        try:
            if not self._greeted:
                if end < len(PREFACE):
                    if not PREFACE.startswith(data):
                        raise PeerError(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface")
                    self._rest = data
                    return
                position = self._greet(data)
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
                if self._block is not None and kind != frames.CONTINUATION:
                    raise PeerError(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")
                if kind < len(handlers):
                    handlers[kind](flags, number & STREAM_MASK, data[start:stop])
                else:
                    self._spend(1)  # unknown types are ignored (section 4.1)
        except PeerError as error:
            self._fail(error)
            return
        if position < end:
            self._rest = data[position:]

    def eof_received(self) -> None:
        """The client closed: what it did not wait for is not worth finishing."""

    def connection_lost(self, exception: Exception | None) -> None:
        """Every call on it is gone."""
        self._closing = True
        self._server.connections.discard(self)
        for timer in (self._timer, self._stall, self._age):
            if timer is not None:
                timer.cancel()
        streams, self.streams = self.streams, {}
        self.blocked.clear()
        for stream in streams.values():
            _cancel(stream)
        self._server.connection_gone()

    def pause_writing(self) -> None:
        """The client does not read: nor do we."""
        self._transport.pause_reading()
        self._stall = self._loop.call_later(self.limits.stall_timeout, self._cut, "it does not read its answers")

    def resume_writing(self) -> None:
        """It reads again."""
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        if not self._closing:
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

    def finished(self, stream: Flow) -> None:
        """All of a stream's answer is written."""
        if self.streams.pop(stream.id, None) is None:
            return
        if stream.receiving:
            # The client may stop sending what nobody reads (section 8.1).
            self.write(frames.reset(stream.id, ErrorCode.NO_ERROR))
        self._release(stream)
        self.earn(self.limits.patience_per_call)
        if self._final and not self.streams:
            self._close()

    def grant(self, stream: Flow, size: int) -> None:
        """Give a stream room for the rest of a large message, at once or when others have freed it."""
        if size <= self._budget:
            self._budget -= size
            stream.granted += size
            stream.credit += size
            self.write(frames.window_update(stream.id, size))
        elif all(waiting is not stream for waiting, _ in self._waiting):
            self._waiting.append((stream, size))

    def replenish(self, stream: Flow) -> None:
        """Give a stream back the room of what it sent and what was taken."""
        self._budget += stream.granted
        stream.granted = 0
        size = DEFAULT_WINDOW - stream.credit
        stream.credit += size
        self.write(frames.window_update(stream.id, size))
        self._grant_waiting()

    def earn(self, patience: int) -> None:
        """Something was answered: control frames that come with it are no flood."""
        self._patience = min(self._patience + patience, self.limits.patience)

    def drain(self) -> None:
        """Ask the client to go (section 6.8): first that it may, then, a round trip later, from which stream on."""
        if not self._goaway_sent and not self._closing:
            self._goaway_sent = True
            self.write(frames.goaway(MAX_WINDOW, ErrorCode.NO_ERROR))
            self.write(frames.frame(frames.PING, 0, 0, _AGE_PING))
            for stream in tuple(self.streams.values()):
                if isinstance(stream, MessageStream) and stream.receiver is not None:
                    stream.receiver.draining()
            if not self._greeted:
                self._close()

    def abort(self) -> None:
        """Drop the connection and all its calls."""
        self._transport.abort()

    # Frames, one method a type.

    def _greet(self, data: bytes) -> int:
        """The client's preface (section 3.4): the magic string, and then SETTINGS first of all."""
        if not data.startswith(PREFACE):
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface")
        self._greeted = True
        assert self._timer is not None  # noqa: S101 - set when the connection was made
        self._timer.cancel()
        self._timer = self._loop.call_later(self.limits.keepalive_interval, self._keep_alive)
        return len(PREFACE)

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.1."""
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < self.limits.connection_window // 2:
            if self._receive_window < 0:
                raise PeerError(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the connection's window")
            self.write(frames.window_update(0, self.limits.connection_window - self._receive_window))
            self._receive_window = self.limits.connection_window
        stream = self.streams.get(number)
        if stream is None:
            if number == 0 or number > self._last_stream or not number & 1:
                raise PeerError(ErrorCode.PROTOCOL_ERROR, f"DATA on stream {number}, which is not open")
            self._spend(1)  # on its way when we ended the stream
            return
        if not stream.receiving:
            self._reset(stream, ErrorCode.STREAM_CLOSED)
            return
        stream.credit -= size
        if stream.credit < 0:
            self._reset(stream, ErrorCode.FLOW_CONTROL_ERROR)
            return
        if flags & frames.PADDED:
            payload = frames.unpadded(flags, payload)
        if not payload and not flags & frames.END_STREAM:
            self._spend(1)
        stream.data(payload, flags & frames.END_STREAM)

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.2."""
        if flags & (frames.PADDED | frames.WITH_PRIORITY):
            payload = frames.unpadded(flags, payload)
            if flags & frames.WITH_PRIORITY:
                if len(payload) < 5:
                    raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
                payload = payload[5:]
        if not number & 1:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, f"HEADERS on stream {number}")
        if flags & frames.END_HEADERS:
            self._on_block(flags, number, payload)
        else:
            self._block = (number, flags, payload, 0)

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.10."""
        if self._block is None or self._block[0] != number:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        _, first_flags, block, count = self._block
        block += payload
        if len(block) > self.limits.max_header_block_bytes or count >= self.limits.max_continuations:
            raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, "a header block without end")
        if flags & frames.END_HEADERS:
            self._block = None
            self._on_block(first_flags, number, block)
        else:
            self._block = (number, first_flags, block, count + 1)

    def _on_block(self, flags: int, number: int, block: bytes) -> None:
        """A whole header block: a new call, or the trailers of one."""
        # Decoded whatever becomes of it: the table that it changes is the connection's.
        fields = self._fields.decode(block)
        if number <= self._last_stream:
            self._on_trailers(flags, number)
            return
        if self._final:
            return  # the client was told; it will send this elsewhere (section 6.8)
        self._last_stream = number
        if len(self.streams) >= self.limits.max_streams:
            self._spend(1)
            self.write(frames.reset(number, ErrorCode.REFUSED_STREAM))
            return
        try:
            head, timeout = read_head(fields)
        except Malformed:
            self._spend(1)
            self.write(frames.reset(number, ErrorCode.PROTOCOL_ERROR))
            return
        if head.http_status != 200:
            self.write(wire.http_error(number, head.http_status, head.message))
            if not flags & frames.END_STREAM:
                self.write(frames.reset(number, ErrorCode.NO_ERROR))
            return
        route = self._routes.get(head.path)
        if route is None:
            self._refuse(flags, number, unimplemented(head.path))
            return
        deadline = time.monotonic() + timeout
        stream: AnyStream
        if isinstance(route, Unary):
            stream = UnaryStream(self, number, head, deadline, route.handle)
            self.streams[number] = stream
        else:
            stream = MessageStream(self, number, head, deadline)
            self.streams[number] = stream
            stream.open(route.open)
        if flags & frames.END_STREAM:
            stream.data(b"", frames.END_STREAM)

    def _on_trailers(self, flags: int, number: int) -> None:
        stream = self.streams.get(number)
        if stream is None:
            self._spend(1)
        elif not flags & frames.END_STREAM or not stream.receiving:
            self._reset(stream, ErrorCode.PROTOCOL_ERROR)
        else:
            stream.data(b"", frames.END_STREAM)

    def _on_priority(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.3: read and ignored."""
        self._spend(1)
        if number == 0 or len(payload) != 5:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "a PRIORITY that is none")

    def _on_reset(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.4."""
        self._spend(1)
        if len(payload) != 4:
            raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "a RST_STREAM that is not 4 bytes")
        if number == 0 or number > self._last_stream:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, f"RST_STREAM on stream {number}, which is not open")
        stream = self.streams.get(number)
        if stream is not None:
            self._drop(stream)

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.5."""
        self._spend(1)
        if number != 0:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            if payload:
                raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement with a payload")
            return
        if len(payload) % 6:
            raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a length that none has")
        self._spend(len(payload) // 60)
        for start in range(0, len(payload), 6):
            self._apply(int.from_bytes(payload[start : start + 2]), int.from_bytes(payload[start + 2 : start + 6]))
        self.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        # Only now: what the new windows allow must come after the acknowledgement that they are known.
        self._pump()

    def _apply(self, key: int, value: int) -> None:
        """Section 6.5.2. Of what else there is, nothing concerns a server that neither pushes nor indexes."""
        if key == frames.INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise PeerError(ErrorCode.FLOW_CONTROL_ERROR, "an initial window beyond 2^31 - 1")
            change = value - self.peer_window
            self.peer_window = value
            for stream in self.streams.values():
                stream.window += change
                if stream.window > MAX_WINDOW:
                    raise PeerError(ErrorCode.FLOW_CONTROL_ERROR, "a window beyond 2^31 - 1")
        elif key == frames.MAX_FRAME_SIZE and not MAX_FRAME_BYTES <= value < 1 << 24:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, f"a maximum frame size of {value}")
        elif key == frames.ENABLE_PUSH and value > 1:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, f"ENABLE_PUSH of {value}")

    def _on_push_promise(self, flags: int, number: int, payload: bytes) -> None:
        """Section 8.4: not for clients to send."""
        raise PeerError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.7. gRPC clients measure bandwidth with pings around DATA: they are answered at once."""
        if number != 0:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "a PING that is not 8 bytes")
        if flags & frames.ACK:
            self._pinged = False
            if payload == _AGE_PING and self._goaway_sent and not self._final:
                self._final = True
                self.write(frames.goaway(self._last_stream, ErrorCode.NO_ERROR))
                if not self.streams:
                    self._close()
            return
        self._spend(1)
        if not self.streams:
            self._check_idle_ping()
        self.write(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _check_idle_ping(self) -> None:
        """Defend against keepalive that is too keen, as gRPC does (gRFC A8)."""
        limits = self.limits
        if self._heard - self._last_ping < limits.min_ping_interval:
            self._idle_pings += 1
            if self._idle_pings > limits.max_pings_without_calls:
                raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings")
        else:
            self._idle_pings = 0
        self._last_ping = self._heard

    def _on_goaway(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.8: the client will open no more streams; those that are open go on."""
        self._spend(1)
        if number != 0:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "a GOAWAY that is too short")

    def _on_window_update(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.9."""
        self._spend(1)
        if len(payload) != 4:
            raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "a WINDOW_UPDATE that is not 4 bytes")
        increment = int.from_bytes(payload) & STREAM_MASK
        if number == 0:
            if not increment:
                raise PeerError(ErrorCode.PROTOCOL_ERROR, "a WINDOW_UPDATE of nothing")
            self.send_window += increment
            if self.send_window > MAX_WINDOW:
                raise PeerError(ErrorCode.FLOW_CONTROL_ERROR, "a window beyond 2^31 - 1")
            if self.blocked:
                self._pump()
            return
        stream = self.streams.get(number)
        if stream is None:
            if number > self._last_stream:
                raise PeerError(ErrorCode.PROTOCOL_ERROR, f"WINDOW_UPDATE on stream {number}, which is not open")
            return
        stream.window += increment
        if not increment or stream.window > MAX_WINDOW:
            self._reset(stream, ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR)
        elif stream.id in self.blocked:
            stream.pump()

    # The rest.

    def _flush(self) -> None:
        self._flushing = False
        out, self._out = self._out, []
        if not self._transport.is_closing():
            self._transport.write(b"".join(out))

    def _pump(self) -> None:
        for stream in tuple(self.blocked.values()):
            stream.pump()

    def _spend(self, cost: int) -> None:
        """Control frames cost patience, which answered calls give back: floods run out of it, clients do not."""
        self._patience -= cost
        if self._patience < 0:
            raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, "more control frames than calls account for")

    def _refuse(self, flags: int, number: int, error: StatusError) -> None:
        self.write(wire.trailers(number, error, only=True))
        if not flags & frames.END_STREAM:
            self.write(frames.reset(number, ErrorCode.NO_ERROR))

    def _reset(self, stream: AnyStream, code: ErrorCode) -> None:
        """End a stream whose client broke a rule (section 5.4.2)."""
        self._spend(1)
        self.write(frames.reset(stream.id, code))
        self._drop(stream)

    def _drop(self, stream: AnyStream) -> None:
        """Forget a stream that nobody waits for."""
        self.streams.pop(stream.id, None)
        self.blocked.pop(stream.id, None)
        self._release(stream)
        _cancel(stream)
        if self._final and not self.streams:
            self._close()

    def _release(self, stream: Flow) -> None:
        if stream.granted:
            self._budget += stream.granted
            stream.granted = 0
            self._grant_waiting()

    def _grant_waiting(self) -> None:
        while self._waiting:
            stream, size = self._waiting[0]
            if stream.id in self.streams:
                if size > self._budget:
                    return
                self._waiting.popleft()
                self.grant(stream, size)
            else:
                self._waiting.popleft()

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


def _cancel(stream: AnyStream) -> None:
    if not stream.ended:
        stream.ended = True
        if stream.on_cancel is not None:
            stream.on_cancel()


def _peer_name(transport: asyncio.BaseTransport) -> str:
    """As gRPC writes it: `ipv4:192.0.2.1:5000`."""
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple):
        return "unix:"
    host, port = name[0], name[1]
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"

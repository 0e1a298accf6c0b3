"""The calls of one HTTP/2 connection: their frames, and the rules of RFC 9113 that end them."""

from typing import TYPE_CHECKING

from serving.api.call import ANY, Routes, Streaming, Unary, not_offered
from serving.transport.native import frames, wire
from serving.transport.native.control import AnyStream, Control
from serving.transport.native.fields import FieldDecoder, Fields
from serving.transport.native.flow import Flow
from serving.transport.native.frames import DEFAULT_WINDOW, ErrorCode, PeerError
from serving.transport.native.head import Head, Malformed, read_head, read_timeout
from serving.transport.native.limits import Limits
from serving.transport.native.measured import MeasuredMessageStream, MeasuredUnaryStream
from serving.transport.native.streams import MessageStream, UnaryStream

if TYPE_CHECKING:
    from serving.transport.native.transport import NativeTransport


class Connection(Control):
    """The server's side of one connection."""

    def __init__(self, server: "NativeTransport", routes: Routes, limits: Limits) -> None:
        super().__init__(server, limits)
        self._routes = routes
        self._unknown = routes.get(ANY) or Streaming(not_offered)
        self._fields = FieldDecoder()
        self._last_fields: Fields | None = None
        self._last_head = Head("", (), b"", 0, "")
        self._receive_window = limits.connection_window
        self._block = (0, b"", 0)
        """Of a header block that is not complete: flags, bytes so far, CONTINUATION frames so far."""
        self._handlers = (
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

    # What streams and the transport ask of us.

    def malformed(self, stream: AnyStream) -> None:
        """A stream's request is not HTTP after all (section 8.1.1)."""
        self._reset(stream, ErrorCode.PROTOCOL_ERROR)

    def finished(self, stream: Flow) -> None:
        """All of a stream's answer is written."""
        if self.streams.pop(stream.id, None) is None:
            return
        if stream.receiving:
            # The client may stop sending what nobody reads (section 8.1).
            self.write(frames.reset(stream.id, ErrorCode.NO_ERROR))
            self.patience.expect_late(stream.credit)
        if self.held:
            self.held.pop(stream.id, None)
        self.budget.release(stream)
        self.patience.earn(self.limits.patience_per_call)
        if self._final and not self.streams:
            self._close()

    # Frames, one method a type.

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
            self._check_known(number, "DATA")
            self.patience.late_data(size)  # on its way when we ended the stream
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
            self.patience.spend(1)
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
            self._block_of = number
            self._block = (flags, payload, 0)

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.10."""
        if not number or self._block_of != number:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        first_flags, block, count = self._block
        block += payload
        if len(block) > self.limits.max_header_block_bytes or count >= self.limits.max_continuations:
            raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, "a header block without end")
        if flags & frames.END_HEADERS:
            self._block_of = 0
            self._block = (0, b"", 0)
            self._on_block(first_flags, number, block)
        else:
            self._block = (first_flags, block, count + 1)

    def _on_block(self, flags: int, number: int, block: bytes) -> None:
        """A whole header block: a new call, or the trailers of one."""
        # Decoded whatever becomes of it: the table that it changes is the connection's.
        fields, timeout = self._fields.decode(block)
        if number <= self._last_stream:
            self._on_trailers(flags, number)
            return
        if self._final:
            self.patience.spend(1)
            return  # the client was told; it will send this elsewhere (section 6.8)
        self._last_stream = number
        if len(self.streams) >= self.limits.max_streams:
            self.patience.spend(1)
            self.patience.expect_late(DEFAULT_WINDOW)
            self.write(frames.reset(number, ErrorCode.REFUSED_STREAM))
            return
        try:
            if fields is not self._last_fields:  # the very same, where its block was known
                self._last_head, self._last_fields = read_head(fields), fields
            head, deadline = self._last_head, self.came + read_timeout(timeout)
        except Malformed:
            self.patience.spend(1)
            self.write(frames.reset(number, ErrorCode.PROTOCOL_ERROR))
            return
        if not head.plain and head.http_status != 200:
            self.write(wire.http_error(number, head.http_status, head.message))
            self._stop_sending(flags, number)
            return
        route = self._routes.get(head.path) or self._unknown
        stream: AnyStream
        if isinstance(route, Unary):
            unary = UnaryStream if head.plain else MeasuredUnaryStream
            stream = unary(self, number, head, deadline, route.handle)
            self.streams[number] = stream
        else:
            stream = (MessageStream if head.plain else MeasuredMessageStream)(self, number, head, deadline)
            self.streams[number] = stream
            stream.receiving = not flags & frames.END_STREAM
            stream.open(route.open)
            if self._goaway_sent:
                stream.draining()
        if flags & frames.END_STREAM and not stream.ended:
            stream.data(b"", frames.END_STREAM)

    def _on_trailers(self, flags: int, number: int) -> None:
        stream = self.streams.get(number)
        if stream is None:
            self.patience.spend(1)
        elif not stream.receiving:
            self._reset(stream, ErrorCode.STREAM_CLOSED)
        elif not flags & frames.END_STREAM:
            self._reset(stream, ErrorCode.PROTOCOL_ERROR)
        else:
            stream.data(b"", frames.END_STREAM)

    def _on_reset(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.4."""
        self.patience.spend(1)
        if len(payload) != 4:
            raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "a RST_STREAM that is not 4 bytes")
        self._check_known(number, "RST_STREAM")
        stream = self.streams.get(number)
        if stream is not None:
            self._drop(stream)

    # The rest.

    def _stop_sending(self, flags: int, number: int) -> None:
        """The client may stop sending what nobody reads (section 8.1)."""
        if not flags & frames.END_STREAM:
            self.write(frames.reset(number, ErrorCode.NO_ERROR))
            self.patience.expect_late(DEFAULT_WINDOW)

    def _reset(self, stream: AnyStream, code: ErrorCode) -> None:
        """End a stream whose client broke a rule (section 5.4.2)."""
        self.patience.spend(1)
        self.write(frames.reset(stream.id, code))
        self._drop(stream)

    def _drop(self, stream: AnyStream) -> None:
        """Forget a stream that nobody waits for."""
        self.streams.pop(stream.id, None)
        self.blocked.pop(stream.id, None)
        self.held.pop(stream.id, None)
        self.budget.release(stream)
        if stream.pending:
            self.drained(sum(map(len, stream.pending)))
        stream.cancel()
        if self._final and not self.streams:
            self._close()

    def _cancel(self) -> None:
        streams, self.streams = self.streams, {}
        self.blocked.clear()
        self.held.clear()
        for stream in streams.values():
            stream.cancel()

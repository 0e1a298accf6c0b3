"""A call on an HTTP/2 stream: its message or messages in, its reply or replies out, each within its window.

RFC 9113 sections 5.1 (states) and 5.2 (flow control); "gRPC over HTTP/2", Length-Prefixed-Message.
"""

import zlib
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from serving.api.call import Call, Receiver, Stream
from serving.status import Code, StatusError, fault
from serving.transport.native import wire
from serving.transport.native.frames import DATA, DEFAULT_WINDOW, MAX_FRAME_BYTES, frame
from serving.transport.native.head import Head
from serving.transport.native.wire import PREFIX_BYTES

if TYPE_CHECKING:
    from serving.transport.native.connection import Connection

MAX_UNSENT: Final = 256
"""Messages of one stream that wait for the client to read, beyond which no more of it is taken."""


class Flow:
    """What both kinds of call share: a mixin, so that each stays one object of its own."""

    if not TYPE_CHECKING:  # the fields are slots of the two that mix it in, which a checker can't see
        __slots__ = ()

    id: int
    connection: "Connection"
    head: Head
    window: int
    """Bytes that we may send on this stream."""
    credit: int
    """Bytes that the client may still send on it."""
    granted: int
    """Of these, how many beyond the default, out of the connection's budget."""
    buffer: bytearray | None
    """What has come of the next message, where it did not come whole."""
    receiving: bool
    """The client has not ended its side."""
    ended: bool
    """We have: the trailers are sent or queued."""
    pending: deque[bytes] | None
    """DATA payloads that wait for room in a window."""
    last: bytes | None
    """The trailers, to be sent after them."""
    on_cancel: Callable[[], None] | None

    def _begin(self, connection: "Connection", number: int, head: Head) -> None:
        self.id = number
        self.connection = connection
        self.head = head
        self.window = connection.peer_window
        self.credit = DEFAULT_WINDOW
        self.granted = 0
        self.buffer = None
        self.receiving = True
        self.ended = False
        self.pending = None
        self.last = None

    def _take(self) -> bytes | None:
        """The next whole message of the buffer, if there is one; asks for what is missing of it.

        Raises:
            StatusError: it is larger than allowed, or compressed in a way that is not known.
        """
        buffer = self.buffer
        if not buffer or len(buffer) < PREFIX_BYTES:
            return None
        length = int.from_bytes(buffer[1:PREFIX_BYTES])
        self._check_length(length)
        missing = length + PREFIX_BYTES - len(buffer)
        if missing > 0:
            if self.receiving and missing > self.credit:
                self.connection.grant(self, missing - self.credit)
            return None
        message = bytes(buffer[PREFIX_BYTES : length + PREFIX_BYTES])
        compressed = buffer[0]
        del buffer[: length + PREFIX_BYTES]
        return self._unpack(message) if compressed else message

    def _check_length(self, length: int) -> None:
        limit = self.connection.limits.max_message_bytes
        if length > limit:
            raise StatusError(
                Code.RESOURCE_EXHAUSTED, f"a message of {length} bytes; this server takes {limit} at the most"
            )

    def _unpack(self, message: bytes) -> bytes:
        if self.head.encoding != b"gzip":
            raise StatusError(
                Code.UNIMPLEMENTED if self.head.encoding != b"identity" else Code.INTERNAL,
                f"a message compressed with {self.head.encoding.decode('ascii', 'replace')!r}; "
                "this server takes gzip and identity",
            )
        limit = self.connection.limits.max_message_bytes
        try:
            data = wire.decompress(message, limit)
        except zlib.error as error:
            raise StatusError(Code.INTERNAL, f"a message that is not gzip: {error}") from error
        if data is None:
            raise StatusError(
                Code.RESOURCE_EXHAUSTED, f"a message of more than {limit} bytes once unpacked, which is the limit"
            )
        return data

    def _send(self, payload: bytes | None, last: bytes | None) -> None:
        """Queue a DATA payload, the trailers or both, and send what there is room for."""
        if self.pending is None:
            self.pending = deque()
        if payload is not None:
            self.pending.append(payload)
        self.last = last
        if last is not None:
            self.ended = True
        self.pump()

    def pump(self) -> None:
        """Send what there is room for; called again when a window opens."""
        connection, pending = self.connection, self.pending
        assert pending is not None  # noqa: S101 - only streams that sent are pumped
        while pending:
            payload = pending[0]
            room = min(self.window, connection.send_window)
            if room <= 0 and payload:
                connection.blocked[self.id] = self
                return
            part = payload[: min(room, MAX_FRAME_BYTES)]
            self.window -= len(part)
            connection.send_window -= len(part)
            connection.write(frame(DATA, 0, self.id, part))
            connection.earn(connection.limits.patience_per_frame)
            if len(part) < len(payload):
                pending[0] = payload[len(part) :]
            else:
                pending.popleft()
        connection.blocked.pop(self.id, None)
        if self.last is not None:
            connection.write(self.last)
            connection.finished(self)
            self._over()

    def _over(self) -> None:
        """All is sent."""


class UnaryStream(Flow, Call):
    """A unary call."""

    __slots__ = (
        *("buffer", "connection", "credit", "ended", "granted", "handle", "head", "id", "last", "pending"),
        *("receiving", "window"),
    )

    def __init__(
        self,
        connection: "Connection",
        number: int,
        head: Head,
        deadline: float,
        handle: Callable[[Call, bytes], None],
    ) -> None:
        Call.__init__(self, head.path, head.metadata, deadline, connection.peer)
        self._begin(connection, number, head)
        self.handle = handle

    def data(self, payload: bytes, end: int) -> None:
        """A DATA frame's payload, and whether the client's side ends with it."""
        if end:
            self.receiving = False
            length = len(payload) - PREFIX_BYTES
            if (
                self.buffer is None
                and length >= 0
                and payload[0] == 0
                and int.from_bytes(payload[1:PREFIX_BYTES]) == length
                and length <= self.connection.limits.max_message_bytes
            ):
                self._handle(payload[PREFIX_BYTES:])
                return
        if self.buffer is None:
            self.buffer = bytearray()
        self.buffer += payload
        try:
            if end:
                message = self._take()
                if message is None or self.buffer:
                    raise StatusError(
                        Code.UNIMPLEMENTED, f"{self.method} takes one message; what came is not one whole message"
                    )
                self._handle(message)
            elif len(self.buffer) >= PREFIX_BYTES:
                length = int.from_bytes(self.buffer[1:PREFIX_BYTES])
                self._check_length(length)
                missing = length + PREFIX_BYTES - len(self.buffer)
                if missing < 0:
                    raise StatusError(Code.UNIMPLEMENTED, f"{self.method} takes one message, got more")
                if missing > self.credit:
                    self.connection.grant(self, missing - self.credit)
        except StatusError as error:
            self.fail(error)

    def _handle(self, message: bytes) -> None:
        try:
            self.handle(self, message)
        except Exception as error:  # noqa: BLE001 - the caller must be answered, whatever it is
            self.fail(fault(self.method, error))

    def reply(self, message: bytes) -> None:
        if self.ended:
            return
        connection = self.connection
        size = len(message) + PREFIX_BYTES
        if size <= self.window and size <= connection.send_window and size <= MAX_FRAME_BYTES:
            self.ended = True
            connection.send_window -= size
            connection.write(wire.unary_reply(self.id, message))
            connection.finished(self)
        else:
            connection.write(wire.headers(self.id))
            self._send(wire.message_prefix(message) + message, wire.trailers(self.id, None, only=False))

    def fail(self, error: StatusError) -> None:
        if not self.ended:
            self.ended = True
            self.connection.write(wire.trailers(self.id, error, only=True))
            self.connection.finished(self)


class MessageStream(Flow, Stream):
    """A call on which messages go both ways."""

    __slots__ = (
        *(
            "_half_closed",
            "_opened",
            "_paused",
            "buffer",
            "connection",
            "credit",
            "ended",
            "granted",
            "head",
            "id",
            "last",
        ),
        *("pending", "receiver", "receiving", "window"),
    )

    def __init__(
        self,
        connection: "Connection",
        number: int,
        head: Head,
        deadline: float,
    ) -> None:
        Stream.__init__(self, head.path, head.metadata, deadline, connection.peer)
        self._begin(connection, number, head)
        self._half_closed = False
        self._opened = False
        self._paused = False
        self.receiver: Receiver | None = None

    def open(self, opener: Callable[[Stream], Receiver]) -> None:
        """Let the handler make its receiver."""
        try:
            self.receiver = opener(self)
        except Exception as error:  # noqa: BLE001 - the caller must be answered, whatever it is
            self.finish(fault(self.method, error))

    def data(self, payload: bytes, end: int) -> None:
        """A DATA frame's payload, and whether the client's side ends with it."""
        if self.buffer is None:
            self.buffer = bytearray()
        self.buffer += payload
        if end:
            self.receiving = False
        self._deliver()

    def _deliver(self) -> None:
        """Hand over the messages that are there, unless paused; then make room for more."""
        receiver = self.receiver
        if receiver is None:
            return
        try:
            while not self.ended and not self._held():
                message = self._take()
                if message is None:
                    if self.receiving:
                        break
                    if self.buffer:
                        raise StatusError(Code.INTERNAL, "the stream ended within a message")
                    if not self._half_closed:
                        self._half_closed = True
                        receiver.half_closed()
                    return
                receiver.message(message)
        except StatusError as error:
            self.finish(error)
            return
        except Exception as error:  # noqa: BLE001 - the caller must be answered, whatever it is
            self.finish(fault(self.method, error))
            return
        if self.receiving and not self.ended and not self._held() and self.credit < DEFAULT_WINDOW // 2:
            self.connection.replenish(self)

    def _held(self) -> bool:
        return self._paused or (self.pending is not None and len(self.pending) >= MAX_UNSENT)

    def send(self, message: bytes) -> None:
        if self.ended:
            return
        if not self._opened:
            self._opened = True
            self.connection.write(wire.headers(self.id))
        self._send(wire.message_prefix(message) + message, None)

    def finish(self, error: StatusError | None = None) -> None:
        if self.ended:
            return
        if not self._opened and error is None:
            self._opened = True
            self.connection.write(wire.headers(self.id))
        self._send(None, wire.trailers(self.id, error, only=not self._opened))

    def _over(self) -> None:
        # Whatever the handler holds for the stream, it need not any more.
        if self.on_cancel is not None:
            self.on_cancel()

    def pump(self) -> None:
        held = self._held()
        super().pump()
        if held and not self._held() and not self.ended:
            self._deliver()

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            # Not from within the handler that is being handed a message.
            self.connection.later(self._deliver)

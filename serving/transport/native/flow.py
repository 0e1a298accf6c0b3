"""What comes and goes on one HTTP/2 stream: messages in, answers out, each within its window.

RFC 9113 section 5.2 (flow control); "gRPC over HTTP/2", Length-Prefixed-Message.
"""

import zlib
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from serving.status import Code, StatusError
from serving.transport.native import wire
from serving.transport.native.frames import DATA, DEFAULT_WINDOW, MAX_FRAME_BYTES, frame
from serving.transport.native.head import Head
from serving.transport.native.wire import PREFIX_BYTES

if TYPE_CHECKING:
    from serving.transport.native.connection import Connection

_EARNING_BYTES: Final = 1024
"""A DATA frame of fewer is small because its client opens windows by crumbs: that earns it no patience."""


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
    pending: deque[bytes | memoryview] | None
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
                self.connection.budget.grant(self, missing - self.credit)
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
            self.connection.unsent += len(payload)
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
            size = min(self.window, connection.send_window, MAX_FRAME_BYTES, len(payload))
            if size <= 0 or connection.paused:
                connection.blocked[self.id] = self
                return
            whole = size == len(payload)
            self.window -= size
            connection.send_window -= size
            connection.write(frame(DATA, 0, self.id, payload if whole else payload[:size]))
            if whole:
                pending.popleft()
            else:
                pending[0] = memoryview(payload)[size:]
            if whole or size >= _EARNING_BYTES:
                connection.patience.earn(connection.limits.patience_per_frame)
            connection.drained(size)
        connection.blocked.pop(self.id, None)
        if self.last is not None:
            connection.write(self.last)
            connection.finished(self)
            self._over()

    def _over(self) -> None:
        """All is sent."""

    def unhold(self) -> None:
        """Go on with what waited for other answers to be sent."""
        raise NotImplementedError

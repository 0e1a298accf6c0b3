"""The two kinds of call on an HTTP/2 stream (RFC 9113, section 5.1): one message each way, or any number."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from serving.api.call import Call, Receiver, Stream
from serving.status import Code, StatusError, fault
from serving.transport.native import wire
from serving.transport.native.flow import Flow
from serving.transport.native.frames import DEFAULT_WINDOW, MAX_FRAME_BYTES
from serving.transport.native.head import Head
from serving.transport.native.wire import PREFIX_BYTES

if TYPE_CHECKING:
    from serving.transport.native.connection import Connection

MAX_UNSENT: Final = 256
"""Messages of one stream that wait for the client to read, beyond which no more of it is taken."""


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
                    self.connection.budget.grant(self, missing - self.credit)
        except StatusError as error:
            self.fail(error)

    def _handle(self, message: bytes) -> None:
        connection = self.connection
        if connection.unsent > 2 * connection.limits.max_unsent_bytes:
            self.buffer = bytearray(message)
            connection.held[self.id] = self
            return
        try:
            self.handle(self, message)
        except Exception as error:  # noqa: BLE001 - the caller must be answered, whatever it is
            self.fail(fault(self.method, error, self.ids()))

    def unhold(self) -> None:
        assert self.buffer is not None  # noqa: S101 - that is where the message waits
        self._handle(bytes(self.buffer))

    def cancel(self) -> None:
        """The client is gone, or this call of it."""
        if not self.ended:
            self.ended = True
            if self.on_cancel is not None:
                self.on_cancel()

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
            self.connection.write(wire.trailers(self.id, error, only=True, request_id=self.request_id))
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
            self.finish(fault(self.method, error, self.ids()))

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
            self.finish(fault(self.method, error, self.ids()))
            return
        if self.receiving and not self.ended and not self._held() and self.credit < DEFAULT_WINDOW // 2:
            self.connection.budget.replenish(self)

    def _held(self) -> bool:
        if self._paused or (self.pending is not None and len(self.pending) >= MAX_UNSENT):
            return True
        connection = self.connection
        if connection.unsent <= connection.limits.max_unsent_bytes:
            return False
        if not self.ended:
            connection.held[self.id] = self
        return True

    def unhold(self) -> None:
        self._deliver()

    def draining(self) -> None:
        """The server is going: so may the handler."""
        if self.receiver is not None and not self.ended:
            self.receiver.draining()

    def cancel(self) -> None:
        """The client is gone, or this call of it; what it has been sent last may be unsent still."""
        self.ended = True
        self._over()

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
        request_id = "" if error is None else self.request_id
        self._send(None, wire.trailers(self.id, error, only=not self._opened, request_id=request_id))

    def _over(self) -> None:
        # Whatever the handler holds for the stream, it need not any more.
        on_cancel, self.on_cancel = self.on_cancel, None
        if on_cancel is not None:
            on_cancel()

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

"""Calls that announce their length: they are held to it.

RFC 9113, section 8.1.1: a request whose content-length is not the sum of its DATA is malformed. These are classes
of their own, since gRPC's clients announce nothing, and then nothing is to be counted.
"""

from typing import TYPE_CHECKING

from serving.transport.native.head import Head
from serving.transport.native.streams import MessageStream, UnaryStream

if TYPE_CHECKING:
    from serving.transport.native.connection import Connection


class MeasuredUnaryStream(UnaryStream):
    """A unary call of a length that is known."""

    __slots__ = ()

    def data(self, payload: bytes, end: int) -> None:
        """See `UnaryStream.data`, which sees nothing of a request that is longer or shorter than it said."""
        # All that came before is in the buffer: nothing else need be counted.
        buffer = self.buffer
        size = len(payload) if buffer is None else len(payload) + len(buffer)
        length = self.head.length or 0
        if size == length or (size < length and not end):
            UnaryStream.data(self, payload, end)
        else:
            self.connection.malformed(self)


class MeasuredMessageStream(MessageStream):
    """A streaming call of a length that is known."""

    __slots__ = ("_left",)

    def __init__(self, connection: "Connection", number: int, head: Head, deadline: float) -> None:
        super().__init__(connection, number, head, deadline)
        self._left = head.length or 0

    def data(self, payload: bytes, end: int) -> None:
        """See `MessageStream.data`."""
        self._left -= len(payload)
        if self._left < 0 or (end and self._left):
            self.connection.malformed(self)
        else:
            MessageStream.data(self, payload, end)

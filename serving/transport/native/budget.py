"""Room for messages larger than a stream's window: a bound on what the large messages of a connection hold together.

A message is given room for all of itself or waits, in turn, so that those that were given room always come to
their end.
"""

from collections.abc import Callable

from serving.transport.native import frames
from serving.transport.native.flow import Flow
from serving.transport.native.frames import DEFAULT_WINDOW
from serving.transport.native.limits import Limits


class Budget:
    """What one connection's streams may hold beyond their default windows."""

    def __init__(self, limits: Limits, write: Callable[[bytes], None]) -> None:
        # The largest message alone must fit, however little was allowed.
        self._left = max(limits.message_budget, limits.max_message_bytes)
        self._write = write
        self._waiting: dict[int, tuple[Flow, int]] = {}

    def grant(self, stream: Flow, size: int) -> None:
        """Give a stream room for the rest of a large message, at once or when others have freed it."""
        if size <= self._left and not self._waiting:
            self._give(stream, size)
        else:
            self._waiting[stream.id] = (stream, size)
            self._serve()

    def replenish(self, stream: Flow) -> None:
        """Give a stream back the room of what it sent and what was taken."""
        size = DEFAULT_WINDOW - stream.credit
        stream.credit += size
        self._write(frames.window_update(stream.id, size))
        self.release(stream)

    def release(self, stream: Flow) -> None:
        """A stream needs no more than its default window now, or nothing at all."""
        if stream.granted or stream.id in self._waiting:
            self._waiting.pop(stream.id, None)
            self._left += stream.granted
            stream.granted = 0
            self._serve()

    def _serve(self) -> None:
        while self._waiting:
            number, (stream, size) = next(iter(self._waiting.items()))
            if size > self._left:
                return
            del self._waiting[number]
            self._give(stream, size)

    def _give(self, stream: Flow, size: int) -> None:
        self._left -= size
        stream.granted += size
        stream.credit += size
        self._write(frames.window_update(stream.id, size))

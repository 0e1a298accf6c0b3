"""Calls that pass on everything, and tell somebody when they have ended, and how."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from serving.api.call import Call, Nobody, Receiver, Stream, Streaming, Unary
from serving.status import Code, StatusError, fault

Ended = Callable[[StatusError | None], None]
"""Called once: with None where a call succeeded, with CANCELLED where its client was gone before."""


class _Watched:
    """What both kinds share: a mixin, so that each stays one object of its own."""

    if not TYPE_CHECKING:  # the fields are slots of the two that mix it in, which a checker can't see
        __slots__ = ()

    _ended: Ended | None
    on_cancel: Callable[[], None] | None

    def over(self, error: StatusError | None = None) -> None:
        """Tell, unless that is done; whoever ends the call in another way than through this says so."""
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(error)

    def _cancel(self) -> None:
        on_cancel, self.on_cancel = self.on_cancel, None
        if on_cancel is not None:
            on_cancel()
        self.over(gone())


class WatchedCall(_Watched, Call):
    """A unary call."""

    __slots__ = ("_ended", "_inner", "follower")

    def __init__(self, call: Call, ended: Ended) -> None:
        super().__init__(call.method, call.metadata, call.deadline, call.peer)
        self._inner = call
        self._ended = ended
        self.follower = call.follower
        call.on_cancel = self._cancel

    @property
    def request_id(self) -> str:
        return self._inner.request_id

    def over(self, error: StatusError | None = None) -> None:
        # It holds us, and we hold it: without a collector's help neither would ever go.
        self._inner.on_cancel = None
        super().over(error)

    def reply(self, message: bytes) -> None:
        self._inner.reply(message)
        self.over(None)

    def fail(self, error: StatusError) -> None:
        self._inner.fail(error)
        self.over(error)


class WatchedStream(_Watched, Stream):
    """A streaming call."""

    __slots__ = ("_ended", "_inner", "follower")

    def __init__(self, stream: Stream, ended: Ended) -> None:
        super().__init__(stream.method, stream.metadata, stream.deadline, stream.peer)
        self._inner = stream
        self._ended = ended
        self.follower = stream.follower
        stream.on_cancel = self._cancel

    @property
    def request_id(self) -> str:
        return self._inner.request_id

    def send(self, message: bytes) -> None:
        self._inner.send(message)

    def finish(self, error: StatusError | None = None) -> None:
        # Before: a stream that has ended tells its handler as one does whose client is gone.
        ended, self._ended = self._ended, None
        self._inner.finish(error)
        if ended is not None:
            ended(error)

    def pause_reading(self) -> None:
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        self._inner.resume_reading()


class _Guarded(Receiver):
    """A receiver whose faults end its stream here, where they are seen, and not in the transport."""

    def __init__(self, stream: Stream, receiver: Receiver) -> None:
        self._stream = stream
        self._receiver = receiver

    def message(self, message: bytes) -> None:
        self._guard(self._receiver.message, message)

    def half_closed(self) -> None:
        self._guard(self._receiver.half_closed)

    def draining(self) -> None:
        self._guard(self._receiver.draining)

    def _guard(self, handle: Callable[..., None], *arguments: Any) -> None:
        try:
            handle(*arguments)
        except Exception as error:  # noqa: BLE001 - the caller must be answered, whatever it is
            self._stream.finish(fault(self._stream.method, error, self._stream.ids()))


def handle(route: Unary, call: Call, message: bytes) -> None:
    """Handle a watched call: its faults are answered through it."""
    try:
        route.handle(call, message)
    except Exception as error:  # noqa: BLE001 - the caller must be answered, whatever it is
        call.fail(fault(call.method, error, call.ids()))


def opened(route: Streaming, stream: Stream) -> Receiver:
    """Open a watched stream: its faults are answered through it."""
    try:
        return _Guarded(stream, route.open(stream))
    except Exception as error:  # noqa: BLE001 - the caller must be answered, whatever it is
        stream.finish(fault(stream.method, error, stream.ids()))
        return Nobody()


def gone() -> StatusError:
    """CANCELLED: nobody is told, but whoever watches."""
    return StatusError(Code.CANCELLED, "the client is gone", reason="cancelled")

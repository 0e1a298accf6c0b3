"""What an RPC is to its handler, whichever transport carries it.

A handler gets a call and finishes it exactly once, now or later, with a reply or an error. It never
awaits, so that a transport need not make a task for a unary call.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from serving import request_id
from serving.status import Code, StatusError, shown

Metadata = Sequence[tuple[str, str | bytes]]


class Context:
    """What is known of an RPC from its headers."""

    __slots__ = ("_request_id", "deadline", "metadata", "method", "on_cancel", "peer")

    follower: Any = None
    """Whoever traces or logs this RPC (`serving.observing.following`), where somebody does."""

    def __init__(self, method: str, metadata: Metadata, deadline: float, peer: str) -> None:
        self.method = method
        """Full name: `/package.Service/Method`."""
        self.metadata = metadata
        self.deadline = deadline
        """Seconds on the monotonic clock; infinite where the client set none."""
        self.peer = peer
        self.on_cancel: Callable[[], None] | None = None
        """Set by a handler; called at most once: when the client is gone before the answer, and for a stream
        also when it has ended in any other way."""

    @property
    def request_id(self) -> str:
        """The client's, or one that is made when first asked for: most calls end without need of any."""
        try:
            return self._request_id
        except AttributeError:
            given = next((value for key, value in self.metadata if key == request_id.HEADER), None)
            self._request_id: str = request_id.accepted(given) or request_id.made()
        return self._request_id

    def ids(self) -> dict[str, str]:
        """Under what the log speaks of this RPC; the first says it alone."""
        return {"request_id": self.request_id} if self.follower is None else self.follower.ids()


class Call(Context, ABC):
    """A unary RPC, its one message already received."""

    __slots__ = ()

    @abstractmethod
    def reply(self, message: bytes) -> None:
        """Finish with a message and status OK."""

    @abstractmethod
    def fail(self, error: StatusError) -> None:
        """Finish with an error."""

    def end(self, result: bytes | StatusError) -> None:
        """Finish with whichever it is."""
        if isinstance(result, StatusError):
            self.fail(result)
        else:
            self.reply(result)


class Stream(Context, ABC):
    """An RPC on which messages go both ways, any number of them."""

    __slots__ = ()

    @abstractmethod
    def send(self, message: bytes) -> None:
        """Send one message; the transport keeps the order."""

    @abstractmethod
    def finish(self, error: StatusError | None = None) -> None:
        """End the RPC, with status OK or an error, after what was sent."""

    @abstractmethod
    def pause_reading(self) -> None:
        """Take no more messages from the client until `resume_reading`."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Take messages from the client again."""


class Receiver(Protocol):
    """The handler's side of a stream."""

    def message(self, message: bytes) -> None:
        """The client sent a message."""

    def half_closed(self) -> None:
        """The client will send no more."""

    def draining(self) -> None:
        """The server is going: finish the stream as soon as what was taken from it is answered."""


@dataclass(frozen=True)
class Unary:
    """A route whose handler takes a call and its message."""

    handle: Callable[[Call, bytes], None]


@dataclass(frozen=True)
class Streaming:
    """A route whose handler opens a receiver for a stream."""

    open: Callable[[Stream], Receiver]


Routes = Mapping[str, Unary | Streaming]
"""By full method name."""

ANY: Final = "*"
"""The name in routes of what answers all methods that have none."""


class Nobody(Receiver):
    """Reads a stream that has ended."""

    def message(self, message: bytes) -> None: ...

    def half_closed(self) -> None: ...

    def draining(self) -> None: ...


def not_offered(stream: Stream) -> Receiver:
    """Ends the streams of methods that nobody offers, of whatever kind they are meant to be."""
    stream.finish(unimplemented(stream.method))
    return Nobody()


def unimplemented(method: str) -> StatusError:
    """UNIMPLEMENTED for a method that no route has."""
    return StatusError(Code.UNIMPLEMENTED, f"method {shown(method)} is not offered; reflection lists those that are")


def shutting_down() -> StatusError:
    """UNAVAILABLE for what is not started any more."""
    return StatusError(
        Code.UNAVAILABLE, "the server, or this connection to it, is shutting down; try another", reason="draining"
    )


def too_late(deadline: float, now: float) -> StatusError | None:
    """DEADLINE_EXCEEDED where the deadline has passed before any work was done, else None."""
    if deadline > now or math.isinf(deadline):
        return None
    return StatusError(
        Code.DEADLINE_EXCEEDED, "the deadline had passed when the request was looked at", reason="expired"
    )

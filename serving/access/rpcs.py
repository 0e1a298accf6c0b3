"""The gate before RPCs: routes that let in only who may ask, and only as much as they may."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from serving.access import rights
from serving.access.gate import Entry, Gate
from serving.access.limits import Client
from serving.access.rights import Named, Scopes
from serving.access.tokens import Token, Tokens
from serving.api import watched
from serving.api.call import Call, Metadata, Nobody, Receiver, Routes, Stream, Streaming, Unary
from serving.api.watched import WatchedCall, WatchedStream
from serving.status import Code, StatusError

Later = Callable[[float, Callable[[], None]], Any]
"""Calls back after so many seconds; what it gives has `cancel`. As an event loop's `call_later`."""

FIELD = "authorization"


def guarded(routes: Routes, gate: Gate, later: Later) -> Routes:
    """The same routes behind a gate, all but those that are open to anybody."""
    behind: dict[str, Unary | Streaming] = {}
    for method, route in routes.items():
        scopes = rights.needed(method)
        if scopes is None:
            behind[method] = route
        elif isinstance(route, Unary):
            behind[method] = Unary(partial(_handle, gate, scopes, rights.names(method), route))
        else:
            behind[method] = Streaming(partial(_open, gate, scopes, rights.names(method), later, route))
    return behind


def without_management(routes: Routes) -> Routes:
    """The same routes, but those that change what is served say that they do so elsewhere."""
    return {method: Unary(_elsewhere) if rights.manages(method) else route for method, route in routes.items()}


def elsewhere() -> StatusError:
    """What is said to who would change what is served, where that is not done."""
    return StatusError(
        Code.PERMISSION_DENIED, "models are loaded and unloaded at this server's management address, not here"
    )


def _elsewhere(call: Call, _: bytes) -> None:
    call.fail(elsewhere())


def _shown(metadata: Metadata) -> list[str]:
    return [value for name, value in metadata if name == FIELD and isinstance(value, str)]


def _handle(gate: Gate, scopes: Scopes, named: Named, route: Unary, call: Call, message: bytes) -> None:
    entry = None
    try:
        entry = gate.enter(_shown(call.metadata), call.peer, scopes)
        if entry.token is not None and entry.token.models is not None:
            entry.check(named(message))
    except StatusError as error:
        if entry is not None and entry.client is not None:
            entry.client.release()
        gate.refused(call.method, error, call.peer)
        call.fail(error)
        return
    client = entry.client
    if client is None:
        route.handle(call, message)
    else:
        watched.handle(route, WatchedCall(call, lambda _: client.release()), message)


def _open(gate: Gate, scopes: Scopes, named: Named, later: Later, route: Streaming, stream: Stream) -> Receiver:
    try:
        entry = gate.enter(_shown(stream.metadata), stream.peer, scopes)
    except StatusError as error:
        gate.refused(stream.method, error, stream.peer)
        stream.finish(error)
        return Nobody()
    receiver: Receiver
    if entry.client is None:
        receiver = route.open(stream)
    else:
        stream = receiver = paced = _Paced(stream, entry.client, gate.clock, later)
        paced.receiver = watched.opened(route, paced)
    if entry.token is not None:
        receiver = _Checked(receiver, stream, entry, entry.token, gate, named)
    return receiver


class _Checked(Receiver):
    """Ends a stream with the first message that comes when its token is good no more, or for which it is not."""

    def __init__(
        self, receiver: Receiver, stream: Stream, entry: Entry, token: Token, gate: Gate, named: Named
    ) -> None:
        self._receiver: Receiver = receiver
        self._stream = stream
        self._entry = entry
        self._token = token
        self._seen: Tokens | None = None
        self._gate = gate
        self._named = named

    def message(self, message: bytes) -> None:
        """Pass it on if it may be."""
        try:
            self._seen = self._gate.still(self._token, self._seen)
            if self._token.models is not None:
                self._entry.check(self._named(message))
        except StatusError as error:
            self._gate.refused(self._stream.method, error, self._stream.peer)
            self._stream.finish(error)
            self._receiver = Nobody()
        else:
            self._receiver.message(message)

    def half_closed(self) -> None:
        """Pass it on."""
        self._receiver.half_closed()

    def draining(self) -> None:
        """Pass it on."""
        self._receiver.draining()


class _Paced(WatchedStream, Receiver):
    """A stream that is read no faster than its client may ask, so that no message of it need be refused.

    Every message is a request, and answered by one. The stream itself has been let in as one: it is the place of the
    next message, and no more is read until there is another for the message after that.
    """

    __slots__ = ("_client", "_clock", "_due", "_later", "_paused", "_places", "_timer", "_waiting", "receiver")

    def __init__(self, stream: Stream, client: Client, clock: Callable[[], float], later: Later) -> None:
        super().__init__(stream, self._left)
        self._client = client
        self._clock = clock
        self._later = later
        self._places = 1
        """That it holds: one for each message which is not answered, and one for the next unless it waits for that."""
        self._due = 0
        """Answers."""
        self._paused = False
        """By its handler."""
        self._waiting = False
        """For a place."""
        self._timer: Any = None
        self.receiver: Receiver = Nobody()
        """Its handler."""

    # What the handler does.

    def send(self, message: bytes) -> None:
        super().send(message)
        if self._due:
            self._due -= 1
            self._places -= 1
            self._client.release()
            self._ask()
            self._next()

    def pause_reading(self) -> None:
        self._paused = True
        super().pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        if not self._waiting:
            super().resume_reading()

    # What the transport does.

    def message(self, message: bytes) -> None:
        """Pass it on, and see whether there may be another."""
        if self._ended is None:
            return  # it was on its way when the stream ended
        self._due += 1
        self._waiting = True
        self.receiver.message(message)
        self._ask()
        if self._waiting:
            super().pause_reading()

    def half_closed(self) -> None:
        """Pass it on."""
        self.receiver.half_closed()

    def draining(self) -> None:
        """Pass it on."""
        self.receiver.draining()

    def _ask(self) -> None:
        """Take a place for the next message: now, or in turn with the other streams of this client."""
        if not self._waiting:
            return
        line = self._client.line
        wait = 0.0 if next(iter(line), self) is self else math.inf
        wait = wait or self._client.take(self._clock())
        if wait:
            line[self] = None
            if wait < math.inf and self._timer is None:
                self._timer = self._later(wait, self._ask_again)
            return
        line.pop(self, None)
        self._places += 1
        self._waiting = False
        self._next()
        if not self._paused:
            super().resume_reading()

    def _next(self) -> None:
        """Have the first in line look for a place soon: not now, or a long line would be as deep a stack."""
        first = next(iter(self._client.line), None)
        if first is not None and first is not self:
            first.look_soon()

    def look_soon(self) -> None:
        """There may be a place."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._later(0.0, self._ask_again)

    def _ask_again(self) -> None:
        self._timer = None
        self._ask()

    def _left(self, _: StatusError | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._client.line.pop(self, None)
        self._waiting, self._due = False, 0
        self.receiver = Nobody()  # it holds us, and we hold it
        while self._places:
            self._places -= 1
            self._client.release()
        self._next()

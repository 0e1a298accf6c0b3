"""One HTTP connection: uvicorn's protocol, which parses and runs the application, held to limits and times.

What uvicorn leaves open: how large a head may be, how long head and body may take, how many requests may be
pipelined, and what becomes of a client that does not read. A refusal is JSON, as the application's are.
"""

import asyncio
import re
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from serving.api.peer import certified, named
from serving.api.rest.endpoint import ON_DISCONNECT
from serving.api.rest.errors import error_body
from serving.transport.http.limits import Limits

if TYPE_CHECKING:
    from serving.transport.http.transport import HttpTransport


_UPGRADE = re.compile(rb"\nupgrade[ \t]*:", re.IGNORECASE)
_IGNORED = b"\nx-other:"


class _Phase(Enum):
    """What a connection waits for from its client."""

    HEAD = "head"
    BODY = "body"
    NOTHING = ""
    """A request is there as a whole, or none was begun."""


class _BeyondLimitsError(Exception):
    """A request that is refused while it is parsed."""


class Connection(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self, server: "HttpTransport", config: Config, state: ServerState, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(config, state, {}, loop)
        self._server = server
        self._limits = server.limits
        self._phase = _Phase.HEAD
        self._timed = _Phase.NOTHING
        """The phase that the timer is for."""
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._progress = False
        """Did what came last begin or end a head, or was it part of a body?"""
        self._quiet = 0
        """Bytes that did not, since the last that did."""
        self._head_bytes = 0
        self._begun = False
        """Did any of the request come that is waited for?"""
        self._refusal: tuple[HTTPStatus, str] | None = None
        self._deaf = False
        """Nothing that comes is looked at any more."""
        self._active: RequestResponseCycle | None = None
        """The request that is being answered, which may not be the last that came."""

    # What asyncio tells us.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request, but not for ever."""
        super().connection_made(cast("asyncio.Transport", transport))
        if self.client is not None and (identity := certified(transport.get_extra_info("peercert"))):
            self.client = (named(self.client[0], identity), self.client[1])
        if len(self.connections) > self._limits.max_connections:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections; try again later, or another server")
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """Take what came, in so far as it keeps to the limits."""
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._progress = False
        if self._phase is not _Phase.BODY and _UPGRADE.search(data):
            data = _without_upgrade(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._deaf, self.cycle.keep_alive = True, False  # it is answered in HTTP/1.1, and there it ends
        except httptools.HttpParserError as error:
            # Of what can be wrong in a callback, all but our own refusals is the target.
            what = "its target can't be read" if isinstance(error, httptools.HttpParserCallbackError) else error
            self._refuse(*(self._refusal or (HTTPStatus.BAD_REQUEST, f"this is not HTTP/1.1: {what}")))
            return
        if self._progress:
            self._quiet = 0
        else:
            self._quiet += len(data)
            if self._quiet > self._limits.max_head_bytes:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, self._too_large)
                return
            if self._phase is _Phase.NOTHING and (self.cycle is None or self.cycle.response_complete):
                self._phase = _Phase.HEAD  # line breaks before a request count as its beginning
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever computes an answer is told that nobody waits for it."""
        super().connection_lost(exc)
        self._deaf = True
        self._unset_keepalive_if_required()
        for timer in (self._timer, self._stall):
            if timer is not None:
                timer.cancel()
        active, self._active = self._active, None
        if active is not None and not active.response_complete:
            active.disconnected = True
            active.message_event.set()
            told = active.scope["state"].pop(ON_DISCONNECT, None)
            if told is not None:
                told()
        self._server.connection_gone()

    def pause_writing(self) -> None:
        """The client does not read: it may take its time, but not for ever."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self._stall is not None and not self.transport.is_closing():
            self._stall.cancel()
            self._stall = None

    # What the parser tells us.

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._phase, self._progress, self._begun, self._head_bytes = _Phase.HEAD, True, True, 0

    def on_url(self, url: bytes) -> None:
        """A part of its target."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of its head, or of its trailers."""
        self._count(len(name) + len(value))
        if self._phase is _Phase.BODY:
            return  # of trailers nobody wants any, and none may pass for one of the head (RFC 9110, section 6.5.1)
        super().on_header(name, value)
        if len(self.headers) > self._limits.max_fields:
            self._beyond(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"more than {self._limits.max_fields} fields")

    def on_headers_complete(self) -> None:
        """Its head is there."""
        if len(self.pipeline) >= self._limits.max_pipelined:
            self._beyond(HTTPStatus.TOO_MANY_REQUESTS, f"more than {self._limits.max_pipelined} requests pipelined")
        super().on_headers_complete()
        self._phase, self._progress = _Phase.BODY, True
        if self._server.stopping:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        super().on_body(body)
        self._progress = True

    def on_message_complete(self) -> None:
        """All of it is there."""
        super().on_message_complete()
        self._phase, self._progress, self._begun = _Phase.NOTHING, True, False
        if self._timer is not None:
            self._set_timer(_Phase.NOTHING)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """An answer was written, perhaps the last."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._expect_reading()

    def timeout_keep_alive_handler(self) -> None:
        """No request came after an answer."""
        super().timeout_keep_alive_handler()
        self._expect_reading()

    # What the transport asks of us.

    def part(self) -> None:
        """Let the next answer be the last."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def abort(self) -> None:
        """Drop the connection and what is asked on it."""
        self.transport.abort()

    # The rest.

    @property
    def _peer(self) -> str:
        return "" if self.client is None else f"{self.client[0]}:{self.client[1]}"

    @property
    def _too_large(self) -> str:
        return f"the request's head is larger than {self._limits.max_head_bytes} bytes"

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.max_head_bytes:
            self._beyond(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, self._too_large)

    def _beyond(self, status: HTTPStatus, message: str) -> None:
        self._refusal = status, message
        raise _BeyondLimitsError

    def _watch(self) -> None:
        """Have the timer run for what is waited for; a part of it does not set it back."""
        if self._phase is not self._timed:
            self._set_timer(self._phase)

    def _set_timer(self, phase: _Phase) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed = phase
        if phase is not _Phase.NOTHING:
            limits = self._limits
            seconds = limits.head_seconds if phase is _Phase.HEAD else limits.body_seconds
            self._timer = self.loop.call_later(seconds, self._too_slow, phase, seconds)

    def _too_slow(self, phase: _Phase, seconds: float) -> None:
        if self._begun:
            reason = f"the request's {phase.value} did not come within {seconds:g} seconds"
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, reason)
        else:
            self._server.cut(self._peer, "it asks for nothing")
            self.transport.abort()

    def _expect_reading(self) -> None:
        """Cut the connection if the client leaves unread what was written: until it is sent, nothing else ends it."""
        if self._stall is None:
            self._stall = self.loop.call_later(self._limits.stall_seconds, self._stalled)

    def _stalled(self) -> None:
        self._server.cut(self._peer, "it does not read its answers")
        self.transport.abort()

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Take nothing more from this client, and say why where no answer is in the way."""
        self._deaf = True
        self._server.refused(self._peer, status, message)
        cycle = self.cycle
        if cycle is None or cycle.response_complete or (cycle is self._active and cycle.more_body):
            if cycle is None or not cycle.response_started or cycle.response_complete:
                self._say(status, message)
            self.transport.close()
            self._expect_reading()
        elif cycle.more_body:  # it is not the first in line
            self.transport.abort()
        else:
            cycle.keep_alive = False

    def _say(self, status: HTTPStatus, message: str) -> None:
        body = error_body(message)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)


def _without_upgrade(data: bytes) -> bytes:
    """A head whose offer to speak something else is passed over (RFC 9110, section 7.8): the parser would take what
    follows, body included, for that. Clients make it with any request, to see whether HTTP/2 is spoken.
    """
    head, blank, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(lambda found: _IGNORED[: len(found[0]) - 1] + b":", head) + blank + rest


def configure(application: Any, limits: Limits) -> Config:
    """What uvicorn's protocol needs to know; its logs go where all others do."""
    config = Config(
        application,
        http=Connection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        workers=1,
        timeout_keep_alive=cast("int", limits.idle_seconds),  # seconds of `call_later`, whole or not
    )
    config.load()
    return config


def new_state(connections: set[Connection]) -> ServerState:
    """What uvicorn's connections share."""
    state = ServerState()
    state.connections = connections  # type: ignore[assignment] # theirs are ours
    return state

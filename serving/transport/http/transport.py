"""The HTTP transport: a listening socket, the connections that it brought, and how they end."""

import asyncio
import logging
import socket
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from serving.transport.address import BACKLOG, listen
from serving.transport.http.limits import Limits
from serving.transport.live import LiveTls

if TYPE_CHECKING:
    from serving.transport.http.connection import Connection

log = logging.getLogger(__name__)

ACCEPT_TURNS = 8

DATE_SECONDS = 1.0
"""How old the date of an answer may be."""


class HttpTransport:
    """Serves an ASGI application over HTTP/1.1, on the event loop that it is started on."""

    def __init__(self, tls: LiveTls | None = None, limits: Limits | None = None) -> None:
        """The application bounds bodies itself."""
        self.limits = limits or Limits()
        self.stopping = False
        """Every answer is its connection's last."""
        self._tls = None if tls is None else tls.http_context()
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._state: Any = None
        self._ticking: asyncio.TimerHandle | None = None

    def bind(self, address: str) -> int:
        """Take `HOST:PORT`; connections wait until `start`. Returns the port, chosen by the system where it was 0.

        Raises:
            TransportError: it can't be had.
        """
        self._socket = listen(address, BACKLOG)
        return int(self._socket.getsockname()[1])

    def adopt(self, listening: socket.socket) -> None:
        """Listen on a socket that is shared with other processes, in place of `bind`."""
        self._socket = listening

    async def start(self, application: Any) -> None:
        """Serve an ASGI 3 application."""
        # Not before: what they import takes longer than all else that a server needs before it has models.
        from serving.transport.http.connection import Connection, configure, new_state

        assert self._socket is not None  # noqa: S101 - bound first
        loop, limits = asyncio.get_running_loop(), self.limits
        config, self._state = configure(application, limits), new_state(self._connections)
        self._tick(loop)
        options = dict[str, Any]()
        if self._tls is not None:
            options = {
                "ssl": self._tls,
                "ssl_handshake_timeout": limits.handshake_seconds,
                "ssl_shutdown_timeout": limits.shutdown_seconds,
            }
        self._server = await loop.create_server(
            lambda: Connection(self, config, self._state, loop), sock=self._socket, backlog=BACKLOG, **options
        )

    async def stop(self, grace: float) -> None:
        """Take no new connections, and return when every request that came is answered, or `grace` seconds later.

        Each connection is closed with its next answer, and one that waits for a request a moment later: who had
        sent one by then has the answer.
        """
        if self._server is None:
            if self._socket is not None:
                self._socket.close()
            return
        self.stopping = True
        # Those who are in the backlog have connected: they are taken.
        await _turns()
        self._server.close()
        await _turns()
        for connection in tuple(self._connections):
            connection.part()
        end = time.monotonic() + grace
        await self._all_gone(min(self.limits.settle_seconds, grace))
        for connection in tuple(self._connections):
            connection.shutdown()
        if not await self._all_gone(end - time.monotonic()):
            log.info("connections were still open at the end", extra={"connections": len(self._connections)})
        for connection in tuple(self._connections):
            connection.abort()
        await self._all_gone(None)
        await _turns()
        if self._ticking is not None:
            self._ticking.cancel()

    async def _all_gone(self, seconds: float | None) -> bool:
        """Wait for that many seconds, or for ever."""
        try:
            async with asyncio.timeout(seconds):
                while self._connections:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the date that answers bear (RFC 9110, section 6.6.1)."""
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        self._ticking = loop.call_later(DATE_SECONDS, self._tick, loop)

    # What connections tell us.

    def connection_gone(self) -> None:
        """One fewer."""
        if not self._connections:
            self._empty.set()

    def refused(self, peer: str, status: int, reason: str) -> None:
        """A client broke a rule, and its connection ends."""
        log.info("connection ended", extra={"peer": peer, "status": status, "reason": reason})

    def cut(self, peer: str, reason: str) -> None:
        """A client stalled, and its connection is cut."""
        log.info("connection cut", extra={"peer": peer, "reason": reason})


async def _turns() -> None:
    """Let the loop turn until what was accepted is a connection: that takes asyncio a few callbacks."""
    for _ in range(ACCEPT_TURNS):
        await asyncio.sleep(0)

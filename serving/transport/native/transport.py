"""The native transport: HTTP/2 and gRPC spoken directly on asyncio, for exactly this job."""

import asyncio
import logging
import math
import random
import socket
from collections.abc import Callable
from typing import Any

from serving.api.call import Routes
from serving.transport.address import BACKLOG, listen
from serving.transport.live import LiveTls
from serving.transport.native.connection import Connection
from serving.transport.native.frames import PeerError
from serving.transport.native.limits import Limits
from serving.transport.native.link import Link
from serving.transport.native.secure import SecureConnection
from serving.transport.native.turn import Turn

log = logging.getLogger(__name__)

ACCEPT_TURNS = 8

AGE_JITTER = 0.1
"""Of a connection's age: those that came together must not all go, and come again, together."""


QUIET_SECONDS = 10.0
"""Between two lines of the log about too many connections."""


class NativeTransport:
    """Serves routes over connections of its own."""

    serves_to_the_last = True
    settle_turns = 0  # what came at once is handed over at once

    def __init__(self, limits: Limits, tls: LiveTls | None = None, chance: Callable[[], float] = random.random) -> None:
        self.loop = asyncio.get_running_loop()
        self.turn = Turn(self.loop)
        self.connections: set[Link] = set()
        self.stopping = False
        """Connections that are made now are told to go at once."""
        self._limits = limits
        self._tls = None if tls is None else tls.context()
        self._chance = chance
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._empty = asyncio.Event()
        self._turned_away = 0
        self._quiet_until = -math.inf

    def bind(self, address: str) -> int:
        """See `Transport.bind`."""
        self._socket = listen(address, BACKLOG)
        return int(self._socket.getsockname()[1])

    def adopt(self, listening: socket.socket) -> None:
        """Listen on a socket that is shared with other processes, in place of `bind`."""
        self._socket = listening

    async def start(self, routes: Routes) -> None:
        """See `Transport.start`."""
        assert self._socket is not None  # noqa: S101 - bound first
        limits = self._limits
        kind, options = Connection, dict[str, Any]()
        if self._tls is not None:
            kind = SecureConnection
            options = {
                "ssl": self._tls,
                "ssl_handshake_timeout": limits.handshake_timeout,
                "ssl_shutdown_timeout": limits.shutdown_timeout,
            }
        self._server = await self.loop.create_server(
            lambda: kind(self, routes, limits), sock=self._socket, backlog=BACKLOG, **options
        )

    async def stop(self, grace: float) -> None:
        """See `Transport.stop`."""
        if self._server is None:
            if self._socket is not None:
                self._socket.close()
            return
        self.stopping = True
        # Those who are in the backlog have connected: they are taken, and told to go like the others.
        await _turns()
        self._server.close()
        await _turns()
        for connection in tuple(self.connections):
            connection.drain()
        try:
            async with asyncio.timeout(grace):
                await self._all_gone()
        except TimeoutError:
            log.info("connections were still open at the end", extra={"connections": len(self.connections)})
        for connection in tuple(self.connections):
            connection.abort()
        await self._all_gone()
        await _turns()

    async def _all_gone(self) -> None:
        while self.connections:
            self._empty.clear()
            await self._empty.wait()

    # What connections ask and tell us.

    def lifetime(self) -> float:
        """Seconds after which a connection that was just made is old."""
        return self._limits.max_age * (1 - AGE_JITTER + 2 * AGE_JITTER * self._chance())

    def crowded(self, peer: str) -> None:
        """A connection is one too many; said now and then, as there may be many."""
        self._turned_away += 1
        now = self.loop.time()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET_SECONDS
            about = {"peer": peer, "connections": len(self.connections) - 1, "refused": self._turned_away}
            log.warning("too many connections", extra=about)
            self._turned_away = 0

    def connection_gone(self) -> None:
        """One fewer."""
        if not self.connections:
            self._empty.set()

    def refused(self, peer: str, error: PeerError) -> None:
        """A peer broke a rule, and its connection ends."""
        log.info("connection ended", extra={"peer": peer, "code": error.code.name, "reason": str(error)})

    def cut(self, peer: str, why: str) -> None:
        """A peer was silent or stalled, and its connection is cut."""
        log.info("connection cut", extra={"peer": peer, "reason": why})


async def _turns() -> None:
    """Let the loop turn until what was accepted is a connection: that takes asyncio a few callbacks."""
    for _ in range(ACCEPT_TURNS):
        await asyncio.sleep(0)

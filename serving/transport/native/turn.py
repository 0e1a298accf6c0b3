"""One turn of the event loop, shared among connections: what they send must not keep it from what else it does.

Under overload there is always more to take, and taking costs CPU time even where it ends in a refusal. Were a turn
as long as there is something to take, batches that are through would wait for it, the executor would stand still
meanwhile, and hardly anything would be answered although nobody is idle.
"""

import asyncio
import logging
import time
from collections import deque
from typing import Final, Protocol

from serving import redaction

log = logging.getLogger(__name__)

TURN_SECONDS: Final = 0.001
"""For which connections may take frames in one turn of the loop."""


class Waiting(Protocol):
    """A connection that has taken as much as it might."""

    def go_on(self) -> None:
        """Take what came meanwhile; ask for another turn if that is too much."""

    def abort(self) -> None:
        """Drop the connection and all its calls."""


class Turn:
    """Whose turn it is: those that have waited for one go first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float = TURN_SECONDS) -> None:
        self._loop = loop
        self._seconds = seconds
        self._begun = False
        self._ends = 0.0
        self._waiting: deque[Waiting] = deque()

    def has_time(self, now: float) -> bool:
        """May frames be taken in this turn, at this time?"""
        if not self._begun:
            self._begun = True
            self._ends = now + self._seconds
            self._loop.call_soon(self._over)
            return True
        return now < self._ends

    def wait(self, connection: Waiting) -> None:
        """Let a connection go on in a later turn."""
        self._waiting.append(connection)

    def _over(self) -> None:
        self._begun = False
        waiting = self._waiting
        for _ in range(len(waiting)):
            if not self.has_time(time.monotonic()):
                return
            connection = waiting.popleft()
            try:
                connection.go_on()
            except Exception as error:
                # As asyncio does where data is received: of a message that found no memory, say, a part is lost.
                log.error("fault", exc_info=redaction.exc_info(error), extra={"where": "a connection"})
                connection.abort()

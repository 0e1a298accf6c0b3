"""What a server asks of a transport, however it speaks gRPC."""

from typing import Final, Protocol

from serving.api.call import Routes


class TransportError(Exception):
    """An address that can't be listened on; the message says which and why."""


AGE_GRACE_SECONDS: Final = 60.0
"""After a connection was asked to go for its age, in which the calls on it must come to their end."""


MAX_CONNECTIONS: Final = 16_384
"""That a port has at once, unless it is told otherwise."""


class Transport(Protocol):
    """Carries calls between clients and routes."""

    serves_to_the_last: bool
    """Whether `stop` sees to it that no call which reaches a route is lost. Else the routes must refuse them."""
    settle_turns: int
    """How many turns of the event loop may lie between calls that came at once."""

    def bind(self, address: str) -> int:
        """Take `HOST:PORT`; connections wait until `start`. Returns the port, chosen by the system where it was 0.

        Raises:
            TransportError: it can't be had.
        """

    async def start(self, routes: Routes) -> None:
        """Serve."""

    async def stop(self, grace: float) -> None:
        """Take no new calls, and return when those taken are answered, or `grace` seconds later."""

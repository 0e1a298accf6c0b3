"""What a server asks of a transport, however it speaks gRPC."""

from typing import Protocol

from serving.api.call import Routes


class TransportError(Exception):
    """An address that can't be listened on; the message says which and why."""


class Transport(Protocol):
    """Carries calls between clients and routes."""

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

"""How much one client may ask: requests in flight, and requests a second (a token bucket), each process by itself.

What is kept of clients is bounded: who has not been heard of for longest is forgotten first, and begins anew.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Any, Final

from serving.status import Code, StatusError

MAX_CLIENTS: Final = 10_000
"""That are remembered."""

BUSY_SECONDS: Final = 0.1
"""After which who has too much in flight may try again: nobody knows when it is answered."""

REASON: Final = "client_limit"
"""As which refusals are counted."""

_LOOKS: Final = 8
"""Clients that are looked at for one to forget: preferably one that has nothing in flight."""


@dataclass(frozen=True)
class Allowance:
    """What a client is allowed. Zero is no limit."""

    requests: int = 0
    """In flight."""
    rate: float = 0.0
    """A second. Those of one second, and at least one, may come at once."""

    @property
    def limits(self) -> bool:
        """Is anything limited?"""
        return self.requests > 0 or self.rate > 0

    @cached_property
    def burst(self) -> float:
        """Requests that may come at once."""
        return max(1.0, self.rate)


class Client:
    """One client: what it has in flight, and how much more it may ask for by now."""

    __slots__ = ("_allowance", "_bucket", "_filled", "in_flight", "line")

    def __init__(self, allowance: Allowance, now: float) -> None:
        self._allowance = allowance
        self._bucket = allowance.burst
        self._filled = now
        self.in_flight = 0
        self.line: OrderedDict[Any, None] = OrderedDict()
        """Its streams that wait for a place, in the order of their coming: only the first looks for one."""

    def take(self, now: float) -> float:
        """Begin a request: 0 where it may, else the seconds after which to try again. `release` ends it."""
        allowance = self._allowance
        if allowance.requests and self.in_flight >= allowance.requests:
            return BUSY_SECONDS
        if allowance.rate:
            # Time may seem to go back by a hair: calls are dated by when they came.
            if now > self._filled:
                self._bucket = min(allowance.burst, self._bucket + (now - self._filled) * allowance.rate)
                self._filled = now
            if self._bucket < 1.0:
                return (1.0 - self._bucket) / allowance.rate
            self._bucket -= 1.0
        self.in_flight += 1
        return 0.0

    def release(self) -> None:
        """A request is over."""
        self.in_flight -= 1

    def refusal(self, seconds: float) -> StatusError:
        """What is said to a request that may not begin."""
        allowance = self._allowance
        if allowance.requests and self.in_flight >= allowance.requests:
            what = f"{self.in_flight} requests of this client are in flight, and it may have {allowance.requests}"
        else:
            what = f"this client may ask {allowance.rate:g} times a second"
        return StatusError(
            Code.RESOURCE_EXHAUSTED, f"{what}; try again a little later", reason=REASON, retry_after=seconds
        )


class Clients:
    """All of them, by name."""

    def __init__(self, allowance: Allowance, clock: Callable[[], float], most: int = MAX_CLIENTS) -> None:
        """`clock` gives seconds, as a monotonic one does; `most` are remembered."""
        self.clock = clock
        self._allowance = allowance
        self._most = most
        self._clients: OrderedDict[str, Client] = OrderedDict()

    def __len__(self) -> int:
        return len(self._clients)

    def client(self, name: str) -> Client:
        """The one of that name."""
        clients = self._clients
        client = clients.get(name)
        if client is None:
            if len(clients) >= self._most:
                self._forget()
            client = clients[name] = Client(self._allowance, self.clock())
        else:
            clients.move_to_end(name)
        return client

    def _forget(self) -> None:
        for _ in range(_LOOKS):
            name, client = self._clients.popitem(last=False)
            if not client.in_flight:
                return
            self._clients[name] = client
        self._clients.popitem(last=False)


def host(address: str) -> str:
    """An address by which a client is known: of IPv6 its /64, of which one client has all (RFC 6177, section 2)."""
    try:
        ip = ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(IPv6Network((int(ip), 64), strict=False))

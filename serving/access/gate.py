"""Where a request is let in, or is not: by the token that it shows, and by what its client has asked already."""

import logging
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from serving.access.limits import Client, Clients, host
from serving.access.rights import Scopes
from serving.access.tokens import Token, Tokens
from serving.status import Code, StatusError, shown

log = logging.getLogger(__name__)

UNAUTHORISED: Final = "unauthorised"
"""As which refusals are counted that are not of limits."""

SCHEME: Final = "bearer"

QUIET_SECONDS: Final = 10.0
"""Between two lines of the log about refused requests, of which there may be many."""

_ONE: Final = "expected `authorization: Bearer TOKEN`, once"


class Entry(NamedTuple):
    """A request that was let in."""

    token: Token | None
    client: Client | None
    """To be released when the request is over."""

    def check(self, model: str | None) -> None:
        """See that it may ask of this model; of all, where that is empty, and of none, where it is None.

        Raises:
            StatusError: PERMISSION_DENIED.
        """
        token = self.token
        if token is None or token.models is None or model is None or model in token.models:
            return
        what = f"model {shown(model)}" if model else "all models at once"
        raise StatusError(
            Code.PERMISSION_DENIED, f"this token is not for {what}; it has a list of models", reason=UNAUTHORISED
        )


class Gate:
    """One server's."""

    def __init__(
        self,
        tokens: Callable[[], Tokens] | None,
        clients: Clients | None,
        count: Callable[[str, StatusError], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        """Make one.

        Args:
            tokens: those that are valid at present; None where none are asked for.
            clients: whose requests are counted; None where nothing is limited.
            count: takes the route and the error of every request that is refused.
            now: seconds since the epoch.
        """
        self._tokens = tokens
        self._clients = clients
        self.clock = time.monotonic if clients is None else clients.clock
        self._count = count
        self._now = now
        self._quiet_until = 0.0
        self._unsaid = 0

    def enter(self, shown: list[str], peer: str, scopes: Scopes) -> Entry:
        """Let a request in.

        Args:
            shown: the values of its field `authorization`.
            peer: where it comes from, as gRPC writes it; a `Peer` where more is known.
            scopes: of which its token must have one.

        Raises:
            StatusError: UNAUTHENTICATED, PERMISSION_DENIED or RESOURCE_EXHAUSTED.
        """
        token = None if self._tokens is None else self._find(self._tokens(), shown, scopes)
        if self._clients is None:
            return Entry(token, None)
        client = self._clients.client(f"token {token.name}" if token is not None else name(peer))
        wait = client.take(self._clients.clock())
        if wait:
            raise client.refusal(wait)
        return Entry(token, client)

    def still(self, token: Token, seen: Tokens | None) -> Tokens:
        """See that a token is good still with which something was begun that goes on.

        Args:
            token: that was shown.
            seen: what this gave the last time; None before.

        Raises:
            StatusError: UNAUTHENTICATED.
        """
        assert self._tokens is not None  # noqa: S101 - or none would have been let in by one
        tokens = self._tokens()
        expired = token.expires is not None and token.expires.timestamp() <= self._now()
        if expired or not (tokens is seen or token in tokens):
            raise _unknown()
        return tokens

    def refused(self, route: str, error: StatusError, peer: str) -> None:
        """Count a request that was not let in, and say so in the log, now and then."""
        self._count(route, error)
        self._unsaid += 1
        now = self._now()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET_SECONDS
            about = {"peer": peer, "route": route, "code": error.code.name, "requests": self._unsaid}
            log.warning("requests refused", extra=about)
            self._unsaid = 0

    def _find(self, tokens: Tokens, shown: list[str], scopes: Scopes) -> Token:
        scheme, _, secret = shown[0].partition(" ") if len(shown) == 1 else ("", "", "")
        secret = secret.strip()
        if scheme.lower() != SCHEME or not secret:
            raise StatusError(Code.UNAUTHENTICATED, f"this server asks for a token: {_ONE}", reason=UNAUTHORISED)
        token = tokens.find(secret.encode("utf-8", "replace"), self._now())
        if token is None:
            raise _unknown()
        if scopes.isdisjoint(token.scopes):
            wanted = " or ".join(sorted(scopes))
            raise StatusError(
                Code.PERMISSION_DENIED, f"this token has not the scope that this needs: {wanted}", reason=UNAUTHORISED
            )
        return token


def _unknown() -> StatusError:
    return StatusError(Code.UNAUTHENTICATED, "this token is unknown here, or has expired", reason=UNAUTHORISED)


def name(peer: str) -> str:
    """A client's, where it shows no token: the identity in its certificate, else its address without the port."""
    identity = getattr(peer, "identity", "")
    return f"certificate {identity}" if identity else _address(peer)


@lru_cache(maxsize=4096)
def _address(peer: str) -> str:
    """A peer's, without its port, as `host` has it; gRPC's core writes brackets as it would in a URI."""
    kind, _, rest = peer.partition(":")
    at = rest.rpartition(":")[0] if kind in ("ipv4", "ipv6") else ""
    return host(at.replace("%5B", "").replace("%5D", "").replace("%25", "%")) if at else "unix"

"""The gate before paths of the HTTP API: ASGI around ASGI, which lets in only who may ask, and as much as they may.

It comes before the body is read, so that nobody sends one in vain; and what goes through it has ended when it returns.
"""

from collections.abc import Iterable
from typing import Any, Final

from serving.access import rights
from serving.access.gate import Gate
from serving.access.rights import Scopes
from serving.access.rpcs import FIELD, elsewhere
from serving.api.peer import located
from serving.api.rest.ask import Ask
from serving.api.rest.endpoint import refuse
from serving.api.rest.errors import Fields
from serving.status import Code, StatusError

REALM: Final = b'Bearer realm="triptych"'

_CHALLENGES: Final = {
    Code.UNAUTHENTICATED: b', error="invalid_token"',
    Code.PERMISSION_DENIED: b', error="insufficient_scope"',
}
_FIELD: Final = FIELD.encode()


class GuardedPath:
    """One path, behind a gate."""

    def __init__(self, path: str, scopes: Scopes, application: Any, gate: Gate) -> None:
        """`path`: its variable parts in braces."""
        self._path = path
        self._scopes = scopes
        self._model = rights.path_model(path)
        self._application = application
        self._gate = gate

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        shown = [value.decode("latin-1") for name, value in scope["headers"] if name == _FIELD]
        host, port = scope.get("client") or ("", 0)
        peer = located(host, port, getattr(host, "identity", ""))
        entry = None
        try:
            entry = self._gate.enter(shown, peer, self._scopes)
            entry.check((scope.get("path_params") or {}).get("model", self._model))
            await self._application(scope, receive, send)
        except StatusError as error:
            self._gate.refused(self._path, error, peer)
            await refuse(_ask(scope), error, _challenge(error, shown), receive, send)
        finally:
            if entry is not None and entry.client is not None:
                entry.client.release()


class Elsewhere:
    """Stands for a path that changes what is served, where that is done at another address."""

    # No function: Starlette would call one with a request of its own, and for GET alone.
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        await refuse(_ask(scope), elsewhere(), (), receive, send)


def _ask(scope: Any) -> Ask:
    return Ask(scope.get("path_params") or {}, dict(scope["headers"]), 0.0)


def _challenge(error: StatusError, shown: Iterable[str]) -> Fields:
    """What goes with 401 and 403 (RFC 6750, section 3): no error where no token was shown."""
    if error.code not in _CHALLENGES:
        return ()
    return ((b"www-authenticate", REALM + (_CHALLENGES[error.code] if any(shown) else b"")),)

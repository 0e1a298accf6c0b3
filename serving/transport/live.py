"""TLS whose files may change: every handshake takes what is newest of them, and connections that are made live on.

A context stands for the one that is current when a connection comes, so that of the old one nothing is left, its
clients' CAs and its session tickets included.
"""

import logging
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

import grpc

from serving.reload import Reloaded, Told
from serving.transport.tls import HANDSHAKE_SECONDS, Loaded, Tls

log = logging.getLogger(__name__)

KIND: Final = "tls"

MAX_HANDSHAKES: Final = 4096
"""That may be under way at once, beyond which connections are closed unheard: each holds some tens of kilobytes, and
its client need not prove anything."""

SOON_SECONDS: Final = 7 * 24 * 3600.0
"""Before its end, in which a certificate is warned of when it is loaded."""


class LiveTls:
    """The TLS of one process."""

    def __init__(self, tls: Tls, told: Told, expires: Callable[[float], None]) -> None:
        """Read the files.

        Args:
            tls: where they are.
            told: as `Reloaded` has it.
            expires: told when the certificate does, in seconds since the epoch, whenever one was loaded.

        Raises:
            TlsError: they can't be used.
        """
        self._expires = expires
        self._verifies = bool(tls.client_ca)
        self.reloaded: Reloaded[Loaded] = Reloaded(KIND, tls.files, lambda: self._seen(tls.load()), told)

    @property
    def verifies(self) -> bool:
        """Do clients show certificates?"""
        return self._verifies

    def context(self) -> ssl.SSLContext:
        """For HTTP/2, as long as it is used."""
        return _Current(lambda: self.reloaded.made.grpc)

    def http_context(self) -> ssl.SSLContext:
        """For HTTP/1.1."""
        return _Current(lambda: self.reloaded.made.http)

    def credentials(self) -> Any:
        """What gRPC's core needs, which asks for each handshake; it demands TLS 1.2 and the same ciphers by itself."""
        given = self.reloaded.made

        def newer() -> Any:
            nonlocal given
            made = self.reloaded.made
            if made is given:
                return None
            given = made
            return _configuration(made)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(given), newer, require_client_authentication=self._verifies
        )

    def _seen(self, loaded: Loaded) -> Loaded:
        self._expires(loaded.expires)
        left = loaded.expires - time.time()
        about = {"expires": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(loaded.expires))}
        if left <= 0:
            log.error("the server's certificate has expired: clients refuse it", extra=about)
        elif left < SOON_SECONDS:
            log.warning("the server's certificate expires soon", extra={**about, "days": round(left / 86_400, 1)})
        return loaded


def _configuration(loaded: Loaded) -> Any:
    return grpc.ssl_server_certificate_configuration([(loaded.key, loaded.certificate)], loaded.client_ca)


class _Current(ssl.SSLContext):
    """Stands for whichever context is current: event loops ask for no more than a connection's beginning."""

    def __new__(cls, current: Callable[[], ssl.SSLContext]) -> "_Current":
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, current: Callable[[], ssl.SSLContext]) -> None:
        self._find = current
        self._handshakes: dict[int, float] = {}
        """Those under way, by number, and when each began."""
        self._count = 0

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """A connection begins."""
        under_way, now = self._handshakes, time.monotonic()
        while under_way:
            # They end in time, or have been cut.
            oldest = next(iter(under_way))
            if under_way[oldest] > now - HANDSHAKE_SECONDS:
                break
            del under_way[oldest]
        if len(under_way) >= MAX_HANDSHAKES:
            raise ConnectionAbortedError("too many TLS handshakes at once")
        context = self._find()
        context.sslobject_class = _Watched
        made: Any = context.wrap_bio(*arguments, **options)
        self._count += 1
        under_way[self._count] = now
        made.ended = lambda number=self._count: under_way.pop(number, None)
        return made  # type: ignore[no-any-return]


class _Watched(ssl.SSLObject):
    """One connection, which tells when its handshake is over, or it is gone."""

    ended: Callable[[], object] = staticmethod(lambda: None)
    """Until it is told otherwise: one that could not be made ends, too."""

    def do_handshake(self) -> None:
        """Go on with it; raises while it is not over."""
        super().do_handshake()
        self.ended()

    def __del__(self) -> None:
        self.ended()

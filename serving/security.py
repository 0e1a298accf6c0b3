"""What guards a server, made from its settings: TLS, tokens and limits, and their files looked at for as long."""

import ipaddress
import logging
import time
from typing import Any

from serving.access.gate import Gate
from serving.access.limits import Allowance, Clients
from serving.access.tokens import Tokens, read
from serving.config import Settings
from serving.reload import Looking, Reloaded
from serving.status import StatusError
from serving.telemetry.metrics import UNKNOWN, Metrics
from serving.transport.live import LiveTls

log = logging.getLogger(__name__)

TOKENS = "tokens"
"""As what the tokens file is reloaded, in the log and in metrics."""


class Security:
    """One process's."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Read the files.

        Raises:
            TlsError: those of TLS can't be used.
            TokenError: that of the tokens can't.
        """
        watched: list[Reloaded[Any]] = []
        self.tls: LiveTls | None = None
        if settings.tls is not None:
            self.tls = LiveTls(settings.tls, metrics.reloaded, metrics.certificate_expires)
            watched.append(self.tls.reloaded)
        tokens: Reloaded[Tokens] | None = None
        if settings.tokens:
            tokens = Reloaded(TOKENS, (settings.tokens,), lambda: read(settings.tokens), metrics.reloaded)
            watched.append(tokens)
        self.gate = _gate(settings, tokens, metrics)
        for each in watched:
            metrics.watches(each.kind)
        self._looking = Looking(watched)

    def start(self) -> None:
        """Take files anew that change from now on."""
        self._looking.start()

    def stop(self) -> None:
        """The process ends."""
        self._looking.stop()


def _gate(settings: Settings, tokens: Reloaded[Tokens] | None, metrics: Metrics) -> Gate | None:
    """None where there is nothing to guard: then no request is looked at."""
    allowance = Allowance(settings.max_client_requests, settings.max_client_rate)
    if tokens is None and not allowance.limits:
        return None

    def count(route: str, error: StatusError) -> None:
        metrics.rejected(UNKNOWN, error.reason)
        # An RPC by its name alone, as elsewhere; a path as it is, its variable parts in braces.
        method = route if route.startswith(("/v1/", "/v2")) else route.rpartition("/")[2]
        metrics.answered(UNKNOWN, UNKNOWN, method or route, error.code.name, 0.0)

    metrics.guarded()
    clients = Clients(allowance, time.monotonic) if allowance.limits else None
    return Gate(None if tokens is None else lambda: tokens.made, clients, count)


def warn(settings: Settings) -> None:
    """Say which doors are open that perhaps should not be."""
    addresses = [settings.grpc_address, settings.http_address]
    separate = [each for each in (settings.management_address, settings.management_http_address) if each]
    if settings.tokens and settings.tls is None and (exposed := _exposed(addresses + separate)):
        log.warning("tokens travel in the open: anybody on the way can read and use them", extra={"ports": exposed})
    if settings.model_control == "explicit" and not settings.tokens and not settings.tls_client_ca:
        exposed = _exposed(separate or addresses)
        if exposed:
            log.warning("whoever reaches the server may load and unload models", extra={"ports": exposed})


def _exposed(addresses: list[str]) -> str:
    """Those that others than this machine can reach."""
    return ", ".join(address for address in addresses if not _loopback(address.rpartition(":")[0].strip("[]")))


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

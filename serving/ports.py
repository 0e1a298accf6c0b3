"""The ports of a server, for everybody and for management: bound or shared, served, and drained together."""

import asyncio
import math
import socket
from collections.abc import Mapping
from typing import Final

from serving.config import Settings
from serving.services import Services
from serving.transport.grpcio import GrpcioTransport
from serving.transport.http.transport import HttpTransport
from serving.transport.interface import Transport
from serving.transport.live import LiveTls
from serving.transport.native import limits as native
from serving.transport.native.transport import NativeTransport

GRPC: Final = "grpc"
HTTP: Final = "http"
MANAGEMENT: Final = "management"
MANAGEMENT_HTTP: Final = "management_http"


def addresses(settings: Settings) -> dict[str, str]:
    """Where to listen, by port."""
    wanted = {
        GRPC: settings.grpc_address,
        HTTP: settings.http_address,
        MANAGEMENT: settings.management_address,
        MANAGEMENT_HTTP: settings.management_http_address,
    }
    return {name: address for name, address in wanted.items() if address}


class Ports:
    """Those of one process, but for that of metrics."""

    def __init__(self, settings: Settings, tls: LiveTls | None) -> None:
        self._addresses = addresses(settings)
        grpc = _transport(settings, tls)
        self._grpc: dict[str, Transport] = {GRPC: grpc}
        self._http = {HTTP: HttpTransport(tls)}
        if MANAGEMENT in self._addresses:
            self._grpc[MANAGEMENT] = _transport(settings, tls)
        if MANAGEMENT_HTTP in self._addresses:
            self._http[MANAGEMENT_HTTP] = HttpTransport(tls)
        self.settle_turns = grpc.settle_turns
        self.serves_to_the_last = grpc.serves_to_the_last

    def bind(self) -> dict[str, int]:
        """Take the addresses; returns the ports, by name.

        Raises:
            TransportError: one can't be had.
        """
        bound = {name: transport.bind(self._addresses[name]) for name, transport in self._grpc.items()}
        return bound | {name: transport.bind(self._addresses[name]) for name, transport in self._http.items()}

    def adopt(self, sockets: Mapping[str, socket.socket]) -> None:
        """Listen on sockets that are shared with other processes, in place of `bind`."""
        for name, transport in {**self._grpc, **self._http}.items():
            assert isinstance(transport, NativeTransport | HttpTransport)  # noqa: S101 - the settings saw to it
            transport.adopt(sockets[name])

    async def start(self, services: Services) -> None:
        """Serve."""
        await self._grpc[GRPC].start(services.routes())
        await self._http[HTTP].start(services.application())
        if MANAGEMENT in self._grpc:
            await self._grpc[MANAGEMENT].start(services.management_routes())
        if MANAGEMENT_HTTP in self._http:
            await self._http[MANAGEMENT_HTTP].start(services.management_application())

    async def stop(self, grace: float) -> None:
        """Take no more calls, and see to those that were taken."""
        await asyncio.gather(
            *(transport.stop(grace) for transport in self._grpc.values()),
            *(transport.stop(grace) for transport in self._http.values()),
        )


def _transport(settings: Settings, tls: LiveTls | None) -> Transport:
    max_age = settings.max_connection_age_seconds or math.inf
    if settings.transport == "grpcio":
        return GrpcioTransport(
            settings.max_message_bytes, tls, max_connections=settings.max_connections, max_age=max_age
        )
    limits = native.Limits(
        max_message_bytes=settings.max_message_bytes, max_connections=settings.max_connections, max_age=max_age
    )
    return NativeTransport(limits, tls)

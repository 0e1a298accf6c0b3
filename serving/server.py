"""A server's life: load, warm, be ready, serve, drain, stop."""

import asyncio
import gc
import importlib
import logging
import math
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serving import services
from serving.api import health as names
from serving.api.exchange import Backend
from serving.api.health import Health
from serving.api.management import Management
from serving.api.tasks import TASKS
from serving.config import Settings
from serving.engine import device
from serving.engine.batcher import Limits
from serving.engine.device import DeviceError
from serving.manager import Manager, NoModelError
from serving.memory import give_back
from serving.metrics import Metrics
from serving.probes import Probes
from serving.repository.local import Local
from serving.repository.models import Models
from serving.transport.grpcio import GrpcioTransport
from serving.transport.http.transport import HttpTransport
from serving.transport.interface import Transport, TransportError
from serving.transport.native import limits as native
from serving.transport.native.transport import NativeTransport
from serving.transport.tls import TlsError

log = logging.getLogger(__name__)

COLLECTOR_THRESHOLD = 10_000
"""Objects more than before at which Python's collector looks for cycles among the new ones: a third of a
millisecond's work, and only tracebacks and the like make any."""

SAME_SIGNAL_SECONDS = 0.5
"""A signal to a process group often comes twice, passed on by a parent: that is not being asked twice."""


MODEL_HEALTH = "models/"


class StartError(Exception):
    """The server can't start; the message says why and what to do."""


@dataclass(frozen=True)
class Share:
    """What a server gets from its supervisor, where it is one of several on a port."""

    worker: int
    sockets: dict[str, socket.socket]
    """Those that listen, `grpc` and `http`."""
    governed: Callable[[Models, Metrics, asyncio.AbstractEventLoop], "Governed"]
    """Makes the worker's end of what its supervisor controls."""


class Governed(Management, Protocol):
    """What changes models, and can be asked to."""

    async def start(self) -> None:
        """Wait until the models are there that are to be served from the start.

        Raises:
            NoModelError: a server can't start with what is there.
        """

    def ready(self) -> None:
        """The ports are served."""

    def stop(self) -> None:
        """Change nothing any more."""


class Server:
    """One process, its ports and its models."""

    def __init__(self, settings: Settings, started: float | None = None, share: Share | None = None) -> None:
        self._settings = settings
        self._share = share
        self._started = time.monotonic() if started is None else started
        self._stopping = asyncio.Event()
        self._hurried = asyncio.Event()
        self._asked = 0.0
        self._serving = False
        self._health = Health()
        self._metrics = Metrics()
        self._probes = Probes(self._metrics.registry, self._health.serving)
        self._transport = _transport(settings)
        self._http = HttpTransport(settings.tls)
        self._models = Models(
            Path(settings.models),
            device.choose(settings.device),
            Limits(
                settings.max_batch_rows,
                settings.max_queue_rows,
                max_delay=settings.max_batch_delay,
                settle_turns=self._transport.settle_turns,
            ),
            self._metrics,
            asyncio.get_running_loop(),
            {task.model: task.problem for task in TASKS},
        )
        self._models.changed = self._changed
        self._models_changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._governed: Governed = (
            Manager(settings, Local(self._models, loop), self._metrics, loop)
            if share is None
            else share.governed(self._models, self._metrics, loop)
        )
        self._backend = Backend(self._models, self._metrics, settings.max_text_tokens)
        self._loaded = False
        self.grpc_port = 0
        self.http_port = 0
        self.metrics_port = 0

    async def run(self) -> None:
        """Live until a signal or `stop` ends it.

        Raises:
            StartError: it never began.
        """
        self._listen_to_signals()
        try:
            self._bind()
            if not await self._load():
                return
            await self._serve()
            self._serving = True
            trimming = asyncio.ensure_future(give_back(self._models_changed))
            await self._stopping.wait()
            await self._drain()
            trimming.cancel()
        finally:
            if not self._serving:
                await self._stop(0)
            self._probes.stop()

    def stop(self) -> None:
        """Begin to stop; asked again, drop what is still in flight."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._asked = time.monotonic()
        elif time.monotonic() - self._asked > SAME_SIGNAL_SECONDS:
            self._hurried.set()

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

    def _bind(self) -> None:
        # Ports first: a busy one is known before seconds are spent on models.
        settings = self._settings
        if self._share is not None:
            assert isinstance(self._transport, NativeTransport)  # noqa: S101 - the settings saw to it
            self._transport.adopt(self._share.sockets["grpc"])
            self._http.adopt(self._share.sockets["http"])
            self._set_health()
            return
        try:
            self.grpc_port = self._transport.bind(settings.grpc_address)
            self.http_port = self._http.bind(settings.http_address)
            self._set_health()
            self.metrics_port = self._probes.start(settings.metrics_address)
        except TransportError as error:
            raise StartError(str(error)) from error

    async def _load(self) -> bool:
        """Load the models, on a thread so that signals are heeded; False if one came first."""
        # Meanwhile, on another thread, so that nobody waits for it.
        importing = asyncio.ensure_future(asyncio.to_thread(_import_http))
        loading = asyncio.ensure_future(self._governed.start())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not loading.done():
            loading.cancel()
            log.info("stopping", extra={"reason": "a signal came while models were loaded"})
            return False
        try:
            loading.result()
        except NoModelError as error:
            raise StartError(str(error)) from error
        await importing
        self._loaded = True
        # What is loaded stays, and what a request leaves behind is freed without the collector's help: it need
        # not look through either again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(COLLECTOR_THRESHOLD)
        return True

    async def _serve(self) -> None:
        what = (self._settings, self._backend, self._governed, self._health)
        await self._transport.start(services.routes(*what))
        await self._http.start(services.application(*what))
        self._set_health()
        if self._share is not None:
            seconds = round(time.monotonic() - self._started, 3)
            log.info("worker ready", extra={"worker": self._share.worker, "seconds": seconds})
            self._governed.ready()
            return
        announce(self._settings, self.grpc_port, self.http_port, self.metrics_port, self._started)

    async def _drain(self) -> None:
        settings = self._settings
        self._set_health()
        log.info("stopping", extra={"lame_duck_seconds": settings.lame_duck_seconds})
        await self._pause(settings.lame_duck_seconds)
        self._governed.stop()
        self._backend.draining = not self._transport.serves_to_the_last
        stop = asyncio.ensure_future(self._stop(settings.drain_seconds))
        hurried = asyncio.ensure_future(self._hurried.wait())
        await asyncio.wait({stop, hurried}, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not stop.done():
            log.warning("stopping at once, as asked a second time")
            await self._stop(0)
        await stop
        await self._models.close()
        log.info("stopped", extra={"answered": self._metrics.answers})

    async def _stop(self, grace: float) -> None:
        """Take no more calls over either transport, and see to those that were taken."""
        await asyncio.gather(self._transport.stop(grace), self._http.stop(grace))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._hurried.wait()
        except TimeoutError:
            pass

    def _changed(self) -> None:
        self._models_changed.set()
        self._set_health()

    def _set_health(self) -> None:
        health = self._health
        serving = self._loaded and not self._stopping.is_set()
        ready = self._models.ready
        health.set(names.LIVENESS, True)
        health.set(names.STARTUP, self._loaded)
        health.set(names.READINESS, serving and self._models.all_ready)
        for service in services.NAMES:
            health.set(service, serving)
        for name, has_version in ready.items():
            health.set(MODEL_HEALTH + name, serving and has_version)
        for name in health.names:
            if name.startswith(MODEL_HEALTH) and name.removeprefix(MODEL_HEALTH) not in ready:
                health.set(name, None)


def announce(settings: Settings, grpc_port: int, http_port: int, metrics_port: int, started: float) -> None:
    """Say that the server serves, and where."""
    host, http_host, metrics_host = (
        address.rpartition(":")[0]
        for address in (settings.grpc_address, settings.http_address, settings.metrics_address)
    )
    log.info(
        "serving",
        extra={
            "grpc": f"{host}:{grpc_port}",
            "http": f"http{'' if settings.tls is None else 's'}://{http_host}:{http_port}",
            "metrics": f"http://{metrics_host}:{metrics_port}/metrics",
            "seconds": round(time.monotonic() - started, 3),
        },
    )


async def serve(settings: Settings, started: float, share: Share | None = None) -> None:
    """Run a server to its end.

    Raises:
        StartError: it can't start.
    """
    try:
        server = Server(settings, started, share)
    except (DeviceError, TlsError) as error:
        raise StartError(str(error)) from error
    await server.run()


def _import_http() -> None:
    """Import what only HTTP needs: it takes about as long as to load a model."""
    for module in ("serving.api.rest.application", "serving.transport.http.connection"):
        importlib.import_module(module)


def _transport(settings: Settings) -> Transport:
    max_age = settings.max_connection_age_seconds or math.inf
    if settings.transport == "grpcio":
        return GrpcioTransport(settings.max_message_bytes, settings.tls, max_age=max_age)
    return NativeTransport(native.Limits(max_message_bytes=settings.max_message_bytes, max_age=max_age), settings.tls)

"""A server's life: load, warm, be ready, serve, drain, stop."""

import asyncio
import contextlib
import gc
import importlib
import logging
import signal
import socket
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serving.access.tokens import TokenError
from serving.announce import announce
from serving.api import health as names
from serving.api.exchange import Backend
from serving.api.health import Health
from serving.api.management import Management
from serving.api.tasks import TASKS
from serving.config import Settings
from serving.engine import device
from serving.engine.batcher import Limits
from serving.engine.device import CudaOptions, DeviceError
from serving.engine.runs import Runs
from serving.manager import Manager, NoModelError
from serving.observing.observing import Observing
from serving.ports import Ports
from serving.probes import Probes
from serving.process.descriptors import raise_limit
from serving.process.memory import give_back
from serving.process.watchdog import Watchdog
from serving.repository.local import Local
from serving.repository.models import Models
from serving.security import Security
from serving.services import NAMES, Services
from serving.telemetry.gpu import gpus
from serving.telemetry.metrics import Metrics
from serving.transport.interface import TransportError
from serving.transport.tls import TlsError

log = logging.getLogger(__name__)

COLLECTOR_THRESHOLD = 10_000
"""Objects more than before at which Python's collector looks for cycles among the new ones: a third of a
millisecond's work, and only tracebacks and the like make any."""

SAME_SIGNAL_SECONDS = 0.5
"""A signal to a process group often comes twice, passed on by a parent: that is not being asked twice."""


MODEL_HEALTH = "models/"

DEVICE_LOST = 71
"""Exit code of a process whose device only another one can use: EX_OSERR of sysexits(3)."""


class StartError(Exception):
    """The server can't start; the message says why and what to do."""


@dataclass(frozen=True)
class Share:
    """What a server gets from its supervisor, where it is one of several on a port."""

    worker: int
    sockets: dict[str, socket.socket]
    """Those that listen, by the names of ports."""
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

    def failed(self, name: str, number: int, digest: str, reason: str) -> None:
        """A version that is served is sound no more; called on whatever thread."""


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
        self._metrics.watch_ready(lambda: self._healthy(names.READINESS))
        self._probes = Probes(self._metrics.registry, self._healthy)
        self._security = Security(settings, self._metrics)
        self._ports = Ports(settings, self._security.tls)
        self._devices = device.choose(settings.device, CudaOptions(settings.gpu_memory_limit, settings.tf32))
        self._metrics.device(settings.device, self._devices[0].provider)
        indices = [chosen.index for chosen in self._devices if chosen.index is not None]
        if indices and (watched := gpus(indices)) is not None:
            self._metrics.registry.register(watched)
        loop = self._loop = asyncio.get_running_loop()
        self._runs = Runs()
        self._models = Models(
            Path(settings.models),
            self._devices,
            Limits(
                settings.max_batch_rows,
                settings.max_queue_rows,
                max_delay=settings.max_batch_delay,
                settle_turns=self._ports.settle_turns,
            ),
            self._metrics,
            loop,
            {task.model: task.problem for task in TASKS},
            self._runs,
        )
        self._models.changed = self._changed
        self._models_changed = asyncio.Event()
        self._models.failed = self._version_failed
        self._watchdog = Watchdog(
            settings.watchdog_seconds,
            self._runs,
            loop.call_soon_threadsafe,
            self._metrics.hung,
            self._set_health_soon,
        )
        self._governed: Governed = (
            Manager(settings, Local(self._models, loop), self._metrics, loop)
            if share is None
            else share.governed(self._models, self._metrics, loop)
        )
        self._backend = Backend(self._models, self._metrics, settings.max_text_tokens)
        self._observing = Observing(settings, None if share is None else share.worker, loop)
        self._observing.attach(self._backend, self._models)
        self._loaded = False
        self.exit_code = 0
        self.ports: dict[str, int] = {}
        """Those that were bound, by name."""
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
                await self._ports.stop(0)
            self._watchdog.stop()
            self._security.stop()
            self._probes.stop()
            # Who has not come to the end of a TLS handshake is known to the loop alone, which cuts it off as it is
            # closed. That uvloop warns of it, where warnings are errors, would keep it from doing so, for ever.
            warnings.filterwarnings("ignore", "unclosed resource <TCPTransport", ResourceWarning)

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
            self._ports.adopt(self._share.sockets)
            self._set_health()
            return
        try:
            self.ports = self._ports.bind()
            self._set_health()
            self.metrics_port = self._probes.start(settings.metrics_address)
            raise_limit()
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
        self._watchdog.start()
        self._security.start()
        await self._ports.start(
            Services(
                self._settings,
                self._backend,
                self._governed,
                self._health,
                self._security.gate,
                self._observing.following,
            )
        )
        self._set_health()
        if self._share is not None:
            seconds = round(time.monotonic() - self._started, 3)
            log.info("worker ready", extra={"worker": self._share.worker, "seconds": seconds})
            self._governed.ready()
            return
        announce(self._settings, self.ports, self.metrics_port, self._started)

    async def _drain(self) -> None:
        settings = self._settings
        self._set_health()
        log.info("stopping", extra={"lame_duck_seconds": settings.lame_duck_seconds})
        if not self.exit_code:
            await self._pause(settings.lame_duck_seconds)
        self._governed.stop()
        self._backend.draining = not self._ports.serves_to_the_last
        end = time.monotonic() + settings.drain_seconds
        stop = asyncio.ensure_future(self._ports.stop(settings.drain_seconds))
        hurried = asyncio.ensure_future(self._hurried.wait())
        await asyncio.wait({stop, hurried}, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not stop.done():
            log.warning("stopping at once, as asked a second time")
            await self._ports.stop(0)
        await stop
        self._runs.end()  # nobody waits for them any more
        await self._models.close()
        await self._observing.close(end - time.monotonic())
        log.info("stopped", extra={"answered": self._metrics.answers})

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._hurried.wait()
        except TimeoutError:
            pass

    def _version_failed(self, name: str, number: int, digest: str, reason: str) -> None:
        """A version that is served is sound no more; called on whatever thread."""
        problems = [found for found in map(device.problem, self._devices) if found is not None and not found.passing]
        if not problems:
            self._governed.failed(name, number, digest, reason)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it ends anyhow
                self._loop.call_soon_threadsafe(self._give_up, problems[0].words)

    def _give_up(self, reason: str) -> None:
        """End, for a new process to begin: only that can have the device again."""
        if self._stopping.is_set():
            return  # told of every version, it would seem to be asked twice, and drop what is in flight
        log.critical("the device is lost: exiting", extra={"reason": reason, "exit_code": DEVICE_LOST})
        self.exit_code = DEVICE_LOST
        self.stop()

    def _changed(self) -> None:
        self._models_changed.set()
        self._set_health()

    def _healthy(self, name: str) -> bool | None:
        """What plain HTTP says of a name, also while the loop hangs."""
        if self._watchdog.hung and name in (names.LIVENESS, names.READINESS):
            return False
        return self._health.serving(name)

    def _set_health_soon(self) -> None:
        self._loop.call_soon_threadsafe(self._set_health)

    def _set_health(self) -> None:
        health = self._health
        serving = self._loaded and not self._stopping.is_set()
        ready = self._models.ready
        health.set(names.LIVENESS, not self._watchdog.hung)
        health.set(names.STARTUP, self._loaded)
        health.set(names.READINESS, serving and self._models.all_ready and not self._watchdog.hung)
        for service in NAMES:
            health.set(service, serving)
        for name, has_version in ready.items():
            health.set(MODEL_HEALTH + name, serving and has_version)
        for name in health.names:
            if name.startswith(MODEL_HEALTH) and name.removeprefix(MODEL_HEALTH) not in ready:
                health.set(name, None)


async def serve(settings: Settings, started: float, share: Share | None = None) -> int:
    """Run a server to its end; returns the process's exit code.

    Raises:
        StartError: it can't start.
    """
    try:
        server = Server(settings, started, share)
    except (DeviceError, TlsError, TokenError) as error:
        raise StartError(str(error)) from error
    await server.run()
    return server.exit_code


def _import_http() -> None:
    """Import what only HTTP needs: it takes about as long as to load a model."""
    for module in ("serving.api.rest.application", "serving.transport.http.connection"):
        importlib.import_module(module)

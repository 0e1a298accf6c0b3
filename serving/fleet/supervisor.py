"""Several workers on the same ports: started, controlled and counted together, replaced when they die.

The ports are bound once and their sockets shared, so that connections which wait in one when a worker dies are taken
by another. Workers are spawned, not forked: each has its own models, threads and event loop. The supervisor has the
models folder watched and the metrics port; it serves nothing itself.
"""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from serving import manager
from serving.announce import announce
from serving.config import Settings
from serving.fleet import worker
from serving.fleet.line import Answer, Line, LineEndedError
from serving.fleet.workers import Workers, merged
from serving.ports import addresses
from serving.probes import Probes
from serving.process.descriptors import raise_limit
from serving.repository.control import Control
from serving.repository.later import loading
from serving.server import SAME_SIGNAL_SECONDS, StartError
from serving.telemetry.metrics import PROCESS_COLLECTORS, Metrics
from serving.transport.address import BACKLOG, listen
from serving.transport.interface import TransportError

log = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 0.1
LAST_BACKOFF_SECONDS = 10.0
STEADY_SECONDS = 60.0
"""A worker that lived this long did not die of its start: the next one starts at once again."""

SPARE_SECONDS = 5.0
"""Beyond lame duck and drain, after which a worker that is still there is killed."""

RESTARTS = "triptych_worker_restarts_total"


@dataclass
class _Place:
    """A worker's place, whoever holds it."""

    number: int
    process: SpawnProcess | None = None
    line: Line | None = None
    ready: bool = False
    born: float = 0.0
    deaths: int = 0
    """In a row, each soon after its start."""
    due: float = 0.0
    """When the next one is to be started."""


class Supervisor(Collector):
    """The process that owns the ports and the workers."""

    def __init__(self, settings: Settings, started: float) -> None:
        self._settings = settings
        self._started = started
        self._spawn = multiprocessing.get_context("spawn")
        self._places = [_Place(number) for number in range(1, settings.workers + 1)]
        self._restarts = 0
        self._serving = False
        self._stopping = False
        self._problem = ""
        self._wake_up, self._woken = os.pipe2(os.O_NONBLOCK)[::-1]
        self._workers = Workers()
        self._metrics = Metrics()
        self._metrics.watch_ready(lambda: self._health("readiness"))
        self._control = manager.control(settings, self._workers, self._metrics)
        self._counting = ThreadPoolExecutor(1, thread_name_prefix="counting")
        registry = CollectorRegistry()
        registry.register(self)
        self._probes = Probes(registry, self._health)

    def run(self) -> None:
        """Live until a signal ends it.

        Raises:
            StartError: it never began.
        """
        settings = self._settings
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        try:
            self._sockets = {name: listen(address, BACKLOG) for name, address in addresses(settings).items()}
            port = self._probes.start(settings.metrics_address)
            raise_limit()
        except TransportError as error:
            raise StartError(str(error)) from error
        try:
            self._watch(port)
        finally:
            self._stop()
            self._probes.stop()

    def collect(self) -> Iterator[Metric]:
        """The workers' metrics, added up; to memory, CPU time and the like this process adds its own."""
        own = [metric for collector in PROCESS_COLLECTORS for metric in collector.collect()]
        yield from merged([own, list(self._metrics.instruments.collect()), *self._workers.scrape()])
        restarts = CounterMetricFamily(RESTARTS, "Workers that died and were replaced.")
        restarts.add_metric([], self._restarts)
        yield restarts

    def describe(self) -> list[Metric]:
        """Nothing is asked of workers that are not there yet."""
        return []

    def _signalled(self, *_: object) -> None:
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        os.write(self._wake_up, b"!")

    def _health(self, name: str) -> bool:
        if name == "startup":
            return self._serving
        if name == "readiness":
            return not self._stopping and self._workers.models_ready and any(place.ready for place in self._places)
        return True

    def _watch(self, metrics_port: int) -> None:
        """Start workers, and again whenever one is missing."""
        for place in self._places:
            self._workers.add(self._start(place)[0])
        self._control.ask(partial(manager.start, self._settings), self._loaded_all)
        while not self._stopping:
            if self._problem:
                raise StartError(self._problem)
            now = time.monotonic()
            for place in self._places:
                if place.process is None and place.due <= now:
                    line, process = self._start(place)
                    self._control.ask(partial(self._workers.join, line), partial(self._joined, process))
            waiting: list[Any] = [self._woken]
            waiting += [place.process.sentinel for place in self._places if place.process is not None]
            due = [place.due - now for place in self._places if place.process is None]
            wait(waiting, timeout=max(0.0, min(due)) if due else None)
            if not self._stopping:
                drained(self._woken)
            for place in self._places:
                self._look(place)
            if not self._serving and all(place.ready for place in self._places):
                self._serving = True
                ports = {name: listening.getsockname()[1] for name, listening in self._sockets.items()}
                announce(self._settings, ports, metrics_port, self._started)

    def _start(self, place: _Place) -> tuple[Line, SpawnProcess]:
        ours, theirs = self._spawn.Pipe()
        name = f"worker-{place.number}"
        process = self._spawn.Process(
            target=worker.main, args=(place.number, self._settings, self._sockets, theirs), name=name
        )
        process.start()
        theirs.close()
        line = Line(ours, partial(self._asked, place), name)
        place.process, place.line, place.ready, place.born = process, line, False, time.monotonic()
        return line, process

    def _asked(self, place: _Place, what: str, argument: Any, answer: Answer) -> None:
        """A worker wants something."""
        if what == worker.READY:
            place.ready = True
            self._wake()
            answer(None)
        elif what == worker.INDEX:
            self._control.ask(Control.index, answer)
        elif what == worker.LOAD:
            self._control.ask(loading(argument), answer)
        elif what == worker.UNLOAD:
            self._control.ask(lambda control: control.unload(argument), answer)
        elif what == worker.FAILED:
            self._control.ask(lambda control: control.failed(*argument), answer)
        elif what == worker.ALL_STATISTICS:
            # Not here: the line must stay free for this worker's own part.
            self._counting.submit(lambda: answer(self._workers.statistics(argument)))

    def _loaded_all(self, error: BaseException | None) -> None:
        if error is None:
            self._workers.start()
        else:
            self._problem = str(error)
            self._wake()

    def _joined(self, process: SpawnProcess, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, LineEndedError):
            log.error("fault", exc_info=error)
            process.terminate()

    def _look(self, place: _Place) -> None:
        """See what became of a worker."""
        process = place.process
        if process is None or process.is_alive() or self._stopping:
            return
        lived = time.monotonic() - place.born
        if not self._serving and not place.ready:
            raise StartError(f"worker {place.number} did not start (exit code {process.exitcode}); it said why")
        place.deaths = 1 if lived >= STEADY_SECONDS else place.deaths + 1
        backoff = 0.0 if place.deaths == 1 else FIRST_BACKOFF_SECONDS * 2.0 ** min(place.deaths - 2, 10)
        place.due = time.monotonic() + min(backoff, LAST_BACKOFF_SECONDS)
        log.error(
            "worker died",
            extra={"worker": place.number, "exit_code": process.exitcode, "lived": round(lived, 1), "backoff": backoff},
        )
        self._restarts += 1
        if place.line is not None:
            self._workers.remove(place.line)
        place.process, place.line, place.ready = None, None, False

    def _stop(self) -> None:
        """Let every worker finish what it took; whoever is asked twice hurries."""
        self._stopping = True
        settings = self._settings
        alive = [place.process for place in self._places if place.process is not None]
        for process in alive:
            process.terminate()
        # As long as the lame duck lasts clients may ask for anything; then who waits is told that it is over.
        control = threading.Timer(settings.lame_duck_seconds, self._control.stop)
        control.daemon = True
        control.start()
        # No worker takes from them any more: who waits in one is told by the system.
        for listening in self._sockets.values():
            listening.close()
        asked = time.monotonic()
        deadline = asked + settings.lame_duck_seconds + settings.drain_seconds + SPARE_SECONDS
        while alive and time.monotonic() < deadline:
            wait([self._woken, *(process.sentinel for process in alive)], timeout=deadline - time.monotonic())
            alive = [process for process in alive if process.is_alive()]
            if drained(self._woken) and time.monotonic() - asked > SAME_SIGNAL_SECONDS:
                for process in alive:
                    process.terminate()
        for process in alive:
            process.kill()
        control.cancel()
        self._control.stop()
        log.info("stopped", extra={"killed": len(alive)})


def drained(pipe: int) -> bool:
    """Was anything in it?"""
    try:
        return bool(os.read(pipe, 1024))
    except BlockingIOError:
        return False

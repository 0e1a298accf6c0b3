"""Several workers on one gRPC port: started, counted together, replaced when they die, stopped together.

The port is bound once and its socket shared, so that connections which wait in it when a worker dies are
taken by another. Workers are spawned, not forked: each has its own models, threads and event loop.
"""

import contextlib
import logging
import multiprocessing
import operator
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from serving import worker
from serving.config import Settings
from serving.metrics import PROCESS_COLLECTORS
from serving.probes import Probes
from serving.server import SAME_SIGNAL_SECONDS, StartError, announce
from serving.transport.address import BACKLOG, listen
from serving.transport.interface import TransportError

log = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 0.1
LAST_BACKOFF_SECONDS = 10.0
STEADY_SECONDS = 60.0
"""A worker that lived this long did not die of its start: the next one starts at once again."""

SPARE_SECONDS = 5.0
"""Beyond lame duck and drain, after which a worker that is still there is killed."""

SCRAPE_SECONDS = 1.0
"""In which a worker must have said what it counted."""

RESTARTS = "triptych_worker_restarts_total"

_NOT_ADDED: dict[str, Callable[[float, float], float]] = {
    "triptych_model_info": max,
    "triptych_model_ready": max,
    "python_info": max,
    "process_start_time_seconds": min,
}
"""What every process has alike, or what tells when the first began; all else adds up."""


@dataclass
class _Place:
    """A worker's place, whoever holds it."""

    number: int
    process: SpawnProcess | None = None
    pipe: Any = None
    ready: bool = False
    born: float = 0.0
    deaths: int = 0
    """In a row, each soon after its start."""
    due: float = 0.0
    """When the next one is to be started."""
    scraping: threading.Lock = field(default_factory=threading.Lock)


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
        self._wake_up, self._woken = os.pipe2(os.O_NONBLOCK)[::-1]
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
            self._socket = listen(settings.grpc_address, BACKLOG)
            port = self._probes.start(settings.metrics_address)
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
        yield from _merged([own, *map(self._scrape, self._places)])
        restarts = CounterMetricFamily(RESTARTS, "Workers that died and were replaced.")
        restarts.add_metric([], self._restarts)
        yield restarts

    def describe(self) -> list[Metric]:
        """Nothing is asked of workers that are not there yet."""
        return []

    def _signalled(self, *_: object) -> None:
        self._stopping = True
        os.write(self._wake_up, b"!")

    def _health(self, name: str) -> bool:
        if name == "startup":
            return self._serving
        if name == "readiness":
            return not self._stopping and any(place.ready for place in self._places)
        return True

    def _watch(self, metrics_port: int) -> None:
        """Start workers, and again whenever one is missing."""
        settings = self._settings
        while not self._stopping:
            now = time.monotonic()
            for place in self._places:
                if place.process is None and place.due <= now:
                    self._start(place)
            waiting: list[Any] = [self._woken]
            for place in self._places:
                if place.process is not None:
                    waiting.append(place.process.sentinel)
                    if not place.ready:
                        waiting.append(place.pipe)
            due = [place.due - now for place in self._places if place.process is None]
            wait(waiting, timeout=max(0.0, min(due)) if due else None)
            for place in self._places:
                self._look(place)
            if not self._serving and all(place.ready for place in self._places):
                self._serving = True
                announce(settings, self._socket.getsockname()[1], metrics_port, self._started)

    def _start(self, place: _Place) -> None:
        ours, theirs = self._spawn.Pipe()
        place.process = self._spawn.Process(
            target=worker.main, args=(place.number, self._settings, self._socket, theirs), name=f"worker-{place.number}"
        )
        place.process.start()
        theirs.close()
        place.pipe, place.ready, place.born = ours, False, time.monotonic()

    def _look(self, place: _Place) -> None:
        """See what became of a worker."""
        process = place.process
        if process is None:
            return
        if not place.ready and place.pipe.poll():
            with contextlib.suppress(EOFError):  # it died: the sentinel says so, too
                place.ready = place.pipe.recv() == worker.READY
        if process.is_alive() or self._stopping:
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
        with place.scraping:
            place.process, place.ready = None, False
            place.pipe.close()

    def _stop(self) -> None:
        """Let every worker finish what it took; whoever is asked twice hurries."""
        self._stopping = True
        settings = self._settings
        alive = [place.process for place in self._places if place.process is not None]
        for process in alive:
            process.terminate()
        # No worker takes from it any more: who waits in it is told by the system.
        self._socket.close()
        asked = time.monotonic()
        deadline = asked + settings.lame_duck_seconds + settings.drain_seconds + SPARE_SECONDS
        while alive and time.monotonic() < deadline:
            wait([self._woken, *(process.sentinel for process in alive)], timeout=deadline - time.monotonic())
            alive = [process for process in alive if process.is_alive()]
            if _drained(self._woken) and time.monotonic() - asked > SAME_SIGNAL_SECONDS:
                for process in alive:
                    process.terminate()
        for process in alive:
            process.kill()
        log.info("stopped", extra={"killed": len(alive)})

    def _scrape(self, place: _Place) -> list[Metric]:
        with place.scraping:
            if not place.ready:
                return []
            try:
                place.pipe.send(worker.METRICS)
                while place.pipe.poll(SCRAPE_SECONDS):
                    answer = place.pipe.recv()
                    if not place.pipe.poll():  # the last of any that came too late before
                        return list(answer)
            except (EOFError, OSError):
                pass
        return []


def _drained(pipe: int) -> bool:
    """Was anything in it?"""
    try:
        return bool(os.read(pipe, 1024))
    except BlockingIOError:
        return False


def _merged(scrapes: Iterable[list[Metric]]) -> Iterator[Metric]:
    """Metrics of several processes as one: counters, histograms and most gauges add up."""
    merged: dict[str, tuple[Metric, dict[tuple[str, tuple[tuple[str, str], ...]], float]]] = {}
    for scrape in scrapes:
        for metric in scrape:
            _, values = merged.setdefault(metric.name, (metric, {}))
            for sample in metric.samples:
                key = (sample.name, tuple(sample.labels.items()))
                together: Callable[[float, float], float] = _NOT_ADDED.get(sample.name, operator.add)
                values[key] = together(values[key], sample.value) if key in values else sample.value
    for metric, values in merged.values():
        total = Metric(metric.name, metric.documentation, metric.type)
        for (name, labels), value in values.items():
            total.add_sample(name, dict(labels), value)
        yield total

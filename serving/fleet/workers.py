"""The fleet of a supervisor: what it has its workers do, all of them or none.

A change has two phases, so that an RPC is answered when every worker agrees: all prepare a version, and only what all
of them verified is committed. One that dies meanwhile does not count; who takes its place joins with what is served.
"""

import logging
import operator
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError
from typing import Any

from prometheus_client import Metric

from serving.fleet import worker
from serving.fleet.line import Line, LineEndedError
from serving.repository.control import Control
from serving.repository.disk import LoadError
from serving.repository.routing import Routing, Wanted, without
from serving.repository.version import Prepared
from serving.telemetry.container import NAME as MEMORY_LIMIT
from serving.telemetry.gpu import METRICS as GPU
from serving.telemetry.metrics import CERTIFICATE, DEVICE, READY
from serving.telemetry.statistics import Statistics

log = logging.getLogger(__name__)

Key = tuple[str, int]
"""Name of a model, and a version."""

COUNT_SECONDS = 1.0
"""In which a worker must have said what it counted."""

_NOT_ADDED: dict[str, Callable[[float, float], float]] = {
    **dict.fromkeys((DEVICE, MEMORY_LIMIT, *GPU), max),
    "triptych_model_info": max,
    "python_info": max,
    "process_start_time_seconds": min,
    CERTIFICATE: min,
    READY: min,
}
"""What every process has alike, or what tells when the first began; all else adds up."""


class Workers:
    """Those that serve."""

    def __init__(self) -> None:
        self._lines: dict[Line, dict[Key, str]] = {}
        """Each with the versions that it lacks, and why: they could not be loaded when it came, and are served by
        others from their memory."""
        self._lock = threading.Lock()
        self._routings: dict[str, Routing | None] = {}
        self._scraped: dict[Line, list[Metric]] = {}
        """What each counted, as it was seen last, ..."""
        self._dead: list[Metric] = []
        """... and those that are gone: a counter that falls would be taken for one that began anew."""

    @property
    def models_ready(self) -> bool:
        """Does every model that is needed have a version that answers?"""
        with self._lock:
            everybody = [_for(self._routings, lacking) for lacking in self._lines.values()] or [self._routings]
        return all(
            r is None or not r.needed or r.default is not None for routings in everybody for r in routings.values()
        )

    @property
    def lacking(self) -> dict[Key, str]:
        """What any of them lacks."""
        with self._lock:
            return {key: reason for lacking in self._lines.values() for key, reason in lacking.items()}

    def add(self, line: Line) -> None:
        """One more, which knows nothing yet: as at the start."""
        self._add(line, {})

    def remove(self, line: Line) -> None:
        """One less."""
        with self._lock:
            self._lines.pop(line, None)
            self._dead = list(merged([self._dead, _cumulative(self._scraped.pop(line, []))]))

    def join(self, line: Line, control: Control) -> None:
        """One more, which first loads what the others serve, as far as it can. To be called where control is.

        Raises:
            LineEndedError: it is gone.
        """
        lacking: dict[Key, str] = {}
        for wanted in control.served:
            try:
                _prepared(line.ask(worker.PREPARE, wanted).result())
            except LoadError as error:
                about = {"model": wanted.name, "version": wanted.version, "reason": str(error)}
                log.error("worker can't serve what others do", extra=about)
                lacking[wanted.name, wanted.version] = str(error)
        self._routings = dict(control.routings)
        line.ask(worker.COMMIT, _for(control.routings, lacking)).result()
        self._add(line, lacking)
        line.ask(worker.STARTED)

    def start(self) -> None:
        """All that is to be served from the start was committed."""
        self._all(worker.STARTED, None)

    def prepare(self, wanted: Wanted) -> Prepared:
        """Have every worker load and verify a version; raises LoadError where one refuses it."""
        with self._lock:
            asked = [line.ask(worker.PREPARE, wanted) for line in self._lines]
        prepared: list[Prepared] = []
        refused: LoadError | None = None
        for future in asked:
            try:
                prepared.append(_prepared(future.result()))
            except LineEndedError:
                continue
            except LoadError as error:
                refused = error
        if refused is not None:
            raise refused
        for lacking in self._lines.values():
            lacking.pop((wanted.name, wanted.version), None)
        if not prepared:
            raise LoadError("load_error", "there is no worker to load it", lasting=False)
        memory: Counter[int] = Counter()
        for one in prepared:
            memory.update(one.gpu_memory)
        return Prepared(prepared[0].digest, any(one.fresh for one in prepared), dict(memory))

    def commit(self, routings: Mapping[str, Routing | None]) -> None:
        """Have every worker serve these models so, and return when all do."""
        with self._lock:
            asked = [line.ask(worker.COMMIT, _for(routings, lacking)) for line, lacking in self._lines.items()]
        _answers(asked)
        self._routings = {**self._routings, **routings}

    def scrape(self) -> list[list[Metric]]:
        """The metrics of each, as they are or, of one that does not answer in time, were; and what the dead counted."""
        with self._lock:
            asked = {line: line.ask(worker.METRICS) for line in self._lines}
        answers = {line: _answers([future], COUNT_SECONDS) for line, future in asked.items()}
        with self._lock:
            self._scraped |= {line: answer[0] for line, answer in answers.items() if answer and line in self._lines}
            return [self._dead, *(self._scraped[line] for line in self._lines if line in self._scraped)]

    def statistics(self, wanted: dict[str, list[str]]) -> list[Statistics]:
        """What all of them counted of versions, by model."""
        total: dict[tuple[str, str], Statistics] = {}
        for answer in self._all(worker.STATISTICS, wanted, COUNT_SECONDS):
            for found in answer:
                key = (found.model, found.version)
                if key in total:
                    total[key].add(found)
                else:
                    total[key] = found
        return list(total.values())

    def _add(self, line: Line, lacking: dict[Key, str]) -> None:
        with self._lock:
            self._lines[line] = lacking

    def _all(self, what: str, argument: Any, seconds: float | None = None) -> list[Any]:
        """Ask all at once."""
        with self._lock:
            asked = [line.ask(what, argument) for line in self._lines]
        return _answers(asked, seconds)


def _answers(asked: Iterable["Future[Any]"], seconds: float | None = None) -> list[Any]:
    """Wait for every answer; those that died, or were late, give none."""
    answers = []
    for future in asked:
        try:
            answers.append(future.result(seconds))
        except (LineEndedError, NotYetError):
            continue
    return answers


def _for(routings: Mapping[str, Routing | None], lacking: Mapping[Key, str]) -> dict[str, Routing | None]:
    """What one is told that lacks some versions."""
    told: dict[str, Routing | None] = {}
    for name, routing in routings.items():
        reasons = {number: reason for (of, number), reason in lacking.items() if of == name}
        told[name] = without(routing, reasons) if routing is not None and reasons else routing
    return told


def _prepared(answer: Prepared | worker.Refused) -> Prepared:
    if isinstance(answer, worker.Refused):
        raise LoadError(answer.outcome, answer.message, lasting=answer.lasting)
    return answer


def _cumulative(metrics: Iterable[Metric]) -> list[Metric]:
    """Those that only ever grow."""
    return [metric for metric in metrics if metric.type in ("counter", "histogram")]


def merged(scrapes: Iterable[list[Metric]]) -> Iterator[Metric]:
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

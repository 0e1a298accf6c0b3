"""Prometheus metrics: every stage of a request, in base units, bound to their labels before the first request."""

from collections.abc import Callable
from typing import NamedTuple

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry
from prometheus_client.registry import Collector

from serving.engine.batcher import Batch, Execution
from serving.engine.request import Request
from serving.instruments import Histogram, Instruments, Value

SECONDS = (
    *(50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3),
    *(1.0, 2.5, 5.0, 10.0),
)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)

UNKNOWN = "unknown"
"""Stands for a model, version or method that a client made up: labels must not grow with requests."""

LOAD_OUTCOMES = ("ready", "checksum", "signature", "golden", "load_error")
REJECTIONS = ("queue_full", "too_late", "expired", "cancelled", "invalid", "draining", "unauthorised")
REASONS = ("full", "idle", "delay", "deadline", "drain")

PROCESS_COLLECTORS: tuple[Collector, ...] = (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR)
"""What Prometheus shows of every process: `process_*` and `python_*`."""


class _Answered(NamedTuple):
    total: Value
    seconds: Histogram


class Metrics:
    """All metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        for collector in PROCESS_COLLECTORS:
            registry.register(collector)
        self.instruments = instruments = Instruments()
        registry.register(instruments)
        version = ("model", "version")
        self._requests = instruments.counter(
            "triptych_requests_total", "Requests answered.", (*version, "method", "code")
        )
        self._duration = instruments.histogram(
            "triptych_request_duration_seconds",
            "From a request's arrival to its answer.",
            (*version, "method"),
            SECONDS,
        )
        self._queue = instruments.histogram(
            "triptych_queue_duration_seconds",
            "From a request's entry into the queue until its first rows left it.",
            version,
            SECONDS,
        )
        self._execution = instruments.histogram(
            "triptych_execution_duration_seconds",
            "One batch: building its arrays and running the graph.",
            version,
            SECONDS,
        )
        self._rows = instruments.histogram("triptych_batch_rows", "Rows of one batch.", version, ROWS)
        self._batches = instruments.counter(
            "triptych_batches_total", "Batches run, by why they left.", (*version, "reason")
        )
        self._queue_rows = instruments.gauge("triptych_queue_rows", "Rows that wait.", ("model",))
        self._in_flight = instruments.gauge(
            "triptych_requests_in_flight", "Requests accepted and not answered.", ("model",)
        )
        self._rejected = instruments.counter(
            "triptych_rejected_total", "Requests refused or given up.", ("model", "reason")
        )
        self._info = instruments.gauge(
            "triptych_model_info", "1 for each version loaded.", (*version, "provider", "task")
        )
        self._ready = instruments.gauge(
            "triptych_model_ready", "1 where the version is verified and served, else 0.", version
        )
        self._loads = instruments.counter(
            "triptych_model_loads_total", "Attempts to load a version.", ("model", "outcome")
        )
        self._known_words = instruments.histogram(
            "triptych_known_words_ratio",
            "Share of each text's words that the model knows: it falls when the language drifts.",
            ("model",),
            SHARES,
        )
        self._answered: dict[tuple[str, str, str, str], _Answered] = {}

    def answered(self, model: str, version: str, method: str, code: str, seconds: float) -> None:
        """A request was answered; every label is one of the server's own words."""
        key = (model, version, method, code)
        bound = self._answered.get(key)
        if bound is None:
            bound = self._answered[key] = _Answered(
                self._requests.labels(*key), self._duration.labels(model, version, method)
            )
        bound.total.inc()
        bound.seconds.observe(seconds)

    @property
    def answers(self) -> int:
        """Requests answered with a prediction since the start."""
        return int(sum(total.value for labels, total in self._requests.children() if labels[-1] == "OK"))

    def rejected(self, model: str, reason: str) -> None:
        """A request was refused or given up, for one of `REJECTIONS`."""
        self._rejected.labels(model, reason).inc()

    def loaded(self, model: str, version: int, outcome: str) -> None:
        """A version was tried, with one of `LOAD_OUTCOMES`."""
        for known in LOAD_OUTCOMES:
            self._loads.labels(model, known).inc(known == outcome)
        self._ready.labels(model, str(version)).set(outcome == "ready")

    def served(self, model: str, version: int, provider: str, task: str) -> "VersionMetrics":
        """A version is about to be served: its bound metrics, which are also its batcher's observer."""
        labels = (model, str(version))
        self._info.labels(*labels, provider, task).set(1)
        for reason in REJECTIONS:
            self._rejected.labels(model, reason)
        return VersionMetrics(
            queue=self._queue.labels(*labels),
            execution=self._execution.labels(*labels),
            rows=self._rows.labels(*labels),
            batches={reason: self._batches.labels(*labels, reason) for reason in REASONS},
            in_flight=self._in_flight.labels(model),
            known_words=self._known_words.labels(model),
        )

    def watch_queue(self, model: str, rows: Callable[[], int]) -> None:
        """Ask `rows` for the length of the model's queue whenever the metrics are read."""
        self._queue_rows.labels(model).read = rows


class VersionMetrics(NamedTuple):
    """The metrics of one served version, bound."""

    queue: Histogram
    execution: Histogram
    rows: Histogram
    batches: dict[str, Value]
    in_flight: Value
    known_words: Histogram

    def pulled(self, request: Request, waited: float) -> None:
        """A request's first rows left the queue."""
        self.queue.observe(waited)

    def ran(self, batch: Batch, execution: Execution) -> None:
        """A batch is through."""
        self.execution.observe(execution.seconds)
        self.rows.observe(batch.rows)
        self.batches[batch.reason].inc()

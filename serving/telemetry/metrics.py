"""Prometheus metrics: every stage of a request, in base units, bound to their labels before the first request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry
from prometheus_client.registry import Collector

from serving.telemetry.bound import ShadowMetrics, VersionMetrics
from serving.telemetry.container import MemoryLimit
from serving.telemetry.instruments import Histogram, Instruments, Value
from serving.telemetry.statistics import Statistics, Tally

SECONDS = (
    *(50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3),
    *(1.0, 2.5, 5.0, 10.0),
)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
DIFFERENCES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)

UNKNOWN = "unknown"
"""Stands for a model, version or method that a client made up: labels must not grow with requests."""

MAX_RETIRED = 4
"""Versions of a model that are served no more and whose metrics are still shown: somebody will compare."""

LOAD_OUTCOMES = ("ready", "checksum", "checker", "signature", "golden", "load_error")
REJECTIONS = ("queue_full", "too_late", "expired", "cancelled", "invalid", "draining", "unauthorised", "client_limit")
HANGS = ("batch", "loop")
RELOADS = ("loaded", "refused")
SHADOW_OUTCOMES = ("agreed", "differed", "failed", "dropped")
REASONS = ("full", "idle", "delay", "deadline", "drain")

FAULT = "INTERNAL"
"""The code of answers that are our own fault."""

PROCESS_COLLECTORS: tuple[Collector, ...] = (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR, MemoryLimit())
"""What Prometheus shows of every process, `process_*` and `python_*`, and how much memory it may have."""

DEVICE = "triptych_device_info"
READY = "triptych_ready"
CERTIFICATE = "triptych_tls_certificate_expiry_timestamp_seconds"


@dataclass(slots=True)
class _Answered:
    total: Value
    seconds: Histogram
    spent: float = 0.0
    """Seconds, of all that ended so."""


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
        self._device = instruments.gauge(
            DEVICE, "1 for the device that was asked for, and the provider that it became.", ("asked", "provider")
        )
        self._server_ready = instruments.gauge(READY, "1 where the server is ready for traffic, else 0.", ())
        self._ready = instruments.gauge(
            "triptych_model_ready", "1 where the version is verified and served, else 0.", version
        )
        self._loads = instruments.counter(
            "triptych_model_loads_total", "Attempts to load a version.", ("model", "outcome")
        )
        self._gpu_memory = instruments.gauge(
            "triptych_model_gpu_memory_bytes",
            "What a version took of a GPU's memory when it was loaded and warmed.",
            (*version, "gpu"),
        )
        self._failures = instruments.counter(
            "triptych_model_failures_total", "Times a version failed while it served, and was taken out.", version
        )
        self._folder = instruments.gauge(
            "triptych_models_folder_found", "1 where the models folder was there at the last look, else 0.", ()
        )
        self._hangs = instruments.counter(
            "triptych_hangs_total", "Batches, and turns of the event loop, that took longer than may be.", ("what",)
        )
        for what in HANGS:
            self._hangs.labels(what)
        self._reloads = instruments.counter(
            "triptych_file_reloads_total", "Files that changed while the server ran.", ("what", "outcome")
        )
        self._certificate = instruments.gauge(
            CERTIFICATE, "When the server's TLS certificate expires, in seconds since 1970.", ()
        )
        self._known_words = instruments.histogram(
            "triptych_known_words_ratio",
            "Share of each text's words that the model knows: it falls when the language drifts.",
            ("model",),
            SHARES,
        )
        self._shadow_rows = instruments.counter(
            "triptych_shadow_rows_total",
            "Rows that a candidate version computed, too, by how its answers compare.",
            (*version, "candidate", "outcome"),
        )
        self._shadow_difference = instruments.histogram(
            "triptych_shadow_difference",
            "Largest absolute difference of a row's outputs between a version and its candidate.",
            (*version, "candidate"),
            DIFFERENCES,
        )
        self._answered: dict[tuple[str, str, str, str], _Answered] = {}
        self._versions: dict[tuple[str, str], VersionMetrics] = {}
        self._retired: dict[str, list[str]] = {}
        self._forgotten_answers = 0

    def answered(self, model: str, version: str, method: str, code: str, seconds: float) -> None:
        """A request was answered; every label is one of the server's own words."""
        key = (model, version, method, code)
        bound = self._answered.get(key)
        if bound is None:
            bound = self._answered[key] = _Answered(
                self._requests.labels(*key), self._duration.labels(model, version, method)
            )
            # Shown before there is one: of a counter that begins above zero, Prometheus does not see the first step.
            self._requests.labels(model, version, method, FAULT)
        bound.total.inc()
        bound.seconds.observe(seconds)
        bound.spent += seconds

    @property
    def answers(self) -> int:
        """Requests answered with a prediction since the start."""
        answers = sum(int(total.value) for labels, total in self._requests.children() if labels[-1] == "OK")
        return self._forgotten_answers + answers

    def rejected(self, model: str, reason: str) -> None:
        """A request was refused or given up, for one of `REJECTIONS`."""
        self._rejected.labels(model, reason).inc()

    def guarded(self) -> None:
        """Requests may be refused of which not even the model is known: show that before there are any."""
        for reason in REJECTIONS:
            self._rejected.labels(UNKNOWN, reason)

    def device(self, asked: str, provider: str) -> None:
        """The server was told to run on `asked`, and runs on `provider`."""
        self._device.labels(asked, provider).set(1)

    def loaded(self, model: str, outcome: str) -> None:
        """A version was tried, with one of `LOAD_OUTCOMES`."""
        for known in LOAD_OUTCOMES:
            self._loads.labels(model, known).inc(known == outcome)

    def readiness(self, model: str, version: int, *, ready: bool) -> None:
        """A version that was found is served, or is not."""
        self._ready.labels(model, str(version)).set(ready)

    def failed(self, model: str, version: int) -> None:
        """A version failed while it served."""
        self._failures.labels(model, str(version)).inc()

    def folder(self, *, found: bool) -> None:
        """The models folder was looked at."""
        self._folder.labels().set(found)

    def hung(self, what: str) -> None:
        """One of `HANGS` took too long."""
        self._hangs.labels(what).inc()

    def watches(self, what: str) -> None:
        """Files are looked at from now on."""
        for outcome in RELOADS:
            self._reloads.labels(what, outcome)

    def reloaded(self, what: str, *, loaded: bool) -> None:
        """Files changed; what was made of them is new, or the old goes on."""
        self._reloads.labels(what, "loaded" if loaded else "refused").inc()

    def certificate_expires(self, when: float) -> None:
        """A TLS certificate was loaded."""
        self._certificate.labels().set(when)

    def removed(self, model: str, version: int) -> None:
        """A version is not there any more."""
        self._ready.forget(model, str(version))

    def served(
        self, model: str, version: int, provider: str, task: str, gpu_memory: Mapping[int, int] = MappingProxyType({})
    ) -> VersionMetrics:
        """A version is about to be served: its bound metrics, which are also its batcher's observer.

        One that comes again goes on counting where it ended. `gpu_memory` are the bytes that it takes, by GPU.
        """
        labels = (model, str(version))
        if labels[1] in (retired := self._retired.get(model, [])):
            retired.remove(labels[1])
        self._info.labels(*labels, provider, task).set(1)
        self._failures.labels(*labels)
        for gpu, taken in gpu_memory.items():
            self._gpu_memory.labels(*labels, str(gpu)).set(taken)
        for reason in REJECTIONS:
            self._rejected.labels(model, reason)
        found = self._versions.get(labels)
        if found is None:
            found = self._versions[labels] = VersionMetrics(
                queue=self._queue.labels(*labels),
                execution=self._execution.labels(*labels),
                rows=self._rows.labels(*labels),
                batches={reason: self._batches.labels(*labels, reason) for reason in REASONS},
                in_flight=self._in_flight.labels(model),
                known_words=self._known_words.labels(model),
                by_rows={},
            )
        return found

    def unlisted(self, model: str, version: str, provider: str, task: str) -> None:
        """A version takes no more requests."""
        self._info.forget(model, version, provider, task)

    def gone(self, model: str, version: str) -> None:
        """A version has answered its last request: what was counted of the last few such stays."""
        for labels, _ in self._gpu_memory.children():
            if labels[:2] == (model, version):
                self._gpu_memory.forget(*labels)
        retired = self._retired.setdefault(model, [])
        if version in retired:
            retired.remove(version)
        retired.append(version)
        while len(retired) > MAX_RETIRED:
            self._drop(model, retired.pop(0))

    def _drop(self, model: str, version: str) -> None:
        self._forgotten_answers += sum(
            int(one.total.value)
            for key, one in self._answered.items()
            if key[:2] == (model, version) and key[3] == "OK"
        )
        self._versions.pop((model, version), None)
        self._answered = {key: one for key, one in self._answered.items() if key[:2] != (model, version)}
        self.instruments.forget(model=model, version=version)
        self.instruments.forget(model=model, candidate=version)

    def shadow(self, model: str, version: str, candidate: str) -> ShadowMetrics:
        """The metrics of one comparison, bound."""
        labels = (model, version, candidate)
        agreed, differed, failed, dropped = (self._shadow_rows.labels(*labels, outcome) for outcome in SHADOW_OUTCOMES)
        return ShadowMetrics(agreed, differed, failed, dropped, self._shadow_difference.labels(*labels))

    def statistics(self, model: str, version: str) -> Statistics:
        """What was counted of a version, as the Open Inference Protocol's statistics have it."""
        found = Statistics(model, version)
        for (of_model, of_version, _, code), answered in self._answered.copy().items():
            if (of_model, of_version) == (model, version):
                tally = found.success if code == "OK" else found.fail
                tally.add(int(answered.total.value), answered.spent)
        metrics = self._versions.get((model, version))
        if metrics is not None:
            found.queue.add(*metrics.queue.total)
            found.execution.add(*metrics.execution.total)
            found.rows = int(metrics.rows.total[1])
            found.by_rows = {rows: Tally(tally.count, tally.seconds) for rows, tally in metrics.by_rows.copy().items()}
            found.gpu_memory = {
                int(labels[-1]): int(taken.value)
                for labels, taken in self._gpu_memory.children()
                if labels[:2] == (model, version)
            }
            found.last = max((tally.last for tally in metrics.by_rows.copy().values()), default=0.0)
        return found

    def watch_ready(self, ready: Callable[[], bool | None]) -> None:
        """Ask `ready` whether the server takes traffic whenever the metrics are read."""
        self._server_ready.labels().read = lambda: float(ready() is True)

    def watch_queue(self, model: str, rows: Callable[[], int]) -> None:
        """Ask `rows` for the length of the model's queue whenever the metrics are read."""
        self._queue_rows.labels(model).read = rows

"""OpenTelemetry traces over OTLP: a span for every request that is sampled, and one for each stage it went through.

Spans are made when a request has ended, out of what was noted on its way, and sent from a thread of their own: a
collector that is slow or dead costs spans, never answers. Names and attributes are those of OpenTelemetry's semantic
conventions for RPC and HTTP, and the server's own begin with `triptych.`.
"""

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Span, SpanKind, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serving import __version__
from serving.api.call import Metadata
from serving.courtesy import gently, step_back
from serving.observing.following import Followed, Story
from serving.status import Code, StatusError

NAME: Final = "triptych"
PARENT: Final = "traceparent"

BATCH_SPANS: Final = 128
"""Sent at once: their encoding holds the interpreter for some milliseconds, a portion at a time."""

LAST_SECONDS: Final = 1.0
"""For the exporter to notice that it is to try no more."""

MAX_ASKED: Final = 256
"""Characters of a method's name that a client made up."""

_OURS: Final = frozenset(
    (Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS)
)
"""Statuses that make an error of a server's span; all others are its client's ("Semantic conventions for gRPC")."""

_propagator: Final = TraceContextTextMapPropagator()


class Trace:
    """What a followed request keeps of its trace."""

    __slots__ = ("context", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.context = set_span_in_context(span, Context())

    def ids(self) -> dict[str, str]:
        """For the log."""
        found = self.span.get_span_context()
        return {"trace_id": f"{found.trace_id:032x}", "span_id": f"{found.span_id:016x}"}


class Tracer:
    """Follows requests into traces."""

    def __init__(
        self, endpoint: str, ratio: float, worker: int | None = None, chance: Callable[[], float] = random.random
    ) -> None:
        """Begin to export.

        Args:
            endpoint: of the collector, `http://HOST:PORT`, or https; what else there is to say of it the exporter
                reads in the environment (OTEL_EXPORTER_OTLP_...).
            ratio: of the requests without a sampled parent, which are traced.
            worker: which of several processes this is.
            chance: uniform, from 0 to 1.
        """
        self._ratio = ratio
        self._chance = chance
        self._exporter = _Gentle(OTLPSpanExporter(endpoint=endpoint))
        # Whether a request is sampled is decided before anything is made for it: what is made here is.
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=_resource(worker), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter, max_export_batch_size=BATCH_SPANS))
        self._tracer = self._provider.get_tracer(NAME, __version__)

    def close(self, seconds: float) -> None:
        """Send what is there, for so long at the most."""
        closing = threading.Thread(target=self._provider.shutdown, name="tracing", daemon=True)
        closing.start()
        closing.join(seconds)
        if closing.is_alive():
            self._exporter.shutdown()  # it waits no longer to try again
            closing.join(LAST_SECONDS)

    def wants(self, metadata: Metadata) -> bool:
        """As its parent was sampled (W3C Trace Context, section 3.2.2.5.1), and where it has none, by chance."""
        for name, _ in metadata:
            if name == PARENT:
                parent = get_current_span(_parent(metadata)).get_span_context()
                if parent.is_valid:
                    return parent.trace_flags.sampled
        return self._chance() < self._ratio

    def begin(self, followed: Followed, metadata: Metadata) -> None:
        """Begin its span."""
        name = followed.name.removeprefix("/") if not followed.verb else f"{followed.verb} {followed.name}".rstrip()
        span = self._tracer.start_span(
            name or "_OTHER",
            _parent(metadata),
            SpanKind.SERVER,
            _about(followed),
            start_time=_wall(followed.started),
        )
        followed.trace = Trace(span)

    def item(self, followed: Followed, story: Story) -> None:
        """An item of a stream is a span within that of the stream."""
        if followed.trace is None:
            return
        now = story.ended
        span = self._tracer.start_span("item", followed.trace.context, start_time=_wall(story.started))
        code = Code.OK if story.error is None else story.error.code
        span.set_attributes({**_answer(story), "rpc.response.status_code": code.name})
        _judge(span, code.name, story.error, failed=code in _OURS)
        self._stages(set_span_in_context(span, Context()), story, now)
        span.end(_wall(now))

    def end(self, followed: Followed) -> None:
        """End its span; those of its stages are within."""
        if followed.trace is None:
            return
        now = followed.over_at
        span: Span = followed.trace.span
        if followed.story is not None:
            span.set_attributes(_answer(followed.story))
            self._stages(followed.trace.context, followed.story, now)
        if followed.verb:
            span.set_attribute("http.response.status_code", int(followed.code))
            _judge(span, followed.code, followed.error, failed=followed.code >= "5")
        else:
            span.set_attribute("rpc.response.status_code", followed.code)
            _judge(span, followed.code, followed.error, failed=Code[followed.code] in _OURS)
        span.end(_wall(now))

    def _stages(self, context: Context, story: Story, now: float) -> None:
        if not story.queued:
            return
        self._span("queue", context, story.started, now if story.pulled is None else story.pulled)
        last = story.pulled
        for ran in story.ran:
            execution = ran.execution
            last = execution.started + execution.seconds
            about = {
                "triptych.batch.id": ran.batch,
                "triptych.batch.rows": ran.rows,
                "triptych.batch.requests": ran.requests,
                "triptych.batch.reason": ran.reason,
            }
            result = execution.result
            error = result if isinstance(result, StatusError) else None
            self._span("execution", context, execution.started, last, about, error)
        if story.ran and last is not None:
            self._span("reply", context, last, now)

    def _span(
        self,
        name: str,
        context: Context,
        start: float,
        end: float,
        about: Mapping[str, Any] | None = None,
        error: StatusError | None = None,
    ) -> None:
        span = self._tracer.start_span(name, context, attributes=about, start_time=_wall(start))
        if error is not None:
            _judge(span, error.code.name, error, failed=True)
        span.end(_wall(end))


class _Gentle(SpanExporter):
    """An exporter that others hardly notice."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._local = threading.local()

    def export(self, spans: Any) -> SpanExportResult:
        if not hasattr(self._local, "stepped_back"):
            self._local.stepped_back = True
            step_back()
        with gently():
            return self._inner.export(spans)

    def shutdown(self) -> None:
        self._inner.shutdown()


def _resource(worker: int | None) -> Resource:
    """Who we are; the environment's OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word."""
    instance = f"{socket.gethostname()}-{os.getpid()}"
    ours: dict[str, Any] = {
        "service.name": NAME,
        "service.version": __version__,
        "service.instance.id": instance,
        "process.pid": os.getpid(),
    }
    if worker is not None:
        ours["triptych.worker"] = worker
    return Resource(ours).merge(OTELResourceDetector().detect())


def _parent(metadata: Metadata) -> Context:
    carrier = dict[str, list[str]]()
    for name, value in metadata:
        if name in _propagator.fields and isinstance(value, str):
            carrier.setdefault(name, []).append(value)
    return _propagator.extract(carrier, Context())


def _about(followed: Followed) -> dict[str, Any]:
    about: dict[str, Any] = {"triptych.request.id": followed.request_id}
    address, _, port = followed.peer.rpartition(":")
    if port.isdigit():
        about |= {"client.address": address.partition(":")[2].strip("[]"), "client.port": int(port)}
    if followed.verb:
        about |= {"http.request.method": followed.verb, "url.path": followed.asked, "url.scheme": followed.scheme}
        if followed.name:
            about["http.route"] = followed.name
        return about
    about["rpc.system.name"] = "grpc"
    about["rpc.method"] = followed.name.removeprefix("/") or "_OTHER"
    if not followed.name:
        about["rpc.method_original"] = followed.asked[:MAX_ASKED]
    return about


def _answer(story: Story) -> dict[str, Any]:
    about: dict[str, Any] = {"triptych.model.name": story.model, "triptych.model.version": story.version}
    return about if story.rows is None else {**about, "triptych.rows": story.rows}


def _judge(span: Span, code: str, error: StatusError | None, *, failed: bool) -> None:
    if failed:
        span.set_attribute("error.type", code)
        span.set_status(StatusCode.ERROR, "" if error is None else error.message)


def _wall(moment: float) -> int:
    """A moment of the monotonic clock as nanoseconds since the epoch, by what time it is now."""
    return time.time_ns() - time.monotonic_ns() + int(moment * 1e9)

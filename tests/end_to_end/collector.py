"""An OpenTelemetry collector in the test's own process: it keeps every span that a server sends."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

PATIENCE = 20.0


@dataclass(frozen=True)
class Span:
    """One that came."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    state: str
    start: int
    end: int
    failed: bool
    words: str
    about: dict[str, Any]
    resource: dict[str, Any]


class Collector(TraceServiceServicer):
    """Listens on a port of its own."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._came = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(4))
        add_TraceServiceServicer_to_server(self, self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(self, request: Any, context: Any) -> Any:
        found = [
            _span(span, _values(each.resource.attributes))
            for each in request.resource_spans
            for scope in each.scope_spans
            for span in scope.spans
        ]
        with self._came:
            self.spans += found
            self._came.notify_all()
        return ExportTraceServiceResponse()

    def wait(self, enough: Callable[[list[Span]], bool]) -> list[Span]:
        """All spans, once there are enough."""
        with self._came:
            assert self._came.wait_for(lambda: enough(self.spans), PATIENCE), self.spans
            return list(self.spans)

    def of(self, request_id: str) -> list[Span]:
        """The spans of a request and of what is within, once that has ended; the outermost first."""

        def root(spans: list[Span]) -> Span | None:
            return next((span for span in spans if span.about.get("triptych.request.id") == request_id), None)

        # A request's own span is the last of them to end.
        spans = self.wait(lambda spans: root(spans) is not None)
        found = root(spans)
        assert found is not None
        inner = [span for span in spans if span.trace == found.trace and span is not found]
        return [found, *sorted(inner, key=lambda span: span.start)]

    def close(self) -> None:
        self._server.stop(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _span(span: Any, resource: dict[str, Any]) -> Span:
    return Span(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.kind,
        span.trace_state,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == 2,
        span.status.message,
        _values(span.attributes),
        resource,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}

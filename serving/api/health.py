"""The health service, `grpc.health.v1.Health`: what is served, by name, asked for once or watched.

gRPC Health Checking Protocol (grpc/grpc, doc/health-checking.md).
"""

from collections.abc import Callable

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from serving.api.call import Call, Receiver, Routes, Stream, Streaming, Unary, shutting_down
from serving.status import Code, StatusError, invalid, shown

SERVICE = "grpc.health.v1.Health"

STARTUP, READINESS, LIVENESS = "startup", "readiness", "liveness"
"""Names for the three kinds of Kubernetes probe."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """The status of every name, and those who watch it."""

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {}
        self._watchers: dict[str, set[Callable[[], None]]] = {}

    @property
    def names(self) -> list[str]:
        """All that have a status."""
        return list(self._serving)

    def set(self, name: str, serving: bool | None) -> None:
        """Change a name's status, None for none, and tell its watchers."""
        if self._serving.get(name) is serving:
            return
        if serving is None:
            del self._serving[name]
        else:
            self._serving[name] = serving
        for tell in tuple(self._watchers.get(name, ())):
            tell()

    def serving(self, name: str) -> bool | None:
        """Is it serving? None for a name that nobody has set."""
        return self._serving.get(name)

    def routes(self) -> Routes:
        """The service's methods."""
        return {
            f"/{SERVICE}/Check": Unary(self._check),
            f"/{SERVICE}/Watch": Streaming(lambda stream: _Watch(self, stream)),
        }

    def watch(self, name: str, tell: Callable[[], None]) -> Callable[[], None]:
        """Call `tell` after every change of a name's status; returns what ends that."""
        watchers = self._watchers.setdefault(name, set())
        watchers.add(tell)

        def stop() -> None:
            watchers.discard(tell)
            if not watchers:
                self._watchers.pop(name, None)

        return stop

    def _check(self, call: Call, message: bytes) -> None:
        try:
            name = health_pb2.HealthCheckRequest.FromString(message).service
        except DecodeError:
            call.fail(_unreadable())
            return
        serving = self.serving(name)
        if serving is None:
            call.fail(StatusError(Code.NOT_FOUND, f"service: {shown(name)} has no health status here"))
        else:
            call.reply(_response(serving))


class _Watch(Receiver):
    """One watcher: the status now, then every change."""

    def __init__(self, health: Health, stream: Stream) -> None:
        self._health = health
        self._stream = stream
        self._named = False

    def message(self, message: bytes) -> None:
        """The name to watch."""
        if self._named:
            self._stream.finish(invalid("Watch takes one request on a stream, got a second"))
            return
        self._named = True
        try:
            name = health_pb2.HealthCheckRequest.FromString(message).service
        except DecodeError:
            self._stream.finish(_unreadable())
            return

        def tell() -> None:
            self._stream.send(_response(self._health.serving(name)))

        self._stream.on_cancel = self._health.watch(name, tell)
        tell()

    def half_closed(self) -> None:
        """A client that watches has nothing more to say."""
        if not self._named:
            self._stream.finish(invalid("Watch takes one request on a stream, got none"))

    def draining(self) -> None:
        """There is nothing to watch any more."""
        self._stream.finish(shutting_down())


def _response(serving: bool | None) -> bytes:
    status = _SERVICE_UNKNOWN if serving is None else _SERVING if serving else _NOT_SERVING
    message: bytes = health_pb2.HealthCheckResponse(status=status).SerializeToString()
    return message


def _unreadable() -> StatusError:
    return invalid("the message can't be read as grpc.health.v1.HealthCheckRequest")

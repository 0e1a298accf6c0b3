"""Port 8002: Prometheus metrics and health over plain HTTP, for scrapers and probes that don't speak gRPC."""

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from serving.courtesy import gently
from serving.transport.interface import TransportError

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


MAX_CONNECTIONS = 64
REQUEST_SECONDS = 5.0
"""In which a client must have said what it wants, and taken the answer."""
SPARE_DESCRIPTORS = 4
FULL_SECONDS = 0.05
"""Until it is looked again whether there is a file descriptor, where even those are in use."""


class Probes:
    """A small HTTP server on threads of its own: it answers even while the event loop is busy."""

    def __init__(self, registry: CollectorRegistry, health: Callable[[str], bool | None]) -> None:
        self._metrics = make_wsgi_app(registry)
        self._health = health
        self._server: Any = None

    def start(self, address: str) -> int:
        """Serve on `HOST:PORT`; returns the port.

        Raises:
            TransportError: it can't be had.
        """
        host, _, port = address.rpartition(":")
        kind = _IPv6Server if host.startswith("[") else _Server
        try:
            self._server = make_server(host.strip("[]"), int(port), self._answer, kind, _Quiet)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise TransportError(f"can't listen on {address}: {reason.lower()}") from error
        threading.Thread(target=self._server.serve_forever, name="probes", daemon=True).start()
        return int(self._server.server_port)

    def stop(self) -> None:
        """Stop answering."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            with gently():  # it is some milliseconds' work
                answer: Iterable[bytes] = self._metrics(environ, start_response)
            return answer
        name = {"/health/live": "liveness", "/health/ready": "readiness", "/health/startup": "startup"}.get(path)
        if name is None:
            status, body = "404 Not Found", "there are /metrics, /health/live, /health/ready and /health/startup\n"
        elif self._health(name):
            status, body = "200 OK", "SERVING\n"
        else:
            status, body = "503 Service Unavailable", "NOT_SERVING\n"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
        return [body.encode()]


class _Server(ThreadingWSGIServer):
    """A thread a connection, of which there are only so many: the rest is turned away, not queued."""

    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        self._spare: list[int] = []
        self._until: dict[socket.socket, float] = {}
        """When each connection is cut, whatever its client sends or reads by then."""
        super().__init__(*arguments)
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._keep_spare()

    def get_request(self) -> Any:
        """A connection: where clients hold all file descriptors, on one that was kept for those who look after us."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        if self._spare:
            os.close(self._spare.pop())
        else:
            time.sleep(FULL_SECONDS)  # the connection waits, and to look again at once would take a whole core
        return super().get_request()

    def server_close(self) -> None:
        """Listen no more."""
        super().server_close()
        while self._spare:
            os.close(self._spare.pop())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves in the middle is not worth a traceback."""

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            self._until[request] = time.monotonic() + REQUEST_SECONDS
            try:
                super().process_request(request, client_address)
            except RuntimeError:  # there is no thread to be had: now, perhaps, and not for ever
                self._over(request)
                self.shutdown_request(request)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._over(request)
            self._keep_spare()

    def service_actions(self) -> None:
        """Cut who takes too long: called twice a second."""
        now = time.monotonic()
        for connection, until in tuple(self._until.items()):
            if until < now:
                with contextlib.suppress(OSError):  # it has just ended
                    connection.shutdown(socket.SHUT_RDWR)

    def _over(self, request: Any) -> None:
        """There is room for another."""
        self._until.pop(request, None)
        self._room.release()

    def _keep_spare(self) -> None:
        with contextlib.suppress(OSError):
            while len(self._spare) < SPARE_DESCRIPTORS:
                self._spare.append(os.open(os.devnull, os.O_RDONLY))


class _IPv6Server(_Server):
    """The same on an IPv6 address."""

    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    """Logs no line for every probe, and waits for none forever."""

    timeout = REQUEST_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is inherited
        pass

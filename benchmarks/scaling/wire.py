"""What a request takes on the wire, what a scrape is worth, and what a connection holds: counted, not timed."""

import socket
import threading
import time
from contextlib import ExitStack
from itertools import cycle, islice
from types import TracebackType
from typing import Any

import grpc

from benchmarks.payloads import Payload
from benchmarks.scrape import parse
from benchmarks.servers import Server

WARM_CALLS = 100
"""After which the header compression of both sides has learned what it can."""

# RFC 9113, section 3.4: the client's connection preface, and an empty SETTINGS frame.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTLE_SECONDS = 0.5
_DEADLINES = 97


class Meter:
    """A relay of one connection to a server, which counts the bytes of TCP's payload each way."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.up = self.down = 0
        """Bytes from and to the client so far."""
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._listener.getsockname())
        self._thread = threading.Thread(target=self._relay, daemon=True)

    def __enter__(self) -> "Meter":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.join()

    def _relay(self) -> None:
        with self._listener, self._listener.accept()[0] as client, socket.create_connection(self._server) as server:
            back = threading.Thread(target=self._pump, args=(server, client, False), daemon=True)
            back.start()
            self._pump(client, server, True)
            back.join()

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        while data := source.recv(1 << 16):
            self.up += len(data) if up else 0
            self.down += 0 if up else len(data)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def wire_bytes(server: Server, payload: Payload, calls: int) -> dict[str, float]:
    """Mean bytes of TCP's payload of a call of grpcio's client, there and back, on a connection in use.

    HTTP/2's frames, header blocks, window updates and pings are in it; TCP's and IP's own headers are not. Each call
    has a deadline of its own, so that its header block is never the one before.
    """
    with Meter(server.address) as meter, grpc.insecure_channel(meter.address) as channel:
        call = channel.unary_unary(payload.method)
        messages = cycle(payload.messages)
        for message in islice(messages, WARM_CALLS):
            call(message, timeout=10)
        up, down = meter.up, meter.down
        for number, message in enumerate(islice(messages, calls)):
            call(message, timeout=1 + (number % _DEADLINES) * 0.05)
        return {"up": (meter.up - up) / calls, "down": (meter.down - down) / calls}


def scrape(server: Server) -> dict[str, int]:
    """Series and bytes of one scrape."""
    text = server.metrics_text()
    return {"series": len(parse(text)), "bytes": len(text.encode())}


def connection_bytes(server: Server, connections: int) -> float:
    """What the server's resident memory grows by for each HTTP/2 connection that is open and asks nothing."""
    host, _, port = server.address.rpartition(":")
    time.sleep(_SETTLE_SECONDS)
    before = server.resident_bytes()
    with ExitStack() as stack:
        for _ in range(connections):
            one = stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
            one.sendall(_PREFACE)
            one.recv(1)  # the server has taken it in, and answered with its own SETTINGS
        time.sleep(_SETTLE_SECONDS)
        return (server.resident_bytes() - before) / connections


def count(server: Server, payloads: list[Payload], calls: int, connections: int) -> dict[str, Any]:
    """Everything above, of a server that has just started."""
    # First, while the heap is as the start left it: what requests gave back would be taken for free.
    idle = connection_bytes(server, connections)
    wire = {payload.model: {"what": payload.what, **wire_bytes(server, payload, calls)} for payload in payloads}
    return {"wire": wire, "scrape": scrape(server), "connection_bytes": idle}

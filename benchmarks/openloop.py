"""An open loop: requests leave when they are due, whatever became of those before them.

h2load can't do that for small requests: its `--rps` sends in bursts, ten milliseconds apart. Here all
requests are laid out in memory beforehand, so that to send those that are due is to send a slice; replies are only
looked at for the ends of streams. Arrivals are Poisson's, seeded. A latency counts from the moment at which a request
was due, not from when it could be sent: a server that keeps the sender waiting can't hide it.

As a program: reads its orders as JSON from standard input, writes what it found as JSON.
"""

import gc
import json
import math
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hpack import Encoder

from benchmarks.h2load import framed
from benchmarks.machine import Others, pinned
from benchmarks.servers import REPOSITORY, ServerFailed
from benchmarks.stats import percentile

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4
_FRAME = struct.Struct(">HBBBI")  # length in 16 + 8 bits, type, flags, stream
_WINDOW = 65_535
_STREAMS = 100
"""At once on a connection, until the server has said how many."""
_LARGEST_WINDOW = 2**31 - 1
_MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE = 3, 4

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Of a server's own maximum, at which its latency is measured."""

DISTURBED = 0.03
"""Busy cores, of others, during a run, beyond which it is made again."""
ATTEMPTS = 5

_WARM_UP_SHARE = 0.2
_PATIENCE_SECONDS = 2.0
"""How long replies may come after the last request left."""


@dataclass(frozen=True)
class Orders:
    """What is sent, and when."""

    address: str
    method: str
    message_hex: str
    reply_bytes: int
    """Of a known good reply: any other length is an error."""
    rate: float
    seconds: float
    connections: int = 8
    timeout_ms: int = 0
    """The deadline that each request has, from when it is sent; 0 for none."""
    seed: int = 0


def run(orders: Orders, core: int | None) -> dict[str, Any]:
    """In a process of its own, on `core`.

    Raises:
        ServerFailed: it did not get through.
    """
    with pinned(core):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.openloop"],
            cwd=REPOSITORY,
            input=json.dumps(asdict(orders)),
            capture_output=True,
            text=True,
            timeout=orders.seconds + _PATIENCE_SECONDS + 20,
            check=False,
        )
    if done.returncode:
        raise ServerFailed(f"the open loop failed: {done.stderr.strip()[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def undisturbed(orders: Orders, core: int | None, cpu_seconds: Callable[[], float]) -> dict[str, Any]:
    """`run`, again where other processes of the machine disturbed it: the quietest attempt counts.

    One time slice of another process on the server's core is a tail of tens of milliseconds, which says nothing of
    the server. `cpu_seconds` is the server's CPU time so far.

    Raises:
        ServerFailed: it did not get through.
    """
    attempts: list[dict[str, Any]] = []
    while not attempts or (attempts[-1]["other_cores"] > DISTURBED and len(attempts) < ATTEMPTS):
        others, cpu = Others(), cpu_seconds()
        found = run(orders, core)
        attempts.append({**found, "other_cores": others.cores(cpu_seconds() - cpu + found["cpu_seconds"])})
    return {**min(attempts, key=lambda one: float(one["other_cores"])), "attempts": len(attempts)}


class Connection:
    """One HTTP/2 connection with all its requests laid out; the first one only fills the header table."""

    def __init__(self, orders: Orders, due: npt.NDArray[np.float64]) -> None:
        host, _, port = orders.address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=_PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = due
        self.sent_at = np.full(len(due), np.nan)
        self.done_at = np.full(len(due), np.nan)
        self.replied = np.zeros(len(due) + 1, dtype=bool)
        """Had a reply, not an error; the last is the first request's, which is not counted."""
        self.sent = self.errors = self.data_bytes = 0
        body = framed(bytes.fromhex(orders.message_hex))
        self._body_bytes = len(body)
        self._window = _WINDOW
        self._streams = _STREAMS
        self._ended = 0
        self._received = b""
        encoder, fields = Encoder(), _fields(orders)
        first, block = encoder.encode(fields), encoder.encode(fields)
        self._size, self._requests = _laid_out(block, body, len(due))
        settings = struct.pack(">HI", _INITIAL_WINDOW_SIZE, _LARGEST_WINDOW)
        window = struct.pack(">I", _LARGEST_WINDOW - _WINDOW)
        self._unsent = b"".join(
            [
                *(_PREFACE, _frame(_SETTINGS, 0, 0, settings), _frame(_WINDOW_UPDATE, 0, 0, window)),
                *(_frame(_HEADERS, _END_HEADERS, 1, first), _frame(_DATA, _END_STREAM, 1, body)),
            ]
        )
        self._window -= self._body_bytes
        self.primed = False

    def send(self, wanted: int, now: float) -> None:
        """Send requests until `wanted` are out, as far as the server's limits and the socket let us."""
        if wanted > self.sent and len(self._unsent) < self._size:
            count = min(wanted - self.sent, self._window // self._body_bytes, self._streams - self.sent + self._ended)
            if count > 0:
                start, stop = self.sent, self.sent + count
                self._unsent += self._requests[start * self._size : stop * self._size]
                self.sent_at[start:stop] = now
                self.sent = stop
                self._window -= count * self._body_bytes
        if self._unsent:
            try:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
            except BlockingIOError:
                return

    def receive(self) -> int:
        """Read what is there; returns how many replies ended."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ServerFailed("the server closed a connection")
        now = time.monotonic()
        data = self._received + data
        position, ended = 0, 0
        while len(data) - position >= 9:
            high, low, kind, flags, stream = _FRAME.unpack_from(data, position)
            end = position + 9 + (high << 8 | low)
            if end > len(data):
                break
            if kind == _DATA:
                self.data_bytes += end - position - 9
                self.replied[(stream - 3) >> 1] = True
            elif kind == _HEADERS:
                if flags & _END_STREAM:
                    ended += self._end(stream, now)
            else:
                ended += self._control(kind, flags, stream, data[position + 9 : end])
            position = end
        self._received = data[position:]
        self._ended += ended
        return ended

    def _end(self, stream: int, now: float) -> int:
        if stream == 1:
            self.primed = True
            return 0
        self.done_at[(stream - 3) >> 1] = now
        return 1

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> int:
        if kind == _WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big")
        elif kind == _SETTINGS and not flags & _ACK:
            said = dict(struct.iter_unpack(">HI", payload))
            self._streams = min(said.get(_MAX_CONCURRENT_STREAMS, self._streams), _LARGEST_WINDOW)
            self._unsent += _frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            self._unsent += _frame(_PING, _ACK, 0, payload)
        elif kind == _GOAWAY:
            raise ServerFailed("the server said goodbye")
        elif kind == _RST_STREAM:
            self.errors += 1
            return 1
        return 0


def measure(orders: Orders) -> dict[str, Any]:
    """Send everything when it is due, and say how long it took."""
    chance = np.random.default_rng(orders.seed)
    count = int(orders.rate * orders.seconds)
    due = np.cumsum(chance.exponential(1 / orders.rate, count))
    connections = [Connection(orders, due[number :: orders.connections]) for number in range(orders.connections)]
    poll = select.epoll()
    by_number = {}
    for connection in connections:
        connection.socket.setblocking(False)
        poll.register(connection.socket, select.EPOLLIN)
        by_number[connection.socket.fileno()] = connection
    while not all(connection.primed for connection in connections):
        for connection in connections:
            connection.send(0, 0.0)
        for number, _ in poll.poll(_PATIENCE_SECONDS):
            by_number[number].receive()
    gc.freeze()
    gc.disable()
    started = time.monotonic() + 0.01
    for connection in connections:
        connection.due = connection.due + started
    end = started + due[-1] + _PATIENCE_SECONDS
    wanted = [0] * len(connections)
    times = [[*connection.due.tolist(), float("inf")] for connection in connections]
    ended = 0
    while ended < count and (now := time.monotonic()) < end:
        for number, connection in enumerate(connections):
            list_, position = times[number], wanted[number]
            while list_[position] <= now:
                position += 1
            wanted[number] = position
            connection.send(position, now)
        # Never sleeps: the core is its own, and to wake up takes longer than a reply.
        for descriptor, _ in poll.poll(0):
            ended += by_number[descriptor].receive()
    return _found(orders, connections)


def _found(orders: Orders, connections: list[Connection]) -> dict[str, Any]:
    begins = min(connection.due[0] for connection in connections) + orders.seconds * _WARM_UP_SHARE
    latencies: list[float] = []
    lags: list[float] = []
    last = begins
    for connection in connections:
        counted = (connection.due >= begins) & ~np.isnan(connection.done_at)
        latencies += (connection.done_at - connection.due)[counted].tolist()
        lags += (connection.sent_at - connection.due)[counted].tolist()
        last = max(last, *connection.done_at[counted].tolist())
    limit = orders.timeout_ms / 1e3 or math.inf
    in_time = sum(
        int(
            (
                connection.replied[:-1] & (connection.due >= begins) & (connection.done_at - connection.due <= limit)
            ).sum()
        )
        for connection in connections
    )
    answered = sum(int((~np.isnan(connection.done_at)).sum()) for connection in connections)
    due = sum(len(connection.due) for connection in connections)
    expected = (answered + len(connections)) * orders.reply_bytes
    data = sum(connection.data_bytes for connection in connections)
    return {
        "due": due,
        "answered": answered,
        # With deadlines some are answered by an error, which has no data.
        "errors": sum(connection.errors for connection in connections)
        + int(data != expected and answered == due and not orders.timeout_ms),
        "per_second": len(latencies) / (last - begins),
        **{f"p{percent}_ms": percentile(latencies, percent) * 1e3 for percent in (50, 95, 99)},
        "lag_p99_ms": percentile(lags, 99) * 1e3,
        "in_time_per_second": in_time / (last - begins),
        "cpu_seconds": time.process_time(),
    }


def _fields(orders: Orders) -> list[tuple[str, str]]:
    return [
        *((":method", "POST"), (":scheme", "http"), (":path", orders.method), (":authority", orders.address)),
        *(("te", "trailers"), ("content-type", "application/grpc")),
        *((("grpc-timeout", f"{orders.timeout_ms}m"),) if orders.timeout_ms else ()),
    ]


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


def _laid_out(block: bytes, body: bytes, count: int) -> tuple[int, bytes]:
    """Bytes of one request, and `count` requests on streams 3, 5, 7..."""
    one = _frame(_HEADERS, _END_HEADERS, 0, block) + _frame(_DATA, _END_STREAM, 0, body)
    requests = np.tile(np.frombuffer(one, np.uint8), (count, 1))
    streams = (3 + 2 * np.arange(count, dtype=">u4")).astype(">u4").view(np.uint8).reshape(-1, 4)
    second = 9 + len(block)
    requests[:, 5:9] = requests[:, second + 5 : second + 9] = streams
    return len(one), requests.tobytes()


if __name__ == "__main__":
    print(json.dumps(measure(Orders(**json.load(sys.stdin)))))

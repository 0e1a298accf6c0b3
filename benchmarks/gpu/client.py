"""A closed loop of gRPC calls over plain sockets: what follows an answer is the next call, nothing else in between.

As a program it is one client process: reads its orders from standard input, says `ready`, waits for a line, and
writes what it found. It speaks as much of HTTP/2 (RFC 9113) as a unary call to a well-meaning server takes, with
messages of any size, and needs nothing but `hpack`: grpcio's own client would take ten times the CPU time of what it
asks for, and the server would wait for it.
"""

import gc
import pickle
import select
import socket
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass

from hpack import Encoder

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4
_HEAD = struct.Struct(">HBBBI")  # length in 16 + 8 bits, type, flags, stream
_WINDOW = 65_535
_LARGEST_WINDOW = 2**31 - 1
_FRAME_BYTES = 16_384
"""Of the payload of a frame, which every peer takes."""
_INITIAL_WINDOW_SIZE = 4
_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Orders:
    """What one process sends."""

    address: str
    method: str
    messages: list[bytes]
    """In turn."""
    first: int
    """Of them, the one to begin with."""
    streams: list[int]
    """In flight on each connection."""
    seconds: float
    warm_up: float
    """Seconds beforehand, which don't count."""


@dataclass(frozen=True)
class Found:
    """What came of it."""

    latencies: list[float]
    """Seconds of each call that was answered in the time that counts."""
    answered: int
    """All that were, beforehand and afterwards, too."""
    errors: int
    cpu_seconds: float


@dataclass
class Unsent:
    """A message that is not all sent."""

    stream: int
    rest: memoryview
    window: int
    """Bytes that the stream may still have (RFC 9113, section 5.2)."""


class Connection:
    """One HTTP/2 connection with so many calls in flight."""

    def __init__(self, orders: Orders, first: int) -> None:
        host, _, port = orders.address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=_PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._bodies = [struct.pack(">BI", 0, len(message)) + message for message in orders.messages]
        self._next = first
        encoder = Encoder()
        fields = [
            *((":method", "POST"), (":scheme", "http"), (":path", orders.method), (":authority", orders.address)),
            *(("te", "trailers"), ("content-type", "application/grpc")),
        ]
        self._first_block: bytes | None = encoder.encode(fields)
        self._block = encoder.encode(fields)
        self._stream = 1
        self._window, self._initial = _WINDOW, _WINDOW
        self._waiting: deque[Unsent] = deque()
        self._began: dict[int, float] = {}
        self._replied: set[int] = set()
        self._received = b""
        self._out = [
            _PREFACE,
            _frame(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, _LARGEST_WINDOW)),
            _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _LARGEST_WINDOW - _WINDOW)),
        ]
        self.finished: list[tuple[float, float]] = []
        """Start and end of each call that had an answer."""
        self.errors = 0

    @property
    def in_flight(self) -> int:
        """Calls that wait for their answer."""
        return len(self._began)

    def call(self, count: int, now: float) -> None:
        """Begin so many calls."""
        for _ in range(count):
            stream, body = self._stream, self._bodies[self._next % len(self._bodies)]
            self._stream, self._next = stream + 2, self._next + 1
            self._began[stream] = now
            block, self._first_block = self._first_block or self._block, None
            self._out.append(_frame(_HEADERS, _END_HEADERS, stream, block))
            if len(body) <= min(_FRAME_BYTES, self._window, self._initial) and not self._waiting:
                self._out.append(_frame(_DATA, _END_STREAM, stream, body))
                self._window -= len(body)
            else:
                self._waiting.append(Unsent(stream, memoryview(body), self._initial))
        self._push()

    def send(self) -> bool:
        """Send what there is to send; returns whether all of it is out."""
        if not self._out:
            return True
        data = b"".join(self._out)
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        self._out = [data[sent:]] if sent < len(data) else []
        return not self._out

    def receive(self, now: float) -> int:
        """Read what is there; returns how many calls ended."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the server closed a connection")
        data = self._received + data
        position, ended = 0, 0
        while len(data) - position >= 9:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, position)
            end = position + 9 + (high << 8 | low)
            if end > len(data):
                break
            if kind == _DATA:
                self._replied.add(stream)
            elif kind != _HEADERS:
                self._control(kind, flags, stream, data[position + 9 : end])
            if (flags & _END_STREAM and kind in (_DATA, _HEADERS)) or kind == _RST_STREAM:
                ended += self._end(stream, now)
            position = end
        self._received = data[position:]
        return ended

    def _end(self, stream: int, now: float) -> int:
        began = self._began.pop(stream, None)
        if began is None:
            return 0
        if stream in self._replied:
            self._replied.discard(stream)
            self.finished.append((began, now))
        else:
            self.errors += 1  # a status without a message
            # What is left of its message is not wanted any more.
            self._waiting = deque(one for one in self._waiting if one.stream != stream)
        return 1

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _WINDOW_UPDATE:
            more = int.from_bytes(payload, "big")
            if stream == 0:
                self._window += more
            else:
                for one in self._waiting:
                    if one.stream == stream:
                        one.window += more
            self._push()
        elif kind == _SETTINGS and not flags & _ACK:
            said = dict(struct.iter_unpack(">HI", payload))
            initial = said.get(_INITIAL_WINDOW_SIZE, self._initial)
            for one in self._waiting:
                one.window += initial - self._initial
            self._initial = initial
            self._out.append(_frame(_SETTINGS, _ACK, 0, b""))
            self._push()
        elif kind == _PING and not flags & _ACK:
            self._out.append(_frame(_PING, _ACK, 0, payload))
        elif kind == _GOAWAY:
            raise ConnectionError("the server said goodbye")

    def _push(self) -> None:
        """Put frames of waiting messages out, as far as the server's windows let us, the oldest first."""
        left: deque[Unsent] = deque()
        for one in self._waiting:
            while one.rest and (size := min(len(one.rest), _FRAME_BYTES, self._window, one.window)) > 0:
                flags = _END_STREAM if size == len(one.rest) else 0
                self._out.append(_frame(_DATA, flags, one.stream, bytes(one.rest[:size])))
                one.rest = one.rest[size:]
                self._window -= size
                one.window -= size
            if one.rest:
                left.append(one)
        self._waiting = left


def work(orders: Orders) -> Found:
    """The closed loop, until its time is over and every call has its answer.

    Raises:
        ConnectionError: the server went away.
        TimeoutError: it answers no more.
    """
    connections = [Connection(orders, orders.first + 17 * number) for number in range(len(orders.streams))]
    gc.freeze()
    gc.disable()
    poll = select.epoll()
    by_number = {connection.socket.fileno(): connection for connection in connections}
    begins = time.monotonic() + orders.warm_up
    ends = begins + orders.seconds
    cpu = time.process_time()
    for connection, streams in zip(connections, orders.streams, strict=True):
        connection.call(streams, time.monotonic())
        poll.register(connection.socket, select.EPOLLIN | select.EPOLLOUT)
    heard = time.monotonic()
    while any(connection.in_flight for connection in connections):
        events = poll.poll(1.0)
        now = time.monotonic()
        if not events and now - heard > _PATIENCE_SECONDS:
            raise TimeoutError("the server answers no more")
        heard = now if events else heard
        for number, event in events:
            connection = by_number[number]
            if event & ~select.EPOLLOUT:
                ended = connection.receive(now)
                if ended and now < ends:
                    connection.call(ended, now)
            done = connection.send()
            poll.modify(number, select.EPOLLIN if done else select.EPOLLIN | select.EPOLLOUT)
    finished = [span for connection in connections for span in connection.finished]
    return Found(
        [end - begin for begin, end in finished if begins <= end <= ends],
        len(finished),
        sum(connection.errors for connection in connections),
        time.process_time() - cpu,
    )


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _HEAD.pack(len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


def main() -> None:
    """One client process."""
    orders: Orders = pickle.load(sys.stdin.buffer)
    said = sys.stdout.buffer
    said.write(b"ready\n")
    said.flush()
    sys.stdin.buffer.readline()
    said.write(pickle.dumps(work(orders)))
    said.flush()


if __name__ == "__main__":
    # Under the name by which its parent knows what it sends and gets.
    from benchmarks.gpu import client

    client.main()

"""Clients that keep to HTTP/2 and to nothing else: as many as a test wants, over plain sockets."""

import contextlib
import resource
import socket

from serving.transport.native import frames
from serving.transport.native.frames import PREFACE, ErrorCode, frame
from tests.serving.transport.native.client import Client

NOBODY = 0
"""The port of a client that only says what it would send."""

MANY = 2**31 - 1


def greeted(port: int, *, window: int = frames.DEFAULT_WINDOW, buffer: int = 0) -> socket.socket:
    """A connection that has said that it speaks HTTP/2, and takes so much on every stream."""
    made = socket.socket()
    if buffer:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    made.settimeout(10)
    made.connect(("127.0.0.1", port))
    made.sendall(PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: window}))
    if window > frames.DEFAULT_WINDOW:
        made.sendall(frames.window_update(0, window - frames.DEFAULT_WINDOW))
    return made


def idle(port: int, count: int) -> list[socket.socket]:
    """So many connections that the server has taken, and on which nothing happens."""
    made = [greeted(port) for _ in range(count)]
    for one in made:
        assert one.recv(frames.HEADER_BYTES), "turned away"
    return made


def room_for(count: int) -> int:
    """As many as that, or as this process may open beside what it needs itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = 1 << 20 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(count, hard - 1000)


def calls(path: str, message: bytes, count: int) -> bytes:
    """So many whole unary calls, for a connection that has made none."""
    client = Client(NOBODY)
    return b"".join(client.call(2 * number + 1, path, message) for number in range(count))


def reset_flood(port: int, path: str) -> ErrorCode | None:
    """Open streams and take them back, until the server has had enough; what it then says."""
    client = Client(NOBODY)
    cancel = int(ErrorCode.CANCEL).to_bytes(4)
    data = b"".join(
        client.head(stream, path) + frame(frames.RST_STREAM, 0, stream, cancel) for stream in range(1, 8001, 2)
    )
    seen = bytearray()
    with greeted(port) as flooding, contextlib.suppress(OSError):
        with contextlib.suppress(OSError):
            flooding.sendall(data)
        while some := flooding.recv(1 << 16):
            seen += some
    return ErrorCode.ENHANCE_YOUR_CALM if b"more control frames" in seen else None

"""A client that says whatever a test wants, over a real socket."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple, Self

from hpack import Decoder, Encoder

from serving.transport.native import frames
from serving.transport.native.frames import HEADER, HEADER_BYTES, PREFACE, ErrorCode, frame

HEAD = (
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "x"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)
END = frames.END_STREAM
WHOLE = frames.END_HEADERS


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> ErrorCode:
        """Of a GOAWAY or RST_STREAM."""
        return ErrorCode(int.from_bytes(self.payload[4:8] if self.kind == frames.GOAWAY else self.payload[:4]))


def parse(data: bytes) -> list[Frame]:
    """Frames, all whole."""
    found = []
    while data:
        high, low, kind, flags, stream = HEADER.unpack_from(data)
        end = HEADER_BYTES + (high << 8 | low)
        assert len(data) >= end
        found.append(Frame(kind, flags, stream, data[HEADER_BYTES:end]))
        data = data[end:]
    return found


def message(data: bytes = b"", compressed: int = 0) -> bytes:
    return bytes((compressed,)) + len(data).to_bytes(4) + data


class Client:
    """One connection; what comes is read only when a test asks for it."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._tls = tls
        self._encoder, self._decoder = Encoder(), Decoder()
        self.seen: list[Frame] = []

    async def __aenter__(self) -> Self:
        connected = socket.socket()
        connected.setblocking(False)
        if self._tls is not None:
            # Little on the way, so that a test need not send tens of megabytes until there is no more room.
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        await asyncio.get_running_loop().sock_connect(connected, ("127.0.0.1", self._port))
        name = None if self._tls is None else "127.0.0.1"
        self.reader, self.writer = await asyncio.open_connection(
            sock=connected, limit=1 << 14, ssl=self._tls, server_hostname=name
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._tls is None:
            self.writer.close()
        else:
            self.writer.transport.abort()  # or asyncio waits for the server's goodbye, although it is gone
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    def greet(self, settings: dict[int, int] | None = None) -> None:
        self.send(PREFACE, frames.settings(settings or {}))

    def block(self, path: str, *more: tuple[str, str]) -> bytes:
        return self._encoder.encode([*HEAD[:2], (":path", path), *HEAD[2:], *more])

    def head(self, stream: int, path: str, *more: tuple[str, str], flags: int = 0) -> bytes:
        return frame(frames.HEADERS, WHOLE | flags, stream, self.block(path, *more))

    def call(self, stream: int, path: str, data: bytes = b"") -> bytes:
        """A whole unary call."""
        return self.head(stream, path) + frame(frames.DATA, END, stream, message(data))

    async def read(self) -> Frame:
        """The next frame; what its trailers say is decoded in order."""
        head = await self.reader.readexactly(HEADER_BYTES)
        high, low, kind, flags, stream = HEADER.unpack(head)
        found = Frame(kind, flags, stream, await self.reader.readexactly(high << 8 | low))
        self.seen.append(found)
        return found

    async def until(self, wanted: Callable[[Frame], bool]) -> Frame:
        while not wanted(found := await self.read()):
            pass
        return found

    async def rest(self) -> list[Frame]:
        """All that comes until the server closes."""
        found = []
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                found.append(await self.read())
        return found

    async def goaway(self) -> Frame:
        """What the server's last GOAWAY said, once it has closed."""
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()
        return [frame for frame in await self.rest() if frame.kind == frames.GOAWAY][-1]

    async def reset(self, stream: int) -> ErrorCode:
        return (await self.until(lambda frame: frame.kind == frames.RST_STREAM and frame.stream == stream)).code

    async def answer(self, stream: int) -> tuple[int, bytes]:
        """A stream's status and DATA."""
        data = bytearray()
        while True:
            found = await self.read()
            if found.stream != stream:
                continue
            assert found.kind != frames.RST_STREAM, found.code
            if found.kind == frames.DATA:
                data += found.payload
            elif found.kind == frames.HEADERS and found.flags & END:
                fields: Any = self._decoder.decode(found.payload)
                return int(dict(fields)["grpc-status"]), bytes(data)

    async def ping(self) -> None:
        """All that was sent before has been seen."""
        self.send(frame(frames.PING, 0, 0, b"sequence"))
        await self.until(lambda frame: frame.kind == frames.PING and bool(frame.flags & frames.ACK))

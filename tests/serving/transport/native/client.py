"""A client that says whatever a test wants, over a real socket."""

import asyncio
import contextlib
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

    def __init__(self, port: int) -> None:
        self._port = port
        self._encoder, self._decoder = Encoder(), Decoder()
        self.seen: list[Frame] = []

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 14)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.writer.close()
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
        data = b""
        while True:
            found = await self.read()
            if found.stream != stream:
                continue
            assert found.kind != frames.RST_STREAM, found.code
            if found.kind == frames.DATA:
                data += found.payload
            elif found.kind == frames.HEADERS and found.flags & END:
                fields: Any = self._decoder.decode(found.payload)
                return int(dict(fields)["grpc-status"]), data

    async def ping(self) -> None:
        """All that was sent before has been seen."""
        self.send(frame(frames.PING, 0, 0, b"sequence"))
        await self.until(lambda frame: frame.kind == frames.PING and bool(frame.flags & frames.ACK))

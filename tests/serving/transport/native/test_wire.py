"""What the server says, read back with the `hpack` package."""

import gzip
import zlib
from typing import Any
from urllib.parse import unquote

import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from serving.status import Code, StatusError
from serving.transport.native import frames, wire
from tests.serving.transport.native.client import Frame, parse


def fields(frame: Frame) -> dict[str, str]:
    block: Any = Decoder().decode(frame.payload)
    return dict(block)


@given(stream=st.integers(1, 2**31 - 1), message=st.binary(max_size=300))
def test_a_reply_is_headers_a_message_and_trailers(stream: int, message: bytes) -> None:
    head, data, end = parse(wire.unary_reply(stream, message))
    assert {head.stream, data.stream, end.stream} == {stream}
    assert fields(head) == {":status": "200", "content-type": "application/grpc"}
    assert data.payload == b"\0" + len(message).to_bytes(4) + message == wire.message_prefix(message) + message
    assert fields(end) == {"grpc-status": "0"}
    assert (head.flags, data.flags, end.flags) == (frames.END_HEADERS, 0, frames.END_HEADERS | frames.END_STREAM)
    assert head == parse(wire.headers(stream))[0]
    assert end == parse(wire.trailers(stream, None, only=False))[0]


@given(message=st.text(max_size=300), code=st.sampled_from([code for code in Code if code is not Code.OK]))
def test_a_message_is_printable_ascii_on_the_wire(message: str, code: Code) -> None:
    [frame] = parse(wire.trailers(1, StatusError(code, message), only=True))
    said = fields(frame)
    assert said["grpc-status"] == str(int(code))
    text = said.get("grpc-message", "")
    assert all(0x20 <= ord(character) < 0x7F for character in text)
    assert unquote(text) == message.encode("utf-8", "replace").decode()


def test_a_long_message_is_cut() -> None:
    [frame] = parse(wire.trailers(1, StatusError(Code.INTERNAL, "ü" * 100_000), only=False))
    assert len(frame.payload) < 8 * 1024, "what every client takes"
    assert ":status" not in fields(frame)


def test_when_to_come_back_is_rounded_up() -> None:
    [frame] = parse(wire.trailers(1, StatusError(Code.UNAVAILABLE, "", retry_after=0.0101), only=True))
    assert fields(frame)["grpc-retry-pushback-ms"] == "11"
    assert "grpc-message" not in fields(frame)


def test_an_http_error() -> None:
    [frame] = parse(wire.http_error(7, 415, "no"))
    assert fields(frame) == {":status": "415", "content-type": "text/plain", "grpc-status": "2", "grpc-message": "no"}


@given(data=st.binary(max_size=500), spare=st.integers(0, 3))
def test_gzip_within_the_limit(data: bytes, spare: int) -> None:
    assert wire.decompress(gzip.compress(data, mtime=0), len(data) + spare) == data
    if data:
        assert wire.decompress(gzip.compress(data, mtime=0), len(data) - 1) is None


@pytest.mark.parametrize("data", [b"", b"x", gzip.compress(b"abc", mtime=0)[:-3], b"\x1f\x8b" + bytes(50)])
def test_what_is_not_gzip(data: bytes) -> None:
    with pytest.raises(zlib.error):
        wire.decompress(data, 100)

"""What the server says: response headers, length-prefixed messages, trailers ("gRPC over HTTP/2", Responses).

Header blocks are made of static indices and of literals that are never indexed, so they are the same bytes
every time, on every connection, and only the stream's number is filled in.
"""

import math
import zlib
from base64 import b64encode
from struct import Struct
from typing import Final
from urllib.parse import quote_from_bytes

from serving import details
from serving.status import Code, StatusError
from serving.transport.native.frames import DATA, END_HEADERS, END_STREAM, HEADERS, frame

PREFIX_BYTES: Final = 5
"""Of a message: whether it is compressed, and its length."""

_STATUS_200: Final = b"\x88"
_CONTENT_TYPE: Final = b"\x0f\x10\x10application/grpc"  # 31 of the static table, not indexed


def _literal(name: bytes, value: bytes) -> bytes:
    """A field that leaves the dynamic table alone (RFC 7541, section 6.2.2)."""
    return b"\x00" + _string(name) + _string(value)


def _string(data: bytes) -> bytes:
    length = len(data)
    if length < 0x7F:
        return bytes((length,)) + data
    encoded = bytearray((0x7F,))
    length -= 0x7F
    while length >= 0x80:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded) + data


_HEAD: Final = _STATUS_200 + _CONTENT_TYPE
_DETAILS: Final = details.KEY.encode()
_TRAILERS_OK: Final = _literal(b"grpc-status", b"0")

_REPLY: Final = Struct(f">5sL{len(_HEAD)}sHBBBLBL")
_REPLY_HEAD: Final = len(_HEAD).to_bytes(3) + bytes((HEADERS, END_HEADERS))
_END: Final = Struct(f">5sL{len(_TRAILERS_OK)}s")
_END_HEAD: Final = len(_TRAILERS_OK).to_bytes(3) + bytes((HEADERS, END_HEADERS | END_STREAM))


def unary_reply(stream: int, message: bytes) -> bytes:
    """A whole successful response: headers, one message in one DATA frame, trailers."""
    length = len(message)
    framed = length + PREFIX_BYTES
    return (
        _REPLY.pack(_REPLY_HEAD, stream, _HEAD, framed >> 8, framed & 0xFF, DATA, 0, stream, 0, length)
        + message
        + _END.pack(_END_HEAD, stream, _TRAILERS_OK)
    )


def headers(stream: int) -> bytes:
    """Response headers alone."""
    return frame(HEADERS, END_HEADERS, stream, _HEAD)


def message_prefix(message: bytes) -> bytes:
    """What stands before an uncompressed message."""
    return b"\x00" + len(message).to_bytes(4)


def trailers(stream: int, error: StatusError | None, *, only: bool, request_id: str = "") -> bytes:
    """The end of a response; with `only`, all there is of it (Trailers-Only)."""
    if error is None:
        block = _TRAILERS_OK
    else:
        block = _literal(b"grpc-status", b"%d" % error.code)
        if error.message:
            block += _literal(b"grpc-message", _percent_encode(error.message))
        if error.retry_after is not None:
            block += _literal(b"grpc-retry-pushback-ms", b"%d" % math.ceil(error.retry_after * 1e3))
        # Binary values are base64 without padding ("gRPC over HTTP/2", Custom-Metadata).
        block += _literal(_DETAILS, b64encode(details.encode(error, request_id)).rstrip(b"="))
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, (_HEAD if only else b"") + block)


def http_error(stream: int, status: int, message: str) -> bytes:
    """The answer to a request that is not gRPC."""
    block = _literal(b":status", b"%d" % status) + _literal(b"content-type", b"text/plain")
    block += _literal(b"grpc-status", b"%d" % Code.UNKNOWN) + _literal(b"grpc-message", _percent_encode(message))
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, block)


_SAFE: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


def _percent_encode(message: str) -> bytes:
    """Status-Message of "gRPC over HTTP/2": UTF-8, all but printable ASCII and the per cent sign encoded."""
    if message.isascii() and message.isprintable() and "%" not in message:
        return message.encode()
    return quote_from_bytes(message.encode("utf-8", "replace"), safe=_SAFE).encode("ascii")


def decompress(message: bytes, limit: int) -> bytes | None:
    """A gzip message unpacked, or None where it is larger than `limit`.

    Raises:
        zlib.error: it is no gzip.
    """
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    data = unpacker.decompress(message, limit + 1)
    if len(data) > limit:
        return None
    if not unpacker.eof:
        raise zlib.error("the message ends too early")
    return data

"""What a request's header fields mean: RFC 9113 section 8.3 and "gRPC over HTTP/2", Requests."""

import base64
import binascii
import math
import re
from functools import lru_cache
from typing import Final, NamedTuple

from serving.api.call import Metadata
from serving.transport.native.fields import Field, Fields

_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MAX_TIMEOUT_DIGITS: Final = 8

# Of one connection, not of a request: HTTP/2 has no place for them (RFC 9113, section 8.2.2).
_CONNECTION_FIELDS: Final = {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
_PSEUDO_FIELDS: Final = {b":method", b":scheme", b":path", b":authority"}
_OWN_FIELDS: Final = {b"te", b"content-type", b"grpc-encoding", b"grpc-accept-encoding", b"content-length", b"host"}
"""Of the protocol, and so not metadata."""

_NAME: Final = re.compile(rb"[!-9;-@\[-~]+")
"""Of a field: visible ASCII, but no colon and no capital (RFC 9113, section 8.2.1)."""
_BROKEN_VALUE: Final = re.compile(rb"[\0\r\n]")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
"""Of content (RFC 9110, section 8.6), and no longer than any can be."""
_CONTENT_TYPE: Final = re.compile(rb"application/grpc(?:[+;].*)?")
"""gRPC-Web, for one, begins alike and is something else."""

_MAX_KNOWN: Final = 1024
_MAX_KNOWN_BYTES: Final = 1024
"""Of a head's values, beyond which it is not worth keeping."""


class Malformed(Exception):  # noqa: N818 - RFC 9113's own term
    """A request that is not HTTP: its stream ends with PROTOCOL_ERROR (section 8.1.1)."""


class Head(NamedTuple):
    """A request's head, all but its timeout, which is another every time."""

    path: str
    metadata: Metadata
    encoding: bytes
    http_status: int
    """200, or what to answer to a request that is HTTP but not gRPC."""
    message: str
    """What is wrong with it, where something is."""
    length: int | None = None
    """The bytes of DATA that it announces, where it does."""
    plain: bool = True
    """It is gRPC, and announces no length: there is nothing to be seen to. gRPC's own clients send only such."""


_known: dict[Fields, Head] = {}


def read_head(fields: Fields) -> Head:
    """The head of a request.

    Raises:
        Malformed: it is not HTTP.
    """
    head = _known.get(fields)
    if head is None:
        head = _read(fields)
        # Metadata may be another for every request: only so many heads are kept.
        if sum(len(value) for _, value in fields) <= _MAX_KNOWN_BYTES:
            if len(_known) >= _MAX_KNOWN:
                _known.clear()
            _known[fields] = head
    return head


@lru_cache(maxsize=1024)
def read_timeout(value: bytes | None) -> float:
    """Seconds of a grpc-timeout, infinite where there is none.

    Raises:
        Malformed: it is none.
    """
    if value is None:
        return math.inf
    unit = _UNITS.get(value[-1:])
    digits = value[:-1]
    if unit is None or not digits.isdigit() or len(digits) > _MAX_TIMEOUT_DIGITS:
        raise Malformed(f"grpc-timeout {value!r}")
    return int(digits) * unit


def _read(fields: Fields) -> Head:
    pseudo: dict[bytes, bytes] = {}
    own: dict[bytes, bytes] = {}
    metadata: list[tuple[str, str | bytes]] = []
    regular = False
    for name, value in fields:
        if _BROKEN_VALUE.search(value):
            raise Malformed(f"the value of field {name!r}")
        if name.startswith(b":"):
            if regular or name in pseudo or name not in _PSEUDO_FIELDS:
                raise Malformed(f"pseudo-field {name!r} is late, double or unknown")
            pseudo[name] = value
            continue
        regular = True
        if not _NAME.fullmatch(name) or name in _CONNECTION_FIELDS:
            raise Malformed(f"field {name!r}")
        if name in _OWN_FIELDS:
            if name == b"content-length" and (name in own or not _LENGTH.fullmatch(value)):
                raise Malformed(f"content-length {value!r}, or more than one")
            own[name] = value
        else:
            metadata += _metadata((name, value))
    if not pseudo.get(b":path") or b":method" not in pseudo or b":scheme" not in pseudo:
        raise Malformed("a pseudo-field is missing")
    status, message = 200, ""
    if pseudo[b":method"] != b"POST":
        status, message = 405, "gRPC is POST"
    elif not _CONTENT_TYPE.fullmatch(own.get(b"content-type", b"")):
        status, message = 415, "the content-type of gRPC is application/grpc"
    elif own.get(b"te") != b"trailers":
        status, message = 400, "te: trailers is missing: some proxy on the way may drop trailers"
    path = pseudo[b":path"].decode("ascii", "backslashreplace")
    announced = own.get(b"content-length")
    return Head(
        path,
        tuple(metadata),
        own.get(b"grpc-encoding", b"identity"),
        status,
        message,
        None if announced is None else int(announced),
        status == 200 and announced is None,
    )


def _metadata(field: Field) -> list[tuple[str, str | bytes]]:
    """Custom-Metadata of "gRPC over HTTP/2": binary values are base64, padded or not, and may be joined by commas."""
    name = field[0].decode("ascii", "replace")
    if not name.endswith("-bin"):
        return [(name, field[1].decode("ascii", "replace"))]
    try:
        return [(name, base64.b64decode(part + b"=" * (-len(part) % 4))) for part in field[1].split(b",")]
    except binascii.Error as error:
        raise Malformed(f"{name} is not base64") from error

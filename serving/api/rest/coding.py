"""Compressed bodies: gzip and deflate, to bounds in either direction (RFC 9110, section 8.4.1)."""

import re
import zlib
from http import HTTPStatus
from typing import Final

from serving.api.rest.errors import HttpError

# "deflate" is zlib's format.
_WINDOWS: Final = {b"gzip": 16 + zlib.MAX_WBITS, b"x-gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}

MIN_BYTES: Final = 1024
MAX_BYTES: Final = 64 * 1024
"""Answers are compressed that are no shorter than the one, for it would gain nothing, and no longer than the other,
for it would hold up every other call."""

_LEVEL: Final = 1
_NEVER: Final = re.compile(rb";\s*q=0(\.0*)?\s*$")


def decoded(body: bytes, coding: bytes, most: int) -> bytes:
    """A body without its coding.

    Raises:
        HttpError: 415 for a coding that is not known, 413 beyond `most` bytes, 400 for what can't be decoded.
    """
    name = coding.strip().lower()
    if name in (b"", b"identity"):
        return body
    window = _WINDOWS.get(name)
    if window is None:
        raise HttpError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "content-encoding: expected gzip, deflate or identity",
            ((b"accept-encoding", b"gzip, deflate"),),
        )
    decoder = zlib.decompressobj(window)
    try:
        plain = decoder.decompress(body, most + 1)
    except zlib.error as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, f"the body is not {name.decode()}: {error}") from error
    if len(plain) > most:
        raise too_large(most)
    if not decoder.eof or decoder.unused_data:
        what = "ends too early" if not decoder.eof else "goes on behind its end"
        raise HttpError(HTTPStatus.BAD_REQUEST, f"the body is not {name.decode()}: it {what}")
    return plain


def too_large(most: int) -> HttpError:
    """413 for a body of more than `most` bytes."""
    return HttpError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body is larger than the {most} bytes that this server takes (--max-message-bytes), "
        "or decompresses to more",
    )


def accepted(codings: bytes) -> bytes:
    """The coding in which an answer may go: the first of those accepted that is known, or none."""
    for each in codings.lower().split(b","):
        name = each.split(b";", 1)[0].strip()
        if name in (b"gzip", b"deflate") and not _NEVER.search(each):
            return name
    return b""


def encoded(body: bytes, coding: bytes) -> bytes:
    """A body in that coding."""
    encoder = zlib.compressobj(_LEVEL, wbits=_WINDOWS[coding])
    return encoder.compress(body) + encoder.flush()

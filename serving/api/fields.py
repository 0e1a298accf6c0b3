"""Walks the fields of a message without their classes (Protocol Buffers, "Encoding").

What is odd about them is left to the parser.
"""

from collections.abc import Iterator
from typing import Final

VARINT: Final = 0
LENGTH: Final = 2
_SIZES: Final = {1: 8, 5: 4}
"""Of what has one size by its wire type; the ends of a group have none, and what is within counts as beside it."""

_MAX_SHIFT: Final = 63


def fields(message: bytes, position: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Tag, start and end of each field, up to the first that is cut off."""
    while position < stop:
        tag, position = read_varint(message, position, stop)
        kind, start = tag & 7, position
        if kind == LENGTH:
            length, start = read_varint(message, position, stop)
            position = start + length
        elif kind == VARINT:
            position = read_varint(message, position, stop)[1]
        else:
            position += _SIZES.get(kind, 0)
        yield tag, start, min(position, stop)


def read_varint(message: bytes, position: int, stop: int) -> tuple[int, int]:
    """A number, and the position after it: beyond the end, where it is cut off."""
    value = shift = 0
    while position < stop and shift <= _MAX_SHIFT:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    return 0, stop


def varint(value: int) -> bytes:
    """A number that is not negative, as it is written."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)

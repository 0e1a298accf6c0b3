"""The fields of a Protocol Buffers message, walked without its classes (Protocol Buffers, "Encoding"), in bounded time.

For files too large, and too little trusted, to be parsed before they are looked at.
"""

from collections.abc import Iterator
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5

MAX_WORK: Final = 24_000_000
"""What may be walked of one message, in values of a run: some seconds. A field by itself costs `_FIELD` of them."""
_FIELD: Final = 8
_LARGE: Final = 4
"""What a number costs that is large or negative."""

_MAX_TAG: Final = 1 << 32
_MAX_TAG_BYTES: Final = 5
_MAX_VARINT_BYTES: Final = 10
_CHUNK: Final = 1 << 20
_CONTINUED: Final = bytes(range(0x80, 0x100))

Field = tuple[int, int, int, int]
"""Tag (number and wire type, as encoded), start and end of the content, and of how many values."""


class MalformedError(ValueError):
    """No message, or one of more parts than anybody would write; the message says where."""


class Wire:
    """A message and how much of it may still be walked."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._left = MAX_WORK

    def fields(self, start: int, stop: int, runs: frozenset[int] = frozenset()) -> Iterator[Field]:
        """The fields between two positions.

        Neighbours of a tag in `runs` (which has one byte) come as one, quickly, their content being all of them with
        their tags and lengths; others come alone.

        Raises:
            MalformedError: one is cut off, or of a kind that does not exist.
        """
        data, position = self.data, start
        while position < stop:
            tag = data[position]
            if tag in runs:
                count, end = self._run(tag, position, stop)
                yield tag, position, end, count
                position = end
                continue
            self._spend(_FIELD)
            begin = position
            tag, position = self.varint(position, stop)
            if not 8 <= tag < _MAX_TAG or position - begin > _MAX_TAG_BYTES:
                raise MalformedError(f"there is no field at byte {begin}")
            kind = tag & 7
            if kind == LENGTH:
                length, position = self.varint(position, stop)
                end = position + length
            elif kind == VARINT:
                end = self.varint(position, stop)[1]
            elif kind == FIXED32:
                end = position + 4
            elif kind == FIXED64:
                end = position + 8
            else:
                raise MalformedError(f"there is no field at byte {begin}")
            if end > stop:
                raise MalformedError(f"the field at byte {begin} is cut off")
            yield tag, position, end, 1
            position = end

    def varint(self, position: int, stop: int) -> tuple[int, int]:
        """A number, unsigned, and the position after it."""
        value = 0
        for index, byte in enumerate(self.data[position : min(stop, position + _MAX_VARINT_BYTES)]):
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return value, position + index + 1
        raise MalformedError(f"the number at byte {position} does not end")

    def integer(self, position: int, stop: int) -> int:
        """A number, signed as an int64."""
        value = self.varint(position, stop)[0] & (1 << 64) - 1
        return value - (1 << 64) if value >> 63 else value

    def count_varints(self, start: int, stop: int) -> int:
        """How many numbers a packed field holds: each has one byte without the mark of continuation."""
        return sum(
            len(self.data[at : min(at + _CHUNK, stop)].translate(None, _CONTINUED)) for at in range(start, stop, _CHUNK)
        )

    def _run(self, tag: int, position: int, stop: int) -> tuple[int, int]:
        """How many fields of this tag follow one another, and where they end."""
        data, count, most = self.data, 0, self._left
        kind = tag & 7
        size = {FIXED32: 5, FIXED64: 9}.get(kind, 0)
        try:
            while position < stop and data[position] == tag:
                if kind == LENGTH:
                    length = data[position + 1]
                    if length < 0x80:
                        position += 2 + length
                    else:
                        length, position = self.varint(position + 1, stop)
                        position += length
                elif kind == VARINT:
                    if data[position + 1] < 0x80:
                        position += 2
                    elif data[position + 2] < 0x80:
                        position += 3
                    elif data[position + 3] < 0x80:
                        position += 4
                    else:
                        position = self.varint(position + 1, stop)[1]
                        most -= _LARGE
                else:
                    position += size
                count += 1
                if count > most:
                    break
        except IndexError:
            position = stop + 1
        if position > stop:
            raise MalformedError(f"a field that should end before byte {stop} is cut off")
        self._spend(count + self._left - most)
        return count, position

    def _spend(self, work: int) -> None:
        self._left -= work
        if self._left < 0:
            raise MalformedError(f"it has more fields than can be looked at ({MAX_WORK // _FIELD} of any kind)")

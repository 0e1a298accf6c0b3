"""HPACK (RFC 7541): header blocks to lists of fields, through the static table and the codes of the `hpack` package.

A connection's requests mostly send the same fields, so two things are quick here: a block that was seen
since the dynamic table last changed is looked up by its bytes, and a field that is an index takes one step.
"""

from collections import deque
from typing import Final

from hpack.exceptions import HPACKError
from hpack.hpack import decode_integer
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from serving.transport.native.frames import ErrorCode, PeerError

Field = tuple[bytes, bytes]
Fields = tuple[Field, ...]

MAX_LIST_BYTES: Final = 16 * 1024
"""Of one request's fields, names and values, 32 bytes added to each (RFC 9113, section 6.5.2)."""

_ENTRY_BYTES: Final = 32
_MAX_CACHED: Final = 64
_STATIC: Final[tuple[Field, ...]] = tuple(HeaderTable.STATIC_TABLE)
_FIRST_DYNAMIC: Final = len(_STATIC) + 1


class FieldDecoder:
    """Decodes the header blocks of one connection, in order."""

    def __init__(self) -> None:
        self._table: deque[Field] = deque()
        """The dynamic table (section 2.3.2), the newest first."""
        self._size = 0
        self._room = HeaderTable.DEFAULT_SIZE
        self._seen: dict[bytes, Fields] = {}
        self._largest = _LARGEST_STATIC
        """Size of the largest field that has come, so far."""

    def decode(self, block: bytes) -> Fields:
        """The fields of one block.

        Raises:
            PeerError: COMPRESSION_ERROR for a block that breaks RFC 7541, ENHANCE_YOUR_CALM for one that
                unpacks to more than `MAX_LIST_BYTES`.
        """
        fields = self._seen.get(block)
        if fields is None:
            try:
                fields = self._decode(block)
            except (HPACKError, IndexError, ValueError) as error:
                raise PeerError(ErrorCode.COMPRESSION_ERROR, f"header block: {error}") from error
        return fields

    def _decode(self, block: bytes) -> Fields:
        fields: list[Field] = []
        table = self._table
        changed = False
        position, end = 0, len(block)
        while position < end:
            first = block[position]
            if first >= 0x80:  # an indexed field (section 6.1)
                index = first & 0x7F
                if index < 0x7F:
                    position += 1
                else:
                    index, position = _integer(block, position, 7)
                if index >= _FIRST_DYNAMIC:
                    fields.append(table[index - _FIRST_DYNAMIC])
                else:
                    fields.append(self._entry(index))
            elif first & 0xE0 == 0x20:  # a dynamic table size update (section 6.3)
                size, position = _integer(block, position, 5)
                if fields or size > HeaderTable.DEFAULT_SIZE:
                    raise ValueError("a table size update that is late or too large")
                self._room = size
                self._evict()
                changed = True
            else:  # a literal field: to be indexed (section 6.2.1), or not (6.2.2, 6.2.3)
                indexing = first & 0x40
                index, position = _integer(block, position, 6 if indexing else 4)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, position = _string(block, position)
                value, position = _string(block, position)
                fields.append((name, value))
                size = len(name) + len(value) + _ENTRY_BYTES
                self._largest = max(self._largest, size)
                if indexing:
                    table.appendleft((name, value))
                    self._size += size
                    self._evict()
                    changed = True
        # Fields are references, so that counting after the fact holds no more memory than the block's own bytes
        # ask for; and it is only done where the sum could be too large at all.
        if len(fields) * self._largest > MAX_LIST_BYTES and sum(map(_size, fields)) > MAX_LIST_BYTES:
            raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, f"more than {MAX_LIST_BYTES} bytes of header fields")
        result = tuple(fields)
        if changed:
            # Indices have shifted: the same bytes may stand for other fields now.
            self._seen.clear()
        elif len(self._seen) < _MAX_CACHED:
            self._seen[block] = result
        return result

    def _evict(self) -> None:
        """Make the table as small as it must be; an entry larger than all of it leaves it empty (section 4.4)."""
        while self._size > self._room:
            self._size -= _size(self._table.pop())

    def _entry(self, index: int) -> Field:
        if index >= _FIRST_DYNAMIC:
            return self._table[index - _FIRST_DYNAMIC]
        if index == 0:
            raise ValueError("index 0")
        return _STATIC[index - 1]


def _size(field: Field) -> int:
    """Of an entry, as the protocol counts (section 4.1)."""
    return len(field[0]) + len(field[1]) + _ENTRY_BYTES


_LARGEST_STATIC: Final = max(map(_size, _STATIC))


def _integer(block: bytes, position: int, prefix: int) -> tuple[int, int]:
    """An integer (section 5.1), and the position after it."""
    mask = (1 << prefix) - 1
    value = block[position] & mask
    if value < mask:
        return value, position + 1
    value = block[position + 1]
    if value < 0x80:
        return mask + value, position + 2
    # Four more bytes say more than any length or index that could be accepted.
    value, consumed = decode_integer(block[position : position + 5], prefix)
    return value, position + consumed


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    """A string (section 5.2), and the position after it."""
    huffman = block[position] & 0x80
    length, position = _integer(block, position, 7)
    stop = position + length
    if stop > len(block):
        raise ValueError("a string longer than the block")
    if length > MAX_LIST_BYTES:
        raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, "a string longer than all fields may be together")
    data = block[position:stop]
    return (decode_huffman(data) if huffman else data), stop

"""HPACK (RFC 7541): header blocks to lists of fields, through the static table and the codes of the `hpack` package.

A connection's requests mostly send the same fields, so a block that was seen since the dynamic table last
changed is looked up by its bytes. What does change with every request that has a deadline is grpc-timeout, and
gRPC's clients have each new value indexed, so that all indices shift: a block that is the last one but for that
is known by the bytes that the last one would have now.
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

TIMEOUT: Final = b"grpc-timeout"

MAX_LIST_BYTES: Final = 16 * 1024
"""Of one request's fields, names and values, 32 bytes added to each (RFC 9113, section 6.5.2)."""

_ENTRY_BYTES: Final = 32
_MAX_CACHED: Final = 64
_STATIC: Final[tuple[Field, ...]] = tuple(HeaderTable.STATIC_TABLE)
_FIRST_DYNAMIC: Final = len(_STATIC) + 1

_TIMEOUT_LITERALS: Final = (bytes((0x40, len(TIMEOUT))) + TIMEOUT, bytes((0x40 | _FIRST_DYNAMIC,)))
"""How a grpc-timeout that is indexed begins: its name spelled out, or the table's newest (RFC 7541, section 6.2.1)."""
_MAX_TIMEOUT: Final = 10
"""Bytes of a value, its length before it: eight digits and a unit are nine."""
_FIRST_INDEX: Final = 0x80 | _FIRST_DYNAMIC
_LAST_INDEX: Final = 0xFE
"""Fields of the dynamic table that are one byte each."""
_SHIFTED: Final = bytes(code + (_FIRST_INDEX <= code < _LAST_INDEX) for code in range(256))
"""What becomes of each byte when the table has an entry more. A literal's first byte and an ASCII name stay."""


class FieldDecoder:
    """Decodes the header blocks of one connection, in order."""

    def __init__(self) -> None:
        self._table: deque[Field] = deque()
        """The dynamic table (section 2.3.2), the newest first."""
        self._size = 0
        self._room = HeaderTable.DEFAULT_SIZE
        self._seen: dict[bytes, tuple[Fields, bytes | None]] = {}
        self._largest = _LARGEST_STATIC
        """Size of the largest field that has come, so far."""
        self._head = self._tail = b""
        """A block like the last one begins and ends so, with a value of grpc-timeout between; empty for none."""
        self._deepest = 0
        """The oldest entry of the table that it refers to."""
        self._steady: Fields = ()
        """Its fields."""

    def decode(self, block: bytes) -> tuple[Fields, bytes | None]:
        """The fields of one block but grpc-timeout, and the value of that, if it is there.

        The fields of a block that is like the one before are the very same object.

        Raises:
            PeerError: COMPRESSION_ERROR for a block that breaks RFC 7541, ENHANCE_YOUR_CALM for one that
                unpacks to more than `MAX_LIST_BYTES`.
        """
        found = self._seen.get(block)
        if found is not None:
            return found
        if self._head and block.startswith(self._head):
            timeout = self._repeated(block)
            if timeout is not None:
                return self._steady, timeout
        try:
            return self._decode(block)
        except (HPACKError, IndexError, ValueError) as error:
            raise PeerError(ErrorCode.COMPRESSION_ERROR, f"header block: {error}") from error

    def _repeated(self, block: bytes) -> bytes | None:
        """The timeout of a block that is like the last one but for that; None where it is not."""
        start = len(self._head)
        stop = start + 1 + block[start] if start < len(block) else 0
        if not start < stop <= len(block) or stop - start > _MAX_TIMEOUT or block[stop:] != self._tail:
            return None
        # The oldest entry may have gone by now; or will, with the one before it, where this one needs their room.
        if self._deepest + (self._size + 2 * _ENTRY_BYTES > self._room) >= len(self._table):
            return None
        timeout = block[start + 1 : stop]
        self._add((TIMEOUT, timeout))
        self._seen.clear()
        self._expect(self._head, self._tail)
        return timeout

    def _expect(self, head: bytes, tail: bytes) -> None:
        """Look out for a block like this one, which has just shifted all indices by one."""
        if _LAST_INDEX in head or _LAST_INDEX in tail:
            self._head = b""
        else:
            self._head, self._tail = head.translate(_SHIFTED), tail.translate(_SHIFTED)
            self._deepest += 1

    def _decode(self, block: bytes) -> tuple[Fields, bytes | None]:
        fields: list[Field] = []
        table = self._table
        changed = False
        literals = 0
        value_at = 0  # where the value of a grpc-timeout that is indexed begins
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
                literals += 1
            else:  # a literal field: to be indexed (section 6.2.1), or not (6.2.2, 6.2.3)
                indexing = first & 0x40
                literal_at = position
                index, position = _integer(block, position, 6 if indexing else 4)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, position = _string(block, position)
                if block[literal_at:position] in _TIMEOUT_LITERALS and name == TIMEOUT:
                    value_at = position
                value, position = _string(block, position)
                value_end = position
                literals += 1
                fields.append((name, value))
                if indexing:
                    self._add((name, value))
                    changed = True
                else:
                    self._largest = max(self._largest, _size((name, value)))
        # Fields are references, so that counting after the fact holds no more memory than the block's own bytes
        # ask for; and it is only done where the sum could be too large at all.
        if len(fields) * self._largest > MAX_LIST_BYTES and sum(map(_size, fields)) > MAX_LIST_BYTES:
            raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, f"more than {MAX_LIST_BYTES} bytes of header fields")
        result = _apart(fields)
        if changed:
            # Indices have shifted: the same bytes may stand for other fields now.
            self._seen.clear()
            self._head = b""
            if literals == 1 and value_at and b"\xff" not in block:
                self._steady, _ = result
                self._deepest = max(0, max(block) - _FIRST_INDEX)
                self._expect(block[:value_at], block[value_end:])
        elif len(self._seen) < _MAX_CACHED:
            self._seen[block] = result
        return result

    def _add(self, field: Field) -> None:
        size = _size(field)
        self._largest = max(self._largest, size)
        self._table.appendleft(field)
        self._size += size
        self._evict()

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


def _apart(fields: list[Field]) -> tuple[Fields, bytes | None]:
    """All but the first grpc-timeout, and the value of that."""
    for position, (name, value) in enumerate(fields):
        if name == TIMEOUT:
            del fields[position]
            return tuple(fields), value
    return tuple(fields), None


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

"""Rules for a tensor that is stored in a model: it holds what its shape says, and it holds it here.

The numbers are those of onnx.proto of the ONNX repository: of the fields of TensorProto, and of its data types.
"""

import math
from typing import Final, NamedTuple

from serving.repository.disk import LoadError
from serving.repository.rules.wire import FIXED32, FIXED64, LENGTH, VARINT, Wire
from serving.status import SHOWN, shown

MAX_TENSOR_BYTES: Final = 2 * 1024**3
MAX_DIMENSIONS: Final = 64
"""Dimensions of a tensor; also elements of a tensor that may itself be a shape."""

_DIMS, _PACKED_DIMS, _TYPE, _SEGMENT = 1 << 3 | VARINT, 1 << 3 | LENGTH, 2 << 3 | VARINT, 3 << 3 | LENGTH
_NAME, _RAW, _EXTERNAL, _LOCATION = 8 << 3 | LENGTH, 9 << 3 | LENGTH, 13 << 3 | LENGTH, 14 << 3 | VARINT
_FLOATS, _INT32S, _STRINGS, _INT64S, _DOUBLES, _UINT64S = 4, 5, 6, 7, 10, 11

_SINGLE: Final = {
    _FLOATS << 3 | FIXED32: _FLOATS,
    _INT32S << 3 | VARINT: _INT32S,
    _STRINGS << 3 | LENGTH: _STRINGS,
    _INT64S << 3 | VARINT: _INT64S,
    _DOUBLES << 3 | FIXED64: _DOUBLES,
    _UINT64S << 3 | VARINT: _UINT64S,
}
"""Fields whose elements stand one by one."""
_PACKED: Final = {number << 3 | LENGTH: number for number in (_FLOATS, _INT32S, _INT64S, _DOUBLES, _UINT64S)}
"""Those with all elements in one."""
_WIDTHS: Final = {_FLOATS: 4, _DOUBLES: 8}
_RUNS: Final = frozenset(_SINGLE)


class _Type(NamedTuple):
    name: str
    bits: int
    field: int
    """Where its elements are kept, unless they are raw."""
    per_item: float = 1
    """Elements to one item of that field."""


_TYPES: Final = {
    1: _Type("FLOAT", 32, _FLOATS),
    2: _Type("UINT8", 8, _INT32S),
    3: _Type("INT8", 8, _INT32S),
    4: _Type("UINT16", 16, _INT32S),
    5: _Type("INT16", 16, _INT32S),
    6: _Type("INT32", 32, _INT32S),
    7: _Type("INT64", 64, _INT64S),
    8: _Type("STRING", 64, _STRINGS),
    9: _Type("BOOL", 8, _INT32S),
    10: _Type("FLOAT16", 16, _INT32S),
    11: _Type("DOUBLE", 64, _DOUBLES),
    12: _Type("UINT32", 32, _UINT64S),
    13: _Type("UINT64", 64, _UINT64S),
    14: _Type("COMPLEX64", 64, _FLOATS, 0.5),
    15: _Type("COMPLEX128", 128, _DOUBLES, 0.5),
    16: _Type("BFLOAT16", 16, _INT32S),
    17: _Type("FLOAT8E4M3FN", 8, _INT32S),
    18: _Type("FLOAT8E4M3FNUZ", 8, _INT32S),
    19: _Type("FLOAT8E5M2", 8, _INT32S),
    20: _Type("FLOAT8E5M2FNUZ", 8, _INT32S),
    21: _Type("UINT4", 4, _INT32S, 2),
    22: _Type("INT4", 4, _INT32S, 2),
    23: _Type("FLOAT4E2M1", 4, _INT32S, 2),
    24: _Type("FLOAT8E8M0", 8, _INT32S),
    25: _Type("UINT2", 2, _INT32S, 4),
    26: _Type("INT2", 2, _INT32S, 4),
}
_INTEGERS: Final = {6: 4, 7: 8}
"""Data types that a shape may have, and the bytes of an element."""


class Constant(NamedTuple):
    """What is known of a tensor whose values are in the model."""

    bytes: int
    item: int
    """Bytes of an element, at least one."""
    values: tuple[int, ...] | None = None
    """Of few integers."""


class _Stored(NamedTuple):
    """A TensorProto, its elements counted."""

    name: bytes
    data_type: int
    dims: list[int]
    raw: tuple[int, int] | None
    items: dict[int, int]
    """By field."""
    spans: list[tuple[int, int, int]]
    """Tag, start and end of the fields with items."""


def refuse(message: str) -> LoadError:
    """What `check` of a graph raises."""
    return LoadError("load_error", message)


def text(words: bytes) -> str:
    """Words of a model for an error message."""
    return shown(words[: 4 * SHOWN].decode("utf-8", "replace"))


def size(number: int) -> str:
    """Bytes for people."""
    for unit, bound in (("bytes", 10**4), ("kB", 10**7), ("MB", 10**10)):
        if number < bound:
            return f"{number} {unit}" if unit == "bytes" else f"{number / (bound / 10**4):.0f} {unit}"
    return f"{number / 1e9:.0f} GB" if number < 10**15 else "more bytes than there are"


def tensor(wire: Wire, start: int, stop: int) -> tuple[bytes, Constant]:
    """Name and content of the TensorProto that stands there.

    Raises:
        LoadError: it is elsewhere, too large, or not as large as it says.
        MalformedError: as `Wire.fields`.
    """
    stored = _stored(wire, start, stop)
    found = f"tensor {text(stored.name)}"
    kind = _TYPES.get(stored.data_type)
    if kind is None:
        raise refuse(f"{found} is of data type {stored.data_type}, which is not known")
    elements = _elements(found, stored.dims, kind)
    total = -(-elements * kind.bits // 8)
    items = {kind.field: math.ceil(elements / kind.per_item)} if elements else {}
    raw = stored.raw[1] - stored.raw[0] if stored.raw else None
    if stored.items != ({} if raw is not None else items) or raw not in (None, total):
        holds = f"{raw} raw bytes" if raw is not None else f"{sum(stored.items.values())} items"
        raise refuse(
            f"{found} of {elements} {kind.name} should hold {total} raw bytes or {sum(items.values())} items, "
            f"not {holds}"
        )
    if raw and stored.data_type == 8:
        raise refuse(f"{found} has raw bytes for its strings")
    return stored.name, Constant(total, max(1, kind.bits // 8), _values(wire, stored, elements))


def sparse_tensor(wire: Wire, start: int, stop: int) -> None:
    """The same for a SparseTensorProto; what it has once it is no longer sparse counts."""
    dims: list[int] = []
    seen: set[int] = set()
    item = 1
    for tag, begin, end, _ in wire.fields(start, stop):
        if tag in (1 << 3 | LENGTH, 2 << 3 | LENGTH):  # values, indices
            if tag in seen:
                raise refuse("a sparse tensor has its values twice")
            seen.add(tag)
            constant = tensor(wire, begin, end)[1]
            item = constant.item if tag == 1 << 3 | LENGTH else item
        else:
            _dimensions(wire, tag, begin, end, 3, dims)
    _elements("a sparse tensor", dims, _Type("", 8 * item, _FLOATS))


def _stored(wire: Wire, start: int, stop: int) -> _Stored:
    name, data_type, dims, raw = b"", 0, list[int](), None
    items: dict[int, int] = {}
    spans: list[tuple[int, int, int]] = []
    outside = False
    for tag, begin, end, count in wire.fields(start, stop, _RUNS):
        if tag in _SINGLE:
            number = _SINGLE[tag]
        elif tag in _PACKED:
            number = _PACKED[tag]
            width = _WIDTHS.get(number)
            count = -(-(end - begin) // width) if width else wire.count_varints(begin, end)
        else:
            number = 0
        if number:
            items[number] = items.get(number, 0) + count
            spans.append((tag, begin, end))
        elif tag == _NAME:
            name = wire.data[begin:end]
        elif tag == _TYPE:
            data_type = wire.integer(begin, end)
        elif tag == _RAW:
            raw = begin, end
        elif tag == _LOCATION:
            outside |= wire.integer(begin, end) != 0
        elif tag in (_EXTERNAL, _SEGMENT):
            outside = True
        else:
            _dimensions(wire, tag, begin, end, 1, dims)
    if outside:
        raise refuse(f"tensor {text(name)} keeps its data outside of the graph; a package has it all in one file")
    return _Stored(name, data_type, dims, raw, {number: count for number, count in items.items() if count}, spans)


def _dimensions(wire: Wire, tag: int, start: int, stop: int, number: int, dims: list[int]) -> None:
    """Add what a field says if it is `number`, of dimensions."""
    if tag == number << 3 | VARINT:
        dims.append(wire.integer(start, stop))
    elif tag == number << 3 | LENGTH:
        while start < stop and len(dims) <= MAX_DIMENSIONS:
            dims.append(wire.integer(start, stop))
            start = wire.varint(start, stop)[1]


def _elements(found: str, dims: list[int], kind: _Type) -> int:
    if len(dims) > MAX_DIMENSIONS:
        raise refuse(f"{found} has more than {MAX_DIMENSIONS} dimensions")
    elements = math.prod(dims)
    # Zero times anything is nothing, but some multiply the others first.
    if any(size < 0 for size in dims) or math.prod(size or 1 for size in dims) * kind.bits > 8 * MAX_TENSOR_BYTES:
        raise refuse(f"{found} has the shape {dims}, which is more than {size(MAX_TENSOR_BYTES)} or none at all")
    return elements


def _values(wire: Wire, stored: _Stored, elements: int) -> tuple[int, ...] | None:
    """The elements, where they are few integers."""
    width = _INTEGERS.get(stored.data_type)
    if width is None or elements > MAX_DIMENSIONS:
        return None
    values: list[int] = []
    if stored.raw:
        raw = wire.data[slice(*stored.raw)]
        values.extend(int.from_bytes(raw[at : at + width], "little", signed=True) for at in range(0, len(raw), width))
    for tag, begin, end in stored.spans:
        if tag in _SINGLE:
            values.extend(wire.integer(first, last) for _, first, last, _ in wire.fields(begin, end))
        else:
            while begin < end:
                values.append(wire.integer(begin, end))
                begin = wire.varint(begin, end)[1]
    return tuple(values)

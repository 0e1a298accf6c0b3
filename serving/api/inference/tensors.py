"""Tensors as clients send and get them: checked against the manifest, turned into the engine's rows, written as bytes.

Raw data is row-major and little-endian; an element of BYTES is its length in four bytes and then itself (Open
Inference Protocol v2, "Tensor Data"; Triton's extension "binary tensor data"), which is how the machines that this runs
on have numbers in memory. Nothing is made for each element before their number is known to be right.
"""

import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from serving.engine.request import Rows
from serving.package.manifest import NUMPY_TYPES, InputSpec, OutputSpec
from serving.package.text import TextTooLongError
from serving.repository.version import Version
from serving.status import StatusError, invalid, shown

Typed = Sequence[Any]
"""Elements in row-major order: bool, int, float (None stands for NaN), and for BYTES bytes or str."""


class Tensor(NamedTuple):
    """One input as a client sent it."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes | Typed
    """Raw where it is bytes."""


class Input(NamedTuple):
    """A tensor beside what the manifest says of it."""

    place: int
    """In the request, from 0."""
    tensor: Tensor
    spec: InputSpec

    @property
    def where(self) -> str:
        """How error messages call it."""
        return f"inputs[{self.place}] ({self.spec.name})"


_LENGTH: Final = struct.Struct("<I")
_FLOATS: Final[dict[str, Literal["f", "d"]]] = {"FP32": "f", "FP64": "d"}
_FEW: Final = 256
"""Bytes up to which adding up numbers in Python is faster than asking NumPy."""


def count_rows(inputs: Sequence[Input], version: Version) -> int:
    """How many rows each input has, the same for all.

    Raises:
        StatusError: INVALID_ARGUMENT: datatype or shape are not the manifest's, or there are none or too many rows.
    """
    first = inputs[0]
    for found in inputs:
        spec, shape = found.spec, found.tensor.shape
        if found.tensor.datatype != spec.datatype:
            raise invalid(f"{found.where}: datatype {shown(found.tensor.datatype)}, expected {spec.datatype}")
        if not _fits(shape, spec.shape):
            also = " or [-1, 1]" if spec.shape == (-1,) else ""
            sizes = str([*shape[:8], *(["…"] if len(shape) > 8 else [])]).replace("'", "")
            raise invalid(f"{found.where}: shape {sizes} does not fit {list(spec.shape)}{also}")
        if shape[0] < 1:
            raise invalid(f"{found.where}: shape {list(shape)} has no rows; at least one is needed")
        if shape[0] > version.engine.max_rows:
            raise invalid(
                f"{found.where}: {shape[0]} rows in one request; "
                f"this server takes {version.engine.max_rows} at the most (--max-queue-rows)"
            )
        if shape[0] != first.tensor.shape[0]:
            raise invalid(f"{found.where}: {shape[0]} rows, but {first.where} has {first.tensor.shape[0]}")
    return first.tensor.shape[0]


def read(found: Input, version: Version, max_words: int) -> tuple[Rows, int]:
    """The engine's rows of an input whose shape has been checked, and their bytes.

    Raises:
        StatusError: INVALID_ARGUMENT naming the input and, where it is one row's, the row.
    """
    data, spec, rows = found.tensor.data, found.spec, found.tensor.shape[0]
    if spec.datatype == "BYTES":
        elements = _split(found, data, rows) if isinstance(data, bytes) else _typed(found, data, rows)
        if spec.text is not None:
            texts = _normalised(found, elements, version, max_words)
        else:
            texts = [_utf8(found, row, element).encode() for row, element in enumerate(elements)]
        return texts, sum(map(len, texts))
    if not isinstance(data, bytes):
        data = _packed(found, _typed(found, data, rows))
    each = width(spec)
    if len(data) != rows * each:
        raise invalid(
            f"{found.where}: {len(data)} bytes of raw data, expected {rows * each} "
            f"({spec.datatype} {[rows, *spec.shape[1:]]})"
        )
    check_values(data, spec, found.place)
    return data, len(data)


def check_values(data: bytes, spec: InputSpec, place: int) -> None:
    """Refuse raw numbers that no model takes: infinities, and truth values other than 0 and 1. NaN means absent.

    Raises:
        StatusError: INVALID_ARGUMENT naming the input, which stands at `place` in the request, and the row.
    """
    kind = _FLOATS.get(spec.datatype)
    # One test for all: a sum is finite only if its parts are.
    if kind is not None and len(data) <= _FEW and math.isfinite(sum(memoryview(data).cast(kind))):
        return
    if spec.datatype.startswith("FP"):
        bad = np.isinf(np.frombuffer(data, NUMPY_TYPES[spec.datatype]))
        what = "is infinite; expected finite numbers, or NaN for what is absent"
    elif spec.datatype == "BOOL":
        bad = np.frombuffer(data, np.uint8) > 1
        what = "is a byte other than 0 and 1"
    else:
        return
    if bad.any():
        row, element = divmod(int(bad.argmax()), math.prod(spec.shape[1:]))
        raise invalid(f"inputs[{place}] ({spec.name}): row {row}: element {element} {what}")


@lru_cache(maxsize=1024)
def width(spec: InputSpec | OutputSpec) -> int:
    """Bytes of one row of a tensor of numbers."""
    return int(np.dtype(NUMPY_TYPES[spec.datatype]).itemsize) * math.prod(spec.shape[1:])


def raw(data: npt.NDArray[Any]) -> bytes:
    """An output's elements as raw bytes."""
    if data.dtype != np.object_:
        return data.tobytes()
    parts: list[bytes] = []
    for element in plain_bytes(data):
        parts += (_LENGTH.pack(len(element)), element)
    return b"".join(parts)


def plain_bytes(data: npt.NDArray[Any]) -> list[bytes]:
    """The elements of a BYTES output in row-major order."""
    return [element.encode() if isinstance(element, str) else element for element in data.ravel().tolist()]


def _fits(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    # Many models of texts take [n, 1], and so do their clients.
    return len(shape) > 0 and (shape[1:] == expected[1:] or (len(expected) == 1 and shape[1:] == (1,)))


def _elements(found: Input, rows: int) -> int:
    return rows * math.prod(found.spec.shape[1:])


def _typed(found: Input, data: Typed, rows: int) -> Typed:
    if len(data) != (expected := _elements(found, rows)):
        raise invalid(
            f"{found.where}: {len(data)} elements, expected {expected} "
            f"({found.spec.datatype} {[rows, *found.spec.shape[1:]]})"
        )
    return data


def _split(found: Input, data: bytes, rows: int) -> list[bytes]:
    """The elements of raw BYTES: as many as the shape says, to the end of the data and no further."""
    expected = _elements(found, rows)
    if len(data) < expected * _LENGTH.size:
        raise _cut(found, data, expected)
    elements: list[bytes] = []
    position = 0
    for _ in range(expected):
        start = position + _LENGTH.size
        if start > len(data):
            raise _cut(found, data, expected)
        position = start + _LENGTH.unpack_from(data, position)[0]
        elements.append(data[start:position])
    if position != len(data):
        raise _cut(found, data, expected)
    return elements


def _cut(found: Input, data: bytes, expected: int) -> StatusError:
    return invalid(
        f"{found.where}: {len(data)} bytes of raw data are not {expected} elements, "
        f"each its length in 4 little-endian bytes and then itself"
    )


def _normalised(found: Input, elements: Typed, version: Version, max_words: int) -> list[bytes]:
    normalise = version.normalisers[found.spec.name]
    texts: list[bytes] = []
    for row, element in enumerate(elements):
        try:
            texts.append(normalise(_utf8(found, row, element), max_words))
        except TextTooLongError as error:
            raise invalid(
                f"{found.where}: row {row}: {error.words} words; "
                f"this server takes {max_words} at the most (--max-text-tokens)"
            ) from error
    return texts


def _utf8(found: Input, row: int, element: Any) -> str:
    try:
        if isinstance(element, bytes):
            return element.decode()
        if isinstance(element, str):
            element.encode()
            return element
    except UnicodeError:
        raise invalid(f"{found.where}: row {row}: expected text in UTF-8, found bytes that are none") from None
    raise invalid(f"{found.where}: row {row}: expected text, found {type(element).__name__}")


def _packed(found: Input, values: Typed) -> bytes:
    """Raw bytes of numbers, none of which may lose anything but a float its last digits."""
    datatype = found.spec.datatype
    taken: tuple[type, ...] = (int, float, type(None)) if datatype.startswith("FP") else (int,)
    if datatype == "BOOL":
        taken = (bool,)
    if not {*map(type, values)} <= {*taken}:
        element, value = next((i, value) for i, value in enumerate(values) if type(value) not in taken)
        raise invalid(f"{_element(found, element)}: expected {datatype}, found {shown(repr(value))}")
    try:
        if datatype.startswith("FP"):
            exact = np.array(values, np.float64)
            with np.errstate(over="ignore"):
                array = exact.astype(NUMPY_TYPES[datatype])
            if (lost := np.isinf(array) & ~np.isinf(exact)).any():
                element = int(lost.argmax())
                raise invalid(f"{_element(found, element)}: {exact[element]:g} is beyond the range of {datatype}")
        else:
            array = np.array(values, NUMPY_TYPES[datatype])
    except OverflowError:
        element, value = next((i, value) for i, value in enumerate(values) if not _in_range(value, datatype))
        raise invalid(f"{_element(found, element)}: {shown(str(value))} is beyond the range of {datatype}") from None
    return array.tobytes()


def _in_range(value: Any, datatype: str) -> bool:
    try:
        np.array([value], np.float64 if datatype.startswith("FP") else NUMPY_TYPES[datatype])
    except OverflowError:
        return False
    return True


def _element(found: Input, position: int) -> str:
    row, element = divmod(position, math.prod(found.spec.shape[1:]))
    return f"{found.where}: row {row}: element {element}"

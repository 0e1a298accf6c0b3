"""Tensors of every datatype, raw and typed, against what a manifest says of them."""

import math
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.api.inference import tensors
from serving.api.inference.tensors import Input, Tensor
from serving.package.manifest import NUMPY_TYPES, InputSpec
from serving.status import StatusError

NUMBERS = [datatype for datatype in NUMPY_TYPES if datatype != "BYTES"]
VERSION: Any = SimpleNamespace(normalisers={}, engine=SimpleNamespace(max_rows=100))


def given_input(datatype: str, shape: tuple[int, ...], data: Any, spec: tuple[int, ...] = (-1, 2)) -> Input:
    return Input(0, Tensor("x", datatype, shape, data), InputSpec("x", datatype, spec))  # type: ignore[arg-type]


def read(datatype: str, shape: tuple[int, ...], data: Any, spec: tuple[int, ...] = (-1, 2)) -> Any:
    return tensors.read(given_input(datatype, shape, data, spec), VERSION, 100)


def refused(datatype: str, data: Any, message: str) -> None:
    with pytest.raises(StatusError, match=message):
        read(datatype, (1, 2), data)


@pytest.mark.parametrize("datatype", NUMBERS)
def test_raw_and_typed_give_the_same_rows(datatype: str) -> None:
    array = np.array([[0, 1], [1, 0], [1, 1]], NUMPY_TYPES[datatype])
    assert read(datatype, (3, 2), array.tobytes()) == (array.tobytes(), array.nbytes)
    assert read(datatype, (3, 2), array.ravel().tolist()) == (array.tobytes(), array.nbytes)
    for data in (array.tobytes()[:-1], array.tobytes() + b"\0"):
        with pytest.raises(StatusError, match=f"bytes of raw data, expected {array.nbytes} "):
            read(datatype, (3, 2), data)
    with pytest.raises(StatusError, match="5 elements, expected 6"):
        read(datatype, (3, 2), array.ravel().tolist()[:-1])


@pytest.mark.parametrize("datatype", [datatype for datatype in NUMBERS if "INT" in datatype])
def test_whole_numbers_keep_their_range_and_kind(datatype: str) -> None:
    info = np.iinfo(NUMPY_TYPES[datatype])
    least, most = int(info.min), int(info.max)
    data, _ = read(datatype, (1, 2), [least, most])
    assert np.frombuffer(data, NUMPY_TYPES[datatype]).tolist() == [least, most]
    for value in (most + 1, least - 1, 10**30):
        refused(datatype, [0, value], rf"row 0: element 1: '{value}' is beyond the range of {datatype}")
    for value in (1.0, True, "1", None):
        refused(datatype, [0, value], rf"row 0: element 1: expected {datatype}, found")


def test_truth_values_are_nothing_else() -> None:
    refused("BOOL", [True, 1], "row 0: element 1: expected BOOL, found '1'")
    refused("BOOL", b"\0\2", "row 0: element 1 is a byte other than 0 and 1")


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
@pytest.mark.parametrize("rows", [1, 100])
def test_nan_passes_and_infinities_are_refused_by_row(datatype: str, rows: int) -> None:
    array = np.full((rows, 2), math.nan, NUMPY_TYPES[datatype])
    read(datatype, (rows, 2), array.tobytes())
    read(datatype, (rows, 2), [None] * (rows * 2))
    for bad in (math.inf, -math.inf):
        array[-1, 1] = bad
        for data in (array.tobytes(), array.ravel().tolist()):
            with pytest.raises(StatusError, match=rf"inputs\[0\] \(x\): row {rows - 1}: element 1 is infinite"):
                read(datatype, (rows, 2), data)


def test_large_numbers_are_finite_though_their_sum_is_not() -> None:
    array = np.array([[1.7e308, 1.7e308]])
    assert read("FP64", (1, 2), array.tobytes())[0] == array.tobytes()


@pytest.mark.parametrize(("datatype", "value"), [("FP16", 70_000.0), ("FP32", 1e39), ("FP32", 10**40)])
def test_what_the_datatype_can_not_hold_is_refused(datatype: str, value: float) -> None:
    refused(datatype, [0.5, value], f"row 0: element 1: 1e.*|7.* is beyond the range of {datatype}")
    refused("FP64", [0.5, 10**400], "row 0: element 1: '1000.* is beyond the range of FP64")


def test_floats_take_numbers_only() -> None:
    for value in (True, "1", b"1"):
        refused("FP32", [0.5, value], "row 0: element 1: expected FP32, found")
    assert read("FP32", (1, 2), [1, 2.5])[0] == struct.pack("<2f", 1, 2.5)


def test_bytes_without_rules_are_text_as_it_is() -> None:
    rows = (["A b", "é".encode()], b"\3\0\0\0A b\2\0\0\0\xc3\xa9")
    for data in rows:
        assert read("BYTES", (2,), data, (-1,)) == ([b"A b", "é".encode()], 5)
    for data in ([1], [None], ["\ud800"], [b"\xff"]):
        with pytest.raises(StatusError, match="row 0: expected text"):
            read("BYTES", (1,), data, (-1,))


def test_nothing_is_made_of_more_elements_than_there_can_be() -> None:
    """The bytes don't hold as many lengths as the shape claims: no list is begun."""
    with pytest.raises(StatusError, match="8 bytes of raw data are not 1000000000000 elements"):
        read("BYTES", (10**12,), b"\0" * 8, (-1,))


def counted(*shapes: tuple[int, ...]) -> int:
    inputs = [
        Input(index, Tensor(f"x{index}", "FP32", shape, b""), InputSpec(f"x{index}", "FP32", (-1, 2)))
        for index, shape in enumerate(shapes)
    ]
    return tensors.count_rows(inputs, VERSION)


def test_all_inputs_have_the_same_rows() -> None:
    assert counted((3, 2), (3, 2)) == 3
    with pytest.raises(StatusError, match=r"inputs\[1\] \(x1\): 2 rows, but inputs\[0\] \(x0\) has 3"):
        counted((3, 2), (2, 2))
    with pytest.raises(StatusError, match=r"101 rows in one request"):
        counted((101, 2))


@given(
    st.sampled_from(NUMBERS).flatmap(
        lambda datatype: st.tuples(
            st.just(datatype), arrays.arrays(NUMPY_TYPES[datatype], st.tuples(st.integers(1, 40), st.just(2)))
        )
    )
)
def test_whatever_is_read_is_finite_and_the_same(found: tuple[str, Any]) -> None:
    datatype, array = found
    try:
        data, size = read(datatype, array.shape, array.tobytes())
    except StatusError:
        assert np.isinf(array).any()
    else:
        assert not np.isinf(array).any()
        assert data == array.tobytes()
        assert size == array.nbytes


def test_outputs_are_written_as_bytes() -> None:
    assert tensors.raw(np.array([[1.5], [2.5]], np.float32).T) == struct.pack("<2f", 1.5, 2.5)
    assert tensors.raw(np.array(["é", b"xy"], np.object_)) == b"\2\0\0\0\xc3\xa9\2\0\0\0xy"
    assert tensors.raw(np.array([True, False])) == b"\1\0"

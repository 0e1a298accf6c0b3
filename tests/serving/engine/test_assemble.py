"""From the rows of many requests to the arrays of a batch."""

import numpy as np
import pytest

from serving.engine.assemble import Assembler, row_bytes
from serving.engine.request import Request, Rows
from serving.package.manifest import NUMPY_TYPES, InputSpec, TextRules

RULES = TextRules(True, "")
FLAT = InputSpec("text", "BYTES", (-1,), RULES, "flat")
PLAIN = InputSpec("text", "BYTES", (-1,), RULES)


def request(*inputs: Rows, rows: int) -> Request:
    return Request(inputs, rows, 1, 0.0, lambda *_: None)


def floats(*rows: list[float]) -> bytes:
    return np.array(rows, "<f4").tobytes()


def test_tensor_rows_are_joined_in_the_order_of_the_pieces() -> None:
    assemble = Assembler([InputSpec("x", "FP32", (-1, 2))])
    one = request(floats([1, 2], [3, 4], [5, 6]), rows=3)
    other = request(floats([7, 8]), rows=1)
    feed = assemble([(other, 0, 1), (one, 1, 3)])
    assert list(feed) == ["x"]
    assert feed["x"].dtype == np.float32
    np.testing.assert_array_equal(feed["x"], [[7, 8], [3, 4], [5, 6]])


def test_the_pieces_of_one_request_cover_each_row_once() -> None:
    assemble = Assembler([InputSpec("x", "INT64", (-1,))])
    whole = request(np.arange(10).tobytes(), rows=10)
    parts = [assemble([(whole, start, stop)])["x"] for start, stop in ((0, 4), (4, 5), (5, 10))]
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(10))


@pytest.mark.parametrize(
    ("datatype", "shape", "width"),
    [("FP32", (-1,), 4), ("FP32", (-1, 13), 52), ("INT64", (-1, 2, 3), 48)],
)
def test_the_width_of_a_row(datatype: str, shape: tuple[int, ...], width: int) -> None:
    spec = InputSpec("x", datatype, shape)  # type: ignore[arg-type]
    assert row_bytes(spec) == width
    feed = Assembler([spec])([(request(bytes(3 * width), rows=3), 1, 3)])
    assert feed["x"].shape == (2, *shape[1:])


def test_grey_values_take_a_byte_each() -> None:
    spec = InputSpec("pixels", "UINT8", (-1, 2, 3))
    assert row_bytes(spec) == 6
    images = np.arange(250, 256, dtype=np.uint8).reshape(1, 2, 3), np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    one, other = (request(image.tobytes(), rows=len(image)) for image in images)
    feed = Assembler([spec])([(other, 1, 2), (one, 0, 1)])
    assert feed["pixels"].dtype == np.uint8
    np.testing.assert_array_equal(feed["pixels"], [images[1][1], images[0][0]])


@pytest.mark.parametrize("datatype", [name for name in NUMPY_TYPES if name != "BYTES"])
def test_every_type_of_number_is_read_back_as_it_was_sent(datatype: str) -> None:
    values = np.array([[0, 1], [1, 0], [1, 1]], NUMPY_TYPES[datatype])
    spec = InputSpec("x", datatype, (-1, 2))  # type: ignore[arg-type]
    feed = Assembler([spec])([(request(values.tobytes(), rows=3), 1, 3)])
    assert feed["x"].dtype == values.dtype
    np.testing.assert_array_equal(feed["x"], values[1:])


def test_nan_and_infinities_travel_unchanged() -> None:
    rows = floats([float("nan"), float("-inf")])
    feed = Assembler([InputSpec("x", "FP32", (-1, 2))])([(request(rows, rows=1), 0, 1)])
    assert feed["x"].tobytes() == rows


def test_texts_of_the_flat_layout_are_one_string_and_their_token_counts() -> None:
    one, other = request([b"a b", b" ", b"c"], rows=3), request(["é d e".encode()], rows=1)
    feed = Assembler([FLAT])([(one, 1, 3), (other, 0, 1)])
    assert feed["text"].tolist() == ["  c é d e"]
    assert feed["text_tokens"].tolist() == [2, 1, 3]
    assert feed["text_tokens"].dtype == np.int64


def test_texts_of_the_plain_layout_are_one_string_each() -> None:
    feed = Assembler([PLAIN])([(request([b"a b", "é".encode()], rows=2), 0, 2)])
    assert feed["text"].dtype == np.object_
    assert feed["text"].tolist() == ["a b", "é"]


def test_every_input_is_taken_from_its_own_place() -> None:
    assemble = Assembler([FLAT, InputSpec("x", "FP32", (-1, 1)), InputSpec("n", "INT64", (-1,))])
    one = request([b"a", b"b"], floats([1], [2]), np.array([10, 20]).tobytes(), rows=2)
    other = request([b"c"], floats([3]), np.array([30]).tobytes(), rows=1)
    feed = assemble([(one, 0, 2), (other, 0, 1)])
    assert feed["text"].tolist() == ["a b c"]
    assert feed["x"].tolist() == [[1], [2], [3]]
    assert feed["n"].tolist() == [10, 20, 30]


def test_a_view_of_a_message_is_taken_as_its_bytes() -> None:
    rows = memoryview(floats([1], [2], [3]))
    feed = Assembler([InputSpec("x", "FP32", (-1, 1))])([(request(rows, rows=3), 1, 2)])  # type: ignore[arg-type]
    assert feed["x"].tolist() == [[2]]

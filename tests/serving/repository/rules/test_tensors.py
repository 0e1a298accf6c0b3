"""Rules for stored tensors: each holds exactly what its shape says, in any of the ways there are to write it."""

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from serving.repository.rules import graph, tensors
from tests.serving.repository.graphs import ADD, accept, model_of, refusal

VALUES = {
    TensorProto.FLOAT: [1.5, 2.5, -1.0],
    TensorProto.COMPLEX64: [1 + 2j, 3 - 1j, 0j],
    TensorProto.COMPLEX128: [1 + 2j, 3 - 1j, 0j],
    TensorProto.BOOL: [True, False, True],
    TensorProto.STRING: [b"a", b"", b"c" * 300],
}


@pytest.mark.parametrize("shape", [[3], [3, 1], [], [0], [2, 0]])
@pytest.mark.parametrize("number", sorted(tensors._TYPES))
def test_every_way_to_store_a_tensor_passes(number: int, shape: list[int]) -> None:
    """Held against the library: whatever it writes is as large as it says."""
    elements = int(np.prod(shape, dtype=int))
    values = (VALUES.get(number) or [1, 0, 1])[:elements]
    typed = helper.make_tensor("t", number, shape, values)
    accept(model_of(ADD, t=typed))
    if number != TensorProto.STRING:
        raw = TensorProto(name="t", data_type=number, dims=shape, raw_data=numpy_helper.to_array(typed).tobytes())
        if number in (21, 22, 23, 25, 26):
            per_byte = 8 // tensors._TYPES[number].bits
            raw.raw_data = bytes(-(-elements // per_byte))
        accept(model_of(ADD, t=raw))
        raw.raw_data += b"\0"
        assert "tensor 't' of" in refusal(model_of(ADD, t=raw))


def test_all_data_types_of_the_library_that_onnx_runtime_may_know_are_known() -> None:
    known = {number: name for name, number in TensorProto.DataType.items() if number}
    assert {number: kind.name for number, kind in tensors._TYPES.items()}.items() <= known.items()


def test_unpacked_numbers_are_as_good_as_packed_ones() -> None:
    shape = b"\x38\x03\x38\x04"  # int64_data, one by one
    dims = b"\x08\x02"
    tensor = dims + b"\x10\x07" + shape + b"\x42\x01t"
    framed = b"\x2a" + bytes([len(tensor)]) + tensor
    node = helper.make_node("ConstantOfShape", ["t"], ["y"]).SerializeToString()
    inner = b"\x0a" + bytes([len(node)]) + node + framed
    model = b"\x3a" + bytes([len(inner)]) + inner
    assert onnx.load_from_string(model).graph.initializer[0].int64_data == [3, 4]
    graph.check(model)
    graph.check(model.replace(shape, b"\x3a\x02\x03\x04"))


def sized(*dims: int, data_type: int = TensorProto.FLOAT, raw: bytes = b"") -> ModelProto:
    return model_of(ADD, t=TensorProto(name="t", data_type=data_type, dims=dims, raw_data=raw))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (sized(3, raw=bytes(8)), "tensor 't' of 3 FLOAT should hold 12 raw bytes or 3 items, not 8 raw bytes"),
        (sized(1, raw=bytes(8)), "tensor 't' of 1 FLOAT should hold 4 raw bytes or 1 items, not 8 raw bytes"),
        (sized(10**6), "tensor 't' of 1000000 FLOAT should hold 4000000 raw bytes or 1000000 items, not 0 raw bytes"),
        (sized(-1, raw=bytes(4)), "tensor 't' has the shape [-1]"),
        (sized(2**62, 4), "tensor 't' has the shape [4611686018427387904, 4]"),
        (sized(2**32, 2**32, 0), "tensor 't' has the shape [4294967296, 4294967296, 0]"),
        (sized(2**29 + 1), "tensor 't' has the shape [536870913], which is more than 2147 MB"),
        (sized(*[1] * 65, raw=bytes(4)), "tensor 't' has more than 64 dimensions"),
        (sized(1, data_type=0, raw=b"1"), "tensor 't' is of data type 0"),
        (sized(1, data_type=99, raw=b"1"), "tensor 't' is of data type 99"),
        (sized(1, data_type=TensorProto.STRING, raw=bytes(8)), "tensor 't' has raw bytes for its strings"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_tensor_that_is_not_as_large_as_it_says_is_refused(model: ModelProto, message: str) -> None:
    assert refusal(model).startswith(message)


@pytest.mark.parametrize("field", ["float_data", "int32_data", "double_data"])
def test_a_tensor_with_items_of_another_kind_is_refused(field: str) -> None:
    tensor = TensorProto(name="t", data_type=TensorProto.INT64, dims=[2])
    getattr(tensor, field).extend([1, 2])
    assert "tensor 't' of 2 INT64 should hold" in refusal(model_of(ADD, t=tensor))


def test_a_sparse_tensor_that_is_large_once_it_is_not_sparse_is_refused() -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "v")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    for dims, good in (([1000, 1000], True), ([10**6, 10**6], False)):
        sparse = onnx.SparseTensorProto(values=values, indices=indices, dims=dims)
        model = model_of(helper.make_node("Constant", [], ["y"], sparse_value=sparse))
        if good:
            accept(model)
        else:
            assert "a sparse tensor has the shape [1000000, 1000000]" in refusal(model)

"""Everything that is wrong with a request is told before anything is computed: where, what was expected, what found."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from serving.api.inference.outline import MAX_FIELDS
from serving.status import Code
from tests.serving.api.inference.desk import InferDesk, add_input, house, request, texts

pytestmark = pytest.mark.asyncio

Change = Callable[[Any], object]

ONE = np.zeros((1, 13), np.float32)


def features(data: Any) -> Change:
    def change(made: Any) -> None:
        made.ClearField("inputs")
        made.ClearField("raw_input_contents")
        add_input(made, "features", data)

    return change


def shape(*sizes: int) -> Change:
    def change(made: Any) -> None:
        made.inputs[0].shape[:] = sizes

    return change


def set_raw(data: bytes) -> Change:
    def change(made: Any) -> None:
        made.raw_input_contents[0] = data

    return change


def parameter(name: str, **value: Any) -> Change:
    return lambda made: made.parameters[name].CopyFrom(pb.InferParameter(**value))


def output(name: str, **parameters: Any) -> Change:
    def change(made: Any) -> None:
        added = made.outputs.add(name=name)
        for key, value in parameters.items():
            added.parameters[key].CopyFrom(value)

    return change


REFUSED: list[tuple[Change, str]] = [
    (shape(2, 12), r"inputs\[0\] \(features\): shape \[2, 12\] does not fit \[-1, 13\]"),
    (shape(13), r"inputs\[0\] \(features\): shape \[13\] does not fit"),
    (shape(), r"inputs\[0\] \(features\): shape \[\] does not fit"),
    (shape(*range(500)), r"shape \[0, 1, 2, 3, 4, 5, 6, 7, …\] does not fit"),
    (shape(0, 13), r"shape \[0, 13\] has no rows; at least one is needed"),
    (shape(-1, 13), r"shape \[-1, 13\] has no rows"),
    (shape(10**12, 13), r"1000000000000 rows in one request; this server takes 2048 at the most \(--max-queue-rows\)"),
    (set_raw(b"\0" * 51), r"inputs\[0\] \(features\): 51 bytes of raw data, expected 52 \(FP32 \[1, 13\]\)"),
    (features(ONE.astype(np.float64)), r"inputs\[0\] \(features\): datatype 'FP64', expected FP32"),
    (
        features(np.where(np.arange(39).reshape(3, 13) == 31, np.inf, 0).astype(np.float32)),
        r"inputs\[0\] \(features\): row 2: element 5 is infinite; expected finite numbers, or NaN",
    ),
    (
        features(np.where(np.arange(1300).reshape(100, 13) == 1299, -np.inf, np.nan).astype(np.float32)),
        r"inputs\[0\] \(features\): row 99: element 12 is infinite",
    ),
    (
        lambda made: add_input(made, "rooms", ONE),
        r"inputs\[1\]: 'rooms' is not an input of house_price version 1, which has: features \(FP32 \[-1, 13\]\)",
    ),
    (lambda made: add_input(made, "features", ONE), r"inputs\[1\] \(features\): given twice"),
    (
        lambda made: made.Clear() or made.MergeFrom(pb.ModelInferRequest(model_name="house_price")),
        r"inputs: features \(FP32 \[-1, 13\]\) is missing; house_price version 1 needs 1, got 0",
    ),
    (lambda made: made.raw_input_contents.append(b""), "raw_input_contents: 2 for 1 inputs; each has one"),
    (
        lambda made: made.inputs[0].contents.fp32_contents.append(1),
        r"inputs\[0\] \('features'\): contents beside raw_input_contents",
    ),
    (output("prices"), r"outputs\[0\]: 'prices' is not an output of house_price version 1, which has: price"),
    (lambda made: [output("price")(made) for _ in range(2)], r"outputs\[1\] \(price\): asked for twice"),
    (
        output("price", classification=pb.InferParameter(int64_param=-1)),
        r"outputs\[0\] \('price'\): parameters\[classification\]: expected a number of classes, found '-1'",
    ),
    (
        output("price", classification=pb.InferParameter(string_param="2")),
        r"parameters\[classification\]: expected a number of classes",
    ),
    (parameter("timeout", int64_param=-1), r"parameters\[timeout\]: expected microseconds, found '-1'"),
    (parameter("timeout", string_param="soon"), r"parameters\[timeout\]: expected microseconds"),
    (parameter("timeout", double_param=math.inf), r"parameters\[timeout\]: expected microseconds, found infinity"),
    (parameter("priority", bool_param=True), r"parameters\[priority\]: expected a level from 1 to 3, found 'True'"),
    (parameter("sequence_id", int64_param=3), r"parameters\[sequence_id\]: the models served here keep no state"),
    (parameter("sequence_id", string_param="a"), r"parameters\[sequence_id\]"),
    (parameter("sequence_start", bool_param=True), r"parameters\[sequence_start\]"),
    (parameter("sequence_end", bool_param=True), r"parameters\[sequence_end\]"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message[:50] for _, message in REFUSED])
async def test_a_bad_request_is_told_what_is_wrong(desk: InferDesk, change: Change, message: str) -> None:
    await desk.answer(house())  # what is known by then does not help it
    made = house()
    change(made)
    error = desk.error(made)
    assert error.code is Code.INVALID_ARGUMENT
    with pytest.raises(type(error), match=message):
        raise error
    assert desk.count(Code.INVALID_ARGUMENT) == 1 or desk.count(Code.INVALID_ARGUMENT, version="unknown") == 1
    assert desk.rejected() == {"invalid": 1}
    assert desk.batches() == 1


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"sequence_id": pb.InferParameter(int64_param=0)}, None),
        ({"sequence_start": pb.InferParameter(bool_param=False)}, None),
        ({"priority": pb.InferParameter(uint64_param=2**64 - 1)}, None),
        ({"timeout": pb.InferParameter(int64_param=2**63 - 1)}, None),
        ({"triton_enable_empty_final_response": pb.InferParameter(bool_param=True)}, None),
        ({"whatever": pb.InferParameter(string_param="it is")}, None),
    ],
)
async def test_other_parameters_are_taken(desk: InferDesk, parameters: dict[str, Any], code: None) -> None:
    for _ in range(2):
        await desk.answer(house(parameters=parameters))


@pytest.mark.parametrize("where", ["inputs", "outputs"])
async def test_shared_memory_is_refused(desk: InferDesk, where: str) -> None:
    made = house()
    made.outputs.add(name="price")
    getattr(made, where)[0].parameters["shared_memory_region"].string_param = "mine"
    made.ClearField("raw_input_contents")
    error = desk.error(made)
    assert error.code is Code.UNIMPLEMENTED
    assert "no shared memory" in error.message
    assert desk.rejected() == {"invalid": 1}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes of raw data are not 1 elements"),
        (b"\1\0\0", "3 bytes of raw data are not 1 elements"),
        (b"\2\0\0\0x", "5 bytes of raw data are not 1 elements"),
        (b"\1\0\0\0xy", "6 bytes of raw data are not 1 elements"),
        (b"\1\0\0\0x\1\0\0\0y", "10 bytes of raw data are not 1 elements"),
        (b"\xff\xff\xff\xffx", "5 bytes of raw data are not 1 elements"),
        (b"\2\0\0\0\xff\xfe", "row 0: expected text in UTF-8"),
    ],
)
async def test_raw_texts_are_exact(desk: InferDesk, data: bytes, message: str) -> None:
    made = texts("sentiment", ["x"])
    set_raw(data)(made)
    assert f"inputs[0] (text): {message}" in desk.error(made).message


async def test_texts_name_their_row(desk: InferDesk) -> None:
    for raw in (True, False):
        found = desk.error(texts("topic", ["ok", "a " * 51], raw=raw))
        assert (
            found.message == "inputs[0] (text): row 1: 51 words; this server takes 50 at the most (--max-text-tokens)"
        )
    made = texts("topic", ["a", "b"], raw=False)
    made.inputs[0].contents.bytes_contents[1] = b"\xff"
    assert desk.error(made).message.startswith("inputs[0] (text): row 1: expected text in UTF-8")
    made = texts("topic", ["a", "b"])
    shape(2, 2)(made)
    assert desk.error(made).message == "inputs[0] (text): shape [2, 2] does not fit [-1] or [-1, 1]"


async def test_typed_data_is_where_it_belongs(desk: InferDesk) -> None:
    made = house(2, raw=False)
    made.inputs[0].contents.fp32_contents.pop()
    assert desk.error(made).message == "inputs[0] (features): 25 elements, expected 26 (FP32 [2, 13])"
    made.inputs[0].contents.int_contents.append(1)
    assert "data of 'FP32' belongs in fp32_contents; found int_contents" in desk.error(made).message
    made.inputs[0].datatype = "FP16"
    assert "data of 'FP16' belongs in raw_input_contents, its only form" in desk.error(made).message
    made.inputs[0].ClearField("contents")
    made.inputs[0].datatype = "FP32"
    assert "0 elements, expected 26" in desk.error(made).message
    made = house(raw=False)
    made.inputs[0].contents.fp32_contents[3] = math.inf
    assert "row 0: element 3 is infinite" in desk.error(made).message


async def test_a_model_that_is_not_served_says_so(desk: InferDesk) -> None:
    assert desk.error(house(model_version="7")).code is Code.NOT_FOUND
    assert desk.error(house(model_version="0")).code is Code.INVALID_ARGUMENT


def tag(field: str, kind: Any = pb.ModelInferRequest) -> bytes:
    return bytes([kind.DESCRIPTOR.fields_by_name[field].number << 3 | 2])


MILLIONS = 2_000_000
NAME = pb.ModelInferRequest(model_name="sentiment", id="the one").SerializeToString()
TEXT = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1]).SerializeToString()


def nested(contents: bytes) -> bytes:
    """A request whose one tensor holds so much."""

    def field(name: bytes, data: bytes) -> bytes:
        size, length = len(data), bytearray()
        while size > 127:
            length.append(size & 127 | 128)
            size >>= 7
        return name + bytes([*length, size]) + data

    tensor = TEXT + field(tag("contents", pb.ModelInferRequest.InferInputTensor), contents)
    return NAME + field(tag("inputs"), tensor)


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (NAME + (tag("inputs") + b"\0") * MILLIONS, f"more than {MAX_FIELDS} fields"),
        (NAME + (tag("outputs") + b"\0") * MILLIONS, f"more than {MAX_FIELDS} fields"),
        (NAME + (tag("parameters") + b"\0") * MILLIONS, f"more than {MAX_FIELDS} fields"),
        (NAME + (tag("raw_input_contents") + b"\0") * MILLIONS, f"more than {MAX_FIELDS} fields"),
        (
            nested((tag("bytes_contents", pb.InferTensorContents) + b"\0") * MILLIONS),
            "more than 2048 elements of BYTES in one request (--max-queue-rows)",
        ),
        (NAME + tag("inputs") + b"\x80\x80\x80\x02" + b"\x1a\0" * MILLIONS, f"more than {MAX_FIELDS} fields"),
    ],
    ids=["inputs", "outputs", "parameters", "raw", "elements", "cut off"],
)
async def test_millions_of_anything_cost_no_time(desk: InferDesk, message: bytes, found: str) -> None:
    started = time.process_time()
    error = desk.error(message)
    assert time.process_time() - started < 0.05
    assert error.code is Code.INVALID_ARGUMENT
    assert found in error.message
    assert desk.count(Code.INVALID_ARGUMENT, "sentiment", "unknown") == 1


async def test_many_small_tensors_are_refused_unlooked_at(desk: InferDesk) -> None:
    made = NAME + (tag("inputs") + b"\0") * 10_000
    assert "inputs: 10000 tensors" in desk.error(made).message


async def test_large_requests_that_are_none_too_large_are_answered(desk: InferDesk) -> None:
    for raw in (True, False):
        assert len((await desk.answer(house(1500, raw=raw))).outputs) == 1
        await desk.answer(texts("topic", ["wheat " * 40] * 1500, raw=raw))


async def test_a_request_of_too_many_inputs_of_the_same_size(desk: InferDesk) -> None:
    made = request("house_price", {f"f{n}": ONE for n in range(300)})
    assert "inputs: 300 tensors, more than any model has" in desk.error(made).message

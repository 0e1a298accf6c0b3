"""The Open Inference Protocol's inference over HTTP, over the shipped models."""

import asyncio
import struct
from typing import Any

import msgspec
import numpy as np
import pytest

from protos.prediction.v1 import prediction_pb2 as pb
from serving.api.inference.form import InferRequest, InferResult, OutputTensor, RequestedOutput
from serving.api.rest.tensors import write_result
from serving.engine.request import Request
from serving.status import Code, StatusError
from tests.serving.api.desk import MAX_WORDS, Desk
from tests.serving.api.rest.client import Answer, Client

pytestmark = pytest.mark.asyncio

HOUSE = [0.00632, 18, 2.31, 0, 0.538, 6.575, 65.2, 4.09, 1, 296, 15.3, 396.9, 4.98]
PRICE = "/v2/models/house_price/infer"
SENTIMENT = "/v2/models/sentiment/infer"


def features(data: Any = None, shape: Any = (1, 13), **more: Any) -> dict[str, Any]:
    tensor = {"name": "features", "shape": shape, "datatype": "FP32"}
    if data is not None:
        tensor["data"] = data
    return {"inputs": [tensor | more]}


def texts(data: list[Any], shape: Any = None, **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "shape": shape or [len(data)], "datatype": "BYTES", "data": data}], **more}


def binary(head: dict[str, Any], *tensors: bytes) -> tuple[bytes, dict[str, str]]:
    """A body with binary tensors, and the field that says where they begin."""
    text = msgspec.json.encode(head)
    return text + b"".join(tensors), {"inference_header_content_length": str(len(text))}


def head_of(answer: Answer) -> tuple[Any, bytes]:
    """The JSON of an answer with binary tensors, and those."""
    size = int(answer.fields["inference-header-content-length"])
    return msgspec.json.decode(answer.body[:size]), answer.body[size:]


async def price(client: Client) -> float:
    """What the typed API says of the house, in thousands of dollars."""
    names = [field.name for field in pb.House.DESCRIPTOR.fields]
    answer = await client.post("/v1/house-price", {"houses": [dict(zip(names, HOUSE, strict=True))]})
    dollars: float = answer.json["predictions"][0]["price_usd"]
    return dollars / 1000


async def test_a_tensor_in_json_is_answered_in_json(desk: Desk, client: Client) -> None:
    answer = await client.post(PRICE, features(HOUSE) | {"id": "a house"})
    assert answer.status == 200
    assert answer.fields["content-type"] == "application/json"
    assert answer.json == {
        "model_name": "house_price",
        "model_version": "1",
        "id": "a house",
        "outputs": [{"name": "price", "datatype": "FP32", "shape": [1, 1], "data": [await price(client)]}],
    }
    assert desk.requests(Code.OK, method="POST /v2/infer") == 1


@pytest.mark.parametrize("version", ["1"])
async def test_a_version_by_its_number(client: Client, version: str) -> None:
    answer = await client.post(f"/v2/models/house_price/versions/{version}/infer", features(HOUSE))
    assert answer.json["model_version"] == "1"
    assert "id" not in answer.json


async def test_nested_data_is_the_same_as_flat(client: Client) -> None:
    flat = await client.post(PRICE, features(HOUSE * 2, (2, 13)))
    nested = await client.post(PRICE, features([HOUSE, HOUSE], (2, 13)))
    assert nested.json == flat.json
    assert flat.json["outputs"][0]["shape"] == [2, 1]
    flat = await client.post(SENTIMENT, texts(["good", "bad"]))
    nested = await client.post(SENTIMENT, texts([["good"], ["bad"]], [2, 1]))
    assert nested.json == flat.json


async def test_null_means_absent(client: Client) -> None:
    answer = await client.post(PRICE, features([None] * 13))
    typed = await client.post("/v1/house-price", {"houses": [{}]})
    assert answer.json["outputs"][0]["data"][0] * 1000 == typed.json["predictions"][0]["price_usd"]


async def test_binary_tensors_are_answered_as_asked(client: Client) -> None:
    raw = struct.pack("<13f", *HOUSE)
    head = features(parameters={"binary_data_size": len(raw)})
    body, fields = binary(head, raw)
    plain = await client.post(PRICE, body, **fields)
    expected = await price(client)
    assert plain.json["outputs"][0]["data"] == [expected]

    for more in (
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "price", "parameters": {"binary_data": True}}]},
        {"outputs": [{"name": "price"}], "parameters": {"binary_data_output": True}},
    ):
        body, fields = binary(head | more, raw)
        answer = await client.post(PRICE, body, **fields)
        assert answer.fields["content-type"] == "application/octet-stream"
        found, behind = head_of(answer)
        [output] = found["outputs"]
        assert output == {"name": "price", "datatype": "FP32", "shape": [1, 1], "parameters": {"binary_data_size": 4}}
        assert struct.unpack("<f", behind) == (expected,)

    body, fields = binary(
        head
        | {
            "outputs": [{"name": "price", "parameters": {"binary_data": False}}],
            "parameters": {"binary_data_output": True},
        },
        raw,
    )
    answer = await client.post(PRICE, body, **fields)
    assert answer.json == plain.json


async def test_binary_texts_and_outputs_of_either_kind(client: Client) -> None:
    elements = [b"A good film", "naïve".encode(), b""]
    raw = b"".join(struct.pack("<I", len(each)) + each for each in elements)
    head: dict[str, Any] = {
        "inputs": [
            {"name": "text", "shape": [3, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
        ],
        "outputs": [{"name": "known_words"}, {"name": "probability", "parameters": {"binary_data": True}}],
    }
    body, fields = binary(head, raw)
    found, behind = head_of(await client.post(SENTIMENT, body, **fields))
    typed = await client.post("/v1/sentiment", {"reviews": [each.decode() for each in elements]})
    known, probability = found["outputs"]
    assert known["data"] == [each["known_words"] for each in typed.json["predictions"]]
    assert probability["parameters"] == {"binary_data_size": 12}
    expected = [each["positive_probability"] for each in typed.json["predictions"]]
    assert list(struct.unpack("<3f", behind)) == expected


async def test_classes_instead_of_scores(client: Client) -> None:
    asked = texts(["A wonderful film", "Awful"], outputs=[{"name": "probability", "parameters": {"classification": 1}}])
    answer = await client.post(SENTIMENT, asked)
    [output] = answer.json["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 1])
    assert [each.split(":")[1:] for each in output["data"]] == [["1", "positive"], ["0", "negative"]]
    asked["parameters"] = {"binary_data_output": True}
    found, behind = head_of(await client.post(SENTIMENT, asked))
    assert found["outputs"][0]["parameters"] == {"binary_data_size": len(behind)}
    size = struct.unpack_from("<I", behind)[0]
    assert behind[4 : 4 + size].decode() == output["data"][0]


async def test_outputs_that_are_no_finite_numbers_are_null() -> None:
    data = np.array([[1.5], [np.nan], [np.inf], [-np.inf]], np.float32)
    result = InferResult("m", "1", "", [OutputTensor("y", "FP32", (4, 1), data)])
    head, behind = write_result(result, InferRequest("m"))
    assert msgspec.json.decode(head)["outputs"][0]["data"] == [1.5, None, None, None]
    assert behind == b""
    request = InferRequest("m", outputs=[RequestedOutput("y", binary=True)])
    assert write_result(result, request)[1] == data.tobytes(), "binary tensors say what it was"


async def test_outputs_of_bytes_that_are_no_text_go_as_binary_data_only() -> None:
    result = InferResult("m", "1", "", [OutputTensor("y", "BYTES", (1,), np.array([b"\xff"], np.object_))])
    with pytest.raises(StatusError, match="y has bytes that are no text; ask for it with binary_data"):
        write_result(result, InferRequest("m"))
    request = InferRequest("m", outputs=[RequestedOutput("y", binary=True)])
    assert write_result(result, request)[1] == b"\x01\0\0\0\xff"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body can't be read as JSON: input data was truncated"),
        ({}, "inputs: it must be there, and is not"),
        ({"inputs": []}, "inputs: features (FP32 [-1, 13]) is missing"),
        ({"inputs": [{"name": "features"}]}, "inputs[0].shape: it must be there, and is not"),
        ({"inputs": [{"name": "features", "shape": [1.5], "datatype": "FP32"}]}, "inputs[0].shape[0]: expected `int`"),
        (features(), "inputs[0] ('features'): neither data nor parameters[binary_data_size]"),
        (features(1), "inputs[0] (features): data: expected an array"),
        (features(HOUSE, datatype="FP64"), "inputs[0] (features): datatype 'FP64', expected FP32"),
        (features(HOUSE, (13,)), "inputs[0] (features): shape [13] does not fit [-1, 13]"),
        (features([], (0, 13)), "inputs[0] (features): shape [0, 13] has no rows"),
        (features(HOUSE[1:]), "inputs[0] (features): 12 elements, expected 13"),
        (features(HOUSE * 2), "inputs[0] (features): 26 elements, expected 13"),
        (features(["1", *HOUSE[1:]]), "inputs[0] (features): row 0: element 0: expected FP32, found"),
        (features([True, *HOUSE[1:]]), "inputs[0] (features): row 0: element 0: expected FP32, found"),
        (features([1e300, *HOUSE[1:]]), "inputs[0] (features): row 0: element 0: 1e+300 is beyond the range of FP32"),
        (features([HOUSE], (2, 13)), "inputs[0] (features): data has 1 rows, but its shape is [2, 13]"),
        (features([HOUSE, 1], (2, 13)), "inputs[0] (features): data is nested, but not as its shape [2, 13] says"),
        (features([HOUSE, HOUSE[1:]], (2, 13)), "inputs[0] (features): data is nested, but not as its shape"),
        (features([[HOUSE]], (1, 13)), "inputs[0] (features): data is nested, but not as its shape"),
        (features([[[each] for each in HOUSE]]), "inputs[0] (features): data is nested, but not as its shape"),
        (features(HOUSE, name="x"), "inputs[0]: 'x' is not an input of house_price version 1, which has: features"),
        (features(HOUSE) | {"outputs": [{"name": "y"}]}, "outputs[0]: 'y' is not an output of house_price version 1"),
        (
            features(HOUSE) | {"outputs": [{"name": "price", "parameters": {"binary_data": 1}}]},
            "outputs[0] ('price'): parameters[binary_data]: expected true or false, found '1'",
        ),
        (
            features(HOUSE) | {"parameters": {"binary_data_output": "no"}},
            "parameters[binary_data_output]: expected true or false",
        ),
        (features(HOUSE) | {"parameters": {"timeout": "soon"}}, "parameters[timeout]: expected microseconds"),
        (features(HOUSE) | {"parameters": {"priority": 1.5}}, "parameters[priority]: expected a level from 1 to 3"),
        (features(HOUSE) | {"parameters": {"sequence_id": 7}}, "parameters[sequence_id]: the models served here"),
        (features(HOUSE, parameters={"binary_data_size": 4}), "inputs[0] ('features'): both data and parameters"),
        (
            features(parameters={"binary_data_size": -1}),
            "inputs[0] ('features'): parameters[binary_data_size]: expected",
        ),
        (
            features(parameters={"binary_data_size": 52}),
            "inputs[0] ('features'): parameters[binary_data_size]: 52 bytes, but of those that follow the JSON there "
            "are 0 left",
        ),
        ({"inputs": features(HOUSE)["inputs"] * 300}, "inputs: more than 256 tensors, more than any model has"),
        (features(HOUSE) | {"outputs": [{"name": "price"}] * 300}, "outputs: 300 tensors, more than any model has"),
    ],
)
async def test_what_is_wrong_is_named(desk: Desk, client: Client, body: Any, message: str) -> None:
    answer = await client.post(PRICE, body)
    assert answer.status == 400
    assert answer.error.startswith(message)
    counted = [desk.requests(Code.INVALID_ARGUMENT, version=v, method="POST /v2/infer") for v in ("unknown", "1")]
    assert sum(counted) == desk.all_requests() == 1
    assert desk.rejected() == {"invalid": 1}


async def test_numbers_beyond_what_could_ever_fit_are_not_read(client: Client) -> None:
    text = b'{"inputs": [{"name": "features", "shape": [2049, 13], "datatype": "FP32", "data": [%s]}]}'
    answer = await client.post(PRICE, text % b",".join([b"0"] * 2049 * 13))
    assert answer.status == 400
    assert answer.error == (
        "inputs[0] (features): more than the 26624 elements that this server takes (--max-queue-rows)"
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1], "inputs[0] (text): row 0: expected text, found int"),
        (["good", None], "inputs[0] (text): row 1: expected text, found NoneType"),
        (["w " * (MAX_WORDS + 1)], f"inputs[0] (text): row 0: {MAX_WORDS + 1} words"),
        ([","] * 2049, "inputs[0] (text): 2049 rows in one request; this server takes 2048 at the most"),
    ],
)
async def test_what_is_wrong_with_texts_is_named(client: Client, data: list[Any], message: str) -> None:
    answer = await client.post(SENTIMENT, texts(data))
    assert answer.status == 400
    assert answer.error.startswith(message)


@pytest.mark.parametrize("length", ["x", "-1", "10000", "9" * 5000])
async def test_a_length_that_is_none(client: Client, length: str) -> None:
    answer = await client.post(PRICE, features(HOUSE), inference_header_content_length=length)
    assert answer.status == 400
    assert answer.error.startswith("Inference-Header-Content-Length: expected a number of bytes up to the body's")


@pytest.mark.parametrize("size", [0, 48, 56])
async def test_bytes_that_nobody_asked_for_or_that_are_missing(client: Client, size: int) -> None:
    body, fields = binary(features(parameters={"binary_data_size": 52}), bytes(size))
    answer = await client.post(PRICE, body, **fields)
    assert answer.status == 400
    assert "follow the JSON" in answer.error


async def test_shared_memory_is_not_offered(client: Client) -> None:
    answer = await client.post(PRICE, features(parameters={"shared_memory_region": "r", "shared_memory_byte_size": 52}))
    assert answer.status == 501
    answer = await client.post(
        PRICE, features(HOUSE) | {"outputs": [{"name": "price", "parameters": {"shared_memory_region": "r"}}]}
    )
    assert answer.status == 501


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/nobody/infer", 404),
        ("/v2/models/house_price/versions/7/infer", 404),
        ("/v2/models/house_price/versions/canary/infer", 404),
        ("/v2/models/house_price/versions/!/infer", 400),
    ],
)
async def test_models_and_versions_that_are_not_there(desk: Desk, client: Client, path: str, status: int) -> None:
    answer = await client.post(path, features(HOUSE))
    assert answer.status == status
    assert answer.error
    code = Code.NOT_FOUND if status == 404 else Code.INVALID_ARGUMENT
    model = "unknown" if "nobody" in path else "house_price"
    assert desk.requests(code, model, "unknown", "POST /v2/infer") == desk.all_requests() == 1


class Waiting:
    """What the engine was given."""

    def __init__(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[Request] = []
        engine = desk.models.resolve("house_price", "").engine
        submit = engine.submit

        def keep(request: Request) -> None:
            self.requests.append(request)
            submit(request)

        monkeypatch.setattr(type(engine), "submit", lambda _, request: keep(request))


async def test_timeout_and_priority_reach_the_engine(
    desk: Desk, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = Waiting(desk, monkeypatch)
    await client.post(PRICE, features(HOUSE) | {"parameters": {"timeout": 5_000_000, "priority": 1}})
    await client.post(PRICE, features(HOUSE) | {"parameters": {"timeout": 5_000_000}}, request_timeout_ms="2000")
    await client.post(PRICE, features(HOUSE) | {"parameters": {"priority": 3}}, request_timeout_ms="7500.5")
    await client.post(PRICE, features(HOUSE))
    left = [request.deadline - request.arrival for request in waiting.requests]
    assert left == [pytest.approx(5.0, abs=0.01), *(pytest.approx(s, abs=0.5) for s in (2.0, 7.5)), float("inf")]
    assert [request.priority for request in waiting.requests] == [-1, 0, 1, 0]


async def test_what_is_too_late_is_said_so(desk: Desk, client: Client) -> None:
    answer = await client.post(PRICE, features(HOUSE), request_timeout_ms="0.000001")
    assert answer.status == 504
    assert desk.rejected() == {"expired": 1}
    assert desk.requests(Code.DEADLINE_EXCEEDED, version="unknown", method="POST /v2/infer") == 1


async def test_a_client_that_goes_is_not_computed_for(desk: Desk, client: Client) -> None:
    asked = client.begin("POST", PRICE, features(HOUSE))
    while not desk.in_flight():  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0)
    asked.disconnect()
    await asked.task
    assert asked.sent == []
    assert desk.rejected() == {"cancelled": 1}
    assert desk.batches() == 0


async def test_a_server_that_goes_takes_nothing(desk: Desk, client: Client) -> None:
    desk.backend.draining = True
    answer = await client.post(PRICE, features(HOUSE))
    assert (answer.status, answer.fields["connection"]) == (503, "close")

"""ModelStreamInfer: items are answered as they are ready, and a bad one does not end the stream."""

import asyncio

import pytest
from tritonclient.grpc import service_pb2 as pb

from serving.api.items import MAX_IN_FLIGHT
from serving.status import Code
from serving.telemetry.metrics import UNKNOWN
from tests.serving.api.calls import MemoryStream
from tests.serving.api.inference.desk import InferDesk, house, outputs, texts

pytestmark = pytest.mark.asyncio

METHOD = "ModelStreamInfer"


def answers(stream: MemoryStream) -> dict[str, pb.ModelStreamInferResponse]:
    found = [pb.ModelStreamInferResponse.FromString(message) for message in stream.sent]
    assert len({response.infer_response.id for response in found}) == len(found)
    return {response.infer_response.id: response for response in found}


async def test_items_of_different_models_are_answered_by_their_ids(desk: InferDesk) -> None:
    stream = desk.stream()
    for made in (house(id="a"), texts("sentiment", ["fine"], id="b"), house(2, id="c", raw=False), house(id="d")):
        stream.receiver.message(made.SerializeToString())
    stream.receiver.half_closed()
    assert not stream.finished
    await stream.until(4)
    assert stream.code is Code.OK
    found = answers(stream)
    assert {item: response.infer_response.model_name for item, response in found.items()} == {
        "a": "house_price",
        "b": "sentiment",
        "c": "house_price",
        "d": "house_price",
    }
    alone = outputs(await desk.answer(house(2)))["price"]
    assert outputs(found["c"].infer_response)["price"].tolist() == alone.tolist()
    assert outputs(found["d"].infer_response)["price"].tolist() == alone[:1].tolist()
    assert desk.count(Code.OK, method=METHOD) == 3


@pytest.mark.parametrize("wanted", [True, False])
async def test_every_answer_is_the_last_of_its_request(desk: InferDesk, wanted: bool) -> None:
    stream = desk.stream()
    for item in ("a", "b"):
        made = house(id=item)
        made.parameters["triton_enable_empty_final_response"].bool_param = wanted
        stream.receiver.message(made.SerializeToString())
        await stream.until(len(stream.sent) + 1)
    for response in answers(stream).values():
        assert response.infer_response.parameters["triton_final_response"].bool_param
        assert response.infer_response.outputs
    assert not (await desk.answer(house())).parameters
    stream.receiver.half_closed()


async def test_a_bad_item_is_told_and_the_stream_goes_on(desk: InferDesk) -> None:
    stream = desk.stream()
    bad = house(id="bad")
    bad.inputs[0].shape[:] = [1, 12]
    made_up = house(id="made up")
    made_up.model_name = "none"
    infinite = house(id="infinite")
    infinite.raw_input_contents[0] = b"\0\0\x80\x7f" * 13
    many = pb.ModelInferRequest(model_name="topic", id="many").SerializeToString() + b"\x2a\x00" * 50_000
    stream.receiver.message(house(id="good-one").SerializeToString())
    await stream.until(1)
    for made in (bad, made_up, infinite, house(id="good-two")):
        stream.receiver.message(made.SerializeToString())
    stream.receiver.message(many)
    await stream.until(6)
    found = answers(stream)
    assert "shape [1, 12] does not fit" in found["bad"].error_message
    assert "'none' is not in the repository" in found["made up"].error_message
    assert "row 0: element 0 is infinite" in found["infinite"].error_message
    assert "more than 1024 fields" in found["many"].error_message
    for item in ("good-one", "good-two"):
        assert not found[item].error_message
    assert not stream.finished
    assert desk.count(Code.INVALID_ARGUMENT, method=METHOD, version="1") == 2
    assert desk.count(Code.NOT_FOUND, UNKNOWN, UNKNOWN, METHOD) == 1
    assert desk.count(Code.INVALID_ARGUMENT, "topic", UNKNOWN, METHOD) == 1
    stream.receiver.half_closed()
    assert stream.code is Code.OK


async def test_a_message_that_can_not_be_read_is_told_and_the_stream_goes_on(desk: InferDesk) -> None:
    stream = desk.stream()
    stream.receiver.message(b"\xff\xff\xff")
    [answer] = answers(stream).values()
    assert "can't be read as inference.ModelInferRequest" in answer.error_message
    stream.receiver.message(house(id="good").SerializeToString())
    await stream.until(2)
    stream.receiver.half_closed()
    assert stream.code is Code.OK


async def test_no_more_is_read_than_can_be_in_flight(desk: InferDesk) -> None:
    stream = desk.stream()
    for item in range(MAX_IN_FLIGHT):
        assert stream.reading
        stream.receiver.message(house(id=str(item)).SerializeToString())
    assert not stream.reading
    await stream.until(1)
    assert stream.reading
    stream.receiver.half_closed()
    await stream.until(MAX_IN_FLIGHT)
    assert stream.finished
    assert stream.pauses == 1


async def test_a_client_that_goes_takes_its_items_with_it(desk: InferDesk) -> None:
    stream = desk.stream()
    for item in range(3):
        stream.receiver.message(house(id=str(item)).SerializeToString())
    stream.cancel()
    await desk.answer(house())
    await asyncio.sleep(0)
    assert not stream.sent
    assert desk.count(Code.CANCELLED, method=METHOD) == 3


async def test_a_stream_ends_when_the_server_drains(desk: InferDesk) -> None:
    stream = desk.stream()
    stream.receiver.message(house(id="taken").SerializeToString())
    stream.receiver.draining()
    stream.receiver.message(house(id="late").SerializeToString())
    await stream.until(2)
    found = answers(stream)
    assert found["taken"].infer_response.outputs
    assert "shutting down" in found["late"].error_message
    assert stream.code is Code.UNAVAILABLE


async def test_a_timeout_holds_for_its_item_only(desk: InferDesk) -> None:
    stream = desk.stream()
    hasty = house(id="hasty")
    hasty.parameters["timeout"].int64_param = 1
    for made in (hasty, house(id="patient")):
        stream.receiver.message(made.SerializeToString())
    await stream.until(2)
    found = answers(stream)
    assert found["hasty"].error_message
    assert not found["patient"].error_message
    stream.receiver.half_closed()

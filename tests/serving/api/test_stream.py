"""The typed service, PredictStream."""

import time

import pytest

from protos.prediction.v1 import prediction_pb2 as pb
from serving.api.instances import SMALL_MESSAGE
from serving.api.items import MAX_IN_FLIGHT
from serving.status import Code
from serving.telemetry.metrics import UNKNOWN
from tests.serving import packages
from tests.serving.api.desk import GARBAGE, HOUSE, MAX_WORDS, NOT_UTF8, ONE_HOUSE, Desk, answers, item

pytestmark = pytest.mark.asyncio


async def test_a_stream_mixes_all_three(desk: Desk) -> None:
    opened = desk.stream()
    opened.receiver.message(item("s", sentiment=pb.PredictSentimentRequest(reviews=["Good."])))
    opened.receiver.message(item("t", topic=pb.PredictTopicRequest(newswires=["wheat", "oil"], top_k=1)))
    opened.receiver.message(item("h", house_price=ONE_HOUSE))
    opened.receiver.half_closed()
    assert not opened.finished, "the last answer comes first"
    await opened.until(3)
    found = answers(opened)
    assert {name: found[name].WhichOneof("result") for name in found} == {
        "s": "sentiment",
        "t": "topic",
        "h": "house_price",
    }
    assert len(found["t"].topic.predictions) == 2
    assert found["h"].house_price.version == "1"
    assert opened.code is Code.OK
    for model in packages.NAMES:
        assert desk.requests(Code.OK, model, method="PredictStream") == 1


async def test_a_stream_of_nothing_ends_well(desk: Desk) -> None:
    opened = desk.stream()
    opened.receiver.half_closed()
    assert opened.code is Code.OK
    assert opened.sent == []


async def test_many_items_are_each_answered_once(desk: Desk) -> None:
    opened = desk.stream()
    for n in range(1000):
        opened.receiver.message(item(str(n), house_price=ONE_HOUSE))
    assert desk.in_flight() == 1000
    opened.receiver.half_closed()
    await opened.until(1000)
    found = answers(opened)
    assert found.keys() == {str(n) for n in range(1000)}
    assert {response.WhichOneof("result") for response in found.values()} == {"house_price"}
    assert opened.code is Code.OK
    assert desk.batches() == 1000 / 8


async def test_a_bad_item_is_answered_and_does_not_end_the_stream(desk: Desk) -> None:
    opened = desk.stream()
    opened.receiver.message(item("nothing"))
    opened.receiver.message(item("empty", topic=pb.PredictTopicRequest()))
    opened.receiver.message(item("words", sentiment=pb.PredictSentimentRequest(reviews=["a " * (MAX_WORDS + 1)])))
    opened.receiver.message(item("version", house_price=pb.PredictHousePriceRequest(houses=[HOUSE], version="9")))
    opened.receiver.message(item("good", house_price=ONE_HOUSE))
    await opened.until(5)
    assert not opened.finished
    found = answers(opened)
    invalid, not_found = int(Code.INVALID_ARGUMENT), int(Code.NOT_FOUND)
    assert (found["nothing"].error.code, found["nothing"].error.message) == (
        invalid,
        "request: expected one of sentiment, topic, house_price, got none",
    )
    assert (found["empty"].error.code, found["words"].error.code) == (invalid, invalid)
    assert found["words"].error.message.startswith("reviews[0]: 51 words")
    assert found["version"].error.code == not_found
    assert found["good"].WhichOneof("result") == "house_price"
    opened.receiver.half_closed()
    assert opened.code is Code.OK
    assert desk.rejected(UNKNOWN) == {"invalid": 1}
    assert desk.requests(Code.INVALID_ARGUMENT, UNKNOWN, UNKNOWN, "PredictStream") == 1
    assert desk.requests(Code.INVALID_ARGUMENT, "topic", method="PredictStream") == 1
    assert desk.requests(Code.NOT_FOUND, version=UNKNOWN, method="PredictStream") == 1


@pytest.mark.parametrize("message", [GARBAGE, NOT_UTF8])
async def test_an_item_that_can_not_be_read_ends_the_stream_and_what_is_in_flight(desk: Desk, message: bytes) -> None:
    opened = desk.stream()
    opened.receiver.message(item("first", house_price=ONE_HOUSE))
    opened.receiver.message(message)
    assert opened.code is Code.INVALID_ARGUMENT
    assert opened.error is not None
    assert "prediction.v1.PredictStreamRequest" in opened.error.message
    assert desk.in_flight() == 0
    assert desk.requests(Code.CANCELLED, method="PredictStream") == 1
    assert desk.rejected(UNKNOWN) == {"invalid": 1}
    opened.cancel()  # as a transport does after every stream
    assert desk.requests(Code.CANCELLED, method="PredictStream") == 1
    await desk.call("PredictHousePrice", ONE_HOUSE).message()
    assert opened.sent == []


async def test_an_item_of_far_too_many_instances_is_refused_unread(desk: Desk) -> None:
    made = desk.stream()
    most = desk.models.max_rows
    houses = pb.PredictHousePriceRequest(houses=[pb.House()] * (20 * most)).SerializeToString()
    data = item("big", house_price=pb.PredictHousePriceRequest.FromString(houses))
    assert len(data) > SMALL_MESSAGE
    made.receiver.message(data)
    made.receiver.message(item("after", house_price=ONE_HOUSE))
    made.receiver.message(b"\x12\x00" * (20 * most) + b"\x0a\x01x" + b"\x0a" * most)
    await made.until(3)
    found = answers(made)
    assert found["big"].error.code == Code.INVALID_ARGUMENT
    assert found["big"].error.message == f"houses: more than {most} instances in one request (--max-queue-rows)"
    assert found["after"].WhichOneof("result") == "house_price"
    assert found[""].error.message == "request: more than 64 fields in one item"
    assert desk.rejected() == {"invalid": 1}
    assert desk.rejected(UNKNOWN) == {"invalid": 1}
    assert not made.finished


async def test_a_cancelled_stream_lets_go_of_all_its_items(desk: Desk) -> None:
    opened = desk.stream()
    for n in range(10):
        opened.receiver.message(item(str(n), house_price=ONE_HOUSE))
    other = desk.call("PredictHousePrice", ONE_HOUSE)
    opened.cancel()
    assert desk.in_flight() == 1
    await other.message()
    assert desk.rows() == 1
    assert opened.sent == []
    assert not opened.finished
    assert desk.rejected() == {"cancelled": 10}
    assert desk.requests(Code.CANCELLED, method="PredictStream") == 10


async def test_a_stream_is_not_read_while_too_much_of_it_is_unanswered(desk: Desk) -> None:
    opened = desk.stream()
    for n in range(MAX_IN_FLIGHT - 1):
        opened.receiver.message(item(str(n), house_price=ONE_HOUSE))
    assert opened.reading
    opened.receiver.message(item("last", house_price=ONE_HOUSE))
    assert not opened.reading
    opened.receiver.message(item("on its way", house_price=ONE_HOUSE))  # a transport may have read one already
    assert not opened.reading
    await opened.until(MAX_IN_FLIGHT + 1)
    assert opened.reading
    assert opened.pauses == 1
    opened.receiver.half_closed()
    assert opened.code is Code.OK


async def test_an_item_that_is_refused_at_once_does_not_leave_the_stream_paused(desk: Desk) -> None:
    opened = desk.stream()
    for n in range(MAX_IN_FLIGHT - 1):
        opened.receiver.message(item(str(n), house_price=ONE_HOUSE))
    opened.receiver.message(item("bad", house_price=pb.PredictHousePriceRequest()))
    assert opened.reading
    opened.cancel()


async def test_items_of_a_stream_whose_deadline_has_passed_are_refused(desk: Desk) -> None:
    opened = desk.stream(deadline=time.monotonic() - 1)
    opened.receiver.message(item("late", house_price=ONE_HOUSE))
    assert answers(opened)["late"].error.code == Code.DEADLINE_EXCEEDED
    assert desk.rejected() == {"expired": 1}


async def test_a_draining_service_refuses_the_items_of_a_stream_one_by_one(desk: Desk) -> None:
    opened = desk.stream()
    opened.receiver.message(item("old", house_price=ONE_HOUSE))
    desk.backend.draining = True
    opened.receiver.message(item("new", house_price=ONE_HOUSE))
    await opened.until(2)
    assert answers(opened)["new"].error.code == Code.UNAVAILABLE
    assert answers(opened)["old"].WhichOneof("result") == "house_price"


async def test_a_stream_told_to_drain_answers_what_it_took_and_then_says_why_it_ends(desk: Desk) -> None:
    opened, idle = desk.stream(), desk.stream()
    opened.receiver.message(item("old", house_price=ONE_HOUSE))
    for each in (opened, idle):
        each.receiver.draining()
    assert idle.code is Code.UNAVAILABLE
    assert not opened.finished
    await opened.until(1)
    assert opened.code is Code.UNAVAILABLE
    assert answers(opened)["old"].WhichOneof("result") == "house_price"


async def test_a_half_closed_stream_told_to_drain_ends_well(desk: Desk) -> None:
    opened = desk.stream()
    opened.receiver.message(item("old", house_price=ONE_HOUSE))
    opened.receiver.half_closed()
    opened.receiver.draining()
    await opened.until(1)
    assert opened.code is Code.OK

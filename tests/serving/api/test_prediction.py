"""The typed service, unary calls: over a transport in memory, with the shipped models behind it."""

import asyncio
import gc
import logging
import math
import time
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from protos.prediction.v1 import prediction_pb2 as pb
from serving.api.exchange import Exchange
from serving.api.items import MAX_IN_FLIGHT
from serving.api.tasks import HousePriceTask
from serving.engine.request import Request
from serving.status import Code, StatusError
from serving.telemetry.metrics import UNKNOWN
from tests.serving import packages
from tests.serving.api.calls import MemoryCall
from tests.serving.api.desk import GARBAGE, HOUSE, NOT_UTF8, ONE_HOUSE, Desk, item, open_desk
from tests.serving.packages import value

pytestmark = pytest.mark.asyncio


async def test_a_review_is_answered(desk: Desk) -> None:
    made = desk.call(
        "PredictSentiment", pb.PredictSentimentRequest(reviews=["A wonderful, moving film.", "Awful!", ""])
    )
    response = pb.PredictSentimentResponse.FromString(await made.message())
    assert (response.model, response.version) == ("sentiment", "1")
    assert [p.sentiment for p in response.predictions[:2]] == [pb.SENTIMENT_POSITIVE, pb.SENTIMENT_NEGATIVE]
    assert response.predictions[0].known_words == 1
    assert response.predictions[2].known_words == 0
    assert desk.requests(Code.OK, "sentiment") == 1
    assert value(desk.metrics, "triptych_known_words_ratio_count", model="sentiment") == 3


async def test_a_newswire_is_answered(desk: Desk) -> None:
    text = "shr 35 cts vs 26 cts net 1,350,000 vs 1,000,000 revs 9 mln vs 8 mln reuter"
    made = desk.call("PredictTopic", pb.PredictTopicRequest(newswires=[text], top_k=2, version="1"))
    response = pb.PredictTopicResponse.FromString(await made.message())
    assert (response.model, response.version) == ("topic", "1")
    [prediction] = response.predictions
    assert prediction.topics[0].topic == "earn"
    assert len(prediction.topics) == 2
    assert prediction.topics[0].probability > prediction.topics[1].probability


async def test_a_house_is_answered_and_counted(desk: Desk) -> None:
    made = desk.call("PredictHousePrice", pb.PredictHousePriceRequest(houses=[HOUSE, pb.House()]))
    assert desk.in_flight() == 1
    assert made.answer is None, "a handler never waits"
    response = pb.PredictHousePriceResponse.FromString(await made.message())
    assert [5_000 < prediction.price_usd < 60_000 for prediction in response.predictions] == [True, True]
    assert [len(prediction.imputed) for prediction in response.predictions] == [11, 13]
    assert desk.in_flight() == 0
    assert desk.requests(Code.OK) == desk.timed() == desk.all_requests() == 1
    assert desk.rejected() == {}
    assert value(desk.metrics, "triptych_queue_duration_seconds_count", model="house_price", version="1") == 1
    assert value(desk.metrics, "triptych_execution_duration_seconds_count", model="house_price", version="1") == 1
    assert value(desk.metrics, "triptych_batches_total", model="house_price", version="1", reason="idle") == 1


def prices(answer: bytes) -> list[float]:
    return [prediction.price_usd for prediction in pb.PredictHousePriceResponse.FromString(answer).predictions]


async def prices_alone(desk: Desk, houses: list[pb.House]) -> list[float]:
    """The price of each house in a call of its own."""
    found = []
    for house in houses:
        found += prices(await desk.call("PredictHousePrice", pb.PredictHousePriceRequest(houses=[house])).message())
    return found


async def test_calls_of_one_turn_share_a_batch_and_get_their_own_answers(desk: Desk) -> None:
    houses = [pb.House(rooms=3 + n) for n in range(5)]
    calls = [desk.call("PredictHousePrice", pb.PredictHousePriceRequest(houses=[house])) for house in houses]
    found = [price for made in calls for price in prices(await made.message())]
    assert desk.batches() == 1
    assert desk.rows() == 5
    assert found == pytest.approx(await prices_alone(desk, houses), rel=1e-5)
    assert len(set(found)) == 5


async def test_a_request_larger_than_a_batch_comes_back_whole_and_in_order(desk: Desk) -> None:
    houses = [pb.House(rooms=4 + n / 20) for n in range(50)]
    found = prices(await desk.call("PredictHousePrice", pb.PredictHousePriceRequest(houses=houses)).message())
    assert desk.batches() == 7
    assert found == pytest.approx(await prices_alone(desk, houses), rel=1e-5)


@pytest.mark.parametrize("message", [GARBAGE, NOT_UTF8])
@pytest.mark.parametrize(
    ("method", "model"),
    [("PredictSentiment", "sentiment"), ("PredictTopic", "topic"), ("PredictHousePrice", "house_price")],
)
async def test_a_message_that_can_not_be_read_names_its_type(
    desk: Desk, method: str, model: str, message: bytes
) -> None:
    if method == "PredictHousePrice" and message == NOT_UTF8:
        message = b"\x12\x01\xff"  # its version
    error = desk.call(method, message).error
    assert error.code is Code.INVALID_ARGUMENT
    assert error.message.startswith(f"the message can't be read as prediction.v1.{method}Request")
    assert desk.requests(Code.INVALID_ARGUMENT, model, UNKNOWN) == desk.timed(model, UNKNOWN, method) == 1
    assert desk.rejected(model) == {"invalid": 1}


@pytest.mark.parametrize(
    ("request_", "code", "version", "rejected"),
    [
        (pb.PredictHousePriceRequest(), Code.INVALID_ARGUMENT, "1", {"invalid": 1}),
        (pb.PredictHousePriceRequest(houses=[pb.House(rooms=1e39)]), Code.INVALID_ARGUMENT, "1", {"invalid": 1}),
        (pb.PredictHousePriceRequest(houses=[HOUSE], version="0"), Code.INVALID_ARGUMENT, UNKNOWN, {"invalid": 1}),
        (pb.PredictHousePriceRequest(houses=[HOUSE], version="7"), Code.NOT_FOUND, UNKNOWN, {}),
        (pb.PredictHousePriceRequest(houses=[HOUSE], version="canary"), Code.NOT_FOUND, UNKNOWN, {}),
    ],
)
async def test_a_request_that_can_not_be_served_is_refused_and_counted(
    desk: Desk, request_: Message, code: Code, version: str, rejected: dict[str, float]
) -> None:
    made = desk.call("PredictHousePrice", request_)
    assert made.error.code is code
    assert desk.requests(code, version=version) == desk.all_requests() == 1
    assert desk.rejected() == rejected
    assert desk.batches() == 0


async def test_no_label_ever_holds_the_words_of_a_client(desk: Desk) -> None:
    for version in ("made-up", "123456", "Made Up!"):
        desk.call("PredictHousePrice", pb.PredictHousePriceRequest(houses=[HOUSE], version=version))
    labels = {
        label
        for metric in desk.metrics.registry.collect()
        for sample in metric.samples
        for label in sample.labels.values()
    }
    assert UNKNOWN in labels
    assert not labels & {"made-up", "123456", "Made Up!"}


async def test_more_rows_than_the_queue_could_ever_hold_are_invalid(desk: Desk) -> None:
    houses = [pb.House()] * (2 * MAX_IN_FLIGHT + 1)
    error = desk.call("PredictHousePrice", pb.PredictHousePriceRequest(houses=houses)).error
    assert error.code is Code.INVALID_ARGUMENT
    assert error.message.startswith("houses: 2049 instances in one request")
    assert desk.rejected() == {"invalid": 1}


async def test_a_full_queue_refuses_with_a_pushback(desk: Desk) -> None:
    full = pb.PredictHousePriceRequest(houses=[HOUSE] * 2 * MAX_IN_FLIGHT)
    accepted = desk.call("PredictHousePrice", full)
    error = desk.call("PredictHousePrice", ONE_HOUSE).error
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert error.retry_after is not None
    assert error.retry_after > 0
    assert desk.rejected() == {"queue_full": 1}
    assert desk.in_flight() == 1, "what was refused is not in flight"
    assert len(pb.PredictHousePriceResponse.FromString(await accepted.message()).predictions) == 2048


async def test_a_deadline_that_has_passed_is_refused_before_any_work(desk: Desk) -> None:
    made = desk.call("PredictHousePrice", ONE_HOUSE, deadline=time.monotonic() - 1)
    assert made.error.code is Code.DEADLINE_EXCEEDED
    assert desk.requests(Code.DEADLINE_EXCEEDED, version=UNKNOWN) == 1
    assert desk.rejected() == {"expired": 1}
    assert desk.batches() == 0


async def test_a_deadline_far_away_is_kept(desk: Desk) -> None:
    await desk.call("PredictHousePrice", ONE_HOUSE, deadline=time.monotonic() + 60).message()
    assert desk.requests(Code.OK) == 1


async def test_a_cancelled_call_is_never_computed_nor_answered(desk: Desk) -> None:
    gone, stays = desk.call("PredictHousePrice", ONE_HOUSE), desk.call("PredictHousePrice", ONE_HOUSE)
    gone.cancel()
    assert desk.in_flight() == 1
    await stays.message()
    assert gone.answer is None
    assert desk.rows() == 1
    assert desk.requests(Code.CANCELLED) == desk.requests(Code.OK) == 1
    assert desk.rejected() == {"cancelled": 1}


async def test_cancelling_what_is_answered_changes_nothing(desk: Desk) -> None:
    answered, refused = desk.call("PredictHousePrice", ONE_HOUSE), desk.call("PredictHousePrice", GARBAGE)
    await answered.message()
    for made in (answered, refused):
        assert made.on_cancel is not None
        made.on_cancel()
        made.on_cancel()
    assert desk.requests(Code.CANCELLED) == desk.requests(Code.CANCELLED, version=UNKNOWN) == 0
    assert desk.in_flight() == 0


async def test_what_is_over_is_gone_without_the_collector(desk: Desk) -> None:
    items = desk.stream()
    gc.collect()
    gc.disable()
    try:
        answered, refused, gone = (
            desk.call("PredictHousePrice", request) for request in (ONE_HOUSE, GARBAGE, ONE_HOUSE)
        )
        review = desk.call("PredictSentiment", pb.PredictSentimentRequest(reviews=["Fine."]))
        items.receiver.message(item("1", house_price=ONE_HOUSE))
        gone.cancel()
        await answered.message()
        await review.message()
        await items.until(1)
        assert refused.error.code is Code.INVALID_ARGUMENT
        del answered, refused, gone, review
        await asyncio.sleep(0)  # the last batch is let go of in the turn after its answers
        left = [found for found in gc.get_objects() if isinstance(found, Exchange | Request | MemoryCall)]
        assert left == []
    finally:
        gc.enable()


async def test_while_draining_the_old_is_answered_and_the_new_refused(desk: Desk) -> None:
    old = desk.call("PredictHousePrice", ONE_HOUSE)
    desk.backend.draining = True
    new = desk.call("PredictHousePrice", ONE_HOUSE)
    assert new.error.code is Code.UNAVAILABLE
    assert "shutting down; try another" in new.error.message
    await old.message()
    assert desk.requests(Code.UNAVAILABLE, version=UNKNOWN) == desk.requests(Code.OK) == 1
    assert desk.rejected() == {"draining": 1}


async def test_a_model_that_did_not_load_is_unavailable(tmp_path: Path) -> None:
    packages.copy(tmp_path, "topic")
    (packages.copy(tmp_path, "house_price") / "model.onnx").unlink()
    desk = await open_desk(tmp_path, packages.SMALL)
    assert desk.call("PredictHousePrice", ONE_HOUSE).error.code is Code.UNAVAILABLE
    assert desk.requests(Code.UNAVAILABLE, version=UNKNOWN) == 1
    missing = desk.call("PredictSentiment", pb.PredictSentimentRequest(reviews=["a"])).error
    assert missing.code is Code.NOT_FOUND
    assert desk.requests(Code.NOT_FOUND, "sentiment", UNKNOWN) == 1
    await desk.models.close()


async def test_a_row_that_breaks_the_graph_fails_its_own_call_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    packages.copy_fragile(tmp_path)
    desk = await open_desk(tmp_path, packages.SMALL)
    calls = [
        desk.call("PredictHousePrice", pb.PredictHousePriceRequest(houses=[pb.House(crime_rate=rate)]))
        for rate in (0, 99, 1)
    ]
    assert prices(await calls[0].message()) == [7000]
    assert prices(await calls[2].message()) == [8000]
    with pytest.raises(StatusError) as caught:
        await calls[1].message()
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message.startswith("house_price version 1 can't compute these values: ")
    assert not [record for record in caplog.records if record.message == "fault"]
    assert desk.requests(Code.OK) == 2
    assert desk.requests(Code.INVALID_ARGUMENT) == 1
    assert desk.rejected() == {"invalid": 1}
    assert desk.in_flight() == 0
    await desk.models.close()


class FaultyTask(HousePriceTask):
    """Has a bug in one of its steps."""

    def __init__(self, step: str) -> None:
        self._step = step

    def encode(self, *arguments: Any) -> Any:
        if self._step == "encode":
            raise ZeroDivisionError("private words")
        return super().encode(*arguments)

    def respond(self, *arguments: Any) -> Any:
        if self._step == "respond":
            raise ZeroDivisionError("private words")
        return super().respond(*arguments)


@pytest.mark.parametrize("step", ["encode", "respond"])
async def test_our_own_faults_are_internal_logged_and_counted(
    desk: Desk, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    answered: asyncio.Future[Message | StatusError] = asyncio.get_running_loop().create_future()
    exchange = Exchange(desk.backend, FaultyTask(step), "PredictHousePrice", MemoryCall("/x/y"), answered.set_result)
    exchange.start(ONE_HOUSE, math.inf)
    error = await answered
    assert isinstance(error, StatusError)
    assert error.code is Code.INTERNAL
    assert "private words" not in error.message
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert type(record.exc_info[1]).__name__ == "ZeroDivisionError"
    assert "Error: private words" not in caplog.text
    assert desk.requests(Code.INTERNAL) == 1
    assert desk.in_flight() == 0

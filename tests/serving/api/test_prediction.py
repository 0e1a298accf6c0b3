"""The typed service over a transport in memory, with the shipped models behind it."""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.message import Message

from protos.prediction.v1 import prediction_pb2 as pb
from serving.api.instances import SMALL_MESSAGE
from serving.api.prediction import MAX_STREAM_IN_FLIGHT, SERVICE, Exchange, PredictionService
from serving.api.tasks import HousePriceTask
from serving.engine.batcher import Limits
from serving.engine.request import Request
from serving.metrics import REJECTIONS, UNKNOWN, Metrics
from serving.repository.models import Models
from serving.status import Code, StatusError
from tests.serving import packages
from tests.serving.api.calls import MemoryCall, MemoryStream, call, stream
from tests.serving.packages import value

pytestmark = pytest.mark.asyncio

MAX_WORDS = 50
NOT_UTF8 = b"\x0a\x02\xff\xfe"
GARBAGE = b"\xff\xff\xff\xff"

HOUSE = pb.House(rooms=6, lower_status=5)
ONE_HOUSE = pb.PredictHousePriceRequest(houses=[HOUSE])


class Desk:
    """A service, and what a test asks of it."""

    def __init__(self, models: Models, metrics: Metrics) -> None:
        self.models = models
        self.metrics = metrics
        self.service = PredictionService(models, metrics, MAX_WORDS)
        self.routes = self.service.routes()

    def call(self, method: str, message: Message | bytes, **options: float) -> MemoryCall:
        data = message if isinstance(message, bytes) else message.SerializeToString()
        return call(self.routes, f"/{SERVICE}/{method}", data, **options)

    def stream(self, **options: float) -> MemoryStream:
        return stream(self.routes, f"/{SERVICE}/PredictStream", **options)

    def requests(self, code: Code, model: str = "house_price", version: str = "1", method: str = "") -> float:
        method = method or {"sentiment": "PredictSentiment", "topic": "PredictTopic"}.get(model, "PredictHousePrice")
        labels = {"model": model, "version": version, "method": method, "code": code.name}
        return value(self.metrics, "triptych_requests_total", **labels) or 0

    def timed(self, model: str = "house_price", version: str = "1", method: str = "PredictHousePrice") -> float:
        name = "triptych_request_duration_seconds_count"
        return value(self.metrics, name, model=model, version=version, method=method) or 0

    def rejected(self, model: str = "house_price") -> dict[str, float]:
        """What was refused, by reason."""
        found = {r: value(self.metrics, "triptych_rejected_total", model=model, reason=r) or 0 for r in REJECTIONS}
        return {reason: count for reason, count in found.items() if count}

    def in_flight(self, model: str = "house_price") -> float | None:
        return value(self.metrics, "triptych_requests_in_flight", model=model)

    def batches(self, model: str = "house_price") -> float:
        return value(self.metrics, "triptych_batch_rows_count", model=model, version="1") or 0

    def rows(self, model: str = "house_price") -> float:
        return value(self.metrics, "triptych_batch_rows_sum", model=model, version="1") or 0

    def all_requests(self) -> float:
        """Of whatever model, version, method and code."""
        samples = [sample for metric in self.metrics.registry.collect() for sample in metric.samples]
        return sum(sample.value for sample in samples if sample.name == "triptych_requests_total")


async def open_desk(folder: Path, limits: Limits) -> Desk:
    metrics = Metrics()
    models = packages.open_models(folder, metrics, limits)
    models.load_all()
    return Desk(models, metrics)


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = await open_desk(packages.SHIPPED, Limits(max_batch_rows=8, max_queue_rows=2 * MAX_STREAM_IN_FLIGHT))
    yield desk
    await desk.models.close()
    for name in packages.NAMES:
        assert desk.in_flight(name) == 0, "whatever happened, nothing is in flight at the end"


def item(id: str, **request: Any) -> bytes:  # noqa: A002 - the field's name
    data: bytes = pb.PredictStreamRequest(id=id, **request).SerializeToString()
    return data


def answers(stream: MemoryStream) -> dict[str, pb.PredictStreamResponse]:
    found = [pb.PredictStreamResponse.FromString(message) for message in stream.sent]
    assert len({response.id for response in found}) == len(found)
    return {response.id: response for response in found}


# Unary.


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
    houses = [pb.House()] * (2 * MAX_STREAM_IN_FLIGHT + 1)
    error = desk.call("PredictHousePrice", pb.PredictHousePriceRequest(houses=houses)).error
    assert error.code is Code.INVALID_ARGUMENT
    assert error.message.startswith("houses: 2049 instances in one request")
    assert desk.rejected() == {"invalid": 1}


async def test_a_full_queue_refuses_with_a_pushback(desk: Desk) -> None:
    full = pb.PredictHousePriceRequest(houses=[HOUSE] * 2 * MAX_STREAM_IN_FLIGHT)
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
    desk.service.draining = True
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
    assert caught.value.code is Code.INTERNAL
    assert "indices" not in caught.value.message, "the caller is not told of our inside"
    numbers = [vars(record)["fault"] for record in caplog.records if record.message == "fault"]
    assert caught.value.message.endswith(f"fault={numbers[-1]}")
    assert desk.requests(Code.OK) == 2
    assert desk.requests(Code.INTERNAL) == 1
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
    exchange = Exchange(desk.service, FaultyTask(step), "PredictHousePrice", answered.set_result)
    exchange.start(ONE_HOUSE, MemoryCall("/test"))
    error = await answered
    assert isinstance(error, StatusError)
    assert error.code is Code.INTERNAL
    assert "private words" not in error.message
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)
    assert desk.requests(Code.INTERNAL) == 1
    assert desk.in_flight() == 0


# Streams.


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
    for n in range(MAX_STREAM_IN_FLIGHT - 1):
        opened.receiver.message(item(str(n), house_price=ONE_HOUSE))
    assert opened.reading
    opened.receiver.message(item("last", house_price=ONE_HOUSE))
    assert not opened.reading
    opened.receiver.message(item("on its way", house_price=ONE_HOUSE))  # a transport may have read one already
    assert not opened.reading
    await opened.until(MAX_STREAM_IN_FLIGHT + 1)
    assert opened.reading
    assert opened.pauses == 1
    opened.receiver.half_closed()
    assert opened.code is Code.OK


async def test_an_item_that_is_refused_at_once_does_not_leave_the_stream_paused(desk: Desk) -> None:
    opened = desk.stream()
    for n in range(MAX_STREAM_IN_FLIGHT - 1):
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
    desk.service.draining = True
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

"""Both pipelines against a server on a real socket: every test runs with the one and with the other."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import grpc
import pytest

from protos.prediction.v1 import prediction_pb2 as pb
from serving.client import (
    AsyncPipeline,
    AsyncPredictionClient,
    House,
    PredictionClient,
    PredictionError,
    Sentiment,
)
from serving.client.items import MAX_IN_FLIGHT

Connect = Callable[..., AbstractAsyncContextManager["Either"]]

SHORT = 0.05
"""Seconds of a deadline that is meant to pass."""

pytestmark = pytest.mark.asyncio


class Either:
    """A pipeline of either kind, whose calls are futures of this event loop."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.awaited = isinstance(pipeline, AsyncPipeline)

    def ask(self, method: str, *args: Any, **options: Any) -> "asyncio.Future[Any]":
        answer = getattr(self.pipeline, method)(*args, **options)
        future: asyncio.Future[Any] = asyncio.ensure_future(answer if self.awaited else asyncio.wrap_future(answer))
        return future

    def review(self, text: str, **options: Any) -> "asyncio.Future[Any]":
        return self.ask("predict_sentiment", text, **options)

    async def end(self, method: str) -> None:
        await (getattr(self.pipeline, method)() if self.awaited else asyncio.to_thread(getattr(self.pipeline, method)))


@pytest.fixture(params=[PredictionClient, AsyncPredictionClient])
def client_type(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def connect(client_type: Any) -> Connect:
    @asynccontextmanager
    async def connect(address: str, max_in_flight: int = MAX_IN_FLIGHT, **options: Any) -> AsyncIterator[Either]:
        client = client_type(address, **options)
        either = Either(client.pipeline(max_in_flight=max_in_flight))
        try:
            async with asyncio.timeout(60):
                yield either
                await either.end("close")
        finally:
            await either.end("cancel")
            if either.awaited:
                await client.close()
            else:
                client.close()

    return connect


async def error_of(answer: "asyncio.Future[Any]") -> PredictionError:
    with pytest.raises(PredictionError) as caught:
        await answer
    return caught.value


async def called(server: Any, times: int) -> None:
    """Until so many items have come."""
    while len(server.calls) < times:
        server.called.clear()
        if len(server.calls) < times:
            await asyncio.to_thread(server.called.wait)


async def test_the_three_models_on_one_stream(server: Any, connect: Connect) -> None:
    async with connect(server.address) as pipeline:
        sentiment, topic, house = await asyncio.gather(
            pipeline.review("A wonderful film."),
            pipeline.ask("predict_topic", ["Net profit rose.", ""], top_k=2, version=3),
            pipeline.ask("predict_house_price", House(rooms=6.5)),
        )
    assert sentiment[0].sentiment is Sentiment.POSITIVE
    assert [len(one.topics) for one in topic] == [2, 2]
    assert (topic.model, topic.version) == ("topic", "3")
    assert house[0].price_usd == 26_000
    assert server.streams == 1
    assert len({call.request.id for call in server.calls}) == 3


async def test_answers_in_another_order_find_their_calls(server: Any, connect: Connect) -> None:
    server.on_item(server.hold, server.hold, server.release)
    async with connect(server.address) as pipeline:
        versions = [1, 2, 3]
        answers = await asyncio.gather(*(pipeline.review("x", version=version) for version in versions))
    assert [answer.version for answer in answers] == ["1", "2", "3"]


async def test_many_calls(server: Any, connect: Connect) -> None:
    count = 3 * MAX_IN_FLIGHT
    async with connect(server.address) as pipeline:
        answers = await asyncio.gather(*(pipeline.review("x", version=n) for n in range(count)))
    assert [answer.version for answer in answers] == [str(n) for n in range(count)]
    assert server.streams == 1


async def test_an_error_is_that_items_alone(server: Any, connect: Connect) -> None:
    def refuse(item: Any, context: Any) -> list[Any]:
        return [pb.PredictStreamResponse(id=item.id, error=pb.Error(code=3, message="reviews: at least one"))]

    server.on_item(server.hold, refuse, server.release)
    async with connect(server.address) as pipeline:
        before, bad, after = pipeline.review("x"), pipeline.ask("predict_sentiment", []), pipeline.review("x")
        error = await error_of(bad)
        assert len(await before) == len(await after) == 1
    assert str(error) == "INVALID_ARGUMENT: reviews: at least one"
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT


ANSWERS: dict[str, dict[str, Any]] = {
    "0 predictions for 1 instances": {"sentiment": pb.PredictSentimentResponse()},
    "topic, not sentiment": {"topic": pb.PredictTopicResponse(predictions=[pb.TopicPrediction()])},
    "None, not sentiment": {},
    "cannot be read: KeyError": {
        "sentiment": pb.PredictSentimentResponse(predictions=[pb.SentimentPrediction(sentiment=9)])  # type: ignore[arg-type]
    },
}


@pytest.mark.parametrize("message", ANSWERS)
async def test_an_answer_that_cannot_be_is_that_items_alone(server: Any, connect: Connect, message: str) -> None:
    server.on_item(lambda item, _: [pb.PredictStreamResponse(id=item.id, **ANSWERS[message])])
    async with connect(server.address) as pipeline:
        error = await error_of(pipeline.review("x"))
        assert len(await pipeline.review("x")) == 1
    assert error.code is grpc.StatusCode.INTERNAL
    assert message in error.message


async def test_an_answer_to_nothing_is_ignored(server: Any, connect: Connect) -> None:
    server.on_item(lambda item, _: [pb.PredictStreamResponse(id="?"), *[server.answer_to(item)] * 2])
    async with connect(server.address) as pipeline:
        assert len(await pipeline.review("x")) == 1
        assert len(await pipeline.review("x")) == 1


async def test_a_broken_stream_fails_what_is_open_and_what_comes(server: Any, connect: Connect) -> None:
    server.on_item(server.hold, lambda _, context: context.abort(grpc.StatusCode.INTERNAL, "no more"))
    async with connect(server.address) as pipeline:
        errors = [await error_of(answer) for answer in [pipeline.review("x"), pipeline.review("x")]]
        errors += [await error_of(pipeline.review("x"))]
    assert {(error.code, error.message) for error in errors} == {
        (grpc.StatusCode.UNAVAILABLE, "the stream broke off: INTERNAL: no more")
    }
    assert len(server.calls) == 2


async def test_an_answer_that_is_no_message_breaks_the_stream(server: Any, connect: Connect) -> None:
    server.on_item(lambda *_: [b"\xff"])
    async with connect(server.address) as pipeline:
        error = await error_of(pipeline.review("x"))
    assert error.code is grpc.StatusCode.UNAVAILABLE
    assert "the answer cannot be read" in error.message


async def test_a_stream_that_ends_early_is_a_broken_one(server: Any, connect: Connect) -> None:
    server.on_item(lambda *_: [])
    async with connect(server.address) as pipeline:
        answer = pipeline.review("x")
        await called(server, 1)
        await pipeline.end("close")
        error = await error_of(answer)
    assert error.code is grpc.StatusCode.UNAVAILABLE
    assert error.message == "the stream broke off: the server ended it"


async def test_nobody_there(start_server: Any, connect: Connect) -> None:
    server = start_server()
    server.stop()
    async with connect(server.address) as pipeline:
        assert (await error_of(pipeline.review("x"))).code is grpc.StatusCode.UNAVAILABLE


async def test_a_deadline_is_that_items_alone(server: Any, connect: Connect) -> None:
    server.on_item(server.hold, server.hold, server.release)
    async with connect(server.address) as pipeline:
        patient = pipeline.review("x")
        hasty = pipeline.review("x", timeout=SHORT)
        assert (await error_of(hasty)).code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert not patient.done()
        assert len(await pipeline.review("x")) == 1  # and with it the late answer, which nobody waits for
        assert len(await patient) == 1


async def test_the_clients_timeout_is_every_items(server: Any, connect: Connect) -> None:
    server.on_item(server.hold)
    async with connect(server.address, timeout=SHORT) as pipeline:
        assert (await error_of(pipeline.review("x"))).code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_what_is_in_flight_is_bounded(server: Any, connect: Connect) -> None:
    server.on_item(server.hold, server.release)
    async with connect(server.address, max_in_flight=1) as pipeline:
        first = pipeline.review("x", timeout=SHORT)
        assert (await error_of(first)).code is grpc.StatusCode.DEADLINE_EXCEEDED
        await called(server, 1)
        # The server is still at work on it.
        waiting = await error_of(pipeline.review("x", timeout=SHORT))
        assert waiting.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert len(server.calls) == 1


async def test_a_call_that_waits_for_room_is_sent_when_there_is_some(server: Any, connect: Connect) -> None:
    async with connect(server.address, max_in_flight=2) as pipeline:
        answers = await asyncio.gather(*(pipeline.review("x", version=n) for n in range(50)))
    assert [answer.version for answer in answers] == [str(n) for n in range(50)]


@pytest.mark.parametrize("bound", [0, -1])
async def test_room_for_nothing(server: Any, client_type: Any, bound: int) -> None:
    client = client_type(server.address)
    with pytest.raises(ValueError, match="max_in_flight: expected 1 or more"):
        client.pipeline(max_in_flight=bound)
    await client.close() if client_type is AsyncPredictionClient else client.close()


async def test_closing_waits_for_the_answers(server: Any, connect: Connect) -> None:
    server.on_item(server.hold)  # until the client has closed its side
    async with connect(server.address) as pipeline:
        answer = pipeline.review("x")
        await called(server, 1)
        await pipeline.end("close")
        assert len(await answer) == 1
        with pytest.raises(ValueError, match="closed"):
            await pipeline.review("x")
        await pipeline.end("close")


async def test_closing_waits_no_longer_than_the_deadline(server: Any, connect: Connect) -> None:
    server.on_item(hang)
    async with connect(server.address, timeout=SHORT) as pipeline:
        answer = pipeline.review("x")
        await called(server, 1)
        await pipeline.end("close")
        assert (await error_of(answer)).code is grpc.StatusCode.DEADLINE_EXCEEDED
    # The fixture stops the server, which waits for the hanging stream to have ended.


async def test_cancelling_does_not_wait(server: Any, connect: Connect) -> None:
    server.on_item(hang)
    async with connect(server.address, timeout=1000) as pipeline:
        answer = pipeline.review("x")
        await called(server, 1)
        await pipeline.end("cancel")
        assert (await error_of(answer)).code is grpc.StatusCode.CANCELLED


async def test_what_waits_for_room_at_the_end_is_told(server: Any) -> None:
    server.on_item(hang, hang)
    async with AsyncPredictionClient(timeout=1000) as client:
        pipeline = client.pipeline(max_in_flight=1)
        first, *waiting = (asyncio.ensure_future(pipeline.predict_sentiment("x")) for _ in range(3))
        await called(server, 1)
        await pipeline.cancel()
        assert [(await error_of(answer)).code for answer in (first, *waiting)] == [grpc.StatusCode.CANCELLED] * 3
        assert len(server.calls) == 1


def hang(item: Any, context: Any) -> list[Any]:
    """Read no more until the client is gone."""
    over: Future[None] = Future()
    if context.add_callback(lambda: over.set_result(None)):
        over.result()
    return []


async def test_what_cannot_be_sent_is_named(server: Any, connect: Connect) -> None:
    async with connect(server.address) as pipeline:
        with pytest.raises(ValueError, match=r"^reviews\[0\]: "):
            await pipeline.review("\ud83d")
    assert not server.calls


async def test_metadata(server: Any, connect: Connect) -> None:
    async with connect(server.address, metadata=[("authorization", "Bearer x")]) as pipeline:
        await pipeline.review("x")
    assert server.calls[0].metadata["authorization"] == "Bearer x"
    assert server.calls[0].seconds_left > 1e9, "a stream has no deadline of its own"


async def test_context_managers(server: Any) -> None:
    with PredictionClient() as client, client.pipeline() as pipeline:
        answer = pipeline.predict_sentiment("x")
    assert len(answer.result()) == 1
    async with AsyncPredictionClient() as awaited, awaited.pipeline() as other:
        task = asyncio.ensure_future(other.predict_sentiment("x"))
        await called(server, 2)
    assert len(await task) == 1


async def test_leaving_by_an_exception_does_not_wait(server: Any) -> None:
    server.on_item(hang, hang)
    with PredictionClient(timeout=1000) as client:
        pipeline = client.pipeline()
        answer = pipeline.predict_sentiment("x")
        await called(server, 1)  # else it might come while the next one is waited for
        with pytest.raises(ZeroDivisionError), pipeline:
            raise ZeroDivisionError
        assert isinstance(answer.exception(), PredictionError)
    async with AsyncPredictionClient(timeout=1000) as awaited:
        other = awaited.pipeline()
        task = asyncio.ensure_future(other.predict_sentiment("x"))
        await called(server, 2)
        with pytest.raises(ZeroDivisionError):
            async with other:
                raise ZeroDivisionError
        assert (await error_of(task)).code is grpc.StatusCode.CANCELLED


async def test_a_client_that_closes_breaks_its_pipelines(server: Any) -> None:
    server.on_item(hang, hang)
    with PredictionClient() as client:
        pipeline = client.pipeline()
        answer = pipeline.predict_sentiment("x")
        await called(server, 1)
    error = answer.exception()
    assert isinstance(error, PredictionError)
    assert error.code is grpc.StatusCode.UNAVAILABLE
    pipeline.close()
    async with AsyncPredictionClient() as client:
        awaited = client.pipeline()
        task = asyncio.ensure_future(awaited.predict_sentiment("x"))
        await called(server, 2)
    assert (await error_of(task)).code is grpc.StatusCode.UNAVAILABLE
    await awaited.close()


async def test_a_caller_that_gives_up_disturbs_nobody(server: Any) -> None:
    server.on_item(server.hold, server.hold, server.release)
    async with AsyncPredictionClient() as client, client.pipeline() as pipeline:
        one, other = (asyncio.ensure_future(pipeline.predict_sentiment("x")) for _ in range(2))
        await called(server, 2)
        one.cancel()
        assert len(await pipeline.predict_sentiment("x")) == len(await other) == 1
    assert one.cancelled()


async def test_no_thread_is_left_behind(server: Any) -> None:
    def ours() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("triptych-")]

    before = ours()
    with PredictionClient(timeout=math.inf) as client:
        for _ in range(50):
            with client.pipeline() as pipeline:
                pipeline.predict_sentiment("x", timeout=math.inf)
    for thread in ours():
        thread.join(10)
    assert set(ours()) <= set(before)


async def test_many_threads(server: Any) -> None:
    def work(pipeline: Any, thread: int) -> list[str]:
        futures = [pipeline.predict_topic("x", version=f"{thread}-{n}") for n in range(50)]
        return [future.result().version for future in futures]

    with PredictionClient() as client, client.pipeline(max_in_flight=7) as pipeline, ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(work, [pipeline] * 8, range(8)))
    assert versions == [[f"{thread}-{n}" for n in range(50)] for thread in range(8)]

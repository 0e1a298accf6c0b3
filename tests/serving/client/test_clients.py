"""Both clients against a server on a real socket: every test runs with the one and with the other."""

import asyncio
import inspect
import math
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from protos.prediction.v1 import prediction_pb2 as pb
from serving import details
from serving.client import (
    AsyncPredictionClient,
    House,
    HousePricePrediction,
    PredictionClient,
    PredictionError,
    Predictions,
    Sentiment,
    SentimentPrediction,
    Tls,
    TopicPrediction,
    TopicScore,
    Violation,
)
from serving.client.channel import target
from serving.status import invalid
from tests.serving.certificates import Certificates

Connect = Callable[..., AbstractAsyncContextManager[Any]]

pytestmark = pytest.mark.asyncio


class Awaited:
    """A client whose every method is awaited, whichever client it is."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        async def method(*args: Any, **kwargs: Any) -> Any:
            answer = getattr(self._client, name)(*args, **kwargs)
            return await answer if inspect.isawaitable(answer) else answer

        return method


@pytest.fixture(params=[PredictionClient, AsyncPredictionClient])
def connect(request: pytest.FixtureRequest) -> Connect:
    @asynccontextmanager
    async def connect(*args: Any, **kwargs: Any) -> AsyncIterator[Awaited]:
        client = Awaited(request.param(*args, **kwargs))
        try:
            yield client
        finally:
            await client.close()

    return connect


async def test_sentiment(server: Any, connect: Connect) -> None:
    async with connect(server.address) as client:
        answer = await client.predict_sentiment(["A wonderful film.", ""])
    assert answer == Predictions(
        (SentimentPrediction(Sentiment.POSITIVE, 0.875, 0.5), SentimentPrediction(Sentiment.NEGATIVE, 0.25, 0.0)),
        model="sentiment",
        version="7",
    )
    assert answer[0].sentiment == "positive"


async def test_an_answer_is_a_sequence(server: Any, connect: Connect) -> None:
    async with connect(server.address) as client:
        answer = await client.predict_sentiment(f"{i}" for i in range(3))
    first, *_ = answer
    assert len(answer) == 3
    assert answer[0] == first
    assert answer[1:] == answer.predictions[1:]
    assert pickle.loads(pickle.dumps(answer)) == answer


async def test_one_text_is_one_instance(server: Any, connect: Connect) -> None:
    async with connect(server.address) as client:
        [prediction] = await client.predict_sentiment("A wonderful film.")
        assert prediction.positive_probability == 0.875
        [prediction] = await client.predict_topic("Net profit rose.")
        assert prediction.topics[0].topic == "earn"


@pytest.mark.parametrize(("top_k", "topics"), [(0, 3), (2, 2), (100, 4)])
async def test_topic(server: Any, connect: Connect, top_k: int, topics: int) -> None:
    async with connect(server.address) as client:
        answer = await client.predict_topic(["Net profit rose."], top_k=top_k)
    assert isinstance(answer[0], TopicPrediction)
    assert len(answer[0].topics) == topics
    assert answer[0].topics[0] == TopicScore("earn", 3, 0.75)
    assert answer[0].known_words == 1
    assert (answer.model, answer.version) == ("topic", "7")


async def test_house_price(server: Any, connect: Connect) -> None:
    absent = tuple(name for name in House.__slots__ if name not in {"rooms", "by_river"})
    async with connect(server.address) as client:
        answer = await client.predict_house_price([House(rooms=6.5, by_river=0), {"rooms": 5, "by_river": None}])
        [alone] = await client.predict_house_price({"rooms": 6.5, "by_river": 1})
        [empty] = await client.predict_house_price(House())
    assert answer[0] == HousePricePrediction(26_000.0, absent)  # a zero is not an absence
    assert answer[1].imputed == tuple(name for name in House.__slots__ if name != "rooms")
    assert alone == answer[0]
    assert len(empty.imputed) == 13
    assert (answer.model, answer.version) == ("house_price", "7")


async def test_every_feature_reaches_its_field(server: Any, connect: Connect) -> None:
    values = {name: float(number) for number, name in enumerate(House.__slots__, 1)}
    async with connect(server.address) as client:
        await client.predict_house_price(House(**values))
    [house] = server.calls[0].request.houses
    assert {field.name: value for field, value in house.ListFields()} == values
    assert {field.name: field.number for field, _ in house.ListFields()} == values


async def test_what_is_no_number_is_the_servers_to_refuse(server: Any, connect: Connect) -> None:
    async with connect(server.address) as client:
        await client.predict_house_price([House(rooms=math.nan)])
    assert math.isnan(server.calls[0].request.houses[0].rooms)


@pytest.mark.parametrize("version", ["stable", "2", 2])
async def test_version(server: Any, connect: Connect, version: str | int) -> None:
    async with connect(server.address) as client:
        answers = [
            await client.predict_sentiment("x", version=version),
            await client.predict_topic("x", version=version),
            await client.predict_house_price(House(), version=version),
        ]
    assert [answer.version for answer in answers] == [str(version)] * 3


async def test_readiness(server: Any, connect: Connect) -> None:
    async with connect(server.address) as client:
        assert await client.is_ready() is True
        assert await client.is_ready("sentiment") is True
        assert await client.is_ready("topic") is False
        server.health["topic"] = 0
        with pytest.raises(PredictionError) as caught:
            await client.is_ready("poetry")
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("method", "instances", "error", "message"),
    [
        ("predict_sentiment", ["fine", "bro\ud83dken"], ValueError, r"^reviews\[1\]: '\\ud83d' at character 3 is"),
        ("predict_topic", "\udc80", ValueError, r"^newswires\[0\]: "),
        ("predict_sentiment", ["fine", 3], TypeError, r"^reviews\[1\]: expected str, got int$"),
        ("predict_topic", b"bytes", TypeError, r"^newswires\[0\]: expected str, got int$"),
        ("predict_house_price", [{}, {"room": 6.5}], ValueError, r"^houses\[1\]: unknown feature 'room'; the"),
        ("predict_house_price", {"rooms": "six"}, TypeError, r"^houses\[0\].rooms: expected a number, got 'six'$"),
    ],
)
async def test_what_cannot_be_sent_is_named(
    server: Any, connect: Connect, method: str, instances: Any, error: type[Exception], message: str
) -> None:
    async with connect(server.address) as client:
        with pytest.raises(error, match=message):
            await getattr(client, method)(instances)
    assert not server.calls


@pytest.mark.parametrize("top_k", [-1, 2**32])
async def test_top_k_out_of_range(server: Any, connect: Connect, top_k: int) -> None:
    async with connect(server.address) as client:
        with pytest.raises(ValueError, match="top_k"):
            await client.predict_topic("x", top_k=top_k)


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
    ],
)
async def test_an_error_is_passed_on_and_not_retried(server: Any, connect: Connect, code: grpc.StatusCode) -> None:
    server.fail(code, "reviews: at least one")
    async with connect(server.address) as client:
        with pytest.raises(PredictionError, match=f"^{code.name}: reviews: at least one$") as caught:
            await client.predict_sentiment([])
    assert caught.value.code is code
    assert caught.value.message == "reviews: at least one"
    assert caught.value.retry_after is None
    assert len(server.calls) == 1


@pytest.mark.parametrize(("pushback", "seconds"), [("250", 0.25), ("-1", None), ("soon", None)])
async def test_pushback(server: Any, connect: Connect, pushback: str, seconds: float | None) -> None:
    server.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full", pushback)
    async with connect(server.address) as client:
        with pytest.raises(PredictionError) as caught:
            await client.predict_sentiment("x")
    assert caught.value.retry_after == seconds
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.retry_after) == ("RESOURCE_EXHAUSTED: queue full", seconds)


async def test_details(server: Any, connect: Connect) -> None:
    error = invalid("reviews[1]: too long")
    server.fail(grpc.StatusCode.INVALID_ARGUMENT, error.message, details=details.encode(error, "mine"))
    async with connect(server.address) as client:
        with pytest.raises(PredictionError) as caught:
            await client.predict_sentiment("x")
    for each in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert (each.reason, each.request_id) == ("INVALID", "mine")
        assert each.violations == (Violation("reviews[1]", "too long"),)


async def test_details_that_are_none(server: Any, connect: Connect) -> None:
    server.fail(grpc.StatusCode.INVALID_ARGUMENT, "why", details=b"\xff")
    async with connect(server.address) as client:
        with pytest.raises(PredictionError, match="why") as caught:
            await client.predict_sentiment("x")
    assert (caught.value.reason, caught.value.request_id, caught.value.violations) == ("", "", ())


async def test_unavailable_is_retried(server: Any, connect: Connect) -> None:
    server.fail(grpc.StatusCode.UNAVAILABLE)
    server.fail(grpc.StatusCode.UNAVAILABLE)
    async with connect(server.address) as client:
        [prediction] = await client.predict_sentiment("A wonderful film.")
    assert prediction.sentiment is Sentiment.POSITIVE
    assert len(server.calls) == 3


async def test_unavailable_is_retried_three_times(server: Any, connect: Connect) -> None:
    for _ in range(4):
        server.fail(grpc.StatusCode.UNAVAILABLE, "draining")
    async with connect(server.address) as client:
        with pytest.raises(PredictionError, match="draining") as caught:
            await client.predict_sentiment("A wonderful film.")
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert len(server.calls) == 4


async def test_nobody_there(start_server: Any, connect: Connect) -> None:
    server = start_server()
    server.stop()
    async with connect(server.address) as client:
        with pytest.raises(PredictionError) as caught:
            await client.predict_sentiment("x")
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("of", ["client", "call"])
async def test_deadline(server: Any, connect: Connect, of: str) -> None:
    server.hang()
    async with connect(server.address, timeout=0.1 if of == "client" else 10) as client:
        with pytest.raises(PredictionError) as caught:
            await client.predict_sentiment("x", **({"timeout": 0.1} if of == "call" else {}))
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_every_call_has_a_deadline(server: Any, connect: Connect) -> None:
    async with connect(server.address) as client:
        await client.predict_sentiment("x")
        await client.predict_topic("x")
        await client.predict_house_price(House())
        await client.is_ready()
    assert len(server.calls) == 4
    assert all(call.seconds_left == pytest.approx(10, abs=5) for call in server.calls)


@pytest.mark.parametrize("answer", [b"\xff", b"\x0a\x02\x08\x09"])  # no message; a sentiment from the future
async def test_an_answer_that_cannot_be_read(server: Any, connect: Connect, answer: bytes) -> None:
    server.say(answer)
    async with connect(server.address) as client:
        with pytest.raises(PredictionError, match="the answer cannot be read") as caught:
            await client.predict_sentiment("x")
    assert caught.value.code is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    ("method", "instances", "answer", "message"),
    [
        ("predict_sentiment", ["x", "y"], pb.PredictSentimentResponse(), "0 predictions for 2 instances"),
        (
            "predict_topic",
            ["x", "y"],
            pb.PredictTopicResponse(predictions=[pb.TopicPrediction()]),
            "1 predictions for 2 instances",
        ),
        (
            "predict_house_price",
            [{}],
            pb.PredictHousePriceResponse(predictions=[pb.HousePricePrediction()] * 2),
            "2 predictions for 1 instances",
        ),
    ],
)
async def test_an_answer_with_too_few_or_too_many_predictions(
    server: Any, connect: Connect, method: str, instances: Any, answer: Any, message: str
) -> None:
    server.say(answer.SerializeToString())
    async with connect(server.address) as client:
        with pytest.raises(PredictionError, match=f"the answer is not for this request: {message}") as caught:
            await getattr(client, method)(instances)
    assert caught.value.code is grpc.StatusCode.INTERNAL


async def test_a_large_answer_is_let_in(server: Any, connect: Connect) -> None:
    prediction = pb.SentimentPrediction(sentiment=pb.SENTIMENT_POSITIVE)
    server.say(pb.PredictSentimentResponse(predictions=[prediction], model="x" * 60 * 2**20).SerializeToString())
    async with connect(server.address) as client:
        assert len((await client.predict_sentiment("x")).model) == 60 * 2**20


async def test_metadata(server: Any, connect: Connect) -> None:
    async with connect(server.address, metadata=[("authorization", "Bearer x")]) as client:
        await client.predict_sentiment("x")
        await client.is_ready()
    assert [call.metadata["authorization"] for call in server.calls] == ["Bearer x"] * 2


async def test_a_token_is_shown_with_every_call_and_may_be_another_each_time(server: Any, connect: Connect) -> None:
    tokens = iter(["second", "third"])
    for token in ("first", lambda: next(tokens)):
        async with connect(server.address, metadata=[("x-note", "y")], token=token) as client:
            await client.predict_sentiment("x")
            if callable(token):
                await client.is_ready()
    shown = [(call.metadata["authorization"], call.metadata["x-note"]) for call in server.calls]
    assert shown == [("Bearer first", "y"), ("Bearer second", "y"), ("Bearer third", "y")]


@pytest.mark.parametrize("token", ["", "a b", "secret\n", "sécret"])
async def test_what_is_no_token_is_not_repeated(server: Any, connect: Connect, token: str) -> None:
    async with connect(server.address, token=token) as client:
        with pytest.raises(ValueError, match=r"^a token is printable ASCII, without spaces$"):
            await client.predict_sentiment("x")
    assert not server.calls


def trusted(certificates: Certificates, *, ask: bool = False) -> grpc.ServerCredentials:
    server = certificates.server
    return grpc.ssl_server_credentials(
        [(Path(server.key).read_bytes(), Path(server.certificate).read_bytes())],
        Path(certificates.client_ca).read_bytes() if ask else None,
        require_client_auth=ask,
    )


def local(server: Any) -> str:
    return f"localhost:{server.address.rpartition(':')[2]}"


async def test_tls(start_server: Any, connect: Connect, certificates: Certificates) -> None:
    server = start_server(credentials=trusted(certificates))
    async with connect(local(server), tls=Tls(certificates.ca)) as client:
        assert len(await client.predict_sentiment("Good.")) == 1
    for tls in (Tls(), Tls(certificates.other_ca), None):
        async with connect(local(server), tls=tls) as client:
            with pytest.raises(PredictionError) as caught:
                await client.predict_sentiment("Good.")
            assert caught.value.code is grpc.StatusCode.UNAVAILABLE


async def test_tls_with_a_certificate_of_ones_own(
    start_server: Any, connect: Connect, certificates: Certificates
) -> None:
    server = start_server(credentials=trusted(certificates, ask=True))
    own, ca = certificates.client, Path(certificates.ca)
    async with connect(local(server), tls=Tls(ca=ca, certificate=own.certificate, key=own.key)) as client:
        assert len(await client.predict_sentiment("Good.")) == 1
    async with connect(local(server), tls=Tls(ca=ca)) as client:
        with pytest.raises(PredictionError) as caught:
            await client.predict_sentiment("Good.")
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE


async def test_tls_to_a_list_of_addresses_needs_the_name_of_the_server(
    start_server: Any, connect: Connect, certificates: Certificates
) -> None:
    servers = [start_server(credentials=trusted(certificates)).address for _ in range(2)]
    async with connect(servers, tls=Tls(certificates.ca, server_name="localhost")) as client:
        assert len(await client.predict_sentiment("Good.")) == 1
    async with connect(servers, tls=Tls(certificates.ca, server_name="elsewhere")) as client:
        with pytest.raises(PredictionError):
            await client.predict_sentiment("Good.")


async def test_what_tls_can_not_be(connect: Connect, tmp_path: Path, certificates: Certificates) -> None:
    for half in ({"certificate": "a"}, {"key": "a"}):
        with pytest.raises(ValueError, match="go together"):
            Tls(**half)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        await connect("x:1", tls=Tls(ca=tmp_path / "nowhere")).__aenter__()
    with pytest.raises(ValueError, match="either tls or credentials"):
        await connect("x:1", tls=Tls(), credentials=grpc.local_channel_credentials()).__aenter__()


async def test_credentials(start_server: Any, connect: Connect) -> None:
    server = start_server(credentials=grpc.local_server_credentials())
    async with connect(server.address, credentials=grpc.local_channel_credentials()) as client:
        assert await client.is_ready()


async def test_every_server_takes_its_turn_and_a_lost_one_is_not_missed(start_server: Any, connect: Connect) -> None:
    servers = [start_server(), start_server()]
    async with connect([server.address for server in servers]) as client:
        for _ in range(1000):  # until both connections stand
            await client.predict_sentiment("x")
            if all(server.calls for server in servers):
                break
        before = [len(server.calls) for server in servers]
        for _ in range(10):
            await client.predict_sentiment("x")
        assert [len(server.calls) - calls for server, calls in zip(servers, before, strict=True)] == [5, 5]
        servers[0].stop()
        for _ in range(10):
            await client.predict_sentiment("x")
    assert len(servers[1].calls) == before[1] + 15


async def test_the_default_address(server: Any, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connect() as client:
        assert await client.is_ready()
    monkeypatch.delenv("TRIPTYCH_ADDRESS")
    assert target(None) == "localhost:8001"


async def test_context_managers(server: Any) -> None:
    with PredictionClient() as client:
        assert client.is_ready()
    with pytest.raises(ValueError, match="closed"):
        client.is_ready()
    async with AsyncPredictionClient() as client:
        assert await client.is_ready()
    with pytest.raises(Exception, match="closed"):
        await client.is_ready()


async def test_a_cancelled_call_is_cancelled_at_the_server(server: Any) -> None:
    server.hang()
    async with AsyncPredictionClient() as client:
        call = asyncio.create_task(client.predict_sentiment("x"))
        await asyncio.to_thread(server.called.wait)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    # The fixture stops the server, which waits for the hanging call to have ended.

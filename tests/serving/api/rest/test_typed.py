"""The typed endpoints, over the shipped models."""

import asyncio
import struct
from typing import Any

import pytest
from google.protobuf.message import Message

from protos.prediction.v1 import prediction_pb2 as pb
from serving.api.rest import messages
from serving.api.rest.errors import STATUSES, error_reply
from serving.api.rest.typed import KINDS
from serving.api.tasks import TASKS
from serving.status import Code, StatusError
from tests.serving.api.desk import MAX_WORDS, Desk
from tests.serving.api.rest.client import Client

pytestmark = pytest.mark.asyncio

REVIEWS = ["A wonderful, moving film.", "Awful!", "", "naïve – \u0000 \U0001f3ac"]
HOUSE = {"crime_rate": 0.00632, "rooms": 6.575, "by_river": 0, "lower_status": 4.98}


async def grpc_answer(desk: Desk, method: str, request: Message, response: Any) -> Any:
    return response.FromString(await desk.call(method, request).message())


async def test_reviews_are_answered_as_over_grpc(desk: Desk, client: Client) -> None:
    answer = await client.post("/v1/sentiment", {"reviews": REVIEWS})
    assert answer.status == 200
    assert answer.fields["content-type"] == "application/json"
    expected = await grpc_answer(
        desk, "PredictSentiment", pb.PredictSentimentRequest(reviews=REVIEWS), pb.PredictSentimentResponse
    )
    assert answer.json == {
        "predictions": [
            {
                "sentiment": {pb.SENTIMENT_NEGATIVE: "negative", pb.SENTIMENT_POSITIVE: "positive"}[each.sentiment],
                "positive_probability": each.positive_probability,
                "known_words": each.known_words,
            }
            for each in expected.predictions
        ],
        "model": "sentiment",
        "version": "1",
    }
    for each in answer.json["predictions"]:
        probability = each["positive_probability"]
        assert struct.unpack("<f", struct.pack("<f", probability))[0] == probability, "a float32, to its last bit"


async def test_newswires_are_answered_as_over_grpc(desk: Desk, client: Client) -> None:
    newswires = ["Net profit rose to 3 mln dlrs.", "Crude oil fell."]
    answer = await client.post("/v1/topic", {"newswires": newswires, "version": "1", "top_k": 5})
    expected = await grpc_answer(
        desk, "PredictTopic", pb.PredictTopicRequest(newswires=newswires, top_k=5), pb.PredictTopicResponse
    )
    assert answer.json == {
        "predictions": [
            {
                "topics": [
                    {"topic": score.topic, "topic_id": score.topic_id, "probability": score.probability}
                    for score in each.topics
                ],
                "known_words": each.known_words,
            }
            for each in expected.predictions
        ],
        "model": "topic",
        "version": "1",
    }
    assert len(answer.json["predictions"][0]["topics"]) == 5
    default = await client.post("/v1/topic", {"newswires": newswires})
    assert [len(each["topics"]) for each in default.json["predictions"]] == [3, 3]


async def test_houses_are_answered_as_over_grpc(desk: Desk, client: Client) -> None:
    complete = {field.name: 1.5 + field.number for field in pb.House.DESCRIPTOR.fields}
    houses = [HOUSE, {}, complete, {"rooms": None, "tax_rate": 296}]
    answer = await client.post("/v1/house-price", {"houses": houses})
    given = [{name: value for name, value in house.items() if value is not None} for house in houses]
    expected = await grpc_answer(
        desk,
        "PredictHousePrice",
        pb.PredictHousePriceRequest(houses=[pb.House(**house) for house in given]),
        pb.PredictHousePriceResponse,
    )
    assert answer.json == {
        "predictions": [{"price_usd": each.price_usd, "imputed": list(each.imputed)} for each in expected.predictions],
        "model": "house_price",
        "version": "1",
    }
    assert [len(each["imputed"]) for each in answer.json["predictions"]] == [9, 13, 0, 12]
    alone = await client.post("/v1/house-price", {"houses": [complete]})
    assert alone.json["predictions"] == answer.json["predictions"][2:3]
    beyond = await client.post("/v1/house-price", {"houses": [complete, complete | {"tax_rate": 1e39}]})
    assert (beyond.status, beyond.error) == (400, "houses[1].tax_rate: 1e+39 is beyond the range of float32")


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/sentiment", b"", "the body can't be read as JSON: input data was truncated"),
        ("/v1/sentiment", b"reviews", "the body can't be read as JSON: invalid character (byte 0)"),
        ("/v1/sentiment", b'{"reviews": []} {}', "the body can't be read as JSON: trailing characters (byte 17)"),
        ("/v1/sentiment", b'{"reviews": ["\xff"]}', "the body can't be read as JSON: not UTF-8 at byte 0 of a string"),
        ("/v1/sentiment", b"[]", "the body: expected `object`, got `array`"),
        ("/v1/sentiment", {}, "reviews: it must be there, and is not"),
        ("/v1/sentiment", {"reviews": []}, "reviews: at least one is needed, got none"),
        ("/v1/sentiment", {"reviews": "good"}, "reviews: expected `array`, got `str`"),
        ("/v1/sentiment", {"reviews": ["good", 1]}, "reviews[1]: expected `str`, got `int`"),
        ("/v1/sentiment", {"reviews": ["good"], "version": 1}, "version: expected `str`, got `int`"),
        ("/v1/sentiment", {"reviews": ["good"], "top_k": 1}, "top_k: there is no such field"),
        (
            "/v1/sentiment",
            {"reviews": ["good", "w " * (MAX_WORDS + 1)]},
            f"reviews[1]: {MAX_WORDS + 1} words; this server takes {MAX_WORDS} at the most (--max-text-tokens)",
        ),
        ("/v1/topic", {"newswires": ["net"], "top_k": -1}, "top_k: expected `int` >= 0"),
        ("/v1/topic", {"newswires": ["net"], "top_k": 2**32}, "top_k: expected `int` <= 4294967295"),
        ("/v1/topic", {"newswires": ["net"], "top_k": 1.5}, "top_k: expected `int`, got `float`"),
        ("/v1/house-price", {"houses": []}, "houses: at least one is needed, got none"),
        ("/v1/house-price", {"houses": [{}, {"room": 1}]}, "houses[1].room: there is no such field"),
        ("/v1/house-price", {"houses": [{"rooms": "6"}]}, "houses[0].rooms: expected `float | null`, got `str`"),
        ("/v1/house-price", {"houses": [{"rooms": True}]}, "houses[0].rooms: expected `float | null`, got `bool`"),
        ("/v1/house-price", b'{"houses": [{"rooms": 1e999}]}', "houses[0].rooms: number out of range"),
        (
            "/v1/house-price",
            b'{"houses": [{"rooms": NaN}]}',
            "the body can't be read as JSON: invalid character (byte 22)",
        ),
        (
            "/v1/house-price",
            {"houses": [{}, {"rooms": 1e300}]},
            "houses[1].rooms: 1e+300 is beyond the range of float32",
        ),
        (
            "/v1/house-price",
            b'{"houses": [' + b"{}," * 3000 + b"{}]}",
            "houses: more than 2048 instances in one request (--max-queue-rows)",
        ),
    ],
)
async def test_what_is_wrong_is_named(desk: Desk, client: Client, path: str, body: Any, message: str) -> None:
    answer = await client.post(path, body)
    assert (answer.status, answer.error) == (400, message)
    model = next(model for model, kind in KINDS.items() if kind.path == path)
    method = f"POST {path}"
    counted = [desk.requests(Code.INVALID_ARGUMENT, model, version, method) for version in ("unknown", "1")]
    assert sum(counted) == desk.all_requests() == 1
    assert desk.rejected(model) == {"invalid": 1}


async def test_too_many_texts_are_refused(client: Client) -> None:
    answer = await client.post("/v1/sentiment", {"reviews": [""] * 3000})
    assert answer.status == 400
    assert answer.error.startswith("reviews: 3000 instances in one request; this server takes 2048 at the most")


async def test_arrays_in_arrays_without_end_are_refused(client: Client) -> None:
    answer = await client.post("/v1/sentiment", b'{"reviews": [], "version": ' + b"[" * 50_000 + b"]" * 50_000 + b"}")
    assert answer.status == 413
    answer = await client.post("/v1/sentiment", b'{"version": ' + b"[" * 40_000 + b"]" * 40_000 + b"}")
    assert (answer.status, answer.error) == (400, "version: expected `str`, got `array`")


@pytest.mark.parametrize(
    ("version", "status", "message"),
    [
        ("2", 404, "version: sentiment has no version 2; ready: 1"),
        ("canary", 404, "version: sentiment has no version labelled 'canary'; labels: "),
        ("?", 400, "version: '?' is neither a positive integer nor a label ([a-z][a-z0-9-]*)"),
    ],
)
async def test_a_version_that_is_not_there(client: Client, version: str, status: int, message: str) -> None:
    answer = await client.post("/v1/sentiment", {"reviews": ["good"], "version": version})
    assert answer.status == status
    assert answer.error.startswith(message)


async def test_answers_are_counted_under_their_path(desk: Desk, client: Client) -> None:
    await client.post("/v1/house-price", {"houses": [{}]})
    assert desk.requests(Code.OK, method="POST /v1/house-price") == desk.all_requests() == 1
    assert desk.timed(method="POST /v1/house-price") == 1


async def test_requests_of_one_turn_share_a_batch_and_get_their_own_answers(desk: Desk, client: Client) -> None:
    houses = [{"rooms": rooms} for rooms in (4, 6, 8)]
    asked = [client.begin("POST", "/v1/house-price", {"houses": [house]}) for house in houses]
    answers = [await each.answer() for each in asked]
    assert desk.batches() == 1
    together = await client.post("/v1/house-price", {"houses": houses})
    assert [answer.json["predictions"][0] for answer in answers] == together.json["predictions"]


async def test_a_full_queue_says_when_to_come_again(desk: Desk, client: Client) -> None:
    asked = [client.begin("POST", "/v1/sentiment", {"reviews": ["good film"] * 512}) for _ in range(5)]
    answers = [await each.answer() for each in asked]
    assert [answer.status for answer in answers] == [200] * 4 + [429]
    assert int(answers[-1].fields["retry-after"]) >= 1
    assert "queue" in answers[-1].error
    assert desk.rejected("sentiment") == {"queue_full": 1}


async def test_a_server_that_goes_takes_nothing(desk: Desk, client: Client) -> None:
    desk.backend.draining = True
    answer = await client.post("/v1/house-price", {"houses": [{}]})
    assert (answer.status, answer.fields["connection"]) == (503, "close")
    assert answer.error.startswith("the server")
    assert desk.requests(Code.UNAVAILABLE, version="unknown", method="POST /v1/house-price") == 1


async def test_a_client_that_goes_is_not_computed_for(desk: Desk, client: Client) -> None:
    asked = client.begin("POST", "/v1/house-price", {"houses": [{}]})
    while not desk.in_flight():  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0)
    asked.disconnect()
    await asked.task
    assert asked.sent == []
    assert desk.requests(Code.CANCELLED, method="POST /v1/house-price") == 1
    assert desk.rejected() == {"cancelled": 1}
    assert desk.batches() == 0


async def test_a_fault_is_answered_with_its_number(
    desk: Desk, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(desk.models, "resolve", fail)
    answer = await client.post("/v1/house-price", {"houses": [{}]})
    assert answer.status == 500
    assert answer.error.startswith("a fault of the server; its log has the details under request_id=")
    assert answer.error.endswith(answer.fields["x-request-id"])
    assert "a fault of ours" in caplog.text
    assert "a fault of ours" not in answer.error


async def test_an_error_says_for_programs_what_is_wrong(client: Client) -> None:
    answer = await client.post("/v1/house-price", {"houses": [{}, {"rooms": "six"}]})
    assert answer.json == {
        "error": answer.error,
        "code": "INVALID_ARGUMENT",
        "reason": "INVALID",
        "request_id": answer.fields["x-request-id"],
        "violations": [{"field": "houses[1].rooms", "description": "expected `float | null`, got `str`"}],
    }
    missing = (await client.post("/v1/house-price", {"houses": [{}], "version": "7"})).json
    assert (missing["reason"], missing["resource"]) == (
        "VERSION_NOT_FOUND",
        {"type": "version", "name": "house_price/7"},
    )


@pytest.mark.parametrize(("given", "kept"), [("mine", True), ("not mine", False)])
async def test_the_request_id_is_echoed(client: Client, given: str, *, kept: bool) -> None:
    for body, status in (({"houses": [{}]}, 200), ({"houses": []}, 400)):
        answer = await client.post("/v1/house-price", body, x_request_id=given)
        assert answer.status == status
        assert (answer.fields["x-request-id"] == given) == kept
    assert "x-request-id" not in (await client.post("/v1/house-price", {"houses": [{}]})).fields


async def test_every_error_has_a_status() -> None:
    assert STATUSES.keys() == set(Code) - {Code.OK}
    wanted = {
        Code.INVALID_ARGUMENT: 400,
        Code.NOT_FOUND: 404,
        Code.FAILED_PRECONDITION: 400,
        Code.RESOURCE_EXHAUSTED: 429,
        Code.DEADLINE_EXCEEDED: 504,
        Code.UNAVAILABLE: 503,
        Code.UNIMPLEMENTED: 501,
        Code.INTERNAL: 500,
    }
    assert {code: error_reply(StatusError(code, ""), "it").status for code in wanted} == wanted
    for seconds, field in ((None, b"1"), (0.01, b"1"), (1.0, b"1"), (1.01, b"2")):
        reply = error_reply(StatusError(Code.RESOURCE_EXHAUSTED, "", retry_after=seconds), "it")
        assert dict(reply.fields)[b"retry-after"] == field


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
async def test_the_messages_are_the_protos(kind: Any) -> None:
    task = next(task for task in TASKS if KINDS[task.model] is kind)

    def same(ours: Any, theirs: Any) -> None:
        assert list(ours.__struct_fields__) == [field.name for field in theirs.DESCRIPTOR.fields]

    same(kind.request, task.request)
    same(kind.response, kind.answer)
    for ours, theirs in (
        (messages.House, pb.House),
        (messages.SentimentPrediction, pb.SentimentPrediction),
        (messages.TopicPrediction, pb.TopicPrediction),
        (messages.TopicScore, pb.TopicScore),
        (messages.HousePricePrediction, pb.HousePricePrediction),
    ):
        same(ours, theirs)

"""The typed predictions over HTTP: JSON in, the same tasks that gRPC asks, JSON out."""

import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Literal, NamedTuple

import msgspec

from protos.prediction.v1 import prediction_pb2 as pb
from serving.api.exchange import Backend
from serving.api.rest import messages
from serving.api.rest.ask import Ask, Handler
from serving.api.rest.reading import read
from serving.api.tasks import TASKS, CompleteHouses, Task
from serving.engine.request import Outputs, Rows
from serving.repository.version import Version
from serving.status import StatusError, invalid

_SENTIMENTS: Final[Mapping[int, Literal["negative", "positive"]]] = {
    pb.SENTIMENT_NEGATIVE: "negative",
    pb.SENTIMENT_POSITIVE: "positive",
}
_FEATURES: Final = tuple(field.name for field in pb.House.DESCRIPTOR.fields)
_HOUSE: Final = struct.Struct(f"<{len(_FEATURES)}f")


def _sentiments(found: pb.PredictSentimentResponse) -> list[messages.SentimentPrediction]:
    return [
        messages.SentimentPrediction(_SENTIMENTS[each.sentiment], each.positive_probability, each.known_words)
        for each in found.predictions
    ]


def _topics(found: pb.PredictTopicResponse) -> list[messages.TopicPrediction]:
    return [
        messages.TopicPrediction(
            [messages.TopicScore(score.topic, score.topic_id, score.probability) for score in each.topics],
            each.known_words,
        )
        for each in found.predictions
    ]


def _prices(found: pb.PredictHousePriceResponse) -> list[messages.HousePricePrediction]:
    return [messages.HousePricePrediction(each.price_usd, list(each.imputed)) for each in found.predictions]


def _houses(request: messages.PredictHousePriceRequest) -> CompleteHouses | pb.PredictHousePriceRequest:
    """What the task takes; most houses have every feature, and need no message."""
    if not request.version:
        # A feature that is absent, or beyond the range of float32, can't be packed.
        with suppress(struct.error, OverflowError):
            rows = [_HOUSE.pack(*msgspec.structs.astuple(house)) for house in request.houses]
            return CompleteHouses(b"".join(rows), len(rows))
    return pb.PredictHousePriceRequest(
        houses=[
            pb.House(
                **{
                    name: value
                    for name, value in zip(_FEATURES, msgspec.structs.astuple(house), strict=True)
                    if value is not None
                }
            )
            for house in request.houses
        ],
        version=request.version,
    )


def _as_it_is(request: Any) -> Any:
    """JSON's texts are what the tasks take, under the same names."""
    return request


class Kind(NamedTuple):
    """How one task is asked in JSON."""

    path: str
    request: type[msgspec.Struct]
    response: type[msgspec.Struct]
    answer: type[Any]
    """The message that the task answers with."""
    task_request: Callable[[Any], Any]
    predictions: Callable[[Any], list[Any]]


KINDS: Final[Mapping[str, Kind]] = {
    "sentiment": Kind(
        "/v1/sentiment",
        messages.PredictSentimentRequest,
        messages.PredictSentimentResponse,
        pb.PredictSentimentResponse,
        _as_it_is,
        _sentiments,
    ),
    "topic": Kind(
        "/v1/topic",
        messages.PredictTopicRequest,
        messages.PredictTopicResponse,
        pb.PredictTopicResponse,
        _as_it_is,
        _topics,
    ),
    "house_price": Kind(
        "/v1/house-price",
        messages.PredictHousePriceRequest,
        messages.PredictHousePriceResponse,
        pb.PredictHousePriceResponse,
        _houses,
        _prices,
    ),
}
"""By the task's model."""


class TypedForm:
    """A task as a form of exchanges whose requests and answers are JSON."""

    def __init__(self, task: Task) -> None:
        self.kind = kind = KINDS[task.model]
        self.model = task.model
        self.method = f"POST {kind.path}"
        self._task = task
        self._decoder = msgspec.json.Decoder(kind.request)
        self._encoder = msgspec.json.Encoder()

    def read(self, body: bytes, most: int) -> Any:
        """The request that a body holds, of at most that many houses.

        Raises:
            StatusError: INVALID_ARGUMENT naming the field and the instance.
        """
        # Counted before each becomes an object: two bytes are enough for one.
        if self.model == "house_price" and body.count(b"{") - 1 > most:
            raise invalid(f"houses: more than {most} instances in one request (--max-queue-rows)")
        return self.kind.task_request(read(self._decoder, body))

    def encode(self, request: Any, version: Version, max_words: int) -> tuple[list[Rows], int, int]:
        """As the task does."""
        return self._task.encode(request, version, max_words)

    def respond(self, request: Any, version: Version, outputs: Outputs) -> bytes:
        """What the task answers, as JSON: numbers as they are, so that the nearest of their kind is the same."""
        found = self.kind.answer.FromString(self._task.respond(request, version, outputs))
        return self._encoder.encode(
            {"predictions": self.kind.predictions(found), "model": found.model, "version": found.version}
        )


class TypedApi:
    """Answers `POST /v1/...`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> dict[str, dict[str, Handler]]:
        """Handlers by path and method."""
        return {form.kind.path: {"POST": self._handler(form)} for form in map(TypedForm, TASKS)}

    def _handler(self, form: TypedForm) -> Handler:
        backend = self._backend

        def predict(ask: Ask, body: bytes) -> None:
            exchange = backend.exchange(form, form.method, ask, ask.end)
            ask.on_cancel = exchange.cancel
            try:
                deadline = ask.deadline
                if exchange.refused(deadline):
                    return
                request = form.read(body, backend.models.max_rows)
            except StatusError as error:
                exchange.finish(error)
            else:
                exchange.start(request, deadline)

        return predict

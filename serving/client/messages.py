"""From Python values to the bytes of a request, and from the bytes of an answer to Python values."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc

# The health service's messages have the wire format of these two, which spares a base install a package.
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from protos.prediction.v1 import prediction_pb2 as pb
from serving.client.errors import PredictionError
from serving.client.types import (
    FEATURES,
    House,
    HouseFeatures,
    HousePricePrediction,
    Predictions,
    Sentiment,
    SentimentPrediction,
    TopicPrediction,
    TopicScore,
)

Answer = TypeVar("Answer")
P = TypeVar("P")

_SERVICE = "/prediction.v1.PredictionService/"
PREDICT_STREAM = _SERVICE + "PredictStream"

_SENTIMENTS = {pb.SENTIMENT_NEGATIVE: Sentiment.NEGATIVE, pb.SENTIMENT_POSITIVE: Sentiment.POSITIVE}
_SERVING = 1


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """One call, whoever makes it: what to send, where to, and how to read the answer."""

    method: str
    request: Any
    response: type[Any]
    """The message that answers."""
    read: Callable[[Any], Answer]
    """From that message to the answer."""
    kind: str = ""
    """The field of a stream's messages that holds request and response."""

    def parse(self, answer: bytes) -> Answer:
        """Read the answer from its bytes."""
        return self.read(self.response.FromString(answer))


def sentiment(reviews: str | Iterable[str], version: str | int) -> Call[Predictions[SentimentPrediction]]:
    """Ask for the sentiment of reviews."""

    def prediction(p: pb.SentimentPrediction) -> SentimentPrediction:
        return SentimentPrediction(_SENTIMENTS[p.sentiment], p.positive_probability, p.known_words)

    request = pb.PredictSentimentRequest(reviews=_texts("reviews", reviews), version=str(version))
    read = _reader(prediction, len(request.reviews))
    return Call(_SERVICE + "PredictSentiment", request, pb.PredictSentimentResponse, read, "sentiment")


def topic(newswires: str | Iterable[str], top_k: int, version: str | int) -> Call[Predictions[TopicPrediction]]:
    """Ask for the topics of newswires."""

    def prediction(p: pb.TopicPrediction) -> TopicPrediction:
        return TopicPrediction(tuple(TopicScore(t.topic, t.topic_id, t.probability) for t in p.topics), p.known_words)

    if not 0 <= top_k < 2**32:
        raise ValueError(f"top_k: expected 0 or more, got {top_k}")
    request = pb.PredictTopicRequest(newswires=_texts("newswires", newswires), version=str(version), top_k=top_k)
    read = _reader(prediction, len(request.newswires))
    return Call(_SERVICE + "PredictTopic", request, pb.PredictTopicResponse, read, "topic")


def house_price(
    houses: HouseFeatures | Iterable[HouseFeatures], version: str | int
) -> Call[Predictions[HousePricePrediction]]:
    """Ask for the prices of houses."""

    def prediction(p: pb.HousePricePrediction) -> HousePricePrediction:
        return HousePricePrediction(p.price_usd, tuple(p.imputed))

    every = [houses] if isinstance(houses, House | Mapping) else houses
    request = pb.PredictHousePriceRequest(
        houses=[_house(index, house) for index, house in enumerate(every)], version=str(version)
    )
    read = _reader(prediction, len(request.houses))
    return Call(_SERVICE + "PredictHousePrice", request, pb.PredictHousePriceResponse, read, "house_price")


def ready(model: str) -> Call[bool]:
    """Ask whether a model, or, for an empty name, every model of the server, is ready."""
    request = StringValue(value=f"models/{model}" if model else "readiness")
    return Call("/grpc.health.v1.Health/Check", request, Int32Value, lambda state: bool(state.value == _SERVING))


def _reader(prediction: Callable[[Any], P], asked: int) -> Callable[[Any], Predictions[P]]:
    """Reads a response of any model, with one prediction for each instance that was asked about."""

    def read(response: Any) -> Predictions[P]:
        if len(response.predictions) != asked:
            raise PredictionError(
                grpc.StatusCode.INTERNAL,
                f"the answer is not for this request: {len(response.predictions)} predictions for {asked} instances",
            )
        return Predictions(tuple(map(prediction, response.predictions)), response.model, response.version)

    return read


def _texts(field: str, texts: str | Iterable[object]) -> list[str]:
    """One text or many, checked: a caller wants to know which one cannot be sent."""
    checked = []
    for index, text in enumerate([texts] if isinstance(texts, str) else texts):
        if not isinstance(text, str):
            raise TypeError(f"{field}[{index}]: expected str, got {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{field}[{index}]: {text[error.start]!r} at character {error.start} is half a surrogate pair, "
                "which cannot be sent as UTF-8"
            ) from None
        checked.append(text)
    return checked


def _house(index: int, house: HouseFeatures) -> pb.House:
    try:
        house = house if isinstance(house, House) else House.from_mapping(house)
    except ValueError as error:
        raise ValueError(f"houses[{index}]: {error}") from None
    message = pb.House()
    for name in FEATURES:
        value = getattr(house, name)
        if value is None:
            continue
        try:
            setattr(message, name, value)
        except TypeError:
            raise TypeError(f"houses[{index}].{name}: expected a number, got {value!r}") from None
    return message

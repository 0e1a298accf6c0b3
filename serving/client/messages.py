"""From Python values to the bytes of a request, and from the bytes of an answer to Python values."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

# The health service's messages have the wire format of these two, which spares a base install a package.
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from protos.prediction.v1 import prediction_pb2 as pb
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

_SERVICE = "/prediction.v1.PredictionService/"
_SENTIMENTS = {pb.SENTIMENT_NEGATIVE: Sentiment.NEGATIVE, pb.SENTIMENT_POSITIVE: Sentiment.POSITIVE}
_SERVING = 1


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """One call, whoever makes it: what to send, where to, and how to read the answer."""

    method: str
    request: bytes
    parse: Callable[[bytes], Answer]


def sentiment(reviews: str | Iterable[str], version: str | int) -> Call[Predictions[SentimentPrediction]]:
    """Ask for the sentiment of reviews."""

    def parse(answer: bytes) -> Predictions[SentimentPrediction]:
        response = pb.PredictSentimentResponse.FromString(answer)
        predictions = tuple(
            SentimentPrediction(_SENTIMENTS[p.sentiment], p.positive_probability, p.known_words)
            for p in response.predictions
        )
        return Predictions(predictions, response.model, response.version)

    request = pb.PredictSentimentRequest(reviews=_texts("reviews", reviews), version=str(version))
    return Call(_SERVICE + "PredictSentiment", request.SerializeToString(), parse)


def topic(newswires: str | Iterable[str], top_k: int, version: str | int) -> Call[Predictions[TopicPrediction]]:
    """Ask for the topics of newswires."""

    def parse(answer: bytes) -> Predictions[TopicPrediction]:
        response = pb.PredictTopicResponse.FromString(answer)
        predictions = tuple(
            TopicPrediction(tuple(TopicScore(t.topic, t.topic_id, t.probability) for t in p.topics), p.known_words)
            for p in response.predictions
        )
        return Predictions(predictions, response.model, response.version)

    if not 0 <= top_k < 2**32:
        raise ValueError(f"top_k: expected 0 or more, got {top_k}")
    request = pb.PredictTopicRequest(newswires=_texts("newswires", newswires), version=str(version), top_k=top_k)
    return Call(_SERVICE + "PredictTopic", request.SerializeToString(), parse)


def house_price(
    houses: HouseFeatures | Iterable[HouseFeatures], version: str | int
) -> Call[Predictions[HousePricePrediction]]:
    """Ask for the prices of houses."""

    def parse(answer: bytes) -> Predictions[HousePricePrediction]:
        response = pb.PredictHousePriceResponse.FromString(answer)
        predictions = tuple(HousePricePrediction(p.price_usd, tuple(p.imputed)) for p in response.predictions)
        return Predictions(predictions, response.model, response.version)

    every = [houses] if isinstance(houses, House | Mapping) else houses
    request = pb.PredictHousePriceRequest(
        houses=[_house(index, house) for index, house in enumerate(every)], version=str(version)
    )
    return Call(_SERVICE + "PredictHousePrice", request.SerializeToString(), parse)


def ready(model: str) -> Call[bool]:
    """Ask whether a model, or, for an empty name, every model of the server, is ready."""

    def parse(answer: bytes) -> bool:
        return bool(Int32Value.FromString(answer).value == _SERVING)

    request = StringValue(value=f"models/{model}" if model else "readiness")
    return Call("/grpc.health.v1.Health/Check", request.SerializeToString(), parse)


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

"""Whole test sets through the running server: what one version of a model answers, beside what is true."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import numpy.typing as npt

from benchmarks.datasets import house_test, raw_texts, sentiment_test, topic_test
from benchmarks.payloads import SERVICE, house_request
from protos.prediction.v1 import prediction_pb2 as pb

ROWS = 100
"""Instances a request."""

TIMEOUT = 30.0

QUICK_ROWS = 2000

Values = npt.NDArray[Any]


class Answers(NamedTuple):
    """What came back for a test set."""

    found: Values
    """[N]: the class, or the price in thousand dollars."""
    scores: Values
    """[N], higher is better: 1 where the class is right and 0 where it is not; minus the absolute error."""
    seconds: float

    @property
    def figure(self) -> float:
        """Accuracy, or the mean absolute error."""
        return abs(float(self.scores.mean()))


class TestSet(NamedTuple):
    """A test set, and how it is asked."""

    __test__ = False  # not a test of pytest's

    model: str
    what: str
    metric: str
    read: Callable[[Path], tuple[Any, Values]]
    ask: Callable[[grpc.Channel, Any, str], Values]

    def answers(self, channel: grpc.Channel, data: Path, version: str, quick: bool = False) -> Answers:
        """All of it, answered by `version`.

        Raises:
            DataMissing: a file is not there.
        """
        samples, truth = self.read(data)
        if quick:
            samples, truth = samples[:QUICK_ROWS], truth[:QUICK_ROWS]
        started = time.monotonic()
        found = self.ask(channel, samples, version)
        seconds = time.monotonic() - started
        scores = (found == truth).astype(float) if self.metric == "accuracy" else -np.abs(found - truth)
        return Answers(found, scores, seconds)


def _sentiments(channel: grpc.Channel, texts: Sequence[str], version: str) -> Values:
    """For each review, 1 if positive."""
    call = channel.unary_unary(
        SERVICE + "PredictSentiment", response_deserializer=pb.PredictSentimentResponse.FromString
    )
    found: list[int] = []
    for start in range(0, len(texts), ROWS):
        request = pb.PredictSentimentRequest(reviews=texts[start : start + ROWS], version=version)
        answer = call(request.SerializeToString(), timeout=TIMEOUT)
        found += [int(one.sentiment == pb.SENTIMENT_POSITIVE) for one in answer.predictions]
    return np.array(found)


def _topics(channel: grpc.Channel, texts: Sequence[str], version: str) -> Values:
    """For each newswire, its likeliest topic."""
    call = channel.unary_unary(SERVICE + "PredictTopic", response_deserializer=pb.PredictTopicResponse.FromString)
    found: list[int] = []
    for start in range(0, len(texts), ROWS):
        request = pb.PredictTopicRequest(newswires=texts[start : start + ROWS], top_k=1, version=version)
        answer = call(request.SerializeToString(), timeout=TIMEOUT)
        found += [one.topics[0].topic_id for one in answer.predictions]
    return np.array(found)


def _prices(channel: grpc.Channel, features: Values, version: str) -> Values:
    """For each suburb, its price in thousand dollars."""
    call = channel.unary_unary(
        SERVICE + "PredictHousePrice", response_deserializer=pb.PredictHousePriceResponse.FromString
    )
    answer = call(house_request(features.tolist(), version), timeout=TIMEOUT)
    return np.array([one.price_usd for one in answer.predictions]) / 1000


def _raw_sentiment(data: Path) -> tuple[list[str], Values]:
    samples = raw_texts(data, "imdb")
    return [one.text for one in samples], np.array([one.label for one in samples])


def _raw_topic(data: Path) -> tuple[list[str], Values]:
    samples = raw_texts(data, "reuters")
    return [one.text for one in samples], np.array([one.label for one in samples])


SENTIMENT = TestSet("sentiment", "rebuilt", "accuracy", sentiment_test, _sentiments)
SENTIMENT_RAW = TestSet("sentiment", "raw", "accuracy", _raw_sentiment, _sentiments)
TOPIC = TestSet("topic", "rebuilt", "accuracy", topic_test, _topics)
TOPIC_RAW = TestSet("topic", "raw", "accuracy", _raw_topic, _topics)
HOUSE_PRICE = TestSet("house_price", "features", "MAE", house_test, _prices)

TEST_SETS = (SENTIMENT, SENTIMENT_RAW, TOPIC, TOPIC_RAW, HOUSE_PRICE)

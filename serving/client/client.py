"""The client for threads: every method waits for its answer."""

from collections.abc import Iterable
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

import grpc

from serving.client import messages
from serving.client.channel import Connection
from serving.client.errors import translated
from serving.client.items import MAX_IN_FLIGHT
from serving.client.pipeline import Pipeline
from serving.client.types import (
    HouseFeatures,
    HousePricePrediction,
    Predictions,
    SentimentPrediction,
    TopicPrediction,
)

Answer = TypeVar("Answer")


class PredictionClient(Connection):
    """Predictions from one server or several; one client serves any number of threads.

    Every method takes one instance or many, and answers one prediction for each, in order; `version` is
    a version number, and empty means the served default; `timeout` is in
    seconds, and None means the client's own.

    Every method raises `PredictionError` for a call that failed, and ValueError or TypeError, naming the
    instance, for what cannot be sent.

    Use as a context manager, or `close()` when done.
    """

    _grpc: ClassVar[Any] = grpc

    def predict_sentiment(
        self, reviews: str | Iterable[str], *, version: str | int = "", timeout: float | None = None
    ) -> Predictions[SentimentPrediction]:
        """Say whether a movie review is positive or negative."""
        return self._answer(messages.sentiment(reviews, version), timeout)

    def predict_topic(
        self,
        newswires: str | Iterable[str],
        *,
        top_k: int = 0,
        version: str | int = "",
        timeout: float | None = None,
    ) -> Predictions[TopicPrediction]:
        """Rank the topics that a newswire is about: the best `top_k` of 46, where 0 means 3."""
        return self._answer(messages.topic(newswires, top_k, version), timeout)

    def predict_house_price(
        self,
        houses: HouseFeatures | Iterable[HouseFeatures],
        *,
        version: str | int = "",
        timeout: float | None = None,
    ) -> Predictions[HousePricePrediction]:
        """Estimate the median price of a home in a suburb, in US dollars of the 1970s."""
        return self._answer(messages.house_price(houses, version), timeout)

    def is_ready(self, model: str = "", *, timeout: float | None = None) -> bool:
        """Say whether this model, or, for an empty name, every model that the server has, can answer now.

        Raises `PredictionError` with NOT_FOUND for a model that the server does not have.
        """
        return self._answer(messages.ready(model), timeout)

    def pipeline(self, *, max_in_flight: int = MAX_IN_FLIGHT) -> Pipeline:
        """Open one stream for many small calls: faster than as many calls of their own, and sticking to one server."""
        return Pipeline(self._stream, self._timeout, max_in_flight)

    def close(self) -> None:
        """Close the connections; calls still in flight end with CANCELLED."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, call: messages.Call[Answer], timeout: float | None) -> Answer:
        with translated():
            return call.parse(self._start(call, timeout))

"""The client for asyncio: every method is awaited."""

# A timeout here is a gRPC deadline, which the server respects, too.
# ruff: noqa: ASYNC109

from collections.abc import Iterable
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

import grpc.aio

from serving.client import messages
from serving.client.channel import Connection
from serving.client.errors import translated
from serving.client.types import (
    HouseFeatures,
    HousePricePrediction,
    Predictions,
    SentimentPrediction,
    TopicPrediction,
)

Answer = TypeVar("Answer")


class AsyncPredictionClient(Connection):
    """`PredictionClient`, awaited. Make it inside the event loop that uses it; cancelling a call is enough to end it.

    Use as an asynchronous context manager, or `await close()` when done.
    """

    _grpc: ClassVar[Any] = grpc.aio

    async def predict_sentiment(
        self, reviews: str | Iterable[str], *, version: str | int = "", timeout: float | None = None
    ) -> Predictions[SentimentPrediction]:
        """Say whether a movie review is positive or negative."""
        return await self._answer(messages.sentiment(reviews, version), timeout)

    async def predict_topic(
        self,
        newswires: str | Iterable[str],
        *,
        top_k: int = 0,
        version: str | int = "",
        timeout: float | None = None,
    ) -> Predictions[TopicPrediction]:
        """Rank the topics that a newswire is about: the best `top_k` of 46, where 0 means 3."""
        return await self._answer(messages.topic(newswires, top_k, version), timeout)

    async def predict_house_price(
        self,
        houses: HouseFeatures | Iterable[HouseFeatures],
        *,
        version: str | int = "",
        timeout: float | None = None,
    ) -> Predictions[HousePricePrediction]:
        """Estimate the median price of a home in a suburb, in US dollars of the 1970s."""
        return await self._answer(messages.house_price(houses, version), timeout)

    async def is_ready(self, model: str = "", *, timeout: float | None = None) -> bool:
        """Say whether this model, or, for an empty name, every model that the server has, can answer now.

        Raises `PredictionError` with NOT_FOUND for a model that the server does not have.
        """
        return await self._answer(messages.ready(model), timeout)

    async def close(self) -> None:
        """Close the connections; calls still in flight are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _answer(self, call: messages.Call[Answer], timeout: float | None) -> Answer:
        with translated():
            return call.parse(await self._start(call, timeout))

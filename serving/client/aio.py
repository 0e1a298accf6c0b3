"""The client for asyncio: every method is awaited."""

# A timeout here is a gRPC deadline, which the server respects, too.
# ruff: noqa: ASYNC109

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

import grpc
import grpc.aio

from serving.client import messages
from serving.client.channel import Connection
from serving.client.errors import PredictionError, translated
from serving.client.items import MAX_IN_FLIGHT, Items, at_least_one, expired
from serving.client.types import (
    HouseFeatures,
    HousePricePrediction,
    Predictions,
    SentimentPrediction,
    TopicPrediction,
)

Answer = TypeVar("Answer")


class _Predictions(ABC):
    """The predictions of client and pipeline."""

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

    @abstractmethod
    async def _answer(self, call: messages.Call[Answer], timeout: float | None) -> Answer: ...


class AsyncPredictionClient(Connection, _Predictions):
    """`PredictionClient`, awaited. Make it inside the event loop that uses it; cancelling a call is enough to end it.

    Use as an asynchronous context manager, or `await close()` when done.
    """

    _grpc: ClassVar[Any] = grpc.aio

    async def is_ready(self, model: str = "", *, timeout: float | None = None) -> bool:
        """Say whether this model, or, for an empty name, every model that the server has, can answer now.

        Raises `PredictionError` with NOT_FOUND for a model that the server does not have.
        """
        return await self._answer(messages.ready(model), timeout)

    def pipeline(self, *, max_in_flight: int = MAX_IN_FLIGHT) -> "AsyncPipeline":
        """Open one stream for many small calls: faster than as many calls of their own, and sticking to one server."""
        return AsyncPipeline(self._stream, self._timeout, max_in_flight)

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


class AsyncPipeline(_Predictions):
    """The methods of `AsyncPredictionClient` on one stream; made by its `pipeline`.

    Await many of them at once, as with `asyncio.gather`. Each raises `PredictionError` for itself; a
    stream that breaks fails those in flight, and all that come after, with UNAVAILABLE.

    Use as an asynchronous context manager, or `await close()` when done.
    """

    def __init__(self, open_stream: Callable[[AsyncIterator[bytes]], Any], timeout: float, max_in_flight: int) -> None:
        requests: asyncio.Queue[bytes | None] = asyncio.Queue()

        async def until_none() -> AsyncIterator[bytes]:
            while (message := await requests.get()) is not None:
                yield message

        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._room = asyncio.Semaphore(at_least_one(max_in_flight))
        self._items = Items(requests.put_nowait, self._loop.time() + timeout)
        self._stream = open_stream(until_none())
        self._reader = self._loop.create_task(self._read())

    async def close(self) -> None:
        """Wait until all that was sent is answered or past its deadline, then end the stream."""
        self._items.close()
        try:
            await asyncio.wait([self._reader], timeout=self._items.last_deadline - self._loop.time())
        finally:
            await self.cancel()

    async def cancel(self) -> None:
        """End the stream now; calls still in flight end with CANCELLED."""
        self._items.close()
        self._end(grpc.StatusCode.CANCELLED, "the pipeline was cancelled")
        await asyncio.wait([self._reader])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        else:
            await self.cancel()

    async def _answer(self, call: messages.Call[Answer], timeout: float | None) -> Answer:
        self._items.check_open()
        deadline = self._loop.time() + (self._timeout if timeout is None else timeout)
        future: asyncio.Future[Answer] = self._loop.create_future()
        try:
            async with asyncio.timeout_at(deadline):
                await self._room.acquire()
                if not self._items.add(call, future, deadline):
                    self._room.release()  # for the next who waits, to hear the same
                return await future
        except TimeoutError:
            raise expired() from None

    async def _read(self) -> None:
        reason = "the server ended it"
        try:
            with translated():
                async for message in self._stream:
                    if self._items.answered(message):
                        self._room.release()
        except PredictionError as error:
            reason = str(error)
        except asyncio.CancelledError:
            reason = "it was cancelled"
        finally:
            self._end(grpc.StatusCode.UNAVAILABLE, f"the stream broke off: {reason}")

    def _end(self, code: grpc.StatusCode, reason: str) -> None:
        for _ in range(self._items.end(code, reason)):
            self._room.release()
        self._stream.cancel()

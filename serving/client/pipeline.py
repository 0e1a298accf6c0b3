"""Many calls on one stream, for threads: every method gives a future at once."""

import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from serving.client import messages
from serving.client.errors import PredictionError, translated
from serving.client.items import Items, at_least_one, expired
from serving.client.types import (
    HouseFeatures,
    HousePricePrediction,
    Predictions,
    SentimentPrediction,
    TopicPrediction,
)

Answer = TypeVar("Answer")

FOREVER = threading.TIMEOUT_MAX / 2
"""Seconds that locks and threads can still be told to wait."""


class Pipeline:
    """The methods of `PredictionClient` on one stream; made by its `pipeline`, and for any number of threads.

    A method gives a future of its answer as soon as there is room for one more call in flight. The
    future's `result()` raises `PredictionError` where that one call failed; a stream that breaks fails
    those in flight, and all that come after, with UNAVAILABLE. What cannot be sent raises ValueError or
    TypeError at once.

    Use as a context manager, or `close()` when done.
    """

    def __init__(self, open_stream: Callable[[Iterator[bytes]], Any], timeout: float, max_in_flight: int) -> None:
        requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._timeout = min(timeout, FOREVER)
        self._room = threading.Semaphore(at_least_one(max_in_flight))
        self._items = Items(requests.put, time.monotonic() + self._timeout)
        self._sooner = threading.Event()
        self._next_deadline = math.inf
        self._over = False
        self._stream = open_stream(iter(requests.get, None))
        self._reader = threading.Thread(target=self._read, name="triptych-pipeline", daemon=True)
        self._reader.start()
        threading.Thread(target=self._keep_deadlines, name="triptych-deadlines", daemon=True).start()

    def predict_sentiment(
        self, reviews: str | Iterable[str], *, version: str | int = "", timeout: float | None = None
    ) -> Future[Predictions[SentimentPrediction]]:
        """Say whether a movie review is positive or negative."""
        return self._submit(messages.sentiment(reviews, version), timeout)

    def predict_topic(
        self,
        newswires: str | Iterable[str],
        *,
        top_k: int = 0,
        version: str | int = "",
        timeout: float | None = None,
    ) -> Future[Predictions[TopicPrediction]]:
        """Rank the topics that a newswire is about: the best `top_k` of 46, where 0 means 3."""
        return self._submit(messages.topic(newswires, top_k, version), timeout)

    def predict_house_price(
        self,
        houses: HouseFeatures | Iterable[HouseFeatures],
        *,
        version: str | int = "",
        timeout: float | None = None,
    ) -> Future[Predictions[HousePricePrediction]]:
        """Estimate the median price of a home in a suburb, in US dollars of the 1970s."""
        return self._submit(messages.house_price(houses, version), timeout)

    def close(self) -> None:
        """Wait until all that was sent is answered or past its deadline, then end the stream."""
        self._items.close()
        try:
            self._reader.join(max(0.0, self._items.last_deadline - time.monotonic()))
        finally:
            self._items.expire(time.monotonic())
            self.cancel()

    def cancel(self) -> None:
        """End the stream now; calls still in flight end with CANCELLED."""
        self._items.close()
        self._end(grpc.StatusCode.CANCELLED, "the pipeline was cancelled")
        self._reader.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.cancel()

    def _submit(self, call: messages.Call[Answer], timeout: float | None) -> Future[Answer]:
        self._items.check_open()
        seconds = self._timeout if timeout is None else min(timeout, FOREVER)
        deadline = time.monotonic() + seconds
        future: Future[Answer] = Future()
        future.set_running_or_notify_cancel()  # what is sent is not called back
        if not self._room.acquire(timeout=max(0.0, seconds)):
            future.set_exception(expired())
            return future
        if not self._items.add(call, future, deadline):
            self._room.release()  # for the next who waits, to hear the same
        if deadline < self._next_deadline:
            self._sooner.set()
        return future

    def _read(self) -> None:
        reason = "the server ended it"
        try:
            with translated():
                for message in self._stream:
                    if self._items.answered(message):
                        self._room.release()
        except PredictionError as error:
            reason = str(error)
        finally:
            self._end(grpc.StatusCode.UNAVAILABLE, f"the stream broke off: {reason}")
            self._over = True
            self._sooner.set()

    def _end(self, code: grpc.StatusCode, reason: str) -> None:
        for _ in range(self._items.end(code, reason)):
            self._room.release()
        self._stream.cancel()

    def _keep_deadlines(self) -> None:
        while True:
            self._sooner.clear()
            if self._over:
                return
            self._next_deadline = math.inf  # whoever comes while we look makes us look again
            now = time.monotonic()
            self._next_deadline = self._items.expire(now)
            self._sooner.wait(min(self._next_deadline - now, FOREVER))

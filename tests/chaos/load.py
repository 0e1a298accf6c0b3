"""Steady load from callers that do not retry, and what became of every call."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc

from protos.prediction.v1 import prediction_pb2 as pb
from tests.end_to_end.server import ServerProcess

HOUSE_PRICE = "/prediction.v1.PredictionService/PredictHousePrice"
SENTIMENT = "/prediction.v1.PredictionService/PredictSentiment"
TOPIC = "/prediction.v1.PredictionService/PredictTopic"

HOUSE = pb.PredictHousePriceRequest(houses=[pb.House(crime_rate=1, rooms=6)]).SerializeToString()
REVIEW = pb.PredictSentimentRequest(reviews=["A film that I would not have missed. " * 5]).SerializeToString()

NO_RETRIES = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))
PAUSE_SECONDS = 0.004
"""Between an answer and the caller's next call: load that leaves the machine something."""
BEFORE = 60
"""Calls answered before anything is done to the server."""
PATIENCE = 60.0


@dataclass(frozen=True)
class Answered:
    """One call."""

    began: float
    seconds: float
    code: str

    @property
    def ended(self) -> float:
        return self.began + self.seconds


class Load:
    """Callers on threads of their own, each with its own connection, for as long as the `with` block lasts."""

    def __init__(
        self,
        target: str,
        *,
        callers: int = 3,
        method: str = HOUSE_PRICE,
        message: bytes = HOUSE,
        options: Sequence[tuple[str, Any]] = NO_RETRIES,
        credentials: grpc.ChannelCredentials | None = None,
        timeout: float = 20.0,
    ) -> None:
        self.calls: list[Answered] = []
        self._call = (method, message, timeout)
        self._channel = (target, options, credentials)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(callers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.wait_for(BEFORE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def wait_for(self, more: int) -> None:
        """Until so many more calls are answered well."""
        goal, deadline = self.answered + more, time.monotonic() + PATIENCE
        while self.answered < goal:
            assert time.monotonic() < deadline, f"callers wait for answers in vain: {self.outcomes}"
            time.sleep(0.005)

    @property
    def outcomes(self) -> Counter[str]:
        """Calls by how they ended."""
        return Counter(call.code for call in self.calls)

    @property
    def answered(self) -> int:
        return self.outcomes["OK"]

    @property
    def lost(self) -> int:
        """Calls that were not answered."""
        return len(self.calls) - self.answered

    def median_ms(self, begin: float = 0.0, end: float = float("inf")) -> float:
        """Of the calls that were answered, and began then."""
        found = sorted(call.seconds for call in self.calls if call.code == "OK" and begin <= call.began < end)
        assert found, "no call began then"
        return found[len(found) // 2] * 1e3

    def longest_ms(self, begin: float = 0.0, end: float = float("inf")) -> float:
        """The slowest of those."""
        return max(call.seconds for call in self.calls if call.code == "OK" and begin <= call.began < end) * 1e3

    def gap(self) -> float:
        """The longest time without any answer."""
        ends = sorted(call.ended for call in self.calls if call.code == "OK")
        return max(after - before for before, after in itertools.pairwise(ends))

    def _ask(self) -> None:
        target, options, credentials = self._channel
        method, message, timeout = self._call
        channel = (
            grpc.insecure_channel(target, options)
            if credentials is None
            else grpc.secure_channel(target, credentials, options)
        )
        with channel:
            call = channel.unary_unary(method)
            while not self._stop.is_set():
                began = time.monotonic()
                try:
                    call(message, timeout=timeout)
                    code = "OK"
                except grpc.RpcError as error:
                    code = error.code().name
                self.calls.append(Answered(began, time.monotonic() - began, code))
                self._stop.wait(PAUSE_SECONDS if code == "OK" else 10 * PAUSE_SECONDS)


def ask(server: ServerProcess, message: bytes = HOUSE, method: str = HOUSE_PRICE, timeout: float = 30.0) -> str:
    """One call, over a connection of its own, without retries; returns its status."""
    with server.channel(NO_RETRIES) as channel:
        try:
            channel.unary_unary(method)(message, timeout=timeout)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def priced(crime_rate: float) -> bytes:
    """A request for one house, told by one number."""
    return pb.PredictHousePriceRequest(houses=[pb.House(crime_rate=crime_rate)]).SerializeToString()

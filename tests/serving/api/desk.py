"""A service over a transport in memory, with the shipped models behind it, and what a test asks of it."""

from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from protos.prediction.v1 import prediction_pb2 as pb
from serving.api.exchange import Backend
from serving.api.prediction import SERVICE, PredictionService
from serving.engine.batcher import Limits
from serving.repository.models import Models
from serving.status import Code
from serving.telemetry.metrics import REJECTIONS, Metrics
from tests.serving import packages
from tests.serving.api.calls import MemoryCall, MemoryStream, call, stream
from tests.serving.packages import value

MAX_WORDS = 50
NOT_UTF8 = b"\x0a\x02\xff\xfe"
GARBAGE = b"\xff\xff\xff\xff"

HOUSE = pb.House(rooms=6, lower_status=5)
ONE_HOUSE = pb.PredictHousePriceRequest(houses=[HOUSE])


class Desk:
    """A service, and what a test asks of it."""

    def __init__(self, models: Models, metrics: Metrics) -> None:
        self.models = models
        self.metrics = metrics
        self.backend = Backend(models, metrics, MAX_WORDS)
        self.service = PredictionService(self.backend)
        self.routes = self.service.routes()

    def call(self, method: str, message: Message | bytes, **options: float) -> MemoryCall:
        data = message if isinstance(message, bytes) else message.SerializeToString()
        return call(self.routes, f"/{SERVICE}/{method}", data, **options)

    def stream(self, **options: float) -> MemoryStream:
        return stream(self.routes, f"/{SERVICE}/PredictStream", **options)

    def requests(self, code: Code, model: str = "house_price", version: str = "1", method: str = "") -> float:
        method = method or {"sentiment": "PredictSentiment", "topic": "PredictTopic"}.get(model, "PredictHousePrice")
        labels = {"model": model, "version": version, "method": method, "code": code.name}
        return value(self.metrics, "triptych_requests_total", **labels) or 0

    def timed(self, model: str = "house_price", version: str = "1", method: str = "PredictHousePrice") -> float:
        name = "triptych_request_duration_seconds_count"
        return value(self.metrics, name, model=model, version=version, method=method) or 0

    def rejected(self, model: str = "house_price") -> dict[str, float]:
        """What was refused, by reason."""
        found = {r: value(self.metrics, "triptych_rejected_total", model=model, reason=r) or 0 for r in REJECTIONS}
        return {reason: count for reason, count in found.items() if count}

    def in_flight(self, model: str = "house_price") -> float | None:
        return value(self.metrics, "triptych_requests_in_flight", model=model)

    def batches(self, model: str = "house_price") -> float:
        return value(self.metrics, "triptych_batch_rows_count", model=model, version="1") or 0

    def rows(self, model: str = "house_price") -> float:
        return value(self.metrics, "triptych_batch_rows_sum", model=model, version="1") or 0

    def all_requests(self) -> float:
        """Of whatever model, version, method and code."""
        samples = [sample for metric in self.metrics.registry.collect() for sample in metric.samples]
        return sum(sample.value for sample in samples if sample.name == "triptych_requests_total")


async def open_desk(folder: Path, limits: Limits) -> Desk:
    metrics = Metrics()
    models = packages.open_models(folder, metrics, limits)
    return Desk(models, metrics)


def item(id: str, **request: Any) -> bytes:  # noqa: A002 - the field's name
    data: bytes = pb.PredictStreamRequest(id=id, **request).SerializeToString()
    return data


def answers(stream: MemoryStream) -> dict[str, pb.PredictStreamResponse]:
    found = [pb.PredictStreamResponse.FromString(message) for message in stream.sent]
    assert len({response.id for response in found}) == len(found)
    return {response.id: response for response in found}

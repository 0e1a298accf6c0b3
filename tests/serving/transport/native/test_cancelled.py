"""Calls that their client resets, with the service and the engine behind the transport: counted, and not computed."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from protos.prediction.v1 import prediction_pb2 as pb
from serving.api.exchange import Backend
from serving.api.prediction import SERVICE, PredictionService
from serving.engine.batcher import Limits as Batches
from serving.telemetry.metrics import Metrics
from serving.transport.native import frames
from serving.transport.native.frames import ErrorCode
from serving.transport.native.limits import Limits
from serving.transport.native.transport import NativeTransport
from tests.serving import packages
from tests.serving.packages import value
from tests.serving.transport.native.client import Client

pytestmark = pytest.mark.asyncio

METHOD = f"/{SERVICE}/PredictHousePrice"
STREAM = f"/{SERVICE}/PredictStream"
REQUEST = pb.PredictHousePriceRequest(houses=[pb.House(rooms=6)] * 2)


class Served:
    def __init__(self) -> None:
        self.metrics = Metrics()
        # What comes waits for more, for longer than any test takes: it is queued for as long as it is not cancelled.
        self.models = packages.open_models(packages.first_versions(), self.metrics, Batches(8, 64, max_delay=1000.0))
        self.transport = NativeTransport(Limits())
        self.port = self.transport.bind("127.0.0.1:0")

    async def start(self) -> None:
        await self.transport.start(PredictionService(Backend(self.models, self.metrics, 50)).routes())

    def rows(self) -> float:
        """That were computed."""
        return value(self.metrics, "triptych_batch_rows_sum", model="house_price", version="1") or 0

    def waiting(self) -> float:
        return value(self.metrics, "triptych_queue_rows", model="house_price") or 0

    def in_flight(self) -> float:
        return value(self.metrics, "triptych_requests_in_flight", model="house_price") or 0

    def cancelled(self, method: str = "PredictHousePrice") -> tuple[float, float]:
        """As answers with that code, and as refusals with that reason."""
        labels = {"model": "house_price", "version": "1", "method": method, "code": "CANCELLED"}
        reason = {"model": "house_price", "reason": "cancelled"}
        return (
            value(self.metrics, "triptych_requests_total", **labels) or 0,
            value(self.metrics, "triptych_rejected_total", **reason) or 0,
        )


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    await served.start()
    async with asyncio.timeout(30):
        yield served
        await served.transport.stop(0)
        await served.models.close()


async def test_a_call_that_is_reset_while_it_waits_is_counted_and_never_computed(served: Served) -> None:
    async with Client(served.port) as client:
        client.greet()
        client.send(client.call(1, METHOD, REQUEST.SerializeToString()))
        await client.ping()
        assert (served.waiting(), served.in_flight()) == (2, 1)
        client.send(frames.reset(1, ErrorCode.CANCEL))
        await client.ping()
        assert (served.waiting(), served.in_flight()) == (0, 0)
        assert served.cancelled() == (1, 1)
        # Eight rows are a full batch: it runs, and has none of those that were given up.
        for number in (3, 5, 7, 9):
            client.send(client.call(number, METHOD, REQUEST.SerializeToString()))
        statuses = {(await client.answer(9))[0]}
        assert statuses == {0}
        assert served.rows() == 8
        assert served.cancelled() == (1, 1)


async def test_a_connection_that_breaks_cancels_all_that_waits(served: Served) -> None:
    async with Client(served.port) as client:
        client.greet()
        client.send(*(client.call(number, METHOD, REQUEST.SerializeToString()) for number in (1, 3, 5)))
        await client.ping()
        assert served.waiting() == 6
    while served.transport.connections:  # noqa: ASYNC110 - it tells nobody but the transport
        await asyncio.sleep(0)
    assert (served.waiting(), served.in_flight(), served.rows()) == (0, 0, 0)
    assert served.cancelled() == (3, 3)


async def test_a_reset_stream_takes_its_items_with_it(served: Served) -> None:
    async with Client(served.port) as client:
        client.greet()
        item = pb.PredictStreamRequest(id="a", house_price=REQUEST).SerializeToString()
        body = b"\0" + len(item).to_bytes(4) + item
        client.send(client.head(1, STREAM), frames.frame(frames.DATA, 0, 1, body * 3))
        await client.ping()
        assert served.waiting() == 6
        client.send(frames.reset(1, ErrorCode.CANCEL))
        await client.ping()
        assert (served.waiting(), served.in_flight(), served.rows()) == (0, 0, 0)
        assert served.cancelled("PredictStream") == (3, 3)

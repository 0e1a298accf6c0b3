"""The service that the tests of this folder share."""

from collections.abc import AsyncIterator

import pytest_asyncio

from serving.api.items import MAX_IN_FLIGHT
from serving.engine.batcher import Limits
from tests.serving import packages
from tests.serving.api.inference.desk import InferDesk, open_infer_desk


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[InferDesk]:
    limits = Limits(max_batch_rows=8, max_queue_rows=2 * MAX_IN_FLIGHT)
    desk = await open_infer_desk(limits=limits)
    yield desk
    await desk.models.close()
    for name in packages.NAMES:
        assert desk.in_flight(name) == 0, "whatever happened, nothing is in flight at the end"

"""The service that the tests of unary calls and of streams share."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from serving.api.items import MAX_IN_FLIGHT
from serving.engine.batcher import Limits
from serving.repository import verify
from tests.serving import packages
from tests.serving.api.desk import Desk, open_desk


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading is what tests of the repository are about, and takes longer than most of what is asked here."""
    monkeypatch.setattr(verify, "load", packages.load_once)


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = await open_desk(packages.first_versions(), Limits(max_batch_rows=8, max_queue_rows=2 * MAX_IN_FLIGHT))
    yield desk
    await desk.models.close()
    for name in packages.NAMES:
        assert desk.in_flight(name) == 0, "whatever happened, nothing is in flight at the end"

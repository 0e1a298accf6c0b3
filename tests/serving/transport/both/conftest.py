"""Every test here is run on each transport."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from tests.serving.transport.both import rig as rig_module
from tests.serving.transport.both.rig import KINDS, PATIENCE, Rig


@pytest.fixture(params=KINDS, autouse=True)
def both(request: pytest.FixtureRequest) -> None:
    """Every test is run on each transport."""
    rig_module.kind = request.param


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    await rig.transport.start(rig.routes())
    async with asyncio.timeout(PATIENCE):
        yield rig
        await rig.transport.stop(0)


@pytest_asyncio.fixture
async def channel(rig: Rig) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(rig.target, options=[("grpc.max_receive_message_length", -1)]) as channel:
        yield channel


@pytest.fixture(autouse=True)
def nothing_unexpected_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever clients do, gRPC and asyncio find no exception that slipped through."""
    yield
    errors = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    # grpc.aio's poller, shared by client and server here, sometimes finds its wake-up already read.
    errors = [record for record in errors if "PollerCompletionQueue" not in record.getMessage()]
    assert [record for record in errors if record.name != "serving.status"] == []

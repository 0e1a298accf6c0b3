"""The client's pipelines against the real server."""

import asyncio
import signal

import grpc
import pytest

from serving.client import AsyncPredictionClient, House, PredictionClient, PredictionError
from tests.end_to_end.server import ServerProcess

COUNT = 600
"""Calls: more than may be in flight at once."""


def test_a_pipeline(server: ServerProcess) -> None:
    with PredictionClient(server.address, timeout=60, tls=server.tls) as client:
        with client.pipeline() as pipeline:
            house = pipeline.predict_house_price([House(rooms=6.5), {}])
            topics = [pipeline.predict_topic("Crude oil fell.", top_k=n % 46 + 1) for n in range(COUNT)]
            bad = pipeline.predict_sentiment([])
            good = pipeline.predict_sentiment("A wonderful film.")
        assert [len(answer.result()[0].topics) for answer in topics] == [n % 46 + 1 for n in range(COUNT)]
        error = bad.exception()
        assert isinstance(error, PredictionError)
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert error.message == "reviews: at least one is needed, got none"
        single = client.predict_house_price([House(rooms=6.5), {}])
        assert [one.price_usd for one in house.result()] == pytest.approx([one.price_usd for one in single], rel=1e-5)
        assert good.result()[0].sentiment == "positive"


@pytest.mark.asyncio
async def test_an_awaited_pipeline(server: ServerProcess) -> None:
    async with (
        AsyncPredictionClient(server.address, timeout=60, tls=server.tls) as client,
        client.pipeline() as pipeline,
    ):
        topics = asyncio.gather(*(pipeline.predict_topic("Crude oil fell.", top_k=n % 46 + 1) for n in range(COUNT)))
        with pytest.raises(PredictionError, match="NOT_FOUND: version: sentiment has no version 7"):
            await pipeline.predict_sentiment("x", version=7)
        assert [len(answer[0].topics) for answer in await topics] == [n % 46 + 1 for n in range(COUNT)]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("transport", ["grpcio", "native"])
def test_a_server_that_goes(transport: str, end: signal.Signals) -> None:
    with ServerProcess("--transport", transport) as server, PredictionClient(server.wait_ready().address) as client:
        pipeline = client.pipeline()
        assert len(pipeline.predict_sentiment("x").result()) == 1
        server.process.send_signal(end)
        assert server.exit_code() == (0 if end is signal.SIGTERM else -end)
        error = pipeline.predict_sentiment("x").exception()
        pipeline.close()
    assert isinstance(error, PredictionError)
    assert error.code is grpc.StatusCode.UNAVAILABLE

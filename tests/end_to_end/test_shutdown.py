"""Nothing accepted is lost: real servers under real load, stopped by real signals."""

import asyncio
import hashlib
import json
import shutil
import signal
import subprocess
import urllib.request
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest

from protos.prediction.v1 import prediction_pb2 as pb
from serving.client import AsyncPredictionClient
from serving.transport.native import frames
from tests.end_to_end.server import ServerProcess
from tests.serving.packages import first_versions
from tests.serving.transport.native.client import Client

HOUSE_PRICE = "/prediction.v1.PredictionService/PredictHousePrice"
SENTIMENT = "/prediction.v1.PredictionService/PredictSentiment"
REQUEST = pb.PredictSentimentRequest(reviews=["A film that I would not have missed. " * 20] * 4)

CALLERS = 32
CALLS_BEFORE = 200
"""Answered before the signal is sent, so that it meets a server in full swing."""

NO_RETRIES = (("grpc.enable_retries", 0),)


class Load:
    """Callers that ask one after the other, until told to stop."""

    def __init__(self) -> None:
        self.answered = 0
        self.outcomes: Counter[str] = Counter()
        self.in_swing = asyncio.Event()
        self.stop = asyncio.Event()

    def count(self, outcome: str) -> None:
        self.outcomes[outcome] += 1
        self.answered += outcome == "OK"
        if self.answered >= CALLS_BEFORE:
            self.in_swing.set()


@pytest.mark.asyncio
async def test_termination_under_load_loses_no_accepted_call(transport: str) -> None:
    """Without retries, so that every call that the server took and dropped would be seen.

    A call that the server never started ends with UNAVAILABLE, and says that it may be sent elsewhere; any
    other outcome than that or an answer is a loss. The server's own count must agree with the callers'.
    """
    load = Load()
    with ServerProcess("--transport", transport) as server:
        server.wait_ready()

        async def caller() -> None:
            async with grpc.aio.insecure_channel(server.address, options=NO_RETRIES) as channel:
                call = channel.unary_unary(SENTIMENT, pb.PredictSentimentRequest.SerializeToString)
                while not load.stop.is_set():
                    try:
                        await call(REQUEST, timeout=30)
                        load.count("OK")
                    except grpc.aio.AioRpcError as error:
                        load.count(error.code().name)
                        return

        callers = [asyncio.create_task(caller()) for _ in range(CALLERS)]
        await asyncio.wait_for(load.in_swing.wait(), 60)
        server.terminate()
        await asyncio.wait_for(asyncio.gather(*callers), 60)
        assert await asyncio.to_thread(server.exit_code) == 0
        [stopped] = [line for line in server.lines if line["event"] == "stopped"]
    assert set(load.outcomes) == {"OK", "UNAVAILABLE"}
    assert load.outcomes["UNAVAILABLE"] == CALLERS
    assert stopped["answered"] == load.outcomes["OK"]
    assert not [line for line in server.lines if line.get("level") == "error"]


def answers(server: ServerProcess) -> float:
    with urllib.request.urlopen(server.metrics, timeout=30) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("triptych_requests_total"))


@pytest.mark.asyncio
async def test_restarting_one_of_two_servers_is_invisible(transport: str) -> None:
    """A rollout as a cluster does it: the next server goes only when the one before is back in use."""
    load = Load()
    with ServerProcess("--transport", transport) as first, ServerProcess("--transport", transport) as second:
        first.wait_ready()
        second.wait_ready()
        async with AsyncPredictionClient([first.address, second.address], timeout=30) as client:

            async def caller() -> None:
                while not load.stop.is_set():
                    await client.predict_house_price({"rooms": 6.5})
                    load.count("OK")

            callers = [asyncio.create_task(caller()) for _ in range(16)]
            await asyncio.wait_for(load.in_swing.wait(), 60)
            first.terminate()
            assert await asyncio.to_thread(first.exit_code) == 0
            with ServerProcess("--transport", transport, grpc=first.address) as again:
                await asyncio.to_thread(again.wait_ready)
                async with asyncio.timeout(60):
                    while await asyncio.to_thread(answers, again) < CALLS_BEFORE:
                        assert not any(task.done() for task in callers), "a caller saw a failure"
                second.terminate()
                assert await asyncio.to_thread(second.exit_code) == 0
                before = load.answered
                async with asyncio.timeout(60):
                    while load.answered < before + CALLS_BEFORE:
                        await asyncio.sleep(0.01)
                        assert not any(task.done() for task in callers), "a caller saw a failure"
                load.stop.set()
                await asyncio.wait_for(asyncio.gather(*callers), 60)


@pytest.mark.asyncio
async def test_readiness_goes_first_and_serving_goes_on(transport: str) -> None:
    with ServerProcess("--transport", transport, "--lame-duck-seconds", "3") as server:
        server.wait_ready()
        async with AsyncPredictionClient(server.address) as client:
            assert await client.is_ready()
            server.terminate()
            await asyncio.to_thread(server.wait_for, "stopping")
            assert not await client.is_ready()
            assert not await client.is_ready("sentiment")
            assert len(await client.predict_sentiment("Still there?")) == 1
        assert await asyncio.to_thread(server.exit_code) == 0


@pytest.mark.asyncio
async def test_a_call_that_crosses_the_first_goodbye_is_served() -> None:
    """RFC 9113, section 6.8: until its client has seen GOAWAY, a server goes on taking what it sends."""
    house = pb.PredictHousePriceRequest(houses=[pb.House(rooms=6)]).SerializeToString()
    with ServerProcess("--transport", "native") as server:
        server.wait_ready()
        async with asyncio.timeout(60), Client(server.port) as client:
            client.greet()
            client.send(client.call(1, HOUSE_PRICE, house))
            assert (await client.answer(1))[0] == 0
            server.terminate()
            goaway = await client.until(lambda found: found.kind == frames.GOAWAY)
            assert int.from_bytes(goaway.payload[:4]) == frames.MAX_WINDOW
            ping = await client.until(lambda found: found.kind == frames.PING)
            client.send(client.call(3, HOUSE_PRICE, house))
            status, answer = await client.answer(3)
            assert status == 0
            assert len(pb.PredictHousePriceResponse.FromString(answer[5:]).predictions) == 1
            client.send(frames.frame(frames.PING, frames.ACK, 0, ping.payload))
            goaway = await client.until(lambda found: found.kind == frames.GOAWAY)
            assert int.from_bytes(goaway.payload[:4]) == 3
            assert await client.rest() == []
        assert await asyncio.to_thread(server.exit_code) == 0
        [stopped] = [line for line in server.lines if line["event"] == "stopped"]
        assert stopped["answered"] == 2


def test_a_second_signal_does_not_wait(transport: str) -> None:
    with ServerProcess("--transport", transport, "--lame-duck-seconds", "1000") as server:
        server.wait_ready()
        server.terminate()
        server.wait_for("stopping")
        server.terminate()  # passed on by a parent, say: not a second wish
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(1)
        server.terminate()
        assert server.exit_code() == 0


def test_a_client_that_watches_does_not_hold_up_the_end(transport: str) -> None:
    with ServerProcess("--transport", transport, "--drain-seconds", "1") as server:
        server.wait_ready()
        with grpc.insecure_channel(server.address) as channel:
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=60)
            assert next(watch) == b"\x08\x01"
            server.terminate()
            assert next(watch) == b"\x08\x02"
            assert server.exit_code() == 0


@pytest.mark.parametrize("module", ["serving", "grpc", "serving.client.cli", "uvloop", "onnxruntime", "serving.server"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_ends_it_quietly(module: str, number: int) -> None:
    """From our first line on, as soon as that module is in; what is before is the interpreter's own affair."""
    with ServerProcess(environment={"PYTHONPROFILEIMPORTTIME": "1"}) as server:
        server.wait_imported(module)
        server.process.send_signal(number)
        assert server.exit_code() in (0, -number)
        interrupted = number == signal.SIGINT and "KeyboardInterrupt" in server.output
        assert interrupted or "Traceback" not in server.output


def test_a_signal_ends_a_load_that_never_does(tmp_path: Path) -> None:
    shutil.copytree(first_versions(), tmp_path / "models")
    endless = tmp_path / "models" / "house_price" / "1"
    slow_package(endless)
    with ServerProcess(models=tmp_path / "models") as server:
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(3)
        server.terminate()
        assert server.exit_code() == 0


def slow_package(folder: Path) -> None:
    """Put a loop of 2^62 rounds in front of the graph's output."""
    model = onnx.load(folder / "model.onnx")
    [last] = [node for node in model.graph.node if "price" in node.output]
    last.output[0] = "price_before"
    body = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Identity", ["go_in"], ["go_out"]),
            onnx.helper.make_node("Neg", ["value_in"], ["value_out"]),
        ],
        "body",
        [
            onnx.helper.make_tensor_value_info("round", onnx.TensorProto.INT64, []),
            onnx.helper.make_tensor_value_info("go_in", onnx.TensorProto.BOOL, []),
            onnx.helper.make_tensor_value_info("value_in", onnx.TensorProto.FLOAT, ["N", 1]),
        ],
        [
            onnx.helper.make_tensor_value_info("go_out", onnx.TensorProto.BOOL, []),
            onnx.helper.make_tensor_value_info("value_out", onnx.TensorProto.FLOAT, ["N", 1]),
        ],
    )
    rounds = onnx.numpy_helper.from_array(np.array(2**62, np.int64), "rounds")
    go = onnx.numpy_helper.from_array(np.array(True), "go")
    model.graph.initializer.extend([rounds, go])
    model.graph.node.append(onnx.helper.make_node("Loop", ["rounds", "go", "price_before"], ["price"], body=body))
    onnx.save(model, folder / "model.onnx")
    manifest = json.loads((folder / "model.json").read_bytes())
    data = (folder / "model.onnx").read_bytes()
    manifest["files"]["model.onnx"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "model.json").write_text(json.dumps(manifest))

"""Traces of a real server, at a real collector; and what they cost where there is none."""

import json
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest

from protos.prediction.v1 import prediction_pb2 as pb
from serving.client import PredictionClient, PredictionError
from tests.end_to_end.collector import PATIENCE, Collector, Span
from tests.end_to_end.server import ServerProcess
from tests.serving import packages

SERVICE = "prediction.v1.PredictionService"
HOUSE = {"rooms": 6.0}
ONE_HOUSE = pb.PredictHousePriceRequest(houses=[pb.House(**HOUSE)])
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
SERVER, INTERNAL = 2, 1
STAGES = ["queue", "execution", "reply"]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest model alone: these tests start several servers."""
    folder = tmp_path_factory.mktemp("models")
    packages.copy(folder, "house_price")
    return folder


@pytest.fixture(scope="module", autouse=True)
def soon() -> Iterator[None]:
    """The exporter waits for milliseconds, not for five seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "OTEL_BSP_SCHEDULE_DELAY", "20")
        patch.setitem(os.environ, "OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        yield


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


def traced(house: Path, endpoint: str, *flags: str, ratio: float = 1.0) -> ServerProcess:
    flags = ("--otlp-endpoint", endpoint, "--trace-sample-ratio", str(ratio), *flags)
    return ServerProcess(*flags, models=house)


@pytest.fixture(scope="module")
def server(house: Path, collector: Collector, transport: str) -> Iterator[ServerProcess]:
    with traced(house, collector.endpoint, "--transport", transport, "--log-requests", "failed") as process:
        yield process.wait_ready()


def predict(server: ServerProcess, **metadata: str) -> None:
    fields = [(key.replace("_", "-"), value) for key, value in metadata.items()]
    with server.channel() as channel:
        call = channel.unary_unary(f"/{SERVICE}/PredictHousePrice")
        assert call(ONE_HOUSE.SerializeToString(), timeout=30, metadata=fields)


def post(server: ServerProcess, body: Any, **fields: str) -> tuple[int, dict[str, str], Any]:
    names = {key.replace("_", "-"): value for key, value in fields.items()}
    request = urllib.request.Request(f"{server.http}/v1/house-price", json.dumps(body).encode(), names)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), json.load(error)


def check_stages(parent: Span, stages: list[Span]) -> None:
    """They are within their parent, one after another."""
    assert [span.name for span in stages] == STAGES
    assert {span.parent for span in stages} == {parent.id}
    assert {span.kind for span in stages} == {INTERNAL}
    times = [moment for span in stages for moment in (span.start, span.end)]
    slack = 1_000_000  # each moment is put on the wall clock by itself
    assert all(one <= other + slack for one, other in pairwise(times))
    assert parent.start <= times[0] + slack
    assert times[-1] <= parent.end + slack


def test_an_rpc(server: ServerProcess, collector: Collector, transport: str) -> None:
    name = f"{transport}-unary"
    predict(server, x_request_id=name, traceparent=SAMPLED, tracestate="vendor=1")
    root, *within = collector.of(name)
    assert (root.name, root.kind, root.trace, root.parent) == (f"{SERVICE}/PredictHousePrice", SERVER, TRACE, PARENT)
    assert (root.state, root.failed) == ("vendor=1", False)
    expected = {
        "rpc.system.name": "grpc",
        "rpc.method": f"{SERVICE}/PredictHousePrice",
        "rpc.response.status_code": "OK",
        "client.address": "127.0.0.1",
        "triptych.model.name": "house_price",
        "triptych.model.version": "1",
        "triptych.rows": 1,
    }
    assert root.about.items() >= expected.items()
    mine = [span for span in within if span.parent == root.id]
    check_stages(root, mine)
    about = mine[1].about
    assert (about["triptych.batch.rows"], about["triptych.batch.requests"]) == (1, 1)
    assert about["triptych.batch.reason"] in ("idle", "full")
    assert root.resource["service.name"] == "triptych"
    assert root.resource["deployment.environment.name"] == "test"
    assert str(server.process.pid) in root.resource["service.instance.id"]


def test_a_stream_has_a_span_for_each_item(server: ServerProcess, collector: Collector, transport: str) -> None:
    name = f"{transport}-stream"
    items = [pb.PredictStreamRequest(id=str(n), house_price=ONE_HOUSE) for n in range(3)]
    items.append(pb.PredictStreamRequest(id="bad", house_price=pb.PredictHousePriceRequest()))
    with server.channel() as channel:
        call = channel.stream_stream(f"/{SERVICE}/PredictStream", pb.PredictStreamRequest.SerializeToString)
        assert len(list(call(iter(items), timeout=30, metadata=[("x-request-id", name)]))) == 4
    root, *within = collector.of(name)
    found = [span for span in within if span.name == "item"]
    assert {span.parent for span in found} == {root.id}
    assert [span.about["rpc.response.status_code"] for span in found].count("OK") == 3
    batches = {}
    for span in found:
        stages = [each for each in within if each.parent == span.id]
        if span.about["rpc.response.status_code"] == "OK":
            check_stages(span, stages)
            batches[span.id] = stages[1].about["triptych.batch.id"], stages[1].about["triptych.batch.requests"]
        else:
            assert (stages, span.about["rpc.response.status_code"]) == ([], "INVALID_ARGUMENT")
    # Whoever shared a batch says the same of it.
    for batch, requests in batches.values():
        assert sum(other == batch for other, _ in batches.values()) == requests


def test_http(server: ServerProcess, collector: Collector, transport: str) -> None:
    name = f"{transport}-http"
    status, fields, _ = post(server, {"houses": [HOUSE]}, X_Request_Id=name, traceparent=SAMPLED)
    assert (status, fields["x-request-id"]) == (200, name)
    found = collector.of(name)
    root = found[0]
    assert (root.name, root.trace, root.parent, root.failed) == ("POST /v1/house-price", TRACE, PARENT, False)
    expected = {
        "http.request.method": "POST",
        "http.route": "/v1/house-price",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "triptych.model.name": "house_price",
    }
    assert root.about.items() >= expected.items()
    check_stages(root, [span for span in found if span.parent == root.id])


def test_what_fails_is_found_by_its_id(server: ServerProcess, collector: Collector, transport: str) -> None:
    """In the caller's error, in the log and in the trace."""
    with (
        PredictionClient(server.address) as client,
        pytest.raises(PredictionError, match="houses: at least one is needed") as caught,
    ):
        client.predict_house_price([])
    assert caught.value.violations[0].field == "houses"
    root, *within = collector.of(caught.value.request_id)
    assert (root.about["rpc.response.status_code"], root.failed, within) == ("INVALID_ARGUMENT", False, [])
    line = next(line for line in server.lines if line.get("request_id") == caught.value.request_id)
    assert (line["event"], line["code"], line["model"]) == ("request", "INVALID_ARGUMENT", "house_price")
    assert (line["trace_id"], line["span_id"]) == (root.trace, root.id)

    with server.channel() as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/made.Up/Method")(b"", metadata=[("x-request-id", f"{transport}-unknown")])
    root = collector.of(f"{transport}-unknown")[0]
    assert (root.name, root.about["rpc.method"], root.failed) == ("_OTHER", "_OTHER", True)
    assert root.about["rpc.method_original"] == "/made.Up/Method"

    status, _, answer = post(server, {"houses": []})
    assert status == 400
    root = collector.of(answer["request_id"])[0]
    assert (root.about["http.response.status_code"], root.failed) == (400, False)
    with urllib.request.urlopen(server.metrics, timeout=30) as metrics:
        counted = metrics.read().decode()
    labels = 'code="UNIMPLEMENTED",method="unknown",model="unknown",version="unknown"'
    assert f"triptych_requests_total{{{labels}}} 1.0" in counted


def test_a_caller_that_is_not_sampled_is_not_traced(
    server: ServerProcess, collector: Collector, transport: str
) -> None:
    before = len(collector.spans)
    for n in range(10):
        predict(server, x_request_id=f"{transport}-un{n}", traceparent=UNSAMPLED)
    predict(server, x_request_id=f"{transport}-last")
    collector.of(f"{transport}-last")
    assert all("-un" not in str(span.about.get("triptych.request.id")) for span in collector.spans[before:])


def test_workers_are_told_apart(house: Path, collector: Collector) -> None:
    before = len(collector.spans)

    def instances() -> set[tuple[int, str]]:
        found = {(span.resource.get("triptych.worker"), span.resource["service.instance.id"]) for span in new()}
        return {(worker, instance) for worker, instance in found if worker is not None}

    def new() -> list[Span]:
        return collector.spans[before:]

    with traced(house, collector.endpoint, "--workers", "2") as server, ThreadPoolExecutor(16) as pool:
        server.wait_ready()
        until = time.monotonic() + PATIENCE
        while len(instances()) < 2 and time.monotonic() < until:  # it is for the system to choose who gets a call
            list(pool.map(lambda _: predict(server), range(32)))
    assert {worker for worker, _ in instances()} == {1, 2}
    assert len({instance for _, instance in instances()}) == 2


def test_at_ratio_zero_only_what_a_caller_wants_is_traced_and_sent_before_the_end(
    house: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    with traced(house, collector.endpoint, ratio=0.0) as server:
        server.wait_ready()
        for n in range(20):
            predict(server, x_request_id=f"never-{n}")
        predict(server, x_request_id="wanted", traceparent=SAMPLED)
        server.terminate()
        assert server.exit_code() == 0
    ids = {str(span.about.get("triptych.request.id")) for span in collector.spans}
    assert "wanted" in ids
    assert not [each for each in ids if each.startswith("never")]


@pytest.mark.parametrize("silent", [False, True], ids=["dead", "silent"])
def test_a_collector_that_is_no_more_costs_spans_only(house: Path, *, silent: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        if not silent:
            listening.close()
        with traced(house, f"http://127.0.0.1:{port}", "--drain-seconds", "1") as server:
            server.wait_ready()
            with PredictionClient(server.address) as client, ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(lambda _: client.predict_house_price(HOUSE, timeout=5), range(400)))
            assert len(answers) == 400
            server.terminate()
            assert server.exit_code() == 0
            assert server.lines[-1]["event"] == "stopped"

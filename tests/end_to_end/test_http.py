"""HTTP and JSON of a real server: the same answers as over gRPC, and none lost at the end."""

import asyncio
import http.client
import json
import signal
import socket
import ssl
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from serving.client import PredictionClient
from tests.end_to_end.server import ServerProcess
from tests.serving.certificates import Certificates, issue
from tests.serving.packages import EVERY

TEXTS = ["A wonderful, moving film.", "Awful plot; naïve actors!", "", "shr 35 cts vs 26 cts net profit"]
HOUSES = [{"rooms": 6.575, "lower_status": 4.98, "tax_rate": 296}, {}, {"crime_rate": 0.00632}]

CALLERS = 16
CALLS_BEFORE = 200
"""Answered before the signal is sent, so that it meets a server in full swing."""


def connect(server: ServerProcess) -> http.client.HTTPConnection:
    host, port = server.http.rpartition("/")[2].split(":")
    return http.client.HTTPConnection(host, int(port), timeout=60)


def ask(server: ServerProcess, method: str, path: str, body: Any = None, **fields: str) -> tuple[int, Any]:
    connection = connect(server)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), fields)
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text else None
    finally:
        connection.close()


def post(server: ServerProcess, path: str, body: Any) -> Any:
    status, answer = ask(server, "POST", path, body)
    assert status == 200, answer
    return answer


def test_the_answers_are_those_of_grpc(server: ServerProcess, client: PredictionClient) -> None:
    found = post(server, "/v1/sentiment", {"reviews": TEXTS})
    assert (found["model"], found["version"]) == ("sentiment", "2")
    assert [
        (each["sentiment"], each["positive_probability"], each["known_words"]) for each in found["predictions"]
    ] == [(each.sentiment, each.positive_probability, each.known_words) for each in client.predict_sentiment(TEXTS)]
    found = post(server, "/v1/topic", {"newswires": TEXTS, "top_k": 46})
    assert [
        ([tuple(score.values()) for score in each["topics"]], each["known_words"]) for each in found["predictions"]
    ] == [
        ([(score.topic, score.topic_id, score.probability) for score in each.topics], each.known_words)
        for each in client.predict_topic(TEXTS, top_k=46)
    ]
    found = post(server, "/v1/house-price", {"houses": HOUSES})
    assert [(each["price_usd"], each["imputed"]) for each in found["predictions"]] == [
        (each.price_usd, list(each.imputed)) for each in client.predict_house_price(HOUSES)
    ]


def test_tensors_are_answered_as_instances_are(server: ServerProcess) -> None:
    tensor = {"name": "text", "shape": [len(TEXTS)], "datatype": "BYTES", "data": TEXTS}
    found = post(server, "/v2/models/sentiment/infer", {"inputs": [tensor], "outputs": [{"name": "probability"}]})
    typed = post(server, "/v1/sentiment", {"reviews": TEXTS})
    assert found["outputs"][0]["data"] == [each["positive_probability"] for each in typed["predictions"]]


def test_the_server_is_ready_and_says_what_it_has(server: ServerProcess) -> None:
    assert ask(server, "GET", "/v2/health/live") == (200, {"live": True})
    assert ask(server, "GET", "/v2/health/ready") == (200, {"ready": True})
    assert ask(server, "GET", "/v2")[1]["name"] == "triptych"
    index = post(server, "/v2/repository/index", {})
    assert sorted((each["name"], int(each["version"]), each["state"]) for each in index) == [
        (*each, "READY") for each in EVERY
    ]
    assert ask(server, "GET", "/openapi.json")[1]["openapi"] == "3.1.0"


def test_what_was_asked_is_counted(server: ServerProcess) -> None:
    def count() -> float:
        with urllib.request.urlopen(server.metrics, timeout=30) as page:
            lines = page.read().decode().splitlines()
        labels = ('method="POST /v1/house-price"', 'code="INVALID_ARGUMENT"', "triptych_requests_total")
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(label in line for label in labels))

    before = count()
    status, answer = ask(server, "POST", "/v1/house-price", {"houses": [{"rooms": "six"}]})
    assert (status, answer["error"]) == (400, "houses[0].rooms: expected `float | null`, got `str`")
    assert count() == before + 1
    stats = ask(server, "GET", "/v2/models/house_price/stats")[1]["model_stats"]
    assert stats[0]["name"] == "house_price"


def test_a_body_that_is_too_large(server: ServerProcess) -> None:
    status, answer = ask(server, "POST", "/v1/sentiment", {"reviews": ["x" * 5_000_000]})
    assert status == 413
    assert "--max-message-bytes" in answer["error"]


def test_a_busy_port_keeps_the_server_from_starting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        with ServerProcess("--http-address", address) as server:
            assert server.exit_code() == 1
            assert server.output.splitlines()[-1] == f"triptych: can't listen on {address}: address already in use"


class Load:
    """Callers that ask one after the other, each on a connection that it keeps, until there is no server any more."""

    def __init__(self, server: ServerProcess) -> None:
        host, port = server.http.rpartition("/")[2].split(":")
        self._address = host, int(port)
        self.outcomes: Counter[str] = Counter()
        self.in_swing = asyncio.Event()
        body = json.dumps({"reviews": TEXTS * 4}).encode()
        self._request = b"POST /v1/sentiment HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % len(body) + body

    async def call(self) -> None:
        while True:
            answered = 0
            try:
                reader, writer = await asyncio.open_connection(*self._address)
                try:
                    while await self._ask(reader, writer):
                        answered += 1
                finally:
                    writer.close()
            except ConnectionError:
                # Whoever is not accepted any more is told so by the system, before or after it has sent something.
                self.outcomes["cut" if answered else "refused"] += 1
                return

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Ask once; whether the connection may be used again."""
        writer.write(self._request)
        head = await reader.readline()
        if not head:
            raise ConnectionResetError
        fields = {}
        while (line := await reader.readline()) != b"\r\n":
            name, _, value = line.decode().partition(": ")
            fields[name] = value.strip()
        body = await reader.readexactly(int(fields["content-length"]))
        self.outcomes[head.split()[1].decode()] += 1
        assert json.loads(body)
        if self.outcomes["200"] >= CALLS_BEFORE:
            self.in_swing.set()
        return fields.get("connection") != "close"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "flags", [("--transport", "native"), ("--transport", "grpcio"), ("--workers", "2")], ids=" ".join
)
async def test_termination_under_load_loses_no_request(flags: tuple[str, ...]) -> None:
    """Every request is answered, or told to go elsewhere, and the server's own count is the callers'."""
    with ServerProcess(*flags) as server:
        server.wait_ready()
        load = Load(server)
        callers = [asyncio.create_task(load.call()) for _ in range(CALLERS)]
        await asyncio.wait_for(load.in_swing.wait(), 60)
        server.terminate()
        await asyncio.wait_for(asyncio.gather(*callers), 60)
        assert await asyncio.to_thread(server.exit_code) == 0
        stopped = [line["answered"] for line in server.lines if line["event"] == "stopped" and "answered" in line]
    assert load.outcomes.pop("refused") == CALLERS
    assert set(load.outcomes) <= {"200", "503"}
    assert sum(stopped) == load.outcomes["200"]
    assert not [line for line in server.lines if line.get("level") == "error"]


def test_readiness_ends_before_service_does() -> None:
    with ServerProcess("--lame-duck-seconds", "30") as server:
        server.wait_ready()
        server.terminate()
        server.wait_for("stopping")
        assert ask(server, "GET", "/v2/health/ready")[0] == 503
        assert post(server, "/v1/house-price", {"houses": HOUSES})["model"] == "house_price"
        server.process.send_signal(signal.SIGKILL)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return issue(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secure(certificates: Certificates) -> Iterator[ServerProcess]:
    with ServerProcess(certificates=certificates) as server:
        yield server.wait_ready()


def test_over_tls(secure: ServerProcess, certificates: Certificates) -> None:
    assert secure.http.startswith("https://")
    context = ssl.create_default_context(cafile=certificates.ca)
    request = urllib.request.Request(f"{secure.http}/v1/house-price", json.dumps({"houses": HOUSES}).encode())
    with urllib.request.urlopen(request, timeout=30, context=context) as response:
        assert len(json.load(response)["predictions"]) == len(HOUSES)

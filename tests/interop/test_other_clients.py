"""Clients that others wrote, as processes of their own, against the real server."""

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from protos.prediction.v1 import prediction_pb2 as pb
from tests.end_to_end.server import ROOT, ServerProcess
from tests.interop.conftest import FOLDER, tool

METHOD = "/prediction.v1.PredictionService/PredictSentiment"
REQUEST = pb.PredictSentimentRequest(reviews=["A wonderful film.", "Dreadful.", ""])
HEADERS = ["-Hcontent-type: application/grpc", "-Hte: trailers"]
PREFIX = 5
"""Bytes before a message: whether it is compressed, and its length."""


def run(*command: str) -> bytes:
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def url(server: ServerProcess) -> str:
    return f"{'http' if server.ca is None else 'https'}://{server.address}{METHOD}"


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(PREFIX - 1) + message


@pytest.fixture
def body(tmp_path: Path) -> str:
    """A file with the request as it goes over the wire."""
    path = tmp_path / "request"
    path.write_bytes(framed(REQUEST.SerializeToString()))
    return str(path)


@pytest.fixture
def expected(server: ServerProcess) -> bytes:
    """What grpcio's client gets."""
    with server.channel() as channel:
        answer: bytes = channel.unary_unary(METHOD)(REQUEST.SerializeToString(), timeout=30)
    return answer


def check(data: bytes, answers: int, message: bytes) -> None:
    """These are so many whole messages, and each says what is expected, but for the rounding of other batches."""
    expected, found = pb.PredictSentimentResponse.FromString(message), 0
    while data:
        length = int.from_bytes(data[1:PREFIX])
        assert data[0] == 0
        assert len(data) >= PREFIX + length
        answer = pb.PredictSentimentResponse.FromString(data[PREFIX : PREFIX + length])
        assert [p.positive_probability for p in answer.predictions] == pytest.approx(
            [p.positive_probability for p in expected.predictions], rel=1e-5
        )
        assert (answer.model, answer.version) == (expected.model, expected.version)
        data = data[PREFIX + length :]
        found += 1
    assert found == answers


def test_curl(server: ServerProcess, body: str, expected: bytes, tmp_path: Path) -> None:
    curl = tool("curl")
    if b"HTTP2" not in run(curl, "--version"):
        pytest.skip("curl can't speak HTTP/2")
    headers = tmp_path / "headers"
    options = ["--silent", "--data-binary", f"@{body}", "--dump-header", str(headers)]
    options += ["--http2", "--cacert", server.ca] if server.ca else ["--http2-prior-knowledge"]
    check(run(curl, *options, *HEADERS, url(server)), 1, expected)
    fields = headers.read_text().lower().split("\n")
    assert fields[0].startswith("http/2 200")
    assert "content-type: application/grpc" in {field.strip() for field in fields}
    assert "grpc-status: 0" in {field.strip() for field in fields}


def test_nghttp(server: ServerProcess, body: str, expected: bytes) -> None:
    command = [tool("nghttp"), f"--data={body}", *HEADERS, "--multiply=50"]
    check(run(*command, url(server)), 50, expected)
    told = run(*command, "--verbose", "--null-out", "--no-dep", url(server)).decode()
    assert len(re.findall(r"recv \(stream_id=\d+\) .*:status: 200", told)) == 50
    assert len(re.findall(r"recv \(stream_id=\d+\) .*grpc-status: 0", told)) == 50
    assert sum(map(int, re.findall(r"recv DATA frame <length=(\d+)", told))) == 50 * len(framed(expected))


def test_h2load(server: ServerProcess, body: str, expected: bytes) -> None:
    count = 500
    told = run(
        *(tool("h2load"), f"--data={body}", *HEADERS, f"--requests={count}", "--clients=4"),
        *("--max-concurrent-streams=20", url(server)),
    ).decode()
    assert f"{count} succeeded, 0 failed, 0 errored, 0 timeout" in told
    assert f"status codes: {count} 2xx" in told
    traffic = re.search(r"traffic: .*\((\d+)\) data", told)
    assert traffic
    assert int(traffic[1]) == count * len(framed(expected))


@pytest.fixture(scope="session")
def found(server: ServerProcess, node: str) -> dict[str, Any]:
    """What the client for Node.js got."""
    proto = str(ROOT / "protos/prediction/v1/prediction.proto")
    found: dict[str, Any] = json.loads(
        run(node, str(FOLDER / "client.js"), server.address, proto, *([server.ca] if server.ca else []))
    )
    return found


def test_node_unary(found: dict[str, Any]) -> None:
    assert found["sentiment"]["predictions"][0]["positive_probability"] > 0.5
    assert found["topic"]["predictions"][0]["topics"][0]["topic"] == "crude"
    assert len(found["topic"]["predictions"][0]["topics"]) == 5
    [house] = found["house"]["predictions"]
    assert house["price_usd"] > 1000
    assert len(house["imputed"]) == 12


def test_node_compressed(found: dict[str, Any]) -> None:
    assert found["zipped"]["predictions"][0] == pytest.approx(found["sentiment"]["predictions"][0])


def test_node_beyond_every_window(found: dict[str, Any]) -> None:
    assert found["large"] == 500
    assert found["many"] == 300


def test_node_errors(found: dict[str, Any]) -> None:
    rich = Status.FromString(base64.b64decode(found["invalid"].pop("rich")))
    assert found["invalid"] == {"code": 3, "details": "reviews: at least one is needed, got none"}
    bad = error_details_pb2.BadRequest()
    assert [detail.Unpack(bad) for detail in rich.details] == [False, False, True]
    assert (rich.code, rich.message, bad.field_violations[0].field) == (3, found["invalid"]["details"], "reviews")
    assert found["missing"]["code"] == 3
    assert "'ü % 1'" in found["missing"]["details"]


def test_node_stream(found: dict[str, Any]) -> None:
    stream = found["stream"]
    assert (stream["code"], stream["details"]) == (0, "")
    answers = {int(answer["id"]): answer for answer in stream["answers"]}
    assert sorted(answers) == list(range(300))
    assert answers.pop(7)["error"] == {"code": 3, "message": "houses: at least one is needed, got none"}
    for number, answer in answers.items():
        if number % 3:
            assert len(answer["topic"]["predictions"][0]["topics"]) == number % 46 + 1
        else:
            assert answer["sentiment"]["predictions"][0]["sentiment"] == pb.SENTIMENT_POSITIVE


def test_node_deadline(found: dict[str, Any]) -> None:
    assert (found["late"]["code"], found["late"]["answers"]) == (4, [])

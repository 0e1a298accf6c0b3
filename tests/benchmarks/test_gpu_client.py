"""The closed loop over plain sockets, against a real server."""

import socket
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.gpu import through
from benchmarks.gpu.inputs import MODELS, load
from benchmarks.gpu.through import LoadFailed
from benchmarks.scrape import parse
from tests.end_to_end.server import ServerProcess


@pytest.fixture(scope="module", params=["native", "grpcio"])
def server(request):
    with ServerProcess("--transport", request.param) as running:
        running.wait_ready()
        yield running


def measure(server, method, messages, in_flight, **more):
    return through.measure(server.address, method, messages, in_flight, 0.2, warm_up=0.05, **more)


def answered(server):
    """Calls that the server answered with OK."""
    return sum(
        value
        for (name, labels), value in parse(urllib.request.urlopen(server.metrics).read().decode()).items()
        if name == "triptych_requests_total" and dict(labels)["code"] == "OK"
    )


def test_calls_are_counted_as_the_server_counts_them(server):
    inputs = load(MODELS / "house_price/1")
    messages = [inputs.message(1, first) for first in range(4)]
    before = answered(server)
    found = through.measure(
        *(server.address, inputs.method, messages, 130, 0.2, server.metrics), clients=2, warm_up=0.0
    )
    # What was under way when the time was over is answered, too, and not counted.
    assert found.requests <= answered(server) - before <= found.requests + 130
    assert found.per_second == found.requests / 0.2
    assert 0 < found.p50_ms <= found.p99_ms < 1000
    assert found.batch_rows >= 1
    assert found.gpu_utilization is None


def test_messages_larger_than_any_window_arrive(server):
    inputs = load(MODELS / "sentiment/1")
    message = inputs.message(256)
    assert len(message) > 2 * 65_535
    assert measure(server, inputs.method, [message], 3).requests >= 3


def test_errors_are_no_answers(server):
    with pytest.raises(LoadFailed, match="answered with an error"):
        measure(server, "/prediction.v1.PredictionService/PredictHousePrice", [b""], 2)


def test_a_server_that_is_not_there(server):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(LoadFailed, match="ConnectionRefusedError"):
        through.measure(f"127.0.0.1:{port}", "/a/B", [b""], 1, 0.1)


def test_the_gpu_is_looked_at_while_it_works():
    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(
                b'triptych_gpu_utilization_ratio{gpu="0"} 0.25\ntriptych_gpu_utilization_ratio{gpu="1"} 0.5\n'
            )

        def log_message(self, *_):
            """Nothing: the test's output is not its log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        with through._looking(f"http://127.0.0.1:{web.server_port}/metrics") as seen:
            until = time.monotonic() + 10
            while not seen and time.monotonic() < until:
                time.sleep(0.02)
        web.shutdown()
    assert seen[0] == {"triptych_gpu_utilization_ratio": 0.5}
    with through._looking("") as nothing:
        pass
    assert nothing == []

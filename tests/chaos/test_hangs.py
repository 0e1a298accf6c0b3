"""Executions that never end: ended by the watchdog, and the process with those that can't be."""

import os
import signal
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from grpc_health.v1 import health_pb2

from protos.prediction.v1 import prediction_pb2 as pb
from serving.api.health import LIVENESS
from serving.process.watchdog import EXIT_CODE
from tests.chaos.conftest import Figure
from tests.chaos.faulty import ENVIRONMENT
from tests.chaos.load import TOPIC, Load, ask, priced
from tests.chaos.packages import ENDLESS, tasked
from tests.chaos.test_resources import wait_until
from tests.end_to_end.server import ServerProcess
from tests.end_to_end.test_workers import metric, workers

SECONDS = 0.5
WATCHED = ("--watchdog-seconds", str(SECONDS))
GRACE = 2 * SECONDS
"""The watchdog's own, where so little is too long."""
SLACK = 15.0
CHECK = "/grpc.health.v1.Health/Check"


def live(server: ServerProcess) -> bool:
    """What the liveness probe says, over plain HTTP."""
    try:
        with urllib.request.urlopen(server.metrics.replace("/metrics", "/health/live"), timeout=10) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False


def test_an_execution_that_never_ends_is_ended(tmp_path: Path, figure: Figure) -> None:
    """A graph that computes for days on one request."""
    with ServerProcess(*WATCHED, models=tasked(tmp_path)) as server, ThreadPoolExecutor(1) as pool:
        server.wait_ready()
        assert ask(server, priced(3)) == "OK"
        began = time.monotonic()
        hung = pool.submit(ask, server, priced(ENDLESS))
        found = server.wait_for("hangs")
        assert found["level"] == "critical"
        assert found["what"] == "house_price version 1"
        assert any("session.py" in line for lines in found["threads"].values() for line in lines)
        assert hung.result() == "INTERNAL", "it did run: it is not for another server to try"
        figure("ended after s", time.monotonic() - began)
        assert SECONDS <= time.monotonic() - began < SLACK
        server.wait_for("hangs no more")
        assert ask(server, priced(3)) == "OK", "and its neighbours are served"
        figure("answers again after s", time.monotonic() - began)
        assert live(server)
        assert metric(server, 'triptych_hangs_total{what="batch"}') == 1
        assert metric(server, "triptych_model_failures_total") == 0
        server.terminate()
        assert server.exit_code() == 0


def test_an_execution_that_never_ends_does_not_hold_up_the_end(tmp_path: Path, figure: Figure) -> None:
    """SIGTERM while a graph computes for days, the watchdog patient."""
    with ServerProcess("--drain-seconds", "0.5", models=tasked(tmp_path)) as server, ThreadPoolExecutor(1) as pool:
        server.wait_ready()
        for _ in range(3):  # long enough that the next one runs beside the event loop, which hears of the signal
            assert ask(server, priced(5000)) == "OK"
        hung = pool.submit(ask, server, priced(ENDLESS))
        wait_until(lambda: metric(server, "triptych_requests_in_flight") == 1)
        began = time.monotonic()
        server.terminate()
        assert server.exit_code() == 0
        figure("ended after s", time.monotonic() - began)
        assert time.monotonic() - began < SLACK
        assert hung.result() in ("UNAVAILABLE", "CANCELLED", "INTERNAL")


def test_a_process_that_hangs_for_good_is_not_live_and_exits(topics: Path, tmp_path: Path) -> None:
    """One that no supervisor of ours looks after: Kubernetes asks whether it is live, and sees it exit."""
    word = tmp_path / "word"
    message = pb.PredictTopicRequest(newswires=["oil prices rose sharply " * 100] * 100).SerializeToString()
    with (
        ServerProcess(
            *WATCHED, models=topics, module="tests.chaos.faulty", environment={ENVIRONMENT: str(word)}
        ) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        server.wait_ready()
        assert live(server)
        word.write_text("hang")
        hung = pool.submit(ask, server, message, TOPIC)
        server.wait_for("hangs")
        assert not live(server), "over plain HTTP"
        # Long batches run beside the event loop, which goes on: it says so, too.
        with server.channel() as channel:
            request = health_pb2.HealthCheckRequest(service=LIVENESS).SerializeToString()
            answer = channel.unary_unary(CHECK)(request, timeout=10)
        assert health_pb2.HealthCheckResponse.FromString(answer).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert server.exit_code() == EXIT_CODE
        assert hung.result() == "UNAVAILABLE"
        last = [line for line in server.lines if line["event"] == "hangs for good: exiting"]
        assert [(line["what"], line["exit_code"]) for line in last] == [("topic version 1", EXIT_CODE)]


def test_a_process_that_hangs_for_good_is_replaced(house: Path, tmp_path: Path, figure: Figure) -> None:
    """An execution that nothing can end, in one of two workers."""
    word = tmp_path / "word"
    with ServerProcess(
        *(*WATCHED, "--workers", "2"),
        models=house,
        module="tests.chaos.faulty",
        environment={ENVIRONMENT: str(word)},
    ) as server:
        server.wait_ready()
        with Load(server.address, callers=1, timeout=3 * GRACE) as other:
            before = {worker.pid for worker in workers(server)}
            word.write_text("hang")
            began = time.monotonic()
            died = server.wait_for("worker died")
            word.unlink()
            assert died["exit_code"] == EXIT_CODE
            figure("replaced after s", time.monotonic() - began)
            server.wait_for("worker ready")
            figure("all back after s", time.monotonic() - began)
            assert time.monotonic() - began < SLACK
            other.wait_for(20)
        assert {worker.pid for worker in workers(server)} != before
        figure("calls lost", other.lost)
        server.terminate()
        assert server.exit_code() == 0


def test_a_stopped_process_did_not_hang(house: Path) -> None:
    """SIGSTOP and SIGCONT, as of a paused container: nobody is blamed for the time that nobody had."""
    with ServerProcess(*WATCHED, models=house) as server:
        server.wait_ready()
        os.kill(server.process.pid, signal.SIGSTOP)
        time.sleep(3 * SECONDS)  # of the system: what is to be seen is that it does not count
        os.kill(server.process.pid, signal.SIGCONT)
        assert ask(server) == "OK"
        time.sleep(SECONDS)
        assert ask(server) == "OK"
        assert live(server)
        server.terminate()
        assert server.exit_code() == 0
        assert not [line for line in server.lines if line.get("level") in ("critical", "error")]

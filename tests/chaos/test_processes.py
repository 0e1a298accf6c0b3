"""Processes that end, are killed, or are replaced one after the other, with calls in flight."""

import socket
import time
from pathlib import Path

import psutil
import pytest

from serving.client.channel import OPTIONS
from tests.chaos.conftest import Figure
from tests.chaos.load import NO_RETRIES, Load
from tests.end_to_end.server import ServerProcess
from tests.end_to_end.test_workers import metric, workers
from tests.serving.certificates import issue

ROUND_ROBIN = ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}')
SLACK = 20.0


def test_a_server_that_is_told_to_end_loses_nothing(house: Path, figure: Figure) -> None:
    """SIGTERM under load."""
    with ServerProcess(models=house) as server, Load(server.wait_ready().address) as load:
        began = time.monotonic()
        server.terminate()
        assert server.exit_code() == 0
        figure("ended after s", time.monotonic() - began)
        [stopped] = [line for line in server.lines if line["event"] == "stopped"]
    # What came too late was refused before it was begun: a client with retries asks the next server.
    assert set(load.outcomes) <= {"OK", "UNAVAILABLE"}
    assert stopped["answered"] == load.answered
    figure("calls lost", stopped["answered"] - load.answered)


def test_a_killed_worker_costs_its_own_calls_alone(house: Path, figure: Figure) -> None:
    """SIGKILL of one of two workers."""
    with ServerProcess("--workers", "2", models=house) as server:
        server.wait_ready()
        with Load(server.address, callers=6) as load:
            counted = metric(server, "triptych_requests_total")
            began = time.monotonic()
            psutil.Process(workers(server)[0].pid).kill()
            load.wait_for(20)
            ready = server.wait_for("worker ready")
            back = time.monotonic()
            load.wait_for(60)
            assert metric(server, "triptych_requests_total") >= counted > 0, "what the dead one counted is not lost"
        assert set(load.outcomes) <= {"OK", "UNAVAILABLE"}
        assert load.lost <= 6, "each caller has one call in flight"
        figure("calls lost", load.lost)
        figure("longest without an answer, s", load.gap())
        figure("all back after s", back - began)
        assert back - began < ready["seconds"] + SLACK
        server.terminate()
        assert server.exit_code() == 0


def test_a_rolling_update_is_invisible(house: Path, figure: Figure) -> None:
    """Three servers behind client-side round-robin, replaced one after the other."""
    first = [ServerProcess(models=house).wait_ready() for _ in range(3)]
    target = f"ipv4:{','.join(server.address for server in first)}"
    later: list[ServerProcess] = []
    try:
        with (
            Load(target, callers=2, options=OPTIONS) as ours,
            Load(target, callers=2, options=(ROUND_ROBIN,)) as plain,
            Load(target, callers=2, options=(ROUND_ROBIN, *NO_RETRIES)) as bare,
        ):
            began = time.monotonic()
            for server in first:
                server.terminate()
                assert server.exit_code() == 0
                again = ServerProcess(models=house, grpc=server.address)
                later.append(again)
                again.wait_ready()
                # As a Deployment does, or readiness gates: the next goes when this one has its share of the calls.
                deadline = time.monotonic() + SLACK
                while not metric(again, "triptych_requests_total"):
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            figure("three replaced in s", time.monotonic() - began)
            ours.wait_for(30)
        assert ours.lost == 0, ours.outcomes
        figure("calls", len(ours.calls))
        figure("calls failed, the client as it comes", ours.lost)
        figure("calls failed, grpcio with round_robin alone", plain.lost)
        figure("calls failed, no retries at all", bare.lost)
        figure("of calls", len(bare.calls))
        figure("longest call, ms", ours.longest_ms())
        assert set(plain.outcomes) | set(bare.outcomes) <= {"OK", "UNAVAILABLE"}
    finally:
        for server in [*first, *later]:
            server.__exit__(None, None, None)


@pytest.mark.parametrize("transport", ["native", "grpcio"])
def test_a_handshake_that_never_ends_does_not_hold_up_the_end(
    house: Path, tmp_path: Path, transport: str, figure: Figure
) -> None:
    """Clients that connect to TLS ports and say nothing, and SIGTERM."""
    with ServerProcess("--transport", transport, models=house, certificates=issue(tmp_path)) as server:
        server.wait_ready()
        ports = (server.port, int(server.http.rpartition(":")[2]))
        silent = [socket.create_connection(("127.0.0.1", port)) for port in ports for _ in range(3)]
        time.sleep(0.2)
        began = time.monotonic()
        server.terminate()
        assert server.exit_code() == 0
        figure("ended after s", time.monotonic() - began)
        assert time.monotonic() - began < SLACK
        for one in silent:
            one.close()

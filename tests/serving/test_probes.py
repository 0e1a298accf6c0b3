"""Metrics and health over plain HTTP, asked by a real client on a real port."""

import contextlib
import http.client
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.probes import MAX_CONNECTIONS, SPARE_DESCRIPTORS, Probes
from serving.telemetry.metrics import Metrics
from serving.transport.interface import TransportError

Answer = tuple[int, str, dict[str, str]]


HEALTH: dict[str, bool] = {}


@pytest.fixture(autouse=True)
def health() -> dict[str, bool]:
    HEALTH.update(liveness=True, readiness=True, startup=True)
    return HEALTH


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[[str], int]]:
    started: list[Probes] = []

    def start(address: str) -> int:
        probes = Probes(Metrics().registry, HEALTH.get)
        started.append(probes)
        return probes.start(address)

    yield start
    for probes in started:
        probes.stop()


def ask(port: int, path: str, method: str = "GET", host: str = "127.0.0.1") -> Answer:
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode(), {k.lower(): v for k, v in response.getheaders()}
    finally:
        connection.close()


@pytest.fixture(scope="module")
def port(start: Callable[[str], int]) -> int:
    return start("127.0.0.1:0")


def test_metrics_are_in_the_text_format(port: int) -> None:
    status, body, headers = ask(port, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    names = {family.name for family in text_string_to_metric_families(body)}
    assert {"triptych_requests", "triptych_model_ready", "process_cpu_seconds"} <= names


def test_metrics_may_be_asked_for_by_name(port: int) -> None:
    status, body, _ = ask(port, "/metrics?name[]=triptych_model_ready")
    assert status == 200
    assert "triptych_requests" not in body


@pytest.mark.parametrize(
    ("path", "name"),
    [("/health/live", "liveness"), ("/health/ready", "readiness"), ("/health/startup", "startup")],
)
def test_health_follows_its_own_name(port: int, health: dict[str, bool], path: str, name: str) -> None:
    assert ask(port, path)[:2] == (200, "SERVING\n")
    health[name] = False
    assert ask(port, path)[:2] == (503, "NOT_SERVING\n")
    assert [ask(port, f"/health/{other}")[0] for other in ("live", "ready", "startup")].count(200) == 2
    del health[name]
    assert ask(port, path)[:2] == (503, "NOT_SERVING\n"), "what is not known yet is not serving"


@pytest.mark.parametrize("path", ["/", "/health", "/health/", "/metrics/", "/METRICS", "/health/../metrics", "/é%00"])
def test_other_paths_are_told_what_there_is(port: int, path: str) -> None:
    status, body, _ = ask(port, path.replace("é", "%C3%A9"))
    assert status == 404
    assert body == "there are /metrics, /health/live, /health/ready and /health/startup\n"


def test_connections_that_say_nothing_hold_up_nobody(port: int) -> None:
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(4)]
    assert ask(port, "/health/live")[0] == 200
    for each in sockets:
        each.close()


def test_a_client_that_goes_on_and_on_is_cut(
    start: Callable[[str], int], monkeypatch: pytest.MonkeyPatch, health: dict[str, bool]
) -> None:
    """Or some dozens of them would leave none for the probes."""
    monkeypatch.setattr("serving.probes.REQUEST_SECONDS", 0.1)
    with socket.create_connection(("127.0.0.1", start("127.0.0.1:0")), timeout=0.1) as client:
        client.sendall(b"GET /health/live HTTP/1.1\r\n")
        end = time.monotonic() + 5  # before there are a hundred fields, which are too many
        with pytest.raises((ConnectionError, EOFError)):  # noqa: PT012 - whichever comes first
            while time.monotonic() < end:
                client.sendall(b"x: y\r\n")
                with contextlib.suppress(TimeoutError):
                    if not client.recv(1000):
                        raise EOFError


def test_want_of_threads_takes_no_room_for_ever(start: Callable[[str], int], monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    port = start("127.0.0.1:0")
    with monkeypatch.context() as patched:
        patched.setattr("serving.probes.ThreadingWSGIServer.process_request", none)
        for _ in range(MAX_CONNECTIONS + 1):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                assert not client.recv(1), "it is turned away"
    assert ask(port, "/health/live")[0] == 200


def test_nothing_is_written_for_a_probe(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    ask(port, "/health/live")
    ask(port, "/nothing")
    assert capfd.readouterr() == ("", "")


def test_it_listens_on_ipv6_too(start: Callable[[str], int]) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    port = start("[::1]:0")
    assert ask(port, "/health/live", host="::1")[0] == 200


def test_a_busy_port_is_an_error_with_a_reason(port: int, start: Callable[[str], int]) -> None:
    with pytest.raises(TransportError) as caught:
        start(f"127.0.0.1:{port}")
    assert str(caught.value) == f"can't listen on 127.0.0.1:{port}: address already in use"


@pytest.mark.parametrize("address", ["127.0.0.1:65536", "999.0.0.1:0", "x" * 64 + ":0", "192.0.2.1:0", "[::g]:0"])
def test_an_address_that_can_not_be_had_is_an_error(start: Callable[[str], int], address: str) -> None:
    with pytest.raises(TransportError, match="can't listen on "):
        start(address)


def test_it_stops_and_lets_go_of_its_port(health: dict[str, bool]) -> None:
    probes = Probes(Metrics().registry, health.get)
    port = probes.start("127.0.0.1:0")
    assert ask(port, "/health/live")[0] == 200
    probes.stop()
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/health/live")


def test_one_that_never_started_can_stop(health: dict[str, bool]) -> None:
    Probes(Metrics().registry, health.get).stop()


def test_silent_clients_take_only_so_many_places(start: Callable[[str], int]) -> None:
    port = start("127.0.0.1:0")
    silent = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(MAX_CONNECTIONS)]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as one_more:
        assert one_more.recv(1) == b"", "turned away at once"
    for connection in silent:
        connection.close()
    deadline = time.monotonic() + 10
    while True:  # until the threads of those who left have noticed
        try:
            assert ask(port, "/health/live")[0] == 200
            break
        except (http.client.RemoteDisconnected, ConnectionResetError):
            assert time.monotonic() < deadline


def test_probes_are_answered_where_no_descriptor_is_left(start: Callable[[str], int]) -> None:
    """The others take all there are; those that were kept in reserve come back with each answer."""
    port = start("127.0.0.1:0")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as taken:
        clients = [taken.enter_context(socket.socket()) for _ in range(3 * SPARE_DESCRIPTORS)]
        most = max(map(int, os.listdir("/proc/self/fd"))) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
        taken.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        with contextlib.suppress(OSError):
            while True:
                taken.enter_context(socket.socket())
        for client in clients:
            client.settimeout(10)
            client.connect(("127.0.0.1", port))
            client.sendall(b"GET /health/live HTTP/1.0\r\n\r\n")
            assert client.recv(15) == b"HTTP/1.0 200 OK"

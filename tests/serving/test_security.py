"""What guards a server, by its settings: nothing where nothing is asked for, and words where a door is open."""

import logging
from pathlib import Path

import pytest

from serving.access.tokens import PREDICT, TokenError, entry, make
from serving.api.call import Unary
from serving.config import Settings, resolve
from serving.security import Security, warn
from serving.status import Code, StatusError
from serving.telemetry.metrics import Metrics
from serving.transport.tls import TlsError
from tests.serving.certificates import Certificates
from tests.serving.packages import value


def test_by_default_there_is_nothing_to_pass() -> None:
    security = Security(Settings(), Metrics())
    assert security.tls is None
    assert security.gate is None


@pytest.mark.parametrize("setting", [{"max_client_requests": "1"}, {"max_client_rate": "0.5"}])
def test_a_limit_alone_makes_a_gate(setting: dict[str, str]) -> None:
    gate = Security(resolve(setting, {}), Metrics()).gate
    assert gate is not None
    gate.enter([], "ipv4:192.0.2.1:1", frozenset((PREDICT,)))
    with pytest.raises(StatusError) as caught:
        gate.enter([], "ipv4:192.0.2.1:2", frozenset((PREDICT,)))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED


def test_what_is_refused_is_counted_and_logged_now_and_then(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text("")
    metrics = Metrics()
    gate = Security(resolve({"tokens": str(file)}, {}), metrics).gate
    assert gate is not None
    assert value(metrics, "triptych_rejected_total", model="unknown", reason="unauthorised") == 0
    caplog.clear()
    for route in ("/package.Service/Method",) * 3 + ("/v2/models/{model}/infer", "/"):
        with pytest.raises(StatusError) as caught:
            gate.enter(["Bearer secret"], "ipv4:192.0.2.1:1", frozenset((PREDICT,)))
        gate.refused(route, caught.value, "ipv4:192.0.2.1:1")
    assert value(metrics, "triptych_rejected_total", model="unknown", reason="unauthorised") == 5
    for method, times in (("Method", 3), ("/v2/models/{model}/infer", 1), ("/", 1)):
        labels = {"model": "unknown", "version": "unknown", "method": method, "code": "UNAUTHENTICATED"}
        assert value(metrics, "triptych_requests_total", **labels) == times
    [record] = caplog.records
    assert (record.levelname, record.message) == ("WARNING", "requests refused")
    assert "secret" not in str(record.__dict__)


def test_files_are_read_at_the_start(tmp_path: Path, certificates: Certificates) -> None:
    server = certificates.server
    file = tmp_path / "tokens.toml"
    file.write_text(entry(make(), "a", [PREDICT]))
    metrics = Metrics()
    flags = {"tokens": str(file), "tls_certificate": server.certificate, "tls_key": server.key}
    security = Security(resolve(flags, {}), metrics)
    assert security.tls is not None
    assert value(metrics, "triptych_tls_certificate_expiry_timestamp_seconds") > 0
    with pytest.raises(TlsError):
        Security(resolve(flags | {"tls_key": certificates.client.key}, {}), metrics)
    file.write_text("junk")
    with pytest.raises(TokenError):
        Security(resolve(flags, {}), metrics)


OPEN = {"grpc_address": "0.0.0.0:8001"}
EXPLICIT = {"model_control": "explicit"}
TOKENS = {"tokens": "tokens.toml"}
TLS = {"tls_certificate": "a", "tls_key": "b"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({}, []),
        (TOKENS, []),
        (EXPLICIT, []),
        (OPEN, []),
        (OPEN | TOKENS, ["tokens travel in the open: anybody on the way can read and use them"]),
        (
            EXPLICIT | TOKENS | {"management_http_address": "0.0.0.0:1"},
            ["tokens travel in the open: anybody on the way can read and use them"],
        ),
        (OPEN | TOKENS | TLS, []),
        (OPEN | EXPLICIT, ["whoever reaches the server may load and unload models"]),
        (OPEN | EXPLICIT | TLS, ["whoever reaches the server may load and unload models"]),
        (OPEN | EXPLICIT | TLS | {"tls_client_ca": "c"}, []),
        (OPEN | EXPLICIT | TLS | TOKENS, []),
        (OPEN | EXPLICIT | {"management_address": "127.0.0.1:1"}, []),
        (EXPLICIT | {"management_address": "[::]:1"}, ["whoever reaches the server may load and unload models"]),
        (
            {"http_address": "example:1"} | TOKENS,
            ["tokens travel in the open: anybody on the way can read and use them"],
        ),
        ({"http_address": "localhost:1", "grpc_address": "[::1]:1"} | TOKENS, []),
    ],
)
def test_doors_that_are_open_are_spoken_of(
    flags: dict[str, str], said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    warn(resolve(flags, {}))
    assert [record.message for record in caplog.records] == said


def test_routes_are_as_they_are_where_there_is_no_gate() -> None:
    from serving.services import Services

    class Plain(Services):
        def _all(self) -> dict[str, Unary]:  # type: ignore[override]
            return routes

    routes = {"/package.Service/Method": Unary(lambda call, message: None)}
    services = Plain(Settings(), None, None, None, None)  # type: ignore[arg-type]
    assert services.routes() is routes

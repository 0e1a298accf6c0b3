"""Triton's and KServe's HTTP clients, unchanged, against the real server."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.server import MODELS, ServerProcess
from tests.interop.clients import controlled
from tests.interop.http_clients import run
from tests.serving.certificates import Certificates


@pytest.fixture(scope="module", params=["plain", "over TLS"])
def over_http(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[ServerProcess]:
    """HTTP is the same beside either gRPC transport."""
    with ServerProcess(models=MODELS, certificates=None if request.param == "plain" else certificates) as process:
        yield process.wait_ready()


@pytest.mark.parametrize("kind", ["sync", "asynchronous", "compressed"])
def test_triton_http_client(over_http: ServerProcess, kind: str) -> None:
    run("triton_http_client", kind, over_http)


def test_triton_http_client_loads_and_unloads() -> None:
    with controlled("native") as server:
        run("triton_http_client", "models", server.wait_ready())


def test_kserve_http_client(over_http: ServerProcess) -> None:
    run("kserve_http_client", "infer", over_http)

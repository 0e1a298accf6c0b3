"""Triton's HTTP client, unchanged, against the real server."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.end_to_end.server import ROOT, ServerProcess
from tests.interop.clients import controlled
from tests.interop.conftest import FOLDER
from tests.serving.certificates import Certificates


@pytest.fixture(scope="module", params=["plain", "over TLS"])
def over_http(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[ServerProcess]:
    """HTTP is the same beside either gRPC transport."""
    with ServerProcess(certificates=None if request.param == "plain" else certificates) as process:
        yield process.wait_ready()


def run(kind: str, server: ServerProcess) -> None:
    address = server.http.rpartition("/")[2]
    command = [sys.executable, str(FOLDER / "triton_http_client.py"), address, server.ca or "-", kind]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr + server.output
    assert done.stdout == "done\n"


@pytest.mark.parametrize("kind", ["sync", "asynchronous", "compressed"])
def test_triton_http_client(over_http: ServerProcess, kind: str) -> None:
    run(kind, over_http)


def test_triton_http_client_loads_and_unloads() -> None:
    with controlled("native") as server:
        run("models", server.wait_ready())

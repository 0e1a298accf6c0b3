"""Triton's gRPC client, unchanged, against the real server."""

import pytest

from tests.end_to_end.server import ServerProcess
from tests.interop.clients import controlled, run


@pytest.mark.parametrize("kind", ["sync", "streaming", "asynchronous", "beside_ours", "perf_analyzer"])
def test_triton_client(server: ServerProcess, kind: str) -> None:
    run("triton_client", kind, server)


@pytest.mark.parametrize("transport", ["grpcio", "native"])
def test_triton_client_loads_and_unloads(transport: str) -> None:
    with controlled(transport) as server:
        run("triton_client", "models", server.wait_ready())

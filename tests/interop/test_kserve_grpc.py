"""KServe's gRPC client, unchanged, against the real server."""

import pytest

from tests.end_to_end.server import ServerProcess
from tests.interop.clients import controlled, run


def test_kserve_client(server: ServerProcess) -> None:
    run("kserve_client", "infer", server)


@pytest.mark.parametrize("transport", ["grpcio", "native"])
def test_kserve_client_loads_and_unloads(transport: str) -> None:
    with controlled(transport) as server:
        run("kserve_client", "models", server.wait_ready())

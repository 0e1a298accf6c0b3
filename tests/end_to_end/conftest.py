"""One server for all tests that leave it as it was."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.client import PredictionClient
from tests.end_to_end.server import MODELS, ROOT, ServerProcess


@pytest.fixture(scope="session", params=["grpcio", "native"])
def transport(request: pytest.FixtureRequest) -> str:
    """Every test of a running server is a test of each transport."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def server(transport: str) -> Iterator[ServerProcess]:
    with ServerProcess("--transport", transport, models=MODELS) as process:
        yield process.wait_ready()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[PredictionClient]:
    with PredictionClient(server.address, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def data() -> Path:
    folder = Path(os.environ.get("TRIPTYCH_DATA") or ROOT / "../shared/data")
    if not (folder / "imdb.npz").exists():
        pytest.skip("the data sets are not here: set TRIPTYCH_DATA to their folder")
    return folder

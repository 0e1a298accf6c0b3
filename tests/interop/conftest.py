"""Real servers for real clients: one for each transport."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.server import MODELS, ServerProcess
from tests.serving.certificates import Certificates, issue

FOLDER = Path(__file__).parent
PACKAGES = ["@grpc/grpc-js@1", "@grpc/proto-loader@0.8"]
INSTALL = ["npm", "install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
INSTALL_SECONDS = 60


@pytest.fixture(scope="session", params=["grpcio", "native", "grpcio over TLS", "native over TLS"])
def server(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[ServerProcess]:
    transport, _, secure = request.param.partition(" ")
    shown = certificates if secure else None
    with ServerProcess("--transport", transport, models=MODELS, certificates=shown) as process:
        yield process.wait_ready()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return issue(tmp_path_factory.mktemp("certificates"))


def tool(name: str) -> str:
    """The path of a program; the test is skipped where there is none."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not here")
    return path


@pytest.fixture(scope="session")
def node() -> str:
    """Node.js, with gRPC's client for it installed beside this file."""
    node = tool("node")
    if not (FOLDER / "node_modules/@grpc/proto-loader").exists():
        tool("npm")
        try:
            command = [*INSTALL, "--fetch-retries=0", f"--prefix={FOLDER}", *PACKAGES]
            subprocess.run(command, cwd=FOLDER, check=True, capture_output=True, timeout=INSTALL_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"npm can't install @grpc/grpc-js: {type(error).__name__}")
    return node

"""The Dockerfile, checked as far as it can be without an engine."""

import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
HADOLINT = shutil.which("hadolint") or shutil.which("hadolint", path=Path(sys.executable).parent)


class Instruction(NamedTuple):
    """One instruction of a Dockerfile, its continued lines joined."""

    name: str
    value: str


def stages() -> list[list[Instruction]]:
    """The instructions of each stage, each stage beginning with its FROM."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    instructions = [Instruction(*line.split(maxsplit=1)) for line in lines if line.strip()]
    starts = [i for i, each in enumerate(instructions) if each.name == "FROM"]
    return [instructions[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]


def values(name: str, stage: list[Instruction]) -> list[str]:
    return [each.value for each in stage if each.name == name]


@pytest.fixture
def last() -> list[Instruction]:
    return stages()[-1]


@pytest.fixture
def environment(last) -> dict[str, str]:
    return dict(word.split("=", 1) for value in values("ENV", last) for word in shlex.split(value))


@pytest.mark.skipif(HADOLINT is None, reason="no hadolint")
def test_hadolint_finds_nothing():
    result = subprocess.run([HADOLINT, "--failure-threshold", "style", "Dockerfile"], cwd=ROOT, capture_output=True)
    assert result.returncode == 0, result.stdout.decode()


def test_every_stage_starts_from_the_slim_image_given_by_argument():
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.\d+-slim\b", (ROOT / "Dockerfile").read_text(), re.M)
    assert {stage[0].value.split()[0] for stage in stages()} == {"${PYTHON_IMAGE}"}


def test_last_stage_runs_as_a_numbered_user_that_is_not_root(last):
    user, group = values("USER", last)[-1].split(":")
    assert int(user) > 0
    assert int(group) > 0


def test_last_stage_installs_nothing_and_has_no_installer(last):
    commands = " ".join(values("RUN", last))
    assert not re.search(r"\b(apt|apt-get|apk|curl|wget|git|gcc|build-essential)\b|pip\S* install", commands)
    assert re.search(r"pip uninstall\b.*\bpip\b", commands)
    assert all(source.startswith("--from=") for source in values("COPY", last)), "copy from a stage, never the context"


def test_what_the_last_stage_copies_is_made_by_a_stage(last):
    names = {re.search(r" AS (\S+)$", stage[0].value).group(1) for stage in stages()[:-1]}
    assert {re.match(r"--from=(\S+)", value).group(1) for value in values("COPY", last)} == names


def test_what_is_copied_from_the_tree_exists_and_is_let_into_the_build():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source.rstrip("/")
        for stage in stages()
        for value in values("COPY", stage)
        if not value.startswith("--from=")
        for source in value.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


def test_training_is_not_in_the_image():
    assert "training" not in (ROOT / ".dockerignore").read_text()


@pytest.mark.parametrize("device", ["cpu", "cuda", "gpu"])
def test_the_requirements_of_every_device_are_pinned(device, tmp_path):
    (script,) = (value for stage in stages() for value in values("RUN", stage) if "tomllib" in value)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "python").symlink_to(sys.executable)
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(["sh", "-c", script], cwd=tmp_path, env={"PATH": path, "DEVICE": device}, check=True)

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    requirements = [Requirement(line) for line in (tmp_path / "requirements.txt").read_text().splitlines()]
    for requirement in requirements:
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement
    runtimes = {requirement.name for requirement in requirements if requirement.name.startswith("onnxruntime")}
    assert runtimes == {"onnxruntime" if device == "cpu" else "onnxruntime-gpu"}


def test_models_are_where_the_server_looks_for_them(last, environment):
    assert f"--from=application {environment['TRIPTYCH_MODELS']} {environment['TRIPTYCH_MODELS']}" in values(
        "COPY", last
    )


def test_onnx_runtime_reports_to_nobody(environment):
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"


def test_exposed_ports_are_the_ones_listened_on(last, environment):
    listened = [environment[f"TRIPTYCH_{name}_ADDRESS"] for name in ("HTTP", "GRPC", "METRICS")]
    assert [f"0.0.0.0:{port}" for port in values("EXPOSE", last)[0].split()] == listened


def test_the_server_is_process_one_and_gets_sigterm(last):
    assert json.loads(values("ENTRYPOINT", last)[0]) == ["python", "-m", "serving"]
    assert json.loads(values("CMD", last)[0]) == ["serve"]
    assert values("STOPSIGNAL", last) == ["SIGTERM"]


@pytest.mark.parametrize(("status", "exit_code"), [(200, 0), (503, 1), (None, 1)])
def test_health_check_follows_readiness(last, status, exit_code):
    """Run for real, against an answer, a refusal, and nobody."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/health/ready" else 404)
            self.end_headers()

        def log_message(self, *args):
            pass

    (check,) = values("HEALTHCHECK", last)
    command = json.loads(check[check.index("[") :])
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        address = f"0.0.0.0:{server.server_port}"
        if status is None:
            server.server_close()
        else:
            threading.Thread(target=server.handle_request, daemon=True).start()
        environment = {"TRIPTYCH_METRICS_ADDRESS": address, "http_proxy": "http://127.0.0.1:1"}
        result = subprocess.run([sys.executable, *command[1:]], env=environment, capture_output=True, timeout=20)
    assert result.returncode == exit_code, result.stderr.decode()

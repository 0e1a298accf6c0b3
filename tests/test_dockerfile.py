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


PINS = {
    canonicalize_name(line.split("==")[0]): line.split("==")[1]
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
}


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
def training() -> list[Instruction]:
    (stage,) = (each for each in stages() if name(each) == "training")
    return stage


@pytest.fixture
def environment(last) -> dict[str, str]:
    return dict(word.split("=", 1) for value in values("ENV", last) for word in shlex.split(value))


@pytest.mark.skipif(HADOLINT is None, reason="no hadolint")
def test_hadolint_finds_nothing():
    result = subprocess.run([HADOLINT, "--failure-threshold", "style", "Dockerfile"], cwd=ROOT, capture_output=True)
    assert result.returncode == 0, result.stdout.decode()


def name(stage: list[Instruction]) -> str | None:
    words = stage[0].value.split()
    return words[2] if words[1:2] == ["AS"] else None


def needed(stage: list[Instruction]) -> set[str]:
    """The names of the stages that one is built from, directly or not."""
    named = {name(each): each for each in stages()}
    direct = {re.match(r"--from=(\S+)", value).group(1) for value in values("COPY", stage) if "--from=" in value}
    direct |= {stage[0].value.split()[0]} & named.keys()
    return direct.union(*(needed(named[each]) for each in direct))


def test_every_stage_starts_from_the_slim_image_given_by_argument_or_from_an_earlier_stage():
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.\d+-slim\b", (ROOT / "Dockerfile").read_text(), re.M)
    earlier = {"${PYTHON_IMAGE}"}
    for stage in stages()[:-1]:
        assert stage[0].value.split()[0] in earlier
        earlier.add(name(stage))


def test_last_stage_runs_as_a_numbered_user_that_is_not_root(last):
    user, group = values("USER", last)[-1].split(":")
    assert int(user) > 0
    assert int(group) > 0


def test_last_stage_is_empty_but_for_what_other_stages_made(last):
    assert last[0].value == "scratch"
    assert values("RUN", last) == []
    assert values("ADD", last) == []
    assert all(source.startswith("--from=") for source in values("COPY", last)), "copy from a stage, never the context"


def test_what_the_last_stage_copies_is_made_by_a_stage(last):
    assert needed(last) == {"dependencies", "environment", "parts", "application", "rootfs", "sbom"}


def test_what_is_run_needs_no_shell(last, training):
    health = values("HEALTHCHECK", last)[0]
    assert health[health.index("CMD") :].startswith('CMD ["')
    for value in [*values("ENTRYPOINT", last), *values("CMD", last), *values("ENTRYPOINT", training)]:
        assert json.loads(value)
    assert values("SHELL", last) == []


def test_what_the_build_writes_depends_on_its_sources_only():
    commands = [command for stage in stages() for value in values("RUN", stage) for command in value.split("&&")]
    compiling = [command for command in commands if "compileall" in command]
    assert len(compiling) == 4
    assert all("--invalidation-mode unchecked-hash" in command for command in compiling)
    installing = [command for command in commands if " install " in command]
    assert len(installing) == 3
    assert all("--constraint constraints.txt" in command for command in installing)
    # pip would compile with the time of installation inside; nothing of the bill's tools is copied.
    assert all("--no-compile" in command or "cyclonedx" in command for command in installing)


def test_indexes_and_caches_are_mounted_where_pip_installs():
    for stage in stages():
        for value in values("RUN", stage):
            if "pip --python" in value:
                assert value.startswith("--mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,")


def test_the_bill_of_materials_is_in_the_image_under_a_name_that_scanners_know(last):
    (bill,) = (value.split() for value in values("COPY", last) if value.startswith("--from=sbom"))
    assert bill[1].endswith(".cdx.json")
    (stage,) = (each for each in stages() if name(each) == "sbom")
    assert f"> {Path(bill[1]).name}" in values("RUN", stage)[-1]
    assert "cyclonedx-bom" in PINS


def test_what_is_copied_from_the_tree_exists_and_is_let_into_the_build():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source.rstrip("/")
        for stage in stages()
        for value in values("COPY", stage)
        if not value.startswith("--from=")
        for source in value.split()[:-1]
    }
    assert {
        next((each for each in allowed if Path(source).is_relative_to(each)), source) for source in copied
    } == allowed
    assert all((ROOT / source).exists() for source in copied)


def test_training_is_not_in_the_servers_image(last):
    """And is built last of all, so that a build without a target makes the server."""
    assert name(last) is None
    sources = [stage for stage in stages() if name(stage) in needed(last)]
    assert not [value for stage in [*sources, last] for value in values("COPY", stage) if "training" in value]
    assert not [value for stage in sources for value in values("RUN", stage) if "['train']" in value]


def test_the_training_image_has_the_servers_code_and_runs_as_the_same_user(last, training):
    assert needed(training) == {"dependencies", "training-dependencies", "application", "training-application"}
    assert values("USER", training) == values("USER", last)
    assert all(source.startswith("--from=") for source in values("COPY", training))
    assert json.loads(values("ENTRYPOINT", training)[0]) == ["python", "-m", "training"]


def test_the_training_image_has_what_training_needs_and_no_second_onnx_runtime(tmp_path):
    (stage,) = (each for each in stages() if name(each) == "training-dependencies")
    (script,) = (value for value in values("RUN", stage) if "tomllib" in value)
    requirements = written(script, "training.txt", tmp_path)
    assert {"tensorflow", "keras", "tf2onnx"} <= {requirement.name for requirement in requirements}
    assert not [each for each in requirements if each.name.startswith("onnxruntime")]
    assert all(each.specifier.contains(PINS[canonicalize_name(each.name)]) for each in requirements)


def written(script: str, file: str, folder: Path, **environment: str) -> list[Requirement]:
    """The requirements that a step of the Dockerfile writes to `file`."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "python").symlink_to(sys.executable)
    path = f"{folder}:{os.environ['PATH']}"
    subprocess.run(["sh", "-c", script], cwd=folder, env={"PATH": path, **environment}, check=True)
    return [Requirement(line) for line in (folder / file).read_text().splitlines()]


@pytest.mark.parametrize("extras", ["", "tracing"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_requirements_of_every_device_are_pinned(device, extras, tmp_path):
    (stage,) = (each for each in stages() if name(each) == "dependencies")
    (script,) = (value for value in values("RUN", stage) if "tomllib" in value)
    requirements = written(script, "requirements.txt", tmp_path, DEVICE=device, EXTRAS=extras)
    assert ("opentelemetry-sdk" in {each.name for each in requirements}) == (extras == "tracing")
    for requirement in requirements:
        assert PINS[canonicalize_name(requirement.name)] in requirement.specifier, requirement
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

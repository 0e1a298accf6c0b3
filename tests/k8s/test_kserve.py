"""KServe's runtime starts our server as KServe will: its ports, its folder, whatever that folder holds."""

import json
import re
import shutil
import urllib.request
from pathlib import Path

import pytest

from serving.config import PREFIX, resolve
from tests.end_to_end.server import MODELS, ServerProcess

from .kustomize import Object, built, needs_kubectl

pytestmark = needs_kubectl


def one(kind: str) -> Object:
    (found,) = (each for each in built("overlays/kserve") if each["kind"] == kind)
    return found


@pytest.fixture
def runtime() -> Object:
    return one("ServingRuntime")["spec"]


@pytest.fixture
def container(runtime) -> Object:
    (found,) = runtime["containers"]
    return found


@pytest.fixture
def environment(container) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


def test_the_runtime_is_where_kserve_looks_for_it(runtime, container, environment):
    assert runtime["protocolVersions"] == ["v2", "grpc-v2"]
    assert container["name"] == "kserve-container"
    settings = resolve({}, environment)
    assert settings.models == "/mnt/models"
    assert settings.http_address == "0.0.0.0:8080"
    assert settings.grpc_address == "0.0.0.0:9000"
    assert environment.keys() <= {PREFIX + name.upper() for name in type(settings).__struct_fields__}


def test_the_runtime_leaves_the_port_to_the_service(runtime, container):
    # KServe joins both lists of ports, and Knative takes one port only.
    assert "ports" not in container
    assert "lifecycle" not in container  # Knative refuses one


def test_the_service_takes_the_runtime(runtime):
    model = one("InferenceService")["spec"]["predictor"]["model"]
    assert model["runtime"] == one("ServingRuntime")["metadata"]["name"]
    assert model["modelFormat"]["name"] in {each["name"] for each in runtime["supportedModelFormats"]}
    assert model["protocolVersion"] in runtime["protocolVersions"]
    assert [(port["name"], port["containerPort"]) for port in model["ports"]] == [("h2c", 9000)]


def test_the_probes_ask_where_metrics_are(container, environment):
    port = int(environment["TRIPTYCH_METRICS_ADDRESS"].rpartition(":")[2])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == port


# What /mnt/models may hold: whatever storageUri names, KServe puts its content there, without a folder around it.
LAYOUTS = {
    "s3://bucket/models": ("house_price/1", "house_price/2", "topic/1"),
    "s3://bucket/models/house_price": ("1", "2"),
    "s3://bucket/models/house_price/1": (".",),
}


@pytest.mark.parametrize("uri", LAYOUTS)
def test_the_server_serves_what_kserve_mounts(tmp_path, environment, container, uri):
    mounted = tmp_path / "mnt" / "models"
    source = Path(*Path(uri.removeprefix("s3://bucket/models")).parts[1:])
    for folder in LAYOUTS[uri]:
        shutil.copytree(MODELS / source / folder, mounted / folder)
    flags = [
        f"--{name.removeprefix(PREFIX).lower().replace('_', '-')}={value}"
        for name, value in environment.items()
        if not re.search("ADDRESS$|MODELS$|LOG_FORMAT$|LAME_DUCK", name)
    ]
    with ServerProcess(*flags, models=mounted) as server:
        server.wait_ready()
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            urllib.request.urlopen(server.metrics.replace("/metrics", container[probe]["httpGet"]["path"])).close()
        request = urllib.request.Request(f"{server.http}/v2/repository/index", b"{}", method="POST")
        with urllib.request.urlopen(request) as answer:
            served = {(each["name"], each["version"]) for each in json.load(answer) if each["state"] == "READY"}
    expected = (str(source / folder) for folder in LAYOUTS[uri])
    assert served == {tuple(path.split("/")) for path in expected}

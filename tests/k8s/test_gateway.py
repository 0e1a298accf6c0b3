"""The gateway lets in predictions and what clients ask beforehand, and nothing that changes the server."""

import json
import urllib.request

import pytest
from tritonclient.grpc import service_pb2

from protos.prediction.v1 import prediction_pb2
from serving.api import health, reflection
from tests.end_to_end.server import ServerProcess

from .kustomize import Manifests, Object, built, needs_kubectl

pytestmark = needs_kubectl

INFERENCE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
PREDICTION = prediction_pb2.DESCRIPTOR.services_by_name["PredictionService"]
PROTOCOL = {"ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer"}
INSIDE = {"RepositoryModelLoad", "RepositoryModelUnload"}


@pytest.fixture
def made() -> Manifests:
    return Manifests(built("overlays/gateway"))


def calls(route: Object) -> list[tuple[str, str | None]]:
    return [
        (match["method"]["service"], match["method"].get("method"))
        for rule in route["spec"]["rules"]
        for match in rule["matches"]
    ]


def lets_in(route: Object, path: str) -> bool:
    """A prefix matches whole elements of a path (Gateway API, HTTPPathMatch)."""
    for rule in route["spec"]["rules"]:
        for match in rule["matches"]:
            value = match["path"]["value"]
            if path == value or (match["path"]["type"] == "PathPrefix" and path.startswith(value + "/")):
                return True
    return False


def test_predictions_come_in_and_management_does_not(made):
    routed = calls(made.others["GRPCRoute"])
    assert (PREDICTION.full_name, None) in routed
    assert {service for service, _ in routed} == {PREDICTION.full_name, INFERENCE.full_name, *reflection.SERVICES}
    methods = {method for service, method in routed if service == INFERENCE.full_name}
    assert PROTOCOL < methods <= {each.name for each in INFERENCE.methods} - INSIDE
    assert health.SERVICE not in dict(routed)


def test_paths_come_in_that_change_nothing(made):
    with ServerProcess() as server:
        server.wait_ready()
        with urllib.request.urlopen(f"{server.http}/openapi.json") as answer:
            paths = [*json.load(answer)["paths"], "/openapi.json"]
    route = made.others["HTTPRoute"]
    assert [path for path in paths if not lets_in(route, path)] == [
        path for path in paths if path.startswith("/v2/repository")
    ]
    assert any(path.startswith("/v2/repository") for path in paths)


def test_routes_hang_on_listeners_that_take_them(made):
    listeners = {each["name"]: each for each in made.others["Gateway"]["spec"]["listeners"]}
    for kind in ("GRPCRoute", "HTTPRoute"):
        (parent,) = made.others[kind]["spec"]["parentRefs"]
        assert parent["name"] == made.others["Gateway"]["metadata"]["name"]
        assert listeners[parent["sectionName"]]["allowedRoutes"]["kinds"] == [{"kind": kind}]
    # Routes of both kinds must not share a name on a listener (Gateway API, GRPCRoute).
    assert len({each["hostname"] for each in listeners.values()}) == len(listeners)


def test_routes_lead_to_the_ports_of_the_service(made):
    ports = {port["port"]: port["name"] for port in made.service["spec"]["ports"]}
    for kind, name in (("GRPCRoute", "grpc"), ("HTTPRoute", "http")):
        for rule in made.others[kind]["spec"]["rules"]:
            assert len(rule["matches"]) <= 8  # the most that the API server takes
            (backend,) = rule["backendRefs"]
            assert (backend["name"], ports[backend["port"]]) == (made.service["metadata"]["name"], name)

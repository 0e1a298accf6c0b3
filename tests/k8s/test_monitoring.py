"""What watches the servers finds them, and Prometheus and Grafana find what is for them."""

import json

import pytest

from benchmarks.monitoring.panels import dashboard
from benchmarks.monitoring.prometheus import JOB, rules

from .kustomize import Manifests, Object, built, compose, needs_kubectl

pytestmark = needs_kubectl


@pytest.fixture
def kinds() -> dict[str, Object]:
    return {each["kind"]: each for each in built("overlays/monitoring")}


@pytest.fixture
def servers() -> Manifests:
    return Manifests(built("overlays/cpu"))


def test_there_is_a_monitor_rules_and_a_dashboard_and_nothing_else(kinds):
    assert kinds.keys() == {"ServiceMonitor", "PrometheusRule", "ConfigMap"}


def test_the_monitor_finds_the_service_and_its_port(kinds, servers):
    spec = kinds["ServiceMonitor"]["spec"]
    assert spec["selector"]["matchLabels"].items() <= servers.service["metadata"]["labels"].items()
    (endpoint,) = spec["endpoints"]
    assert endpoint["port"] in {port["name"] for port in servers.service["spec"]["ports"]}
    assert endpoint["path"] == "/metrics"
    # Where no jobLabel is set, the job is called as the Service is, and the rules count on that.
    assert "jobLabel" not in spec
    assert servers.service["metadata"]["name"] == JOB


def test_the_monitor_and_what_is_watched_share_a_namespace():
    """It looks for Services in its own only."""
    overlay = compose(("overlays/cpu", "overlays/monitoring"), ("namespace",))
    spaces = {each["metadata"].get("namespace") for each in overlay if each["kind"] in ("Service", "ServiceMonitor")}
    assert spaces == {"triptych"}


def test_the_rules_are_those_that_are_tested(kinds):
    assert kinds["PrometheusRule"]["spec"] == rules()


def test_the_dashboard_is_where_grafanas_sidecar_looks(kinds):
    config = kinds["ConfigMap"]
    assert config["metadata"]["name"] == "triptych-dashboard"
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(config["data"]["triptych.json"]) == dashboard()


def test_kube_prometheus_stack_heeds_them(kinds):
    for kind in ("ServiceMonitor", "PrometheusRule"):
        assert kinds[kind]["metadata"]["labels"]["release"] == "kube-prometheus-stack"

"""What the autoscalers ask for is there to be had, and both ask for the same."""

import re

import pytest
import yaml

from serving.telemetry.instruments import Family
from serving.telemetry.metrics import SECONDS, Metrics

from .kustomize import ROOT, Object, built, needs_kubectl

pytestmark = needs_kubectl

PERCENTILE = "triptych_queue_seconds_p95"
RATE = "triptych_requests_per_second"
FAMILIES = {family.name: family for family in vars(Metrics()).values() if isinstance(family, Family)}


def one(name: str, kind: str) -> Object:
    (found,) = (each for each in built(f"overlays/{name}") if each["kind"] == kind)
    return found["spec"]


@pytest.fixture
def scaled() -> Object:
    return one("autoscale", "ScaledObject")


@pytest.fixture
def autoscaler() -> Object:
    return one("autoscale-hpa", "HorizontalPodAutoscaler")


@pytest.fixture
def rules() -> list[Object]:
    text = (ROOT / "k8s/components/autoscale-hpa/prometheus-adapter.yaml").read_text()
    return yaml.safe_load(text)["rules"]["custom"]


def metrics_in(text: str) -> set[str]:
    """The metrics that an expression names, each of which the server must have."""
    names = {re.sub("_bucket$", "", name) for name in re.findall("triptych_[a-z_]+", text)}
    assert names <= FAMILIES.keys()
    return names


def test_keda_asks_for_metrics_that_exist(scaled):
    asked = [metrics_in(trigger["metadata"]["query"]) for trigger in scaled["triggers"]]
    assert asked == [
        {"triptych_queue_duration_seconds"},
        {"triptych_queue_rows"},
        {"triptych_requests_in_flight"},
        {"triptych_requests_total"},
    ]


def test_triggers_say_only_what_keda_reads(scaled):
    # The schema has a map there. https://keda.sh/docs/latest/scalers/prometheus/
    for trigger in scaled["triggers"]:
        assert trigger["type"] == "prometheus"
        assert trigger["metadata"].keys() == {"serverAddress", "query", "threshold", "ignoreNullValues"}
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
        assert trigger["metadata"]["ignoreNullValues"] == "false"  # no answer is not "no load"


def test_keda_asks_for_the_job_that_the_monitor_makes(scaled):
    (monitor,) = (each["spec"] for each in built("overlays/monitoring") if each["kind"] == "ServiceMonitor")
    # Without a jobLabel the job is the Service's name.
    (service,) = (each for each in built("overlays/autoscale") if each["kind"] == "Service")
    label = monitor.get("jobLabel")
    job = service["metadata"]["labels"][label] if label else service["metadata"]["name"]
    for trigger in scaled["triggers"]:
        assert re.findall('job="(.*?)"', trigger["metadata"]["query"]) == [job]


def test_a_quantile_of_nothing_is_no_wait(scaled, rules):
    # It is NaN, which would be handed on; a comparison drops it.
    assert scaled["triggers"][0]["metadata"]["query"].endswith("> 0 or vector(0)")
    assert " > 0 or 0 * sum by (<<.GroupBy>>)" in rules[0]["metricsQuery"]


def test_one_trigger_is_proportional_to_the_load(scaled, rules):
    # Of waits alone the number of pods swings: docs/scaling.md. A counter says nothing until its rate is taken.
    (requests,) = (one for one in scaled["triggers"] if "triptych_requests_total" in one["metadata"]["query"])
    assert requests["metricType"] == "AverageValue"
    assert requests["metadata"]["query"].startswith("sum(rate(")
    (rule,) = (one for one in rules if one["seriesQuery"].startswith("triptych_requests_total"))
    assert "(rate(" in rule["metricsQuery"]


def test_the_threshold_is_an_edge_of_the_histogram(scaled):
    # Between two edges a quantile is a guess.
    assert float(scaled["triggers"][0]["metadata"]["threshold"]) in SECONDS


def test_the_adapter_makes_what_the_autoscaler_asks_for(autoscaler, rules):
    made = {}
    for rule in rules:
        assert "<<.LabelMatchers>>" in rule["metricsQuery"]
        assert "<<.GroupBy>>" in rule["metricsQuery"]
        (metric,) = metrics_in(rule["seriesQuery"])
        made[rule.get("name", {}).get("as", metric)] = metric
    asked = [metric["pods"]["metric"]["name"] for metric in autoscaler["metrics"]]
    assert asked == list(made)
    assert made[PERCENTILE] == "triptych_queue_duration_seconds"
    assert made[RATE] == "triptych_requests_total"


def test_both_autoscalers_want_the_same(scaled, autoscaler):
    thresholds = [float(trigger["metadata"]["threshold"]) for trigger in scaled["triggers"]]
    targets = [metric["pods"]["target"]["averageValue"] for metric in autoscaler["metrics"]]
    assert thresholds == [int(each[:-1]) / 1000 if each.endswith("m") else float(each) for each in targets]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (
        autoscaler["minReplicas"],
        autoscaler["maxReplicas"],
    )
    assert scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == autoscaler["behavior"]


@pytest.mark.parametrize("name", ["autoscale", "autoscale-hpa"])
def test_an_apply_does_not_set_the_pods_back_and_clients_find_the_new_ones(name):
    assert "replicas" not in one(name, "Deployment")
    (config,) = (each["data"] for each in built(f"overlays/{name}") if each["kind"] == "ConfigMap")
    assert 0 < float(config["TRIPTYCH_MAX_CONNECTION_AGE_SECONDS"]) <= 600


@pytest.mark.parametrize(
    ("name", "kind"), [("autoscale", "ScaledObject"), ("autoscale-hpa", "HorizontalPodAutoscaler")]
)
def test_the_target_is_the_deployment(name, kind):
    (deployment,) = (each for each in built(f"overlays/{name}") if each["kind"] == "Deployment")
    assert one(name, kind)["scaleTargetRef"]["name"] == deployment["metadata"]["name"]

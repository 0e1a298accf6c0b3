"""Rules that every pod of every overlay keeps, with every component."""

import copy
from typing import Any

import pytest

from .kustomize import Object, built, components, compose, needs_kubectl, overlays, pods
from .pod_security import containers, further_violations, violations
from .schema import validate

pytestmark = needs_kubectl

FOLDERS = ["training", *overlays()]
SERVER = "triptych"
HEALTH = {"startup": "startup", "ready": "readiness", "live": "liveness"}
"""The last part of the HTTP health path, and the gRPC health name that it stands for."""


@pytest.fixture(params=[*FOLDERS, *(f"cpu+{name}" for name in components())])
def objects(request) -> list[Object]:
    if request.param in FOLDERS:
        return built(request.param)
    return compose(("overlays/cpu",), (request.param.removeprefix("cpu+"),))


def settings(objects: list[Object], container: Object) -> dict[str, str]:
    """The variables that a container is given."""
    configs = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
    found = {}
    for source in container.get("envFrom", ()):
        if "configMapRef" in source:
            found |= configs[source["configMapRef"]["name"]]
    return found | {each["name"]: each["value"] for each in container.get("env", ())}


def servers(objects: list[Object]) -> list[tuple[Object, Object]]:
    """The specification of each pod that serves, and its container."""
    found = [(pod["spec"], container) for _, pod in pods(objects) for container in pod["spec"]["containers"]]
    return [(pod, container) for pod, container in found if "readinessProbe" in container]


def test_there_are_pods_to_look_at():
    assert {name for folder in FOLDERS for name, _ in pods(built(folder))} == {
        *(f"Deployment/{SERVER}", f"InferenceService/{SERVER}"),
        *("CronJob/triptych-training", "Job/triptych-training"),
    }


def test_pods_meet_the_restricted_security_standard(objects):
    for name, pod in pods(objects):
        assert list(violations(pod["spec"])) == [], name


def test_pods_meet_our_own_rules(objects):
    for name, pod in pods(objects):
        assert list(further_violations(pod["spec"])) == [], name


def test_pods_are_valid_as_pods(objects):
    # KServe's classes are less exact about a pod than Kubernetes' own schema.
    for _, pod in pods(objects):
        metadata = pod["metadata"] | {"name": "a"}
        validate({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]})


def test_every_volume_is_mounted_and_every_mount_has_its_volume(objects):
    for name, pod in pods(objects):
        volumes = {volume["name"] for volume in pod["spec"].get("volumes", ())}
        mounts = {mount["name"] for each in containers(pod["spec"]) for mount in each.get("volumeMounts", ())}
        assert mounts == volumes, name


def test_each_probe_asks_for_its_own_health_name(objects):
    for _, container in servers(objects):
        asked = {}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            given = container[probe]
            if "grpc" in given:
                asked[probe] = given["grpc"]["service"]
            else:
                path = given["httpGet"]["path"].removeprefix("/health/")
                assert given["httpGet"]["port"] in ("metrics", 8002)
                asked[probe] = HEALTH[path]
        assert asked == {"startupProbe": "startup", "readinessProbe": "readiness", "livenessProbe": "liveness"}


def test_kubelet_speaks_no_tls(objects):
    for _, container in servers(objects):
        if "TRIPTYCH_TLS_CERTIFICATE" in settings(objects, container):
            assert not any("grpc" in container[probe] for probe in ("startupProbe", "readinessProbe", "livenessProbe"))


def test_shutdown_fits_in_the_grace_period(objects):
    for pod, container in servers(objects):
        given = settings(objects, container)
        lame_duck, drain = (float(given[f"TRIPTYCH_{name}_SECONDS"]) for name in ("LAME_DUCK", "DRAIN"))
        assert lame_duck >= 5  # how long DNS answers live in a cluster
        assert pod["terminationGracePeriodSeconds"] >= pre_stop(container) + lame_duck + drain + 5


def pre_stop(container: Object) -> float:
    hook = container.get("lifecycle", {}).get("preStop")
    if hook is None:
        return 0.0
    python, flag, code = hook["exec"]["command"]
    assert (python, flag) == ("python", "-c")
    return float(code.removeprefix("import time; time.sleep(").removesuffix(")"))


def test_every_pod_is_closed_but_to_those_named(objects):
    policies = [each["spec"] for each in objects if each["kind"] == "NetworkPolicy"]
    for name, pod in pods(objects):
        labels = pod["metadata"]["labels"]
        own = [each for each in policies if each["podSelector"].get("matchLabels", labels).items() <= labels.items()]
        assert {kind for policy in own for kind in policy["policyTypes"]} == {"Ingress", "Egress"}, name
        for policy in own:
            for rule in policy.get("ingress", ()):
                assert rule["from"], "from anywhere"
                assert rule["ports"], "any port"
            for rule in policy.get("egress", ()):
                assert {port["port"] for port in rule["ports"]} <= {53, 443, 4317}


def test_servers_call_nobody_unless_a_component_says_so(objects, request):
    policies = {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == "NetworkPolicy"}
    out = {name for name, policy in policies.items() if "egress" in policy}
    calling = {"training": "triptych-training", "overlays/kserve": "triptych-kserve"}
    calling |= {"cpu+models-objectstore": "triptych-object-store", "cpu+tracing": "triptych-tracing"}
    assert out == {*filter(None, [calling.get(request.node.callspec.params["objects"])])}


def test_metrics_are_for_those_who_watch(objects):
    for each in objects:
        if each["kind"] == "NetworkPolicy":
            for rule in each["spec"].get("ingress", ()):
                if {port["port"] for port in rule["ports"]} & {"metrics", 8002}:
                    assert len(rule["ports"]) == len(rule["from"]) == 1
                    assert rule["from"][0].keys() == {"namespaceSelector"}


def test_a_namespace_of_our_own_is_restricted_and_closed():
    made = compose(("overlays/cpu",), ("namespace",))
    (namespace,) = (each["metadata"] for each in made if each["kind"] == "Namespace")
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {each["metadata"]["namespace"] for each in made if each["kind"] != "Namespace"} == {namespace["name"]}
    (closed,) = (each["spec"] for each in made if each["metadata"]["name"] == "default-deny")
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


# The rules can be broken.


def broken(change: dict[str, Any], where: str) -> Object:
    pod = copy.deepcopy(next(pod["spec"] for _, pod in pods(built("overlays/cpu"))))
    (container,) = pod["containers"]
    target = {"pod": pod, "shared": pod["securityContext"], "container": container, "own": container["securityContext"]}
    for name, value in change.items():
        if value is None:
            target[where].pop(name, None)
        else:
            target[where][name] = value
    return pod


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("pod", {"hostNetwork": True}),
        ("pod", {"hostPID": True}),
        ("pod", {"hostIPC": True}),
        ("pod", {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}),
        ("pod", {"initContainers": [{"name": "first", "image": "a:1"}]}),
        ("pod", {"securityContext": {}}),
        ("shared", {"runAsNonRoot": None}),
        ("shared", {"runAsUser": 0}),
        ("shared", {"seccompProfile": None}),
        ("shared", {"seccompProfile": {"type": "Unconfined"}}),
        ("shared", {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
        ("own", {"runAsNonRoot": False}),
        ("own", {"runAsUser": 0}),
        ("own", {"privileged": True}),
        ("own", {"allowPrivilegeEscalation": None}),
        ("own", {"capabilities": {"drop": ["NET_RAW"]}}),
        ("own", {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}),
        ("own", {"procMount": "Unmasked"}),
        ("container", {"ports": [{"containerPort": 8001, "hostPort": 8001}]}),
        ("container", {"securityContext": None}),
    ],
)
def test_what_the_standard_forbids_is_found(where, change):
    assert list(violations(broken({}, "pod"))) == []
    assert list(violations(broken(change, where)))


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("pod", {"automountServiceAccountToken": None}),
        ("pod", {"enableServiceLinks": None}),
        ("own", {"readOnlyRootFilesystem": False}),
        ("container", {"image": "triptych"}),
        ("container", {"image": "registry.example.com:5000/triptych"}),
        ("container", {"image": "triptych:latest"}),
        ("container", {"resources": {"limits": {"memory": "1Gi"}}}),
        ("container", {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}),
    ],
)
def test_what_our_own_rules_forbid_is_found(where, change):
    assert list(further_violations(broken({}, "pod"))) == []
    assert list(further_violations(broken(change, where)))

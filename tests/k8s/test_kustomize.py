"""What kubectl makes of k8s/: valid for Kubernetes, and true to what the server promises."""

import functools
import json
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = ["overlays/cpu", "overlays/gpu"]
OLDEST = (1, 28)  # the oldest Kubernetes, and kubectl, that the manifests are made for


def kubectl_version() -> tuple[int, int] | None:
    if shutil.which("kubectl") is None:
        return None
    output = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, check=True).stdout
    major, minor = re.match(r"v(\d+)\.(\d+)", json.loads(output)["clientVersion"]["gitVersion"]).groups()
    return int(major), int(minor)


KUBECTL = kubectl_version()
pytestmark = pytest.mark.skipif(
    KUBECTL is None or KUBECTL < OLDEST,
    reason="no kubectl" if KUBECTL is None else "kubectl {}.{} is older than 1.28".format(*KUBECTL),
)


def build(folder: Path) -> list[dict]:
    result = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert not result.stderr, "kustomize warns: " + result.stderr
    return list(yaml.safe_load_all(result.stdout))


@functools.cache
def built(name: str) -> list[dict]:
    return build(ROOT / "k8s" / name)


class Manifests:
    """The one object of each kind that makes up a deployment."""

    def __init__(self, objects: list[dict]):
        by_kind = {each["kind"]: each for each in objects}
        assert len(by_kind) == len(objects)
        self.config = by_kind.pop("ConfigMap")
        self.deployment = by_kind.pop("Deployment")
        self.service = by_kind.pop("Service")
        self.budget = by_kind.pop("PodDisruptionBudget")
        self.account = by_kind.pop("ServiceAccount")
        assert not by_kind
        self.template = self.deployment["spec"]["template"]
        self.pod = self.template["spec"]
        (self.container,) = self.pod["containers"]
        self.settings = self.config["data"]
        self.ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}

    def selected_by(self, labels: dict[str, str]) -> bool:
        return bool(labels) and labels.items() <= self.template["metadata"]["labels"].items()


@pytest.fixture(params=["base", *OVERLAYS])
def manifests(request) -> Manifests:
    return Manifests(built(request.param))


@pytest.fixture
def cpu() -> Manifests:
    return Manifests(built("overlays/cpu"))


@pytest.fixture
def gpu() -> Manifests:
    return Manifests(built("overlays/gpu"))


@pytest.mark.parametrize("name", ["base", *OVERLAYS])
@pytest.mark.parametrize("version", ["{}.{}".format(*OLDEST), kubernetes_validate.latest_version()])
def test_every_object_is_valid_and_has_no_unknown_field(name, version):
    for each in built(name):
        kubernetes_validate.validate(each, version, strict=True)


def test_every_selector_finds_the_pods(manifests):
    assert manifests.selected_by(manifests.deployment["spec"]["selector"]["matchLabels"])
    assert manifests.selected_by(manifests.service["spec"]["selector"])
    assert manifests.selected_by(manifests.budget["spec"]["selector"]["matchLabels"])
    assert len(manifests.pod["topologySpreadConstraints"]) == 2
    for constraint in manifests.pod["topologySpreadConstraints"]:
        # The API server refuses matchLabelKeys without a labelSelector; no schema says so.
        assert manifests.selected_by(constraint["labelSelector"]["matchLabels"])


def test_objects_refer_to_each_other(manifests):
    assert manifests.container["envFrom"] == [{"configMapRef": {"name": manifests.config["metadata"]["name"]}}]
    assert manifests.pod["serviceAccountName"] == manifests.account["metadata"]["name"]
    volumes = {volume["name"] for volume in manifests.pod["volumes"]}
    assert {mount["name"] for mount in manifests.container["volumeMounts"]} == volumes


def test_objects_carry_the_common_labels(manifests):
    for each in (manifests.config, manifests.deployment, manifests.service, manifests.budget, manifests.account):
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == labels["app.kubernetes.io/part-of"] == "triptych"
        assert labels["app.kubernetes.io/component"] == "server"


def test_each_probe_asks_for_its_own_health_name(manifests):
    probes = {"startupProbe": "startup", "readinessProbe": "readiness", "livenessProbe": "liveness"}
    for probe, name in probes.items():
        assert manifests.container[probe]["grpc"] == {"port": manifests.ports["grpc"], "service": name}


def test_the_server_listens_where_the_pod_says(manifests):
    assert manifests.settings["TRIPTYCH_GRPC_ADDRESS"] == f"0.0.0.0:{manifests.ports['grpc']}"
    assert manifests.settings["TRIPTYCH_METRICS_ADDRESS"] == f"0.0.0.0:{manifests.ports['metrics']}"
    annotations = manifests.template["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(manifests.ports["metrics"])


def test_the_service_shows_every_pod_to_the_client(manifests):
    service = manifests.service["spec"]
    assert service["clusterIP"] == "None"
    # A headless Service does not translate ports: clients dial what the container listens on.
    assert {port["targetPort"]: port["port"] for port in service["ports"]} == manifests.ports
    protocols = {port["name"]: port["appProtocol"] for port in service["ports"]}
    assert protocols == {"http": "http", "grpc": "kubernetes.io/h2c", "metrics": "http"}


def test_shutdown_fits_in_the_grace_period(manifests):
    lame_duck = float(manifests.settings["TRIPTYCH_LAME_DUCK_SECONDS"])
    drain = float(manifests.settings["TRIPTYCH_DRAIN_SECONDS"])
    assert lame_duck >= 5  # how long DNS answers live in a cluster
    assert manifests.pod["terminationGracePeriodSeconds"] >= lame_duck + drain + 5


def test_a_rollout_never_takes_a_pod_before_its_successor_is_known(manifests):
    spec = manifests.deployment["spec"]
    assert spec["replicas"] >= 2
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert spec["minReadySeconds"] >= 5


def test_node_drains_are_slowed_but_never_blocked(manifests):
    budget = manifests.budget["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_pods_meet_the_restricted_security_standard(manifests):
    pod, container = manifests.pod, manifests.container
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()
    assert all(volume.keys() == {"name", "emptyDir"} for volume in pod["volumes"])
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert manifests.account["automountServiceAccountToken"] is False


def test_kubernetes_sets_no_variables_that_look_like_settings(manifests):
    assert manifests.pod["enableServiceLinks"] is False


def test_memory_is_reserved_and_cpu_not_throttled(manifests):
    resources = manifests.container["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert "cpu" in resources["requests"]
    assert "cpu" not in resources["limits"]


def test_base_names_no_device(manifests, request):
    if request.node.callspec.params["manifests"] == "base":
        assert "TRIPTYCH_DEVICE" not in manifests.settings
        assert manifests.container["image"] == "triptych"


def test_cpu_overlay(cpu):
    assert cpu.settings["TRIPTYCH_DEVICE"] == "cpu"
    assert cpu.container["image"] == "triptych:cpu"
    assert "nvidia.com/gpu" not in cpu.container["resources"]["limits"]


def test_gpu_overlay(gpu):
    assert gpu.settings["TRIPTYCH_DEVICE"] == "cuda"  # "auto" could fall back to the CPU
    assert gpu.container["image"] == "triptych:cuda"
    assert gpu.container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in gpu.pod["tolerations"]


def test_overlays_keep_the_settings_and_selectors_of_the_base(cpu, gpu):
    base = Manifests(built("base"))
    for overlay in (cpu, gpu):
        assert base.settings.items() < overlay.settings.items()
        assert overlay.deployment["spec"]["selector"] == base.deployment["spec"]["selector"]


def test_changed_settings_roll_the_pods(tmp_path, cpu):
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    kustomization = tmp_path / "k8s/base/kustomization.yaml"
    text = kustomization.read_text()
    kustomization.write_text(text.replace("TRIPTYCH_DRAIN_SECONDS=30", "TRIPTYCH_DRAIN_SECONDS=31"))
    changed = Manifests(build(tmp_path / "k8s/overlays/cpu"))
    assert changed.settings["TRIPTYCH_DRAIN_SECONDS"] == "31"
    assert changed.template != cpu.template


def test_the_operators_guide_shows_an_overlay_that_works(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?kind: Kustomization.*?)```", (ROOT / "docs/operator.md").read_text(), re.S)
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    overlay = tmp_path / "deploy" / "kustomization.yaml"
    overlay.parent.mkdir()
    overlay.write_text(example)
    objects = build(overlay.parent)
    for each in objects:
        kubernetes_validate.validate(each, "{}.{}".format(*OLDEST), strict=True)
    manifests = Manifests(objects)
    assert "/" in manifests.container["image"]
    assert manifests.deployment["spec"]["replicas"] > 2

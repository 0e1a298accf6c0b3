"""What kubectl makes of k8s/: valid for Kubernetes, and true to what the server promises."""

import re
import shutil

import pytest
import yaml

from .kustomize import (
    ROOT,
    Manifests,
    build,
    build_overlay,
    built,
    components,
    compose,
    needs_kubectl,
    overlays,
)
from .schema import VERSIONS, validate

pytestmark = needs_kubectl

OVERLAYS = ["overlays/autoscale", "overlays/autoscale-hpa", "overlays/cpu", "overlays/gateway", "overlays/gpu"]
"""Those that make servers."""


@pytest.fixture(params=["base", *OVERLAYS])
def manifests(request) -> Manifests:
    return Manifests(built(request.param))


@pytest.fixture
def cpu() -> Manifests:
    return Manifests(built("overlays/cpu"))


@pytest.fixture
def gpu() -> Manifests:
    return Manifests(built("overlays/gpu"))


def test_every_selector_finds_the_pods(manifests):
    assert manifests.selected_by(manifests.deployment["spec"]["selector"]["matchLabels"])
    assert manifests.selected_by(manifests.service["spec"]["selector"])
    assert manifests.selected_by(manifests.budget["spec"]["selector"]["matchLabels"])
    assert manifests.selected_by(manifests.policies["triptych"]["spec"]["podSelector"]["matchLabels"])
    assert len(manifests.pod["topologySpreadConstraints"]) == 2
    for constraint in manifests.pod["topologySpreadConstraints"]:
        # The API server refuses matchLabelKeys without a labelSelector; no schema says so.
        assert manifests.selected_by(constraint["labelSelector"]["matchLabels"])


def test_objects_refer_to_each_other(manifests):
    assert manifests.container["envFrom"] == [{"configMapRef": {"name": manifests.config["metadata"]["name"]}}]
    assert manifests.pod["serviceAccountName"] == manifests.account["metadata"]["name"]
    for rule in manifests.policies["triptych"]["spec"]["ingress"]:
        assert {port["port"] for port in rule["ports"]} <= manifests.ports.keys()


def test_objects_carry_the_common_labels(request, manifests):
    for each in built(request.node.callspec.params["manifests"]):
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == labels["app.kubernetes.io/part-of"] == "triptych"
        assert labels["app.kubernetes.io/component"] == "server"


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


def test_a_rollout_never_takes_a_pod_before_its_successor_is_known(manifests):
    spec = manifests.deployment["spec"]
    assert spec.get("replicas", 2) >= 2  # without, an autoscaler decides
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert spec["minReadySeconds"] >= 5


def test_node_drains_are_slowed_but_never_blocked(manifests):
    budget = manifests.budget["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


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
    assert gpu.settings["TRIPTYCH_WORKERS"] == "1"  # one process a GPU
    assert gpu.container["image"] == "triptych:cuda"
    assert gpu.container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in gpu.pod["tolerations"]


def fits(node: dict[str, str], expression: dict) -> bool:
    """What the scheduler makes of one expression: `Gt` compares whole numbers, and a missing label is never greater."""
    value = node.get(expression["key"])
    match expression["operator"]:
        case "Gt":
            return value is not None and int(value) > int(expression["values"][0])
        case "In":
            return value in expression["values"]
        case "DoesNotExist":
            return value is None
    raise AssertionError(expression)


@pytest.mark.parametrize(
    ("driver", "capability", "wanted"),
    [
        ("580", (9, 0), True),
        ("580", (7, 5), True),
        ("610", (12, 1), True),
        ("580", (7, 0), False),  # Volta: CUDA 13 has no code for it
        ("575", (9, 0), False),  # a driver that is too old
        (None, (9, 0), True),  # no GPU feature discovery: the pod finds out itself
    ],
)
def test_gpu_pods_go_where_the_image_works(gpu, driver, capability, wanted):
    node = {"nvidia.com/gpu.compute.major": str(capability[0]), "nvidia.com/gpu.compute.minor": str(capability[1])}
    if driver is not None:
        node["nvidia.com/cuda.driver-version.major"] = driver
    affinity = gpu.pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    terms = [term["matchExpressions"] for term in affinity["nodeSelectorTerms"]]
    assert any(all(fits(node, each) for each in term) for term in terms) == wanted


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlays_keep_the_settings_and_selectors_of_the_base(name):
    base, overlay = Manifests(built("base")), Manifests(built(name))
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


def test_another_place_in_the_object_store_rolls_the_pods():
    component = (ROOT / "k8s/components/models-objectstore/kustomization.yaml").read_text()
    assert "disableNameSuffixHash" not in component
    made = Manifests(compose(("overlays/cpu",), ("models-objectstore",)))
    (fetch,) = made.pod["initContainers"]
    name = made.configs["triptych-object-store"]["metadata"]["name"]
    assert {"configMapRef": {"name": name}} in fetch["envFrom"]
    assert re.fullmatch("triptych-object-store-[a-z0-9]{10}", name)


@pytest.mark.parametrize("component", ["models-pvc", "models-objectstore", "models-image"])
def test_models_are_mounted_read_only_where_the_server_looks(component):
    made = Manifests(compose(("overlays/cpu",), (component,)))
    (mount,) = (each for each in made.container["volumeMounts"] if each["name"] == "models")
    assert mount == {"name": "models", "mountPath": made.settings["TRIPTYCH_MODELS"], "readOnly": True}


@pytest.mark.parametrize("component", ["tls", "tokens"])
def test_files_of_secrets_are_where_the_settings_say_and_closed_to_others(component):
    made = Manifests(compose(("overlays/cpu",), (component,)))
    (mount,) = (each for each in made.container["volumeMounts"] if each["name"] == component)
    (volume,) = (each for each in made.pod["volumes"] if each["name"] == component)
    files = {value for value in made.settings.values() if value.startswith("/etc/triptych/")}
    assert files
    assert all(file.rpartition("/")[0] == mount["mountPath"] for file in files)
    assert "subPath" not in mount  # a renewed Secret would never arrive
    assert volume["secret"]["defaultMode"] == 0o440
    assert made.pod["securityContext"]["fsGroup"] == made.pod["securityContext"]["runAsGroup"]


GUIDE = ROOT / "docs/kubernetes.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.S)


def test_the_guide_names_every_overlay_and_component():
    first = re.findall(r"^\| (`.*?) \|", GUIDE.read_text(), re.M)
    named = {name for cell in first for name in re.findall("`(.*?)`", cell)}
    assert {name.removeprefix("k8s/") for name in named if name.startswith("k8s/")} == set(overlays())
    assert set(components()) <= named


def test_the_guide_shows_an_overlay_that_works():
    (example,) = (text for text in EXAMPLES if "kind: Kustomization" in text)
    objects = build_overlay(example)
    for each in objects:
        validate(each, VERSIONS[0])
    manifests = Manifests([each for each in objects if each["kind"] != "Namespace"])
    assert "/" in manifests.container["image"]
    assert manifests.deployment["spec"]["replicas"] > 2


def test_the_guide_shows_objects_that_are_valid():
    objects = [each for text in EXAMPLES if "kind: Kustomization" not in text for each in yaml.safe_load_all(text)]
    assert objects
    for each in objects:
        validate(each)

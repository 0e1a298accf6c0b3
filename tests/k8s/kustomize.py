"""Builds what lies in k8s/, and finds in it what tests look at."""

import functools
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OLDEST = (1, 28)  # the oldest Kubernetes, and kubectl, that the manifests are made for

Object = dict[str, Any]


def kubectl_version() -> tuple[int, int] | None:
    if shutil.which("kubectl") is None:
        return None
    output = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, check=True).stdout
    major, minor = re.match(r"v(\d+)\.(\d+)", json.loads(output)["clientVersion"]["gitVersion"]).groups()
    return int(major), int(minor)


KUBECTL = kubectl_version()
needs_kubectl = pytest.mark.skipif(
    KUBECTL is None or KUBECTL < OLDEST,
    reason="no kubectl" if KUBECTL is None else "kubectl {}.{} is older than 1.28".format(*KUBECTL),
)


def overlays() -> list[str]:
    """Every overlay that there is, as `built` takes it."""
    return sorted(f"overlays/{file.parent.name}" for file in (ROOT / "k8s/overlays").glob("*/kustomization.yaml"))


def components() -> list[str]:
    """The names of all components."""
    return sorted(file.parent.name for file in (ROOT / "k8s/components").glob("*/kustomization.yaml"))


def build(folder: Path) -> list[Object]:
    result = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert not result.stderr, "kustomize warns: " + result.stderr
    return list(yaml.safe_load_all(result.stdout))


@functools.cache
def built(name: str) -> list[Object]:
    """What a folder of k8s/ makes."""
    return build(ROOT / "k8s" / name)


@functools.cache
def compose(resources: tuple[str, ...], components: tuple[str, ...] = ()) -> list[Object]:
    """What an overlay makes that takes these folders of k8s/, and these components, as one outside of k8s/ would."""
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"../k8s/{name}" for name in resources],
        "components": [f"../k8s/components/{name}" for name in components],
    }
    return build_overlay(yaml.safe_dump(overlay))


def build_overlay(text: str) -> list[Object]:
    """What `deploy/kustomization.yaml` with this text makes, beside k8s/."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "k8s", Path(folder) / "k8s")
        overlay = Path(folder) / "deploy" / "kustomization.yaml"
        overlay.parent.mkdir()
        overlay.write_text(text)
        return build(overlay.parent)


class Manifests:
    """The objects that make up a deployment of the server; `others` are what an overlay adds, by kind."""

    def __init__(self, objects: list[Object]) -> None:
        self.policies = {each["metadata"]["name"]: each for each in objects if each["kind"] == "NetworkPolicy"}
        self.configs = {
            re.sub("-[a-z0-9]{10}$", "", each["metadata"]["name"]): each
            for each in objects
            if each["kind"] == "ConfigMap"
        }
        by_kind = {each["kind"]: each for each in objects if each["kind"] not in ("NetworkPolicy", "ConfigMap")}
        assert len(by_kind) + len(self.policies) + len(self.configs) == len(objects), "two of a kind"
        self.config = self.configs["triptych"]
        self.deployment = by_kind.pop("Deployment")
        self.service = by_kind.pop("Service")
        self.budget = by_kind.pop("PodDisruptionBudget")
        self.account = by_kind.pop("ServiceAccount")
        self.others = by_kind
        self.template = self.deployment["spec"]["template"]
        self.pod = self.template["spec"]
        (self.container,) = self.pod["containers"]
        self.settings = self.config["data"]
        self.ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}

    def selected_by(self, labels: dict[str, str]) -> bool:
        return bool(labels) and labels.items() <= self.template["metadata"]["labels"].items()


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """The templates of all pods that the objects lead to, each with a name for it.

    Of KServe's objects those that it would make: it joins the container of the runtime with that of the service.
    """
    runtimes = {each["metadata"]["name"]: each for each in objects if each["kind"] == "ServingRuntime"}
    for each in objects:
        name, spec = f"{each['kind']}/{each['metadata']['name']}", each.get("spec", {})
        if each["kind"] == "CronJob":
            yield name, spec["jobTemplate"]["spec"]["template"]
        elif each["kind"] == "InferenceService":
            yield name, _predictor(each, runtimes[spec["predictor"]["model"]["runtime"]])
        elif "template" in spec:
            yield name, spec["template"]


def _predictor(service: Object, runtime: Object) -> Object:
    pod = dict(service["spec"]["predictor"])
    model = pod.pop("model")
    for name in ("minReplicas", "maxReplicas"):
        pod.pop(name, None)
    (container,) = runtime["spec"]["containers"]
    own = {"storageUri", "modelFormat", "runtime", "protocolVersion"}
    joined = container | {name: value for name, value in model.items() if name not in own}
    labels = {"serving.kserve.io/inferenceservice": service["metadata"]["name"]}
    return {
        "metadata": {"labels": runtime["spec"]["labels"] | labels, "annotations": runtime["spec"]["annotations"]},
        "spec": pod | {"containers": [joined], "volumes": runtime["spec"]["volumes"]},
    }

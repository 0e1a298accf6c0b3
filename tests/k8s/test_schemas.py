"""Everything in k8s/ is what the API server takes: built, and validated against the schema of its kind."""

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from .kustomize import ROOT, Object, built, components, compose, needs_kubectl, overlays
from .schema import SCHEMAS, VERSIONS, InvalidError, validate

pytestmark = needs_kubectl

FOLDERS = ["base", "training", *overlays()]

APART = ["overlays/kserve", "overlays/monitoring"]
"""Overlays that make no servers: KServe does, or another overlay."""
SERVERS = [name for name in overlays() if name not in APART]

SOURCES = [name for name in components() if name.startswith("models-")]
NEEDS = {"models-image": VERSIONS[-1]}
"""Components that want a newer Kubernetes than the rest."""

AUTOSCALERS = ["autoscale", "autoscale-hpa"]
OTHERS = [name for name in components() if name not in (*SOURCES, *AUTOSCALERS, "gateway")]
"""Components that go with all others."""


def everything_of(overlay: str) -> list[str]:
    """All components that an overlay may take at once, apart from where models come from."""
    name = overlay.removeprefix("overlays/")
    autoscaler = [] if name in AUTOSCALERS else ["autoscale"]
    return [*OTHERS, *autoscaler, *(["gateway"] if name != "gateway" else [])]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", FOLDERS)
def test_every_object_is_valid_and_has_no_unknown_field(name, version):
    for each in built(name):
        validate(each, version)


@pytest.mark.parametrize("component", components())
def test_every_component_goes_with_a_plain_overlay(component):
    for each in compose(("overlays/cpu",), (component,)):
        validate(each, NEEDS.get(component, VERSIONS[0]))


@pytest.mark.parametrize(("overlay", "source"), [*itertools.product(SERVERS, SOURCES)])
def test_every_overlay_takes_all_components_at_once(overlay, source):
    for each in compose((overlay,), (source, *everything_of(overlay))):
        validate(each, NEEDS.get(source, VERSIONS[0]))


@pytest.mark.parametrize("overlay", SERVERS)
def test_what_watches_the_servers_goes_beside_them(overlay):
    assert "Deployment" in {each["kind"] for each in compose((overlay, "overlays/monitoring"), tuple(OTHERS))}


@pytest.mark.parametrize("overlay", APART)
def test_overlays_apart_make_no_servers(overlay):
    assert "Deployment" not in {each["kind"] for each in built(overlay)}


# The validator can fail.


@pytest.fixture(scope="module")
def kinds() -> dict[str, Object]:
    """One object of every kind."""
    return {each["kind"]: each for name in FOLDERS for each in built(name)}


def mappings(node: Any) -> Iterator[dict[str, Any]]:
    """Every mapping of an object whose keys are fields, and not people's own."""
    if isinstance(node, dict):
        yield node
        for key, child in node.items():
            free = key in {"labels", "matchLabels", "annotations", "data", "limits", "requests"}
            # A Service's selector has no fields, and a policy's has; nor have a trigger's metadata, as an object's do.
            free |= (key == "selector" and "matchLabels" not in child) or (key == "metadata" and "type" in node)
            if not free:
                yield from mappings(child)
    elif isinstance(node, list):
        for child in node:
            yield from mappings(child)


def test_a_misspelt_field_is_refused_wherever_it_stands(kinds):
    for original in kinds.values():
        for index in range(len(list(mappings(original)))):
            each = copy.deepcopy(original)
            place = next(itertools.islice(mappings(each), index, None))
            if not place:
                continue  # {} may be a selector, or a volume: whatever it is, it has no fields here
            place["mispelt"] = "a"
            with pytest.raises(InvalidError, match="mispelt"):
                validate(each)


def test_a_wrong_type_is_refused(kinds):
    for original in kinds.values():
        with pytest.raises(InvalidError):
            validate(original | {"spec" if "spec" in original else "metadata": ["no", "object"]})


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("ScaledObject", ["spec", "scaleTargetRef"]),
        ("ScaledObject", ["spec", "triggers", 0, "type"]),
        ("Gateway", ["spec", "gatewayClassName"]),
        ("GRPCRoute", ["spec", "rules", 0, "backendRefs", 0, "name"]),
        ("InferenceService", ["spec", "predictor"]),
        ("ServingRuntime", ["spec", "containers"]),
        ("ServingRuntime", ["spec", "containers", 0, "name"]),
    ],
)
def test_a_missing_field_is_refused(kinds, kind, path):
    each = copy.deepcopy(kinds[kind])
    node = each
    for step in path[:-1]:
        node = node[step]
    del node[path[-1]]
    with pytest.raises(InvalidError):
        validate(each)


def test_a_kind_without_a_schema_is_refused():
    with pytest.raises(InvalidError, match="no schema"):
        validate({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "widget"}})


def test_every_schema_is_of_the_kind_that_its_name_says():
    for file in SCHEMAS.glob("*.json"):
        properties = yaml.safe_load(file.read_text())["properties"]
        version, kind = properties["apiVersion"]["const"], properties["kind"]["const"]
        assert file.name == f"{version.replace('/', '_')}_{kind}.json"


def test_the_readme_of_the_schemas_names_each_source():
    text = (ROOT / "tests/k8s/schemas/README.md").read_text()
    made = (ROOT / "tests/k8s/schemas/make").read_text()
    for source in ("keda@2.0.0", "gateway-api@2.0.0", "prometheus-operator@6.0.0"):
        assert source in made
        assert f"@kubernetes-models/{source.replace('@', ' ')}" in text

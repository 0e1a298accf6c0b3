"""Writes the JSON Schema of one of KServe's kinds, made of the OpenAPI classes in PyPI's kserve.

What pods are made of is Kubernetes' own and is referred to, as `kubernetes#/$defs/…`: `kubernetes-validate` defines it.
"""

import inspect
import json
import re
import sys
from typing import Any

import kserve.models

SCALARS = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "bool": {"type": "boolean"},
    "object": {},
    "ResourceQuantity": {"type": ["string", "integer"]},
    "V1beta1MetricQuantity": {"type": ["string", "integer"]},
}
# Other components, other frameworks and other nodes are none of ours.
LEFT_OUT = re.compile(
    "V1beta1(Transformer|Explainer|HuggingFaceRuntime|LightGBM|ONNXRuntime|PMML|PaddleServer|SKLearn|TFServing|TorchServe|"
    "Triton|XGBoost|Worker)Spec|V1alpha1WorkerSpec|.*Status"
)


def schema(kind: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of an OpenAPI type; those of the classes that it needs go into `definitions`."""
    if listed := re.fullmatch(r"[lL]ist\[(.*)\]", kind):
        return {"type": "array", "items": schema(listed[1], definitions)}
    if mapped := re.fullmatch(r"dict\(str, (.*)\)|Dict\[str, (.*)\]", kind):
        return {"type": "object", "additionalProperties": schema(mapped[1] or mapped[2], definitions)}
    if kind in SCALARS:
        return SCALARS[kind]
    found = getattr(kserve.models, kind, None)
    if found is None or not found.__module__.startswith("kserve."):
        return {"$ref": f"kubernetes#/$defs/{kubernetes(kind)}"}
    if kind not in definitions:
        definitions[kind] = {}
        definitions[kind] = fields(found, definitions)
    return {"$ref": f"#/definitions/{kind}"}


def kubernetes(kind: str) -> str:
    """The name of a Kubernetes type in its own OpenAPI document."""
    if kind == "V1ObjectMeta":
        return "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    if found := re.fullmatch(r"K8sIoApi([A-Z][a-z]+)V(\d)(.*)", kind):
        return f"io.k8s.api.{found[1].lower()}.v{found[2]}.{found[3]}"
    return f"io.k8s.api.core.v1.{kind.removeprefix('V1')}"


def fields(found: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a class; its setters refuse None where something must be."""
    shown = found.attribute_map
    types = {each: kind for each, kind in found.openapi_types.items() if not LEFT_OUT.fullmatch(kind)}
    setters = {each: inspect.getsource(getattr(found, each).fset) for each in types}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {shown[each]: schema(kind, definitions) for each, kind in types.items()},
        "required": sorted(shown[each] for each in types if "must not be `None`" in setters[each]),
    }


version, kind = sys.argv[1:]
definitions: dict[str, Any] = {}
top = fields(getattr(kserve.models, version.rpartition("/")[2].capitalize() + kind), definitions)
top["properties"] |= {"apiVersion": {"const": version}, "kind": {"const": kind}}
top["required"] = ["apiVersion", "kind", "spec"]
draft = {"$schema": "http://json-schema.org/draft-07/schema#"}
print(json.dumps(draft | top | {"definitions": dict(sorted(definitions.items()))}, indent=1))

"""Validates an object against the schema of its kind: unknown kinds and unknown fields are refused.

Kubernetes' own kinds by `kubernetes-validate`, custom resources by the schemas in `schemas/`.
"""

import functools
import json
from importlib import resources
from pathlib import Path

import jsonschema
import kubernetes_validate
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from .kustomize import OLDEST, Object

SCHEMAS = Path(__file__).parent / "schemas"
VERSIONS = ("{}.{}".format(*OLDEST), kubernetes_validate.latest_version())


class InvalidError(Exception):
    """An object that the API server would refuse, or have fields of dropped."""


def validate(each: Object, version: str = VERSIONS[-1]) -> None:
    """Validate an object, for a version of Kubernetes.

    Raises:
        InvalidError: with what is wrong, and where.
    """
    try:
        _validator(each["apiVersion"], each["kind"], version).validate(each)
    except jsonschema.ValidationError as error:
        raise InvalidError(f"{each['kind']}.{'.'.join(map(str, error.absolute_path))}: {error.message}") from error


@functools.cache
def _validator(api_version: str, kind: str, version: str) -> jsonschema.Draft202012Validator:
    file = SCHEMAS / f"{api_version.replace('/', '_')}_{kind}.json"
    schema = (
        json.loads(file.read_text())
        if file.exists()
        else {"$ref": f"kubernetes#/$defs/{_own(api_version, kind, version)}"}
    )
    registry = Registry().with_resource("kubernetes", DRAFT202012.create_resource(_kubernetes(version)))
    return jsonschema.Draft202012Validator(schema, registry=registry)


def _own(api_version: str, kind: str, version: str) -> str:
    """The definition of one of Kubernetes' own kinds."""
    group, _, number = api_version.rpartition("/")
    for name, definition in _kubernetes(version)["$defs"].items():
        if {"group": group, "version": number, "kind": kind} in definition.get("x-kubernetes-group-version-kind", ()):
            return name
    raise InvalidError(f"{api_version} {kind}: there is no schema for it here")


@functools.cache
def _kubernetes(version: str) -> dict[str, dict[str, Object]]:
    """The definitions of a version of Kubernetes, with no field that it does not know."""
    (folder,) = (
        each
        for each in resources.files(kubernetes_validate).joinpath("kubernetes-json-schema").iterdir()
        if each.name.startswith(f"v{'.'.join(version.split('.')[:2])}.") and each.name.endswith("-strict")
    )
    return json.loads(folder.joinpath("_definitions.json").read_text())

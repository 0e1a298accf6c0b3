"""Completes a bill of materials: to the Python packages come the interpreter, Debian's packages and the models.

    python sbom.py PYTHON_SBOM ROOT MODELS VERSION > SBOM

PYTHON_SBOM is the CycloneDX document that `cyclonedx-py environment` writes of a virtual environment, ROOT what
rootfs.py made. The result is held against CycloneDX's schema, and is the same for the same content.
"""

import json
import platform
import re
import sys
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import quote

Component = dict[str, Any]
OS_RELEASE = "etc/os-release"
STATUS = "var/lib/dpkg/status.d"


def complete(document: dict[str, Any], root: Path, models: Path, version: str) -> dict[str, Any]:
    """The bill of materials of the whole image, made from that of its Python packages."""
    named = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', (root / OS_RELEASE).read_text(), re.M))
    packages = [message_from_string(path.read_text()) for path in sorted((root / STATUS).iterdir())]
    ours = [
        interpreter(),
        *(debian(package, named["VERSION_ID"]) for package in packages),
        *(model(path) for path in sorted(models.glob("*/*/model.json"))),
    ]
    document["metadata"]["component"]["version"] = version
    document["components"] = [*document.get("components", []), *ours]
    document.setdefault("dependencies", []).extend({"ref": each["bom-ref"]} for each in ours)
    return document


def interpreter() -> Component:
    """The Python that runs this, which is the one in the image."""
    version = platform.python_version()
    return {
        "type": "platform",
        "bom-ref": f"python@{version}",
        "name": "python",
        "version": version,
        "cpe": f"cpe:2.3:a:python:python:{version}:*:*:*:*:*:*:*",
        "purl": f"pkg:generic/python@{version}",
    }


def debian(package: Message, release: str) -> Component:
    """A package of Debian, from its paragraph in dpkg's status."""
    name, version = package["Package"], package["Version"]
    # Debian's advisories are about source packages, which may have another name: "Source: gcc-12 (12.2.0-14)".
    source = re.split(r"[ (]", package.get("Source", name))[0]
    qualifiers = f"arch={package['Architecture']}&distro=debian-{release}"
    if source != name:
        qualifiers += f"&upstream={quote(source)}"
    return {
        "type": "library",
        "bom-ref": f"deb:{name}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?{qualifiers}",
    }


def model(path: Path) -> Component:
    """A model package, from its manifest."""
    manifest = json.loads(path.read_text("utf-8"))
    name, version = manifest["name"], str(manifest["version"])
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{name}@{version}",
        "name": name,
        "version": version,
        "hashes": [{"alg": "SHA-256", "content": manifest["files"]["model.onnx"]["sha256"]}],
    }


def validate(text: str) -> None:
    """Hold a document against the schema.

    Raises:
        SystemExit: it is not what CycloneDX 1.6 asks for.
    """
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise SystemExit(f"not CycloneDX: {error}")


def main(sbom: Path, root: Path, models: Path, version: str) -> None:
    """Print the completed document."""
    text = json.dumps(complete(json.loads(sbom.read_text("utf-8")), root, models, version), indent=1, sort_keys=True)
    validate(text)
    print(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])

"""The image, built by buildah, which needs no daemon; and what the result is made of."""

import gzip
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from image.check.commands import run

CERTIFICATES = "/run/pip-ca.crt"
PASSED_ON = ("extra-index-url", "index-url", "proxy", "timeout", "trusted-host")
CHUNK = 1 << 20


@dataclass(frozen=True)
class Layer:
    """One layer: the folder that it fills, its digest (of the tar, not compressed), bytes unpacked and compressed."""

    folder: str
    digest: str
    unpacked: int
    packed: int


@dataclass(frozen=True)
class Image:
    """What the engine says of an image."""

    config: dict[str, Any]
    layers: tuple[Layer, ...]


class Buildah:
    """buildah with a store of its own, so that nothing of this machine's is touched."""

    def __init__(self, folder: Path, driver: str) -> None:
        self._folder = folder
        store = ("--root", folder / "store", "--runroot", folder / "run", "--storage-driver", driver)
        self._buildah = ("buildah", *store)

    def make(self, name: str, tree: Path, environment: Mapping[str, str]) -> None:
        """Make an image of one layer from a folder."""
        container = run(*self._buildah, "from", "scratch").strip()
        run(*self._buildah, "add", "--quiet", container, tree, "/")
        variables = [f"--env={key}={value}" for key, value in environment.items()]
        run(*self._buildah, "config", *variables, container)
        run(*self._buildah, "commit", "--quiet", "--rm", "--timestamp", "0", container, name)

    def build(self, name: str, context: Path, arguments: Mapping[str, str], epoch: int) -> None:
        """Build the Dockerfile of `context` from nothing, as if it were `epoch` (seconds)."""
        # Docker's format, because that of the OCI has no place for a HEALTHCHECK.
        options = ["--format=docker", "--isolation=chroot", "--layers", "--no-cache", f"--timestamp={epoch}"]
        options += [f"--build-arg={key}={value}" for key, value in {**arguments, "SOURCE_DATE_EPOCH": epoch}.items()]
        options += [f"--secret=id=pip,src={self._pip_settings()}"]
        if certificates := _pip().get("cert"):
            options.append(f"--volume={certificates}:{CERTIFICATES}:ro")
        run(*self._buildah, "build", *options, f"--tag={name}", ".", cwd=context, log=self._folder / "build.log")

    def _pip_settings(self) -> Path:
        """This machine's pip.conf, as far as it matters in a container: which index, and how to reach it."""
        settings = {key: value for key, value in _pip().items() if key in PASSED_ON}
        if "cert" in _pip():
            settings["cert"] = CERTIFICATES
        file = self._folder / "pip.conf"
        file.touch(mode=0o600)  # it may hold a password
        file.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
        return file

    def mount(self, name: str) -> Path:
        """The image's root file system."""
        container = run(*self._buildah, "from", name).strip()
        return Path(run(*self._buildah, "mount", container).strip())

    def inspect(self, name: str) -> Image:
        """Its configuration and its layers, compressed as a registry would get them."""
        folder = self._folder / "oci"
        run("rm", "-rf", folder)
        run(*self._buildah, "push", "--quiet", name, f"oci:{folder}")
        index = json.loads((folder / "index.json").read_text())
        packed = json.loads(_blob(folder, index["manifests"][0]["digest"]).read_text())["layers"]
        told = json.loads(run(*self._buildah, "inspect", "--type", "image", name))
        # "/bin/sh -c #(nop) COPY dir:… in /opt/venv"
        steps = [step["created_by"].split() for step in told["Docker"]["history"] if not step.get("empty_layer")]
        layers = zip(steps, told["Docker"]["rootfs"]["diff_ids"], packed, strict=True)
        return Image(
            # buildah invents a host's name for every build; engines do not use it.
            {key: value for key, value in told["Docker"]["config"].items() if key != "Hostname"},
            tuple(
                Layer(step[-1], digest, _unpacked(_blob(folder, layer["digest"])), layer["size"])
                for step, digest, layer in layers
            ),
        )

    def forget(self) -> None:
        """Remove the containers; the images stay."""
        run(*self._buildah, "rm", "--all")


def _blob(folder: Path, digest: str) -> Path:
    return folder / "blobs" / digest.replace(":", "/")


def _unpacked(layer: Path) -> int:
    """Bytes of a compressed layer, unpacked."""
    with gzip.open(layer) as file:
        return sum(len(chunk) for chunk in iter(lambda: file.read(CHUNK), b""))


def _pip() -> dict[str, str]:
    """The settings of this machine's pip, from its files and the environment."""
    told = run(sys.executable, "-m", "pip", "config", "list").splitlines()
    pairs = [line.partition("=")[::2] for line in told]
    settings = {key.rpartition(".")[2]: value.strip("'\"").replace("\\n", " ") for key, value in pairs}
    # Folders of this machine are not in the container.
    remote = [url for url in settings.pop("extra-index-url", "").split() if not url.startswith("file:")]
    return settings | ({"extra-index-url": " ".join(remote)} if remote else {})


def context(checkout: Path, folder: Path) -> Path:
    """A copy of what enters the build, which nobody edits between one build and the next."""
    copy = folder / "context"
    run("rm", "-rf", copy)
    ignore = (checkout / ".dockerignore").read_text().splitlines()
    for name in ["Dockerfile", ".dockerignore", *(line[1:] for line in ignore if line.startswith("!"))]:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        run("cp", "--recursive", "--dereference", checkout / name, copy / name)
    return copy

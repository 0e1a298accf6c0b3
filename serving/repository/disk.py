"""Model packages as they lie on disk: `<models>/<name>/<version>/` with a manifest and the files it names."""

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from serving.package.manifest import MANIFEST, MODEL, Manifest, parse

_NAME = re.compile(r"[a-z][a-z0-9_]*")
MAX_MANIFEST_BYTES = 16 * 1024 * 1024

_VERSION = re.compile(r"[1-9][0-9]*")


class LoadError(Exception):
    """A package that is not served, and why.

    `outcome` is the label under which `triptych_model_loads_total` counts it.
    """

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class RepositoryError(Exception):
    """A models folder that can't be served at all; the message says what was expected."""


@dataclass(frozen=True)
class Package:
    """A package in memory, its checksums verified."""

    manifest: Manifest
    model: bytes
    """The bytes that were hashed are the bytes that are loaded: no one can change them in between."""


def scan(models: Path) -> dict[str, list[int]]:
    """The versions of every model under `models`, in order.

    Raises:
        RepositoryError: the folder is missing, can't be read, or holds no package.
    """
    if not models.is_dir():
        raise RepositoryError(f"models folder {models} does not exist")
    try:
        found = {
            folder.name: sorted(
                int(child.name) for child in folder.iterdir() if child.is_dir() and _VERSION.fullmatch(child.name)
            )
            for folder in sorted(models.iterdir())
            if folder.is_dir() and _NAME.fullmatch(folder.name)
        }
    except OSError as error:
        raise RepositoryError(f"models folder {models} can't be read: {error}") from error
    found = {name: versions for name, versions in found.items() if versions}
    if not found:
        raise RepositoryError(
            f"no model package in {models}: expected <name>/<version>/{MANIFEST}, such as sentiment/1/{MANIFEST}"
        )
    return found


def read(models: Path, name: str, version: int) -> Package:
    """Read a package and verify the checksums of all its files.

    Raises:
        LoadError: `load_error` where a file is missing, can't be read or says it is another package;
            `checksum` where one is not what the manifest says.
    """
    folder = models / name / str(version)
    try:
        manifest = parse(_read(folder / MANIFEST, MAX_MANIFEST_BYTES))
        model = b""
        for file, digest in manifest.files.items():
            if Path(file).name != file:
                raise LoadError("load_error", f"{MANIFEST}: files: {file!r} is not a plain file name")
            data = _read(folder / file, digest.bytes)
            if len(data) != digest.bytes:
                raise LoadError("checksum", f"{file} has {len(data)} bytes; its manifest says {digest.bytes}")
            if hashlib.sha256(data).hexdigest() != digest.sha256:
                raise LoadError("checksum", f"the SHA-256 of {file} is not the one in its manifest")
            if file == MODEL:
                model = data
    except MemoryError as error:
        raise LoadError("load_error", f"{folder} does not fit into memory") from error
    except OSError as error:
        raise LoadError("load_error", f"{error.filename or folder}: {error.strerror}") from error
    except ValueError as error:  # a ManifestError, or a file name that no system takes
        raise LoadError("load_error", str(error)) from error
    if (manifest.name, manifest.version) != (name, version):
        raise LoadError(
            "load_error",
            f"{MANIFEST} is of {manifest.name} version {manifest.version}, but lies in {name}/{version}",
        )
    return Package(manifest, model)


def _read(path: Path, limit: int) -> bytes:
    """All of a regular file, which is no larger than `limit` bytes: a pipe would hang, a device never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise LoadError("load_error", f"{path.name} is not a regular file")
    with open(descriptor, "rb") as file:
        if status.st_size > limit:
            raise LoadError("checksum", f"{path.name} has {status.st_size} bytes, more than the {limit} expected")
        return file.read(limit + 1)

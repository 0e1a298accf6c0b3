"""Model packages as they lie on disk: a folder with a manifest and the files it names, in one of several layouts.

`<models>/<name>/<version>/` is ours. Where the models folder is one model (as KServe mounts it), the package is the
folder itself, or `<models>/<version>/`. Links may lead anywhere within the models folder, and nowhere else: volumes of
Kubernetes and git-sync are made of links, and switch them to change what is there.
"""

import hashlib
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from serving.package.manifest import MANIFEST, MODEL, Manifest, Name, Positive, parse

MAX_MANIFEST_BYTES: Final = 16 * 1024 * 1024
MAX_PACKAGE_BYTES: Final = 2 * 1024**3
"""All files of a package. A graph can't be larger, being a Protocol Buffers message (which ends at 2 GiB)."""

# Neither has a dot: hidden entries are no packages.
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Without waiting for the other end of a pipe."""

_CHUNK: Final = 1024 * 1024


class LoadError(Exception):
    """A package that is not served, and why.

    `outcome` is the label under which `triptych_model_loads_total` counts it. One that is not `lasting` says nothing of
    the package: there was no memory to try it out, for example, and later there may be.
    """

    def __init__(self, outcome: str, message: str, *, lasting: bool = True) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.lasting = lasting


class RepositoryError(Exception):
    """A models folder that can't be served at all; the message says what was expected."""


@dataclass(frozen=True)
class Package:
    """A package in memory, its checksums verified."""

    manifest: Manifest
    model: bytes
    """The bytes that were hashed are the bytes that are loaded: no one can change them in between."""
    digest: str
    """SHA-256 of the manifest's bytes, in hex; as the manifest has all other checksums, it stands for the whole."""


class Found(dict[str, dict[int, Path]]):
    """The folders of all packages, by name and version, both in order."""

    def __init__(self, versions: dict[str, dict[int, Path]], problems: dict[str, str]) -> None:
        super().__init__({name: dict(sorted(found.items())) for name, found in sorted(versions.items())})
        self.problems = problems
        """Models whose folders are there and can't be read, and why."""


def scan(models: Path) -> Found:
    """The folders of all packages under `models`.

    Whether they are any good is for `read` to say.

    Raises:
        RepositoryError: the folder is missing, can't be read, or holds no package.
    """
    if not models.is_dir():
        raise RepositoryError(f"models folder {models} does not exist")
    found: dict[str, dict[int, Path]] = {}
    problems: dict[str, str] = {}
    try:
        folders = _folders(models)
        for folder in folders:
            if _NAME.fullmatch(folder.name):
                try:
                    versions = {int(child.name): child for child in _folders(folder) if _VERSION.fullmatch(child.name)}
                except OSError as error:
                    problems[folder.name] = f"{folder} can't be read: {error.strerror}"
                    continue
                if versions:
                    found[folder.name] = versions
        for name, version, folder in _as_one_model(models, folders):
            found.setdefault(name, {}).setdefault(version, folder)
    except OSError as error:
        raise RepositoryError(f"models folder {models} can't be read: {error}") from error
    if not (found or problems):
        raise RepositoryError(
            f"no model package in {models}: expected <name>/<version>/{MANIFEST}, such as sentiment/1/{MANIFEST}; "
            f"or, for a single model, <version>/{MANIFEST} or {MANIFEST} itself"
        )
    return Found(found, problems)


def read(models: Path, folder: Path, name: str, version: int) -> Package:
    """Read the package in `folder`, which is `models` or lies under it, and verify the checksums of all its files.

    Raises:
        LoadError: `load_error` where a file is missing, can't be read, lies outside of `models` or says it is another
            package; `checksum` where one is not what the manifest says.
    """
    try:
        # Both folders are held open: a link that is switched meanwhile does not mix two packages.
        with _open(models, models, _FOLDER) as root, _open(folder, folder.relative_to(models), _FOLDER, root) as place:
            _check_inside(root, place, folder)
            data = _read(root, place, folder / MANIFEST, MAX_MANIFEST_BYTES)
            manifest = parse(data)
            return Package(manifest, _read_files(root, place, folder, manifest, name, version), _sha256(data))
    except MemoryError as error:
        raise LoadError("load_error", f"{folder} does not fit into memory", lasting=False) from error
    except OSError as error:
        raise LoadError("load_error", f"{error.filename or folder}: {error.strerror}") from error
    except ValueError as error:  # a ManifestError, or a file name that no system takes
        raise LoadError("load_error", str(error)) from error


def fingerprint(folder: Path) -> tuple[tuple[object, ...], ...]:
    """What changes when the package in `folder` does, found without opening a file; never fails.

    Hidden entries do not count: they are other programs' business until a link leads to them.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        return (("unreadable", error.errno),)
    return ((os.path.realpath(folder),), *(_stamp(os.path.join(folder, name)) for name in names))


def _stamp(path: str) -> tuple[object, ...]:
    target = os.path.realpath(path)
    try:
        status = os.stat(path)
    except OSError as error:
        return path, target, error.errno
    return path, target, status.st_dev, status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns


class _Identity(msgspec.Struct):
    """As much of a manifest as says whose it is."""

    name: Name
    version: Positive


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder; none if it has gone meanwhile."""
    try:
        return [child for child in folder.iterdir() if child.is_dir()]
    except FileNotFoundError:
        return []


def _as_one_model(models: Path, folders: list[Path]) -> Iterator[tuple[str, int, Path]]:
    """The packages there, if `models` is the folder of one model."""
    if (models / MANIFEST).exists() and (identity := _identity(models, models)):
        yield identity.name, identity.version, models
    versions = [folder for folder in folders if _VERSION.fullmatch(folder.name) and (folder / MANIFEST).exists()]
    names = {folder: identity.name for folder in versions if (identity := _identity(models, folder))}
    # One that can't be read is of the model of its neighbours, to be reported with them.
    other = min(names.values(), default=None)
    for folder in versions:
        if name := names.get(folder, other):
            yield name, int(folder.name), folder


def _identity(models: Path, folder: Path) -> _Identity | None:
    """Whose manifest lies in `folder`, or None where it can't be read."""
    try:
        with _open(models, models, _FOLDER) as root, _open(folder, folder.relative_to(models), _FOLDER, root) as place:
            return msgspec.json.decode(_read(root, place, folder / MANIFEST, MAX_MANIFEST_BYTES), type=_Identity)
    except (OSError, ValueError, RecursionError, LoadError):
        return None


def _read_files(root: int, place: int, folder: Path, manifest: Manifest, name: str, version: int) -> bytes:
    """Verify all files that the manifest names; returns the graph."""
    if (manifest.name, manifest.version) != (name, version):
        raise LoadError(
            "load_error",
            f"{MANIFEST} is of {manifest.name} version {manifest.version}, but lies in {name}/{version}: "
            "rename the folder, or change name and version there",
        )
    if (total := sum(file.bytes for file in manifest.files.values())) > MAX_PACKAGE_BYTES:
        raise LoadError("load_error", f"{MANIFEST}: files have {total} bytes, more than {MAX_PACKAGE_BYTES}")
    model = b""
    for file, expected in manifest.files.items():
        data = _read(root, place, folder / file, expected.bytes)
        if len(data) != expected.bytes:
            raise LoadError("checksum", f"{file} has {len(data)} bytes; its manifest says {expected.bytes}")
        if _sha256(data) != expected.sha256:
            raise LoadError("checksum", f"the SHA-256 of {file} is not the one in its manifest")
        if file == MODEL:
            model = data
    return model


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(root: int, place: int, path: Path, limit: int) -> bytes:
    """All of a regular file in `place`, no larger than `limit` bytes: a pipe would hang, a device never end."""
    with _open(path, path.name, _FILE, place) as descriptor:
        _check_inside(root, descriptor, path)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise LoadError("load_error", f"{path.name} is not a regular file")
        if status.st_size > limit:
            raise LoadError("checksum", f"{path.name} has {status.st_size} bytes, more than the {limit} expected")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(status.st_size + 1)  # one more: it may be growing


@contextmanager
def _open(shown: Path, path: Path | str, flags: int, within: int | None = None) -> Iterator[int]:
    """A descriptor of `path`, relative to the folder `within`; `shown` is what an error says of it."""
    try:
        descriptor = os.open(path, flags, dir_fd=within)
    except OSError as error:
        error.filename = str(shown)
        raise
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _check_inside(root: int, descriptor: int, shown: Path) -> None:
    """Refuse what was opened if it lies outside of `root`: a path says where its links lead now, not where they led."""
    inside, target = _where(root), _where(descriptor)
    if not target.is_relative_to(inside):
        raise LoadError("load_error", f"{shown} leads to {target}, outside of the models folder {inside}")


def _where(descriptor: int) -> Path:
    """The path, free of links, of what is open."""
    if sys.platform == "darwin":
        import fcntl

        return Path(os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0")))
    return Path(os.readlink(f"/proc/self/fd/{descriptor}"))

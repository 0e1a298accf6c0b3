"""Model packages on disk: `<repository>/<name>/<version>/`, written whole or not at all."""

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from serving.package.manifest import FileDigest
from training.errors import TrainingError, one_line

VERSION = re.compile("[1-9][0-9]{0,17}")
"""What a server takes for one."""


def target(repository: Path, name: str, version: int | None, force: bool) -> Path:
    """The folder that a new package goes to.

    Args:
        repository: the folder of all models.
        name: of the model.
        version: of the package; None means the next number.
        force: whether a version that exists may be replaced.

    Raises:
        TrainingError: that version exists already.
    """
    if version is None:
        version = max(versions(repository / name), default=0) + 1
    if not VERSION.fullmatch(str(version)):
        raise TrainingError(f"--version {version}: expected a number from 1 to 18 digits")
    folder = repository / name / str(version)
    if folder.exists() and not force:
        raise TrainingError(f"{folder} exists. Leave out --version for the next number, or replace it with --force.")
    return folder


def check_writable(folder: Path) -> None:
    """See that files can be written to `folder`, or that it can be made.

    Raises:
        TrainingError: they can't; names what is in the way.
    """
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise TrainingError(f"{folder} can't be written to: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise TrainingError(f"{folder} can't be written to: {there} does not let you")


def versions(model: Path) -> list[int]:
    """The versions there are in the folder `model`."""
    return [int(entry.name) for entry in model.glob("*") if VERSION.fullmatch(entry.name) and entry.is_dir()]


def digest_of(content: bytes) -> FileDigest:
    """Size and SHA-256 of a file that is not on disk yet."""
    return FileDigest(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def write(folder: Path, files: dict[str, bytes], *, replace: bool) -> None:
    """Write a package of `files` to `folder`, replacing what is there or, without `replace`, where nothing is.

    The files are written and synced in a hidden folder beside the target, which is then renamed into place: whoever
    looks sees a whole package or none. Interrupted, it leaves things as they were.

    Raises:
        TrainingError: the folder can't be written to, or somebody else has published it meanwhile.
    """
    try:
        _write(folder, files, replace)
    except OSError as error:
        if not replace and folder.exists():
            raise TrainingError(
                f"{folder} was published by somebody else meanwhile and is left alone: try again for the next number"
            ) from error
        raise TrainingError(f"{folder} can't be written: {one_line(error)}") from error


def _write(folder: Path, files: dict[str, bytes], replace: bool) -> None:
    made = [parent for parent in (folder.parent, *folder.parent.parents) if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    fresh, old = temporary / "new", temporary / "old"
    try:
        fresh.mkdir()
        for name, content in files.items():
            with (fresh / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync(fresh)
        # A folder can't be renamed onto one that isn't empty, so the old one steps aside first.
        if replace and folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        _sync(folder.parent)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in made:  # innermost first; only those that stayed empty
            if not any(parent.iterdir()):
                parent.rmdir()
        raise
    shutil.rmtree(temporary, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Make the entries of `folder` outlast a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Model packages on disk: `<repository>/<name>/<version>/`, written whole or not at all."""

import os
import shutil
import tempfile
from pathlib import Path

from training.errors import TrainingError


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
    folder = repository / name / str(version)
    if folder.exists() and not force:
        raise TrainingError(f"{folder} exists. Leave out --version for the next number, or replace it with --force.")
    return folder


def versions(model: Path) -> list[int]:
    """The versions there are in the folder `model`."""
    return [int(entry.name) for entry in model.glob("*") if entry.name.isdecimal()]


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write a package of `files` to `folder`, replacing what is there.

    The files are written and synced in a hidden folder beside the target, which is then renamed into place: whoever
    looks sees a whole package or none. Interrupted, it leaves things as they were.
    """
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
        if folder.exists():
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

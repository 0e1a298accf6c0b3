"""What is seen of a model on the disk without opening a package: where it lies, whether it changes, what is wrong."""

import logging
from pathlib import Path
from typing import Any

from serving.repository import disk, policy
from serving.repository.state import POLICY

log = logging.getLogger(__name__)

Versions = dict[int, Path]
"""The folders of a model's versions."""


def home_of(root: Path, versions: Versions) -> Path | None:
    """The folder of a model, given those of its versions; `root` is that of all models, or of the only one."""
    folder = next(iter(versions.values()), None)
    return folder.parent if folder not in (None, root) else folder


def marks_of(root: Path, versions: Versions) -> dict[int, Any]:
    """Fingerprints of the versions, and of the model's policy as `POLICY`."""
    marks: dict[int, Any] = {number: disk.fingerprint(folder) for number, folder in versions.items()}
    home = home_of(root, versions)
    return marks if home is None else {**marks, POLICY: policy.fingerprint(home)}


def complain(before: str, problem: str, about: dict[str, str]) -> str:
    """Log a problem that was not there before, or one that is solved; returns it."""
    if problem and problem != before:
        log.error("repository problem", extra={**about, "reason": problem})
    elif before and not problem:
        log.info("repository problem solved", extra={**about, "reason": before})
    return problem

"""Which requirements neither a folder of wheels nor this Python can meet, all of them at once.

pip names the first and stops; whoever carries wheels to a machine without internet wants the whole list. Run in the
environment that they are for: `python -m gpu.check.wheels FOLDER REQUIREMENT…` prints a line for each.
"""

import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.parser import Parser
from importlib import metadata
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.tags import sys_tags
from pip._vendor.packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from pip._vendor.packaging.version import InvalidVersion, Version


@dataclass(frozen=True)
class Wheel:
    """One file of the folder."""

    path: Path
    version: Version
    fits: bool
    """It is for this Python and this machine."""

    def requirements(self) -> list[str]:
        """What it needs, by its own METADATA."""
        with zipfile.ZipFile(self.path) as archive:
            name = next(each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
            return Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []


@dataclass
class Search:
    """A walk through requirements and what they need in turn."""

    wheels: dict[str, list[Wheel]]
    missing: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """By name, which versions are wanted and by what."""
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def visit(self, text: str, by: str, extras: tuple[str, ...] = ("",)) -> None:
        """Look for one requirement, and for all that it needs; `extras` are those of who asks."""
        wanted = Requirement(text)
        if wanted.marker is not None and not any(wanted.marker.evaluate({"extra": extra}) for extra in extras):
            return
        name = canonicalize_name(wanted.name)
        key = (name, f"{wanted.specifier}{sorted(wanted.extras)}")
        if key in self._seen:
            return
        self._seen.add(key)
        needs = self._needs(name, wanted)
        if needs is None:
            self.missing.setdefault(name, []).append((str(wanted.specifier), by))
            return
        for need in needs:
            self.visit(need, wanted.name, ("", *sorted(wanted.extras)))

    def _needs(self, name: str, wanted: Requirement) -> list[str] | None:
        """What the package needs that meets it; None if none does."""
        try:
            installed = metadata.distribution(name)
            if wanted.specifier.contains(installed.version, prereleases=True):
                return installed.requires or []
        except (metadata.PackageNotFoundError, InvalidVersion):
            pass
        fit = [one for one in self.wheels.get(name, ()) if one.fits and wanted.specifier.contains(one.version)]
        return max(fit, key=lambda one: one.version).requirements() if fit else None

    def lines(self) -> Iterator[str]:
        """What is missing, in words."""
        for name, wanted in self.missing.items():
            versions = ",".join(dict.fromkeys(specifier for specifier, _ in wanted if specifier))
            others = ", ".join(one.path.name for one in self.wheels.get(name, ()))
            unusable = f"; not usable here: {others}" if others else ""
            yield f"{name}{versions} (for {', '.join(dict.fromkeys(by for _, by in wanted))}{unusable})"


def read(folder: Path) -> dict[str, list[Wheel]]:
    """The wheels of a folder by name."""
    ours = frozenset(sys_tags())
    found: dict[str, list[Wheel]] = {}
    for path in sorted(folder.glob("*.whl")):
        try:
            name, version, _, tags = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            continue
        found.setdefault(name, []).append(Wheel(path, version, not ours.isdisjoint(tags)))
    return found


def missing(folder: Path, requirements: list[str]) -> Iterator[str]:
    """A line for each requirement that can't be met."""
    search = Search(read(folder))
    for requirement in requirements:
        search.visit(requirement, "triptych")
    yield from search.lines()


if __name__ == "__main__":
    print(*missing(Path(sys.argv[1]), sys.argv[2:]), sep="\n")

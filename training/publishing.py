"""Publishing what was fitted into a folder of its own: servers never see a package before it was checked."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from serving.package.manifest import MANIFEST, MODEL, Manifest, digest, dump, parse
from training.data import load
from training.errors import GateError, TrainingError, one_line
from training.evaluate import answers, check_graph
from training.gate import judge
from training.models import RECIPES
from training.options import ExportPrecision
from training.packaging.package import target, versions, write

RUN = "run.json"


@dataclass(frozen=True)
class Published:
    """A package, where it came from, and how it compared with the version before it."""

    package: Path
    staged: Path
    gate: str
    is_new: bool = True
    """Whether it was written; the same network is not published a second time."""
    forced: bool = False
    """Whether it was published although it is significantly worse, or can't be compared."""


@dataclass(frozen=True)
class _Staged:
    place: Path
    manifest: Manifest
    files: dict[str, bytes]


def publish(staged: Path, repository: Path, data: Path | None, force: bool) -> list[Published]:
    """Publish the newest version of each model in `staged`, under the next number that `repository` has for it.

    Each is first held to its checksums and to the version that it would take over from; one that fails stops all.
    Which device will serve it isn't known here: `python -m serving check` runs it beforehand, as a server would.

    Args:
        staged: a folder `<name>/<version>/`.
        repository: the folder that servers watch; it may be on another file system.
        data: the folder of the data sets, for the comparison.
        force: publish what is significantly worse, too.

    Raises:
        TrainingError: there is nothing to publish, or something is not as it should be.
    """
    packages = [_read(staged / name / str(number)) for name, number in _newest(staged).items()]
    if not packages:
        raise TrainingError(f"{staged} holds no package: expected {staged}/<name>/<version>/{MANIFEST}")
    decided = [_decide(package, repository, data, force) for package in packages]
    for package, published in zip(packages, decided, strict=True):
        if published.is_new:
            provenance = package.manifest.provenance
            if published.forced:
                provenance = {**provenance, "forced": published.gate}
            manifest = msgspec.structs.replace(
                package.manifest, version=int(published.package.name), provenance=provenance
            )
            write(published.package, {**package.files, MANIFEST: dump(manifest)}, replace=False)
    return decided


def _newest(staged: Path) -> dict[str, int]:
    """The highest version of each model in `staged`."""
    found = {model.name: versions(model) for model in sorted(staged.glob("[!.]*")) if model.is_dir()}
    return {name: max(numbers) for name, numbers in found.items() if numbers}


def _read(place: Path) -> _Staged:
    """The package in the folder `place`, whole.

    Raises:
        TrainingError: it is not one, or its files are not those that its manifest names.
    """
    try:
        manifest = parse((place / MANIFEST).read_bytes())
        files = {name: (place / name).read_bytes() for name in manifest.files}
    except (OSError, ValueError) as error:
        raise TrainingError(f"{place} is not a model package: {one_line(error)}") from error
    if (manifest.name, str(manifest.version)) != (place.parent.name, place.name):
        raise TrainingError(f"{place}: its manifest says {manifest.name}/{manifest.version}")
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != manifest.files[name].sha256:
            raise TrainingError(f"{place / name} is damaged: its SHA-256 is not the manifest's")
    if (place / RUN).exists():
        files[RUN] = (place / RUN).read_bytes()
    return _Staged(place, manifest, files)


def _decide(package: _Staged, repository: Path, data: Path | None, force: bool) -> Published:
    """Where `package` goes; or, where the newest version there is the same network, that version."""
    folder = target(repository, package.manifest.name, None, force=False)
    before = folder.with_name(str(int(folder.name) - 1))
    if _is_whole(before) and digest(before / MODEL) == package.manifest.files[MODEL]:
        return Published(before, package.place, "the same model.onnx: nothing to publish", is_new=False)
    gate, forced = _gate(package, folder, data, force)
    return Published(folder, package.place, gate, forced=forced)


def _is_whole(place: Path) -> bool:
    """Whether a package lies there that reads as one: a damaged one must not count as published."""
    try:
        _read(place)
    except TrainingError:
        return False
    return True


def _gate(package: _Staged, folder: Path, data: Path | None, force: bool) -> tuple[str, bool]:
    """How `package` compares with the version that `folder` would take over from, and whether that was overridden.

    Raises:
        GateError: it is significantly worse, or nothing can tell.
    """
    recipe = RECIPES.get(package.manifest.name)
    if recipe is None:
        if versions(folder.parent) and not force:
            raise GateError(
                f"{package.place}: no test set is known for {package.manifest.name!r}, so nothing says that it is no "
                "worse than what is there. Publish it with --force."
            )
        return "not compared: no test set is known", bool(versions(folder.parent))
    if not versions(folder.parent):
        check_graph(recipe, package.files[MODEL], str(package.place))
        return "the first version", False
    loaded = load(recipe.dataset, data)
    outputs = answers(recipe, loaded, package.files[MODEL], str(package.place))
    precision: ExportPrecision = (
        "float16" if package.manifest.provenance.get("export_precision") == "float16" else "float32"
    )
    verdict = judge(recipe, loaded, outputs, folder, force, precision)
    return str(verdict), verdict.forced

"""The golden examples of packages: what to ask, what must come back, and how near to it an answer is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu.check.finding import StepFailed
from serving.engine.device import CPU, CUDA, Device
from serving.engine.engine import Runner, alone
from serving.engine.request import Request
from serving.engine.session import Session
from serving.package.manifest import Manifest, golden_array
from serving.repository import disk
from serving.repository.disk import Package
from serving.repository.verify import encode, size_of

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Tolerance:
    """How far from the golden outputs an answer may be."""

    atol: float
    rtol: float

    def share(self, found: Array, expected: Array) -> float:
        """The largest difference, as a share of what is allowed: above 1 is wrong.

        NaN equals NaN, as in verified load; anything else beside NaN, and another shape, is infinitely far.
        """
        if found.shape != expected.shape:
            return np.inf
        if found.dtype == np.object_:
            return 0.0 if np.array_equal(found, expected) else np.inf
        found, expected = found.astype(np.float64), expected.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = np.abs(found - expected) / (self.atol + self.rtol * np.abs(expected))
        shares[(found == expected) | (np.isnan(found) & np.isnan(expected))] = 0.0
        return float(np.nan_to_num(shares, nan=np.inf).max(initial=0.0))


def packages(models: Path) -> Iterator[Package]:
    """Every package of a folder, by name and version."""
    for name, folders in sorted(disk.scan(models).items()):
        for version, folder in sorted(folders.items()):
            yield disk.read(models, folder, name, version)


def tolerance(manifest: Manifest, on_cuda: bool) -> Tolerance:
    """That of the manifest.

    Raises:
        StepFailed: it has none for this provider.
    """
    provider = CUDA if on_cuda else CPU
    found = manifest.golden.tolerance.get(provider)
    if found is None:
        raise StepFailed(f"{manifest.name} {manifest.version} gives no tolerance for {provider}, and would be refused")
    return Tolerance(found.atol, found.rtol)


def expected(manifest: Manifest) -> list[Array]:
    """Golden outputs, in the manifest's order."""
    return [golden_array(manifest.golden.outputs[spec.name], spec.datatype) for spec in manifest.outputs]


def request(manifest: Manifest) -> Request:
    """Golden inputs as the engine takes them."""
    golden = manifest.golden.inputs
    inputs = [encode(spec, golden[spec.name]) for spec in manifest.inputs]
    return Request(inputs, len(next(iter(golden.values()))), size_of(inputs), 0.0, lambda *_: None)


def computed(manifest: Manifest, session: Session) -> Sequence[Array]:
    """What a session makes of the golden inputs."""
    return Runner(manifest, session)(alone(request(manifest)))


def share(manifest: Manifest, model: bytes, device: Device) -> float:
    """The largest difference from the golden outputs on a device, as a share of the tolerance there."""
    found = computed(manifest, Session(model, device))
    allowed = tolerance(manifest, device.provider == CUDA)
    return max(allowed.share(one, wanted) for one, wanted in zip(found, expected(manifest), strict=True))

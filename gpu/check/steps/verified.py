"""Every package passes `check` on the device, and how near to its golden outputs the device comes."""

import importlib
import importlib.util
import math
import subprocess
import sys
from typing import Any

import msgspec
import onnx

from gpu.check import golden
from gpu.check.context import Context
from gpu.check.finding import Finding, Table
from gpu.check.venv import CHECKOUT
from serving.engine import device
from serving.engine.device import CudaOptions, Device
from serving.repository.disk import Package
from training.errors import TrainingError

SECONDS = 600.0
HALF, HALF_PARITY = "training.packaging.half", "training.packaging.half_parity"


def run(context: Context, found: Finding) -> None:
    """Check as a server would, then measure."""
    _check(context, found)
    here = device.choose(context.device)[0]
    tf32 = device.choose(context.device, CudaOptions(tf32=True))[0] if _asks_tf32(found) else None
    half = _half(found)
    rows = [measured(found, package, here, tf32, half) for package in golden.packages(context.models)]
    columns = ("package", "of its tolerance", "with TF32", "in half precision")
    note = (
        "The largest difference from the golden outputs, as a share of the package's tolerance; of the graph made half "
        "precision, of the tolerance that such a package has. TF32, which is off, does not fail."
    )
    found.tables.append(Table(columns, rows, note))


def measured(found: Finding, package: Package, here: Device, tf32: Device | None, half: Any) -> list[Any]:
    """One package's line; TF32's figure can't fail."""
    manifest = package.manifest
    name = f"{manifest.name} {manifest.version}"
    share = golden.share(manifest, package.model, here)
    found.expect(share <= 1, f"{name}: {share:.3g} of its tolerance from its golden outputs")
    return [
        name,
        share,
        golden.share(manifest, package.model, tf32) if tf32 else math.nan,
        _share_in_half(found, package, here, half) if half else math.nan,
    ]


def _share_in_half(found: Finding, package: Package, here: Device, half: Any) -> float:
    """NaN for a graph that gains nothing by it, or can't be made."""
    manifest = package.manifest
    name = f"half precision of {manifest.name} {manifest.version}"
    try:
        twin = half(onnx.load_from_string(package.model)).SerializeToString()
    except TrainingError as error:
        found.figures[name] = str(error)
        return math.nan
    tolerance = importlib.import_module(HALF_PARITY).tolerance()
    examples = msgspec.structs.replace(manifest.golden, tolerance=tolerance)
    share = golden.share(msgspec.structs.replace(manifest, golden=examples), twin, here)
    found.expect(share <= 1, f"{name}: {share:.3g} of its tolerance from its golden outputs")
    return share


def _check(context: Context, found: Finding) -> None:
    """`python -m serving check`, which every package must pass."""
    done = subprocess.run(
        [sys.executable, "-m", "serving", "check", str(context.models), "--device", context.device],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    (context.out / "check.txt").write_text(done.stdout + done.stderr)
    last = ([*done.stdout.splitlines(), *done.stderr.splitlines()] or ["nothing"])[-1]
    found.figures["python -m serving check"] = last
    found.expect(done.returncode == 0, f"python -m serving check ended with {done.returncode}: {last} (check.txt)")


def _asks_tf32(found: Finding) -> bool:
    return found.on_cuda("the difference that TF32 makes")


def _half(found: Finding) -> Any:
    """What makes a graph compute in half precision, or None where it can't be had."""
    if importlib.util.find_spec(HALF) is None:
        found.figures["half precision"] = "not measured: this checkout has no way to make it"
        return None
    try:
        return importlib.import_module(HALF).half
    except ImportError as error:
        found.figures["half precision"] = f"not measured: {error}"
        return None

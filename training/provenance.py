"""What a package says of how it was made: sources, libraries and files in its manifest, the run itself in run.json."""

import hashlib
import json
import os
import platform
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from training.runs import Device
from training.speed import Speed


def code() -> str:
    """SHA-256 over this package's sources: unlike a commit, it can be known before the package is committed."""
    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        sources.update(path.relative_to(Path(__file__).parent).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"sha256:{sources.hexdigest()}"


def libraries() -> dict[str, str]:
    """The version of each library that a package depends on."""
    import onnxruntime as ort

    return {
        "python": platform.python_version(),
        **{name: installed(name) for name in ("keras", "numpy", "onnx", "tensorflow", "tf2onnx")},
        "onnxruntime": ort.__version__,  # installed under one of several names
    }


def sources(dataset: str, sha256: dict[str, str]) -> dict[str, Any]:
    """What a package or a run was made from: the data set's title, its files' hashes, the code, the libraries."""
    return {"dataset": dataset, "dataset_sha256": sha256, "code": code(), "libraries": libraries()}


def run_json(
    training_seconds: float | None, wall_seconds: float, devices: Sequence[Device] = (), speed: Speed | None = None
) -> bytes:
    """`run.json`: what differs from run to run, for people; outside every checksum.

    Args:
        training_seconds: of the final network alone; None where nothing was trained.
        wall_seconds: of the whole run.
        devices: what was trained on.
        speed: of the final network's epochs.
    """
    run = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "training_seconds": None if training_seconds is None else round(training_seconds, 2),
        "wall_seconds": round(wall_seconds, 2),
        "devices": [asdict(device) for device in devices],
        "epoch_seconds": None
        if speed is None
        else {
            "first": speed.first,
            "median_of_the_rest": speed.median,
            "epochs": speed.epochs,
            "samples_per_second": speed.samples_per_second,
        },
        "peak_memory_bytes": peak_memory(),
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "processor": processor(),
            "cpus": os.cpu_count(),
        },
    }
    return json.dumps(run, indent=1).encode() + b"\n"


def processor() -> str:
    """What the CPU calls itself; empty where nothing says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def peak_memory() -> int:
    """Peak resident memory of this process, bytes: TensorFlow itself, the data, training, export and its checks.

    On Linux a new process starts from its parent's peak at that time, so the parent must stay small: it imports
    neither TensorFlow nor ONNX Runtime.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

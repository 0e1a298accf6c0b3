"""What is checked: driver, devices, ONNX Runtime, and where the CUDA libraries come from."""

import importlib.util
import platform
from importlib import metadata
from pathlib import Path

import onnxruntime as ort

from gpu.check import driver, libraries
from gpu.check.context import Context
from gpu.check.finding import Finding, Table

_PACKAGES = ("triptych", "onnxruntime", "onnxruntime-gpu", "nvidia-ml-py", "grpcio", "numpy", "protobuf")


def run(context: Context, found: Finding) -> None:
    """Tell, and fail where driver and ONNX Runtime do not go together."""
    found.figures["processor"] = _processor()
    found.figures["versions"] = {name: version for name in _PACKAGES if (version := _version(name))}
    found.figures["onnxruntime"] = f"{ort.__version__}, built for CUDA {getattr(ort, 'cuda_version', '') or '–'}"
    if not found.on_cuda("a driver, a device, and CUDA libraries"):
        return
    seen = driver.look(context.index)
    found.figures["driver"] = seen.version or "unknown"
    found.figures["driver's CUDA"] = ".".join(map(str, seen.cuda))
    rows = [(f"cuda:{gpu.index}", gpu.name, gpu.compute_capability, f"{gpu.memory_bytes >> 20}") for gpu in seen.gpus]
    found.tables.append(Table(("device", "name", "compute capability", "memory, MiB"), rows))
    where = libraries.found()
    found.tables.append(Table(("CUDA library", "found"), list(where.items())))
    built = int(str(getattr(ort, "cuda_version", "")).partition(".")[0] or 0)
    found.expect(seen.cuda[0] >= built, f"the driver is too old: it has CUDA {seen.cuda[0]}, onnxruntime needs {built}")
    found.expect("CUDAExecutionProvider" in ort.get_available_providers(), "this onnxruntime is built without CUDA")
    found.expect(not (lacking := libraries.missing()), f"CUDA libraries are missing: {', '.join(lacking)}")
    found.expect(importlib.util.find_spec("pynvml") is not None, "nvidia-ml-py is missing: there are no GPU metrics")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0]}, {len(models)} cores" if models else platform.machine()

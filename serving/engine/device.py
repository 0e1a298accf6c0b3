"""Where a model runs: the choice of ONNX Runtime execution providers, with a reason for every fall-back."""

import contextlib
import ctypes
import functools
import io
import logging
import re
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import onnxruntime as ort

from serving.engine.cuda import CudaError, Driver, Memory
from serving.engine.wanted import WANTED, indices, refusal

log = logging.getLogger(__name__)

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"

_WARNING, FATAL = 2, 4
"""Levels of ONNX Runtime's log, which has what it also raises."""

CREATING = threading.Lock()
"""Held while a session is made: ONNX Runtime runs several at a time, and makes them one by one."""

_PROBE = bytes.fromhex(
    "08093a320a0b0a017812017922034e65671201675a0f0a0178120a0a08080112040a02080162"
    "0f0a0179120a0a08080112040a02080142040a001014"
)
"""An ONNX graph of one Neg node, to see whether a provider really starts."""

_BEYOND_LIMIT = "Available memory of"
"""What ONNX Runtime says where more is wanted than a limit allows."""

_NO_MEMORY = re.compile(
    rf"bad_alloc|[Ff]ailed to allocate memory|out of memory|{_BEYOND_LIMIT}|_ALLOC(ATION)?_FAILED"
    "|CUBLAS_STATUS_NOT_INITIALIZED"  # when it finds no room for itself
)
"""What ONNX Runtime, and what it stands on, say when there is none left."""

_FAILURE = re.compile(r"(CUDA|CUDNN|CUBLAS) failure \d+: [^;]*\w")
"""What CUDA itself says, in the middle of what ONNX Runtime says of its own source."""


class Problem(NamedTuple):
    """Why a device can't be used."""

    words: str
    passing: bool = False
    """May it be otherwise in a moment?"""


class DeviceError(Exception):
    """The device that was asked for can't be had; the message says why and what to do."""


@dataclass(frozen=True)
class CudaOptions:
    """What can be chosen about GPUs."""

    memory_limit: int = 0
    """Bytes of tensors that ONNX Runtime may have for one model version on a device; 0 is any."""
    tf32: bool = False
    """Multiply float32 with 10 bits of mantissa: less work, and further from golden outputs than most tolerances."""


@dataclass(frozen=True)
class Device:
    """An execution provider and its options."""

    provider: Literal["CPUExecutionProvider", "CUDAExecutionProvider"]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def index(self) -> int | None:
        """Of the CUDA device, as CUDA counts them."""
        return None if self.provider == CPU else int(self.options["device_id"])

    @property
    def name(self) -> str:
        """As `choose` takes it."""
        return "cpu" if self.index is None else f"cuda:{self.index}"

    @property
    def providers(self) -> list[tuple[str, dict[str, Any]]]:
        """For an ONNX Runtime session. Text operators exist on the CPU only, so it always stands behind."""
        chosen = [(str(self.provider), self.options)]
        return chosen if self.provider == CPU else [*chosen, (CPU, {})]

    def memory(self) -> Memory | None:
        """What is free on a GPU, and all of it, in bytes; None for the CPU, and where the driver does not say."""
        if self.index is None:
            return None
        try:
            return Driver.find().memory(self.index)
        except CudaError as error:
            log.debug("GPU memory unknown", extra={"device": self.name, "reason": str(error)})
            return None


DEFAULTS: Final = CudaOptions()


def choose(wanted: str, cuda: CudaOptions = DEFAULTS) -> tuple[Device, ...]:
    """The devices for `auto`, `cpu`, `cuda`, `cuda:I` or several of the last with commas between them.

    `auto` takes the first GPU where it works and else falls back to the CPU, saying so in the log.

    Raises:
        DeviceError: not one of these, or CUDA was asked for and can't be had.
    """
    if wanted == "cpu":
        return _on_cpu(cuda)
    if re.fullmatch(WANTED, wanted) is None:
        raise DeviceError(f"device {wanted!r}: expected auto, cpu, cuda, cuda:I or cuda:I,cuda:J…")
    found = [0] if wanted == "auto" else indices(wanted)
    if len(set(found)) < len(found):
        raise DeviceError(f"device {wanted!r}: the same one twice")
    chosen = tuple(_cuda_device(index, cuda) for index in found)
    # What is seen from outside first: to try takes memory of a device, and time.
    for device, look in [(device, look) for look in (_seen, _tried) for device in chosen]:
        reason = look(device)
        if reason is not None and wanted == "auto":
            log.info("no GPU: using the CPU", extra={"reason": reason})
            return _on_cpu(cuda)
        if reason is not None:
            raise DeviceError(refusal(device.name if "," in wanted else wanted, reason))
    return chosen


def _on_cpu(cuda: CudaOptions) -> tuple[Device, ...]:
    if cuda != DEFAULTS:
        log.warning("of GPUs, and of no effect on the CPU", extra=asdict(cuda))
    return (Device(CPU),)


def _seen(device: Device) -> str | None:
    return cuda_problem(device.index or 0)


def _tried(device: Device) -> str | None:
    found = problem(device)
    return None if found is None else found.words


def cuda_problem(index: int) -> str | None:
    """Why CUDA device `index` can't be used, or None if all that can be seen from outside is in place."""
    try:
        driver = Driver.find()
        count, version = driver.count, driver.version
    except CudaError as error:
        return str(error)
    if CUDA not in ort.get_available_providers():
        return "this onnxruntime is built without CUDA; the extra [cuda], in a new environment, has another"
    if version[0] < (needed := int(str(ort.cuda_version).partition(".")[0] or 0)):
        newest = ".".join(map(str, version))
        return f"the NVIDIA driver is too old: it has CUDA {newest}, and this onnxruntime needs CUDA {needed}"
    if index >= count:
        return f"the NVIDIA driver shows {count} device(s), so there is no cuda:{index}"
    return None


def problem(device: Device) -> Problem | None:
    """Why ONNX Runtime can't run on `device` in this process, or not any more, found out by trying.

    An error of CUDA such as an illegal address stays with the process: no session of it ever runs again (CUDA C++
    Programming Guide, "Error Checking").
    """
    if device.provider == CPU:
        return None
    _find_libraries()
    ort.set_default_logger_severity(FATAL)  # what it prints of a provider that does not start is told here
    options = ort.SessionOptions()
    options.log_severity_level = FATAL
    try:
        with CREATING:
            session = ort.InferenceSession(_PROBE, options, providers=device.providers, enable_fallback=0)
        providers = session.get_providers()
        session.run(None, {"x": np.ones(1, np.float32)})
    except Exception as error:  # noqa: BLE001 - ONNX Runtime raises classes of its own
        if beyond_limit(error) and "gpu_mem_limit" in device.options:
            return Problem(f"{device.options['gpu_mem_limit']} bytes (--gpu-memory-limit) are too few for anything")
        if out_of_memory(error):
            left = f"no memory is left on {device.name}{_left(device)}: another process has it (nvidia-smi lists them)"
            return Problem(left, passing=True)
        said = _FAILURE.search(str(error))
        return Problem(f"ONNX Runtime's CUDA provider does not run: {said[0] if said else str(error).strip()}")
    finally:
        ort.set_default_logger_severity(_WARNING)
    if providers[0] != device.provider:
        return Problem(f"ONNX Runtime's CUDA provider does not start{_missing_library()}")
    return None


@functools.cache
def _find_libraries() -> None:
    """CUDA's libraries may come as wheels; ONNX Runtime finds those only when told to look there."""
    with contextlib.redirect_stdout(io.StringIO()):  # which says less than `_missing_library`
        ort.preload_dlls()


def _missing_library() -> str:
    """What the loader says of the provider that ONNX Runtime could not load.

    Not to be asked before that has failed: loaded from here first, the provider would never work.
    """
    folder = Path(ort.__file__).parent / "capi"
    try:
        for name in ("shared", "cuda"):
            ctypes.CDLL(str(folder / f"libonnxruntime_providers_{name}.so"), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        return f": {error} (CUDA's libraries come with the extra [cuda], and not with [gpu])"
    return ""


def out_of_memory(error: Exception) -> bool:
    """Did making a session, or a run, fail for want of memory?"""
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None


def beyond_limit(error: Exception) -> bool:
    """Was it the limit on a device's memory that is too small, rather than the device?"""
    return _BEYOND_LIMIT in str(error)


def _left(device: Device) -> str:
    memory = device.memory()
    return "" if memory is None else f" ({memory.free >> 20} of {memory.total >> 20} MiB)"


def _cuda_device(index: int, chosen: CudaOptions) -> Device:
    options: dict[str, Any] = {
        "device_id": index,
        # What is needed and no power of two above it: several models, and processes, share a device.
        "arena_extend_strategy": "kSameAsRequested",
        # To try every algorithm on the first batch of each size would make exactly those batches slow.
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": int(chosen.tf32),
    }
    if chosen.memory_limit:
        options["gpu_mem_limit"] = chosen.memory_limit
    return Device(CUDA, options)

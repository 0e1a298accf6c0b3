"""What the NVIDIA driver says of itself and of its devices, asked before anything is installed."""

import ctypes
from dataclasses import dataclass
from typing import Any

from serving.engine.cuda import LIBRARY, CudaError
from serving.engine.cuda import Driver as Cuda

_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_… (CUDA driver API, CUdevice_attribute)."""

_ADVICE = (
    "this check needs a machine with an NVIDIA GPU and its driver: run it there, or `--device cpu` here, which "
    "rehearses the steps and proves nothing about a GPU"
)


class NoGpuError(Exception):
    """There is no GPU to be checked; the message says why and what to do."""


@dataclass(frozen=True)
class Gpu:
    """One device, as CUDA counts them."""

    index: int
    name: str
    compute_capability: str
    memory_bytes: int


@dataclass(frozen=True)
class Driver:
    """The driver and the devices that this process may use."""

    version: str
    """Of the driver, such as 580.65.06; empty where it can't be had."""
    cuda: tuple[int, int]
    """The newest CUDA that it can run."""
    gpus: tuple[Gpu, ...]


def look(index: int = 0) -> Driver:
    """Ask the driver.

    Raises:
        NoGpuError: there is no driver, or no device of this number.
    """
    try:
        driver = Cuda.find()
        newest, count = driver.version, driver.count
    except CudaError as error:
        raise NoGpuError(f"{error}; {_ADVICE}") from error
    if index >= count:
        raise NoGpuError(f"the NVIDIA driver shows {count} device(s), so there is no cuda:{index}; {_ADVICE}")
    library = ctypes.CDLL(LIBRARY)
    return Driver(_version(), newest, tuple(_gpu(library, index) for index in range(count)))


def _gpu(library: Any, index: int) -> Gpu:
    device, name, total = ctypes.c_int(), ctypes.create_string_buffer(96), ctypes.c_size_t()
    library.cuDeviceGet(ctypes.byref(device), index)
    library.cuDeviceGetName(name, len(name), device)
    library.cuDeviceTotalMem_v2(ctypes.byref(total), device)
    parts = []
    for attribute in (_MAJOR, _MINOR):
        value = ctypes.c_int()
        library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        parts.append(str(value.value))
    return Gpu(index, name.value.decode(errors="replace"), ".".join(parts), total.value)


def _version() -> str:
    """Of the driver, which only NVML knows."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return ""
    version = ctypes.create_string_buffer(96)
    if nvml.nvmlInit_v2() or nvml.nvmlSystemGetDriverVersion(version, len(version)):
        return ""
    return version.value.decode(errors="replace")

"""What NVIDIA's driver says of its devices, asked directly (CUDA Driver API): why one can't be had, and its memory."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import UUID

LIBRARY = "libcuda.so.1"

_ADVICE = {
    3: "it is not initialised: the container or the machine was set up without its kernel module",
    34: "this is the stub of the CUDA toolkit, for linking only: the driver's own must come before it",
    46: "the device is in exclusive use by another process",
    100: "no device is visible: CUDA_VISIBLE_DEVICES, or the container, hides it",
    101: "CUDA_VISIBLE_DEVICES names a device that is not there",
    802: "the system is not ready yet: the fabric manager does not run",
    803: "the library and the kernel module are of different versions: the driver was renewed without a restart",
    804: "forward compatibility is not for this device: remove the compatibility package",
}
"""By CUresult (CUDA Driver API, "Data types used by CUDA driver"): what those mean to whom can do something."""


class CudaError(Exception):
    """The driver can't do it; the message says why."""


class Memory(NamedTuple):
    """Of a device, in bytes."""

    free: int
    total: int


_FUNCTIONS = (
    *("cuInit", "cuGetErrorName", "cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetUuid_v2"),
    *("cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease_v2"),
    *("cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2", "cuMemGetInfo_v2"),
)

PATIENCE_SECONDS = 30.0
"""In which a driver must have started: one that hangs, as after a fault of the device, would hang the server."""


class Driver:
    """The driver of this machine."""

    def __init__(self, library: Any) -> None:
        """`library` has the functions of the Driver API.

        Raises:
            CudaError: it finds no device that it can use.
        """
        if absent := [name for name in _FUNCTIONS if not hasattr(library, name)]:
            raise CudaError(f"the NVIDIA driver is not whole: {LIBRARY} has no {', '.join(absent)}")
        self._library = library
        status = _started(library)
        if status:
            raise CudaError(f"the NVIDIA driver finds no usable device: {self._words(status)}")

    @classmethod
    def find(cls) -> "Driver":
        """The one that is installed.

        Raises:
            CudaError: there is none, or it finds no device that it can use.
        """
        try:
            library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            missing = f"no NVIDIA driver ({LIBRARY} is not found)"
            absent = f"{LIBRARY}: cannot open shared object file" in str(error)
            raise CudaError(missing if absent else f"the NVIDIA driver can't be loaded: {error}") from error
        return cls(library)

    @property
    def version(self) -> tuple[int, int]:
        """The newest CUDA, major and minor, for which it has all that programs need."""
        number = ctypes.c_int()
        self._check(self._library.cuDriverGetVersion(ctypes.byref(number)))
        return number.value // 1000, number.value % 1000 // 10

    @property
    def count(self) -> int:
        """Devices that this process sees."""
        number = ctypes.c_int()
        self._check(self._library.cuDeviceGetCount(ctypes.byref(number)))
        return number.value

    def uuid(self, index: int) -> str:
        """Of a device, as NVML has it behind a prefix. NVML counts devices otherwise than CUDA does."""
        raw = (ctypes.c_ubyte * 16)()
        self._check(self._library.cuDeviceGetUuid_v2(raw, self._device(index)))
        return str(UUID(bytes=bytes(raw)))

    def memory(self, index: int) -> Memory:
        """Of a device: what is left of it for whomever, and all.

        Raises:
            CudaError: it can't be asked, as where there is no memory left even for that.
        """
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        with self.context(index):
            self._check(self._library.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)))
        return Memory(free.value, total.value)

    @contextmanager
    def context(self, index: int) -> Iterator[None]:
        """A device's primary context, which ONNX Runtime uses as well, on this thread.

        Raises:
            CudaError: it can't be had.
        """
        library, context, device = self._library, ctypes.c_void_p(), self._device(index)
        self._check(library.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
        try:
            self._check(library.cuCtxPushCurrent_v2(context))
            try:
                yield
            finally:
                library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
        finally:
            library.cuDevicePrimaryCtxRelease_v2(device)

    def _device(self, index: int) -> ctypes.c_int:
        device = ctypes.c_int()
        self._check(self._library.cuDeviceGet(ctypes.byref(device), index))
        return device

    def _check(self, status: int) -> None:
        if status:
            raise CudaError(self._words(status))

    def _words(self, status: int) -> str:
        name = ctypes.c_char_p()
        self._library.cuGetErrorName(status, ctypes.byref(name))
        said = f"CUDA error {status}" if name.value is None else f"{name.value.decode()}, {status}"
        return f"{_ADVICE[status]} ({said})" if status in _ADVICE else said


def _started(library: Any) -> int:
    """What cuInit returns.

    Raises:
        CudaError: nothing, ever.
    """
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(library.cuInit(0)), name="driver", daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    if not found:
        raise CudaError(
            f"the NVIDIA driver did not start within {PATIENCE_SECONDS:g} s (cuInit): does nvidia-smi answer?"
        )
    return found[0]

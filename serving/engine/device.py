"""Where a model runs: the choice of ONNX Runtime execution provider, with a reason for every fall-back."""

import ctypes
import logging
import re
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import onnxruntime as ort

log = logging.getLogger(__name__)

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"

_PROBE = bytes.fromhex(
    "08093a320a0b0a017812017922034e65671201675a0f0a0178120a0a08080112040a02080162"
    "0f0a0179120a0a08080112040a02080142040a001014"
)
"""An ONNX graph of one Neg node, to see whether a provider really starts."""


class DeviceError(Exception):
    """The device that was asked for can't be had; the message says why and what to do."""


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
    def providers(self) -> list[tuple[str, dict[str, Any]]]:
        """For an ONNX Runtime session. Text operators exist on the CPU only, so it always stands behind."""
        chosen = [(str(self.provider), self.options)]
        return chosen if self.provider == CPU else [*chosen, (CPU, {})]


def choose(wanted: str) -> Device:
    """The device for `auto`, `cpu`, `cuda` or `cuda:I`.

    `auto` takes CUDA where it works and else falls back to the CPU, saying so in the log.

    Raises:
        DeviceError: not one of these, or CUDA was asked for and can't be had.
    """
    if wanted == "cpu":
        return Device(CPU)
    match = re.fullmatch(r"auto|cuda(?::(\d+))?", wanted)
    if match is None:
        raise DeviceError(f"device {wanted!r}: expected auto, cpu, cuda or cuda:I")
    index = int(match[1] or 0)
    found = cuda_problem(index)
    if found is None:
        chosen = Device(CUDA, _cuda_options(index))
        found = problem(chosen)
        if found is None:
            return chosen
    if wanted != "auto":
        raise DeviceError(f"device {wanted} can't be had: {found}; --device cpu runs without a GPU")
    log.info("no GPU: using the CPU", extra={"reason": found})
    return Device(CPU)


def cuda_problem(index: int) -> str | None:
    """Why CUDA device `index` can't be used, or None if all that can be seen from outside is in place."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1 is not found)"
    if CUDA not in ort.get_available_providers():
        return "this onnxruntime is built without CUDA (install the extra [cuda] instead of [cpu])"
    status = driver.cuInit(0)
    if status != 0:
        return f"the NVIDIA driver finds no usable device (cuInit returned {status}; is one visible to this process?)"
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    if index >= count.value:
        return f"the NVIDIA driver shows {count.value} device(s), so there is no cuda:{index}"
    return None


def problem(device: Device) -> str | None:
    """Why ONNX Runtime can't run on `device` in this process, or not any more, found out by trying.

    An error of CUDA such as an illegal address stays with the process: no session of it ever runs again (CUDA C++
    Programming Guide, "Error Checking").
    """
    if device.provider == CPU:
        return None
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(_PROBE, options, providers=device.providers, enable_fallback=0)
        providers = session.get_providers()
        session.run(None, {"x": np.ones(1, np.float32)})
    except Exception as error:  # noqa: BLE001 - ONNX Runtime raises classes of its own
        return f"ONNX Runtime's CUDA provider does not run: {error}"
    if providers[0] != device.provider:
        return "ONNX Runtime's CUDA provider does not start; are the CUDA and cuDNN libraries there (extra [cuda])?"
    return None


def _cuda_options(index: int) -> dict[str, Any]:
    # The CUDA libraries may come as wheels; ONNX Runtime finds those only when told to look there.
    ort.preload_dlls()
    return {
        "device_id": index,
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        # TF32 keeps 10 bits of mantissa: outputs would leave the golden tolerance.
        "use_tf32": 0,
    }

"""Which device training computes on: what may be asked for, and why a GPU can't be had, found without TensorFlow.

The CPU is the default, although `serve` takes a GPU where there is one: packages are the same bytes on every machine
that trains on the CPU, and networks as small as these gain nothing from a GPU.
"""

import ctypes
import importlib.util
import os
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from training.errors import TrainingError

CPU, CUDA, AUTO = "cpu", "cuda", "auto"
EXPECTED = "auto, cpu, cuda, cuda:I, or several as cuda:I,cuda:J"

DRIVER = "libcuda.so.1"
LIBRARIES = (
    *("libcudart.so.12", "libcublas.so.12", "libcublasLt.so.12", "libcudnn.so.9"),
    *("libcufft.so.11", "libcusolver.so.11", "libcusparse.so.12"),
)
"""What TensorFlow's wheels look for before they take a GPU: without one of them they take none."""
LEAST_CUDA = 12_000
"""The oldest CUDA version, as drivers count them, whose driver runs all of CUDA 12 (CUDA Compatibility, "Minor Version
Compatibility"): TensorFlow 2.21 is built with 12.5."""

INSTALL = "install the extra [train-cuda] in an environment of its own"


def indices(wanted: str) -> tuple[int, ...]:
    """The GPUs that `wanted` names, as CUDA counts them; none for `auto`, `cpu` and `cuda`.

    Raises:
        TrainingError: it is none of what may be asked for, or names one twice.
    """
    if wanted in (AUTO, CPU, CUDA):
        return ()
    if not re.fullmatch(r"cuda:\d{1,3}(,cuda:\d{1,3})*", wanted):
        raise TrainingError(f"--device {wanted!r}: expected {EXPECTED}")
    found = tuple(int(name.removeprefix("cuda:")) for name in wanted.split(","))
    if len(set(found)) < len(found):
        raise TrainingError(f"--device {wanted}: names a GPU twice")
    return found


def problem(wanted: tuple[int, ...]) -> str | None:
    """Why TensorFlow can't train on the GPUs `wanted` (none named: on any), as far as can be seen without it.

    TensorFlow itself takes seconds to import, and then says no more than that there are none.
    """
    if (hidden := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None and hidden.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={hidden!r} hides every GPU from this process"
    try:
        driver = load(DRIVER)
    except OSError as error:
        if f"{DRIVER}: cannot open shared object file" in str(error):
            return f"no NVIDIA driver ({DRIVER} is not found)"
        return f"the NVIDIA driver can't be loaded: {error}"
    try:
        return _refusal(driver, max(wanted, default=0), hidden) or _missing()
    except AttributeError as error:
        return f"the NVIDIA driver is not whole: {error}"


def load(name: str) -> Any:
    """The shared library `name`."""
    return ctypes.CDLL(name)


def _refusal(driver: Any, highest: int, visible: str | None) -> str | None:
    """Why the driver does not give the GPU `highest`.

    Source: CUDA Driver API, cuInit, cuDriverGetVersion, cuDeviceGetCount.
    """
    limited = "" if visible is None else f", and CUDA_VISIBLE_DEVICES is {visible!r}"
    if (status := driver.cuInit(0)) != 0:
        return f"the NVIDIA driver finds no usable GPU (cuInit returned {status}){limited}"
    number = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(number))
    if number.value < LEAST_CUDA:
        has = f"{number.value // 1000}.{number.value % 1000 // 10}"
        return f"the NVIDIA driver is too old: it has CUDA {has}, and TensorFlow needs 12.0 or newer"
    driver.cuDeviceGetCount(ctypes.byref(number))
    if highest >= number.value:
        return f"the NVIDIA driver shows {number.value} GPU(s){limited}: there is no cuda:{highest}"
    return None


def _missing() -> str | None:
    """What TensorFlow needs of CUDA and isn't installed."""
    if _installed("nvidia-cudnn-cu12") and _installed("nvidia-cudnn-cu13"):
        return (
            "nvidia-cudnn-cu12, which TensorFlow needs, and nvidia-cudnn-cu13, which onnxruntime-gpu needs, are both "
            f"installed, and have overwritten each other's files: {INSTALL}"
        )
    absent = [name for name in LIBRARIES if not _is_there(name)]
    if absent:
        return f"TensorFlow's CUDA libraries are not installed ({', '.join(absent)}): {INSTALL}"
    return None


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _is_there(name: str) -> bool:
    """Whether the library `name` is in one of NVIDIA's wheels, where TensorFlow looks first, or on the system."""
    found = importlib.util.find_spec("nvidia")  # a namespace, which each of the wheels adds a folder to
    folders = [] if found is None else list(found.submodule_search_locations or ())
    if any(next(Path(folder).glob(f"*/lib/{name}"), None) for folder in folders):
        return True
    try:
        load(name)
    except OSError:
        return False
    return True

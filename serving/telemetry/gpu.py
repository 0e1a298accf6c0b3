"""Utilisation and memory of the GPU that serves, as the driver counts them (NVML), read whenever metrics are."""

import ctypes
import importlib
import logging
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

UTILIZATION = "triptych_gpu_utilization_ratio"
USED = "triptych_gpu_memory_used_bytes"
TOTAL = "triptych_gpu_memory_total_bytes"
INFO = "triptych_gpu_info"

METRICS = (UTILIZATION, USED, TOTAL, INFO)
"""All of one device: workers that share it report the same."""

_KINDS = ("GPU", "MIG")
"""How NVML begins a UUID: a device, or a slice of one."""


class GpuError(Exception):
    """The GPU can't be read; the message says why."""


class Gpu(Collector):
    """One device; `gpu` is its number as CUDA counts them, and `cuda:N` means it."""

    def __init__(self, nvml: Any, index: int, uuid: str) -> None:
        """`nvml` is the module `pynvml`.

        Raises:
            GpuError: it knows no such device.
        """
        self._nvml = nvml
        self._gpu = str(index)
        self._problem = ""
        problems = []
        for kind in _KINDS:
            try:
                self._uuid = f"{kind}-{uuid}"
                self._handle = nvml.nvmlDeviceGetHandleByUUID(self._uuid)
                self._name = str(nvml.nvmlDeviceGetName(self._handle))
                return
            except nvml.NVMLError as error:
                problems.append(f"{self._uuid}: {error}")
        raise GpuError("; ".join(problems))

    def collect(self) -> Iterator[Metric]:
        """What can be read: a slice of a device has no utilisation of its own, and one that is lost has nothing."""
        info = GaugeMetricFamily(INFO, "1 for the GPU that serves.", labels=("gpu", "uuid", "name"))
        info.add_metric((self._gpu, self._uuid, self._name), 1)
        yield info
        utilization = self._read("nvmlDeviceGetUtilizationRates")
        if utilization is not None:
            share = utilization.gpu / 100
            yield self._gauge(UTILIZATION, "Share of the last sample period in which the GPU computed.", share)
        memory = self._read("nvmlDeviceGetMemoryInfo")
        if memory is not None:
            yield self._gauge(USED, "Memory of the GPU that is taken, by whomever.", memory.used)
            yield self._gauge(TOTAL, "Memory of the GPU.", memory.total)

    def _read(self, function: str) -> Any:
        try:
            return getattr(self._nvml, function)(self._handle)
        except self._nvml.NVMLError_NotSupported:
            return None
        except self._nvml.NVMLError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                log.warning("GPU can't be read", extra={"gpu": self._gpu, "reason": self._problem})
            return None

    def _gauge(self, name: str, documentation: str, value: float) -> Metric:
        gauge = GaugeMetricFamily(name, documentation, labels=("gpu",))
        gauge.add_metric((self._gpu,), value)
        return gauge


def gpu(index: int) -> Gpu | None:
    """The metrics of CUDA device `index`, which is in use; None, with a line in the log, where it can't be read."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        log.warning(
            "no GPU metrics", extra={"reason": "nvidia-ml-py is not installed: the extras gpu and cuda have it"}
        )
        return None
    try:
        nvml.nvmlInit()
        return Gpu(nvml, index, _uuid(index))
    except (GpuError, OSError, nvml.NVMLError) as error:
        log.warning("no GPU metrics", extra={"reason": str(error)})
        return None


def _uuid(index: int) -> str:
    """Of a CUDA device. NVML counts devices otherwise than CUDA, which obeys CUDA_VISIBLE_DEVICES.

    Raises:
        OSError: there is no driver.
        GpuError: it has no such device.
    """
    driver = ctypes.CDLL("libcuda.so.1")
    device, raw = ctypes.c_int(), (ctypes.c_ubyte * 16)()
    status = driver.cuDeviceGet(ctypes.byref(device), index) or driver.cuDeviceGetUuid_v2(raw, device)
    if status:
        raise GpuError(f"the driver does not say which device cuda:{index} is (CUDA error {status})")
    return str(UUID(bytes=bytes(raw)))

"""Utilisation and memory of the GPUs that serve, as the driver counts them (NVML), read whenever metrics are."""

import importlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.engine.cuda import CudaError, Driver

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


class Gpu:
    """One device; `gpu` is its number as CUDA counts them, and `cuda:N` means it."""

    def __init__(self, nvml: Any, index: int, uuid: str) -> None:
        """`nvml` is the module `pynvml`.

        Raises:
            GpuError: it knows no such device.
        """
        self._nvml = nvml
        self.gpu = str(index)
        self._problem = ""
        problems = []
        for kind in _KINDS:
            try:
                self.uuid = f"{kind}-{uuid}"
                self._handle = nvml.nvmlDeviceGetHandleByUUID(self.uuid)
                self.name = str(nvml.nvmlDeviceGetName(self._handle))
                return
            except nvml.NVMLError as error:
                problems.append(f"{self.uuid}: {error}")
        raise GpuError("; ".join(problems))

    @property
    def utilization(self) -> float | None:
        """Share of the last sample period in which it computed; None of a slice of a device, which has none."""
        found = self._read("nvmlDeviceGetUtilizationRates")
        return None if found is None else found.gpu / 100

    @property
    def memory(self) -> tuple[int, int] | None:
        """Bytes in use, by whomever, and all; None of one that is lost."""
        found = self._read("nvmlDeviceGetMemoryInfo")
        return None if found is None else (found.used, found.total)

    def _read(self, function: str) -> Any:
        try:
            return getattr(self._nvml, function)(self._handle)
        except self._nvml.NVMLError_NotSupported:
            return None
        except self._nvml.NVMLError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                log.warning("GPU can't be read", extra={"gpu": self.gpu, "reason": self._problem})
            return None


class Gpus(Collector):
    """The devices that serve."""

    def __init__(self, gpus: Sequence[Gpu]) -> None:
        self._gpus = gpus

    def collect(self) -> Iterator[Metric]:
        """What can be read of each: a slice of a device has no utilisation, and one that is lost has nothing."""
        info = GaugeMetricFamily(INFO, "1 for each GPU that serves.", labels=("gpu", "uuid", "name"))
        utilization = _family(UTILIZATION, "Share of the last sample period in which the GPU computed.")
        used = _family(USED, "Memory of the GPU that is taken, by whomever.")
        total = _family(TOTAL, "Memory of the GPU.")
        for gpu in self._gpus:
            info.add_metric((gpu.gpu, gpu.uuid, gpu.name), 1)
            if (share := gpu.utilization) is not None:
                utilization.add_metric((gpu.gpu,), share)
            if (memory := gpu.memory) is not None:
                used.add_metric((gpu.gpu,), memory[0])
                total.add_metric((gpu.gpu,), memory[1])
        yield from (family for family in (info, utilization, used, total) if family.samples)


def _family(name: str, documentation: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, labels=("gpu",))


def gpus(indices: Sequence[int]) -> Gpus | None:
    """The metrics of CUDA devices, which are in use; None, with a line in the log, where they can't be read."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        log.warning(
            "no GPU metrics", extra={"reason": "nvidia-ml-py is not installed: the extras gpu and cuda have it"}
        )
        return None
    try:
        nvml.nvmlInit()
        driver = Driver.find()
        return Gpus([Gpu(nvml, index, driver.uuid(index)) for index in indices])
    except (GpuError, CudaError, nvml.NVMLError) as error:
        log.warning("no GPU metrics", extra={"reason": str(error)})
        return None

"""GPU metrics, from a driver that is played: there is no GPU where these tests were written."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from serving.telemetry import gpu
from serving.telemetry.gpu import Gpu, GpuError, Gpus

UUID = "5ca1ab1e-0000-0000-0000-000000000000"


class NVMLError(Exception):
    pass


class NotSupportedError(NVMLError):
    pass


class Nvml:
    """What `pynvml` is to us: functions that return, or raise its errors."""

    NVMLError = NVMLError
    NVMLError_NotSupported = NotSupportedError

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid
        self.computing: int | NVMLError = 37
        self.memory: SimpleNamespace | NVMLError = SimpleNamespace(total=80 * 2**30, used=3 * 2**30)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> object:
        if uuid != self.uuid:
            raise NVMLError("Not Found")
        return self

    def nvmlDeviceGetName(self, handle: object) -> str:
        assert handle is self
        return "NVIDIA H100"

    def nvmlDeviceGetUtilizationRates(self, handle: object) -> Any:
        assert handle is self
        if isinstance(self.computing, NVMLError):
            raise self.computing
        return SimpleNamespace(gpu=self.computing, memory=12)

    def nvmlDeviceGetMemoryInfo(self, handle: object) -> Any:
        assert handle is self
        if isinstance(self.memory, NVMLError):
            raise self.memory
        return self.memory


@pytest.fixture
def nvml() -> Nvml:
    return Nvml(f"GPU-{UUID}")


def samples(*watched: Gpu) -> dict[str, tuple[dict[str, str], float]]:
    registry = CollectorRegistry()
    registry.register(Gpus(watched))
    assert generate_latest(registry)
    return {s.name: (s.labels, s.value) for family in registry.collect() for s in family.samples}


def test_utilisation_and_memory_of_the_device_that_serves(nvml: Nvml) -> None:
    found = samples(Gpu(nvml, 1, UUID))
    assert found == {
        "triptych_gpu_info": ({"gpu": "1", "uuid": nvml.uuid, "name": "NVIDIA H100"}, 1),
        "triptych_gpu_utilization_ratio": ({"gpu": "1"}, 0.37),
        "triptych_gpu_memory_used_bytes": ({"gpu": "1"}, 3 * 2**30),
        "triptych_gpu_memory_total_bytes": ({"gpu": "1"}, 80 * 2**30),
    }
    assert found.keys() == set(gpu.METRICS)


def test_several_devices_are_samples_of_the_same_metrics(nvml: Nvml) -> None:
    registry = CollectorRegistry()
    registry.register(Gpus([Gpu(nvml, 0, UUID), Gpu(nvml, 3, UUID)]))
    shares = [
        s.labels["gpu"] for f in registry.collect() for s in f.samples if s.name == "triptych_gpu_utilization_ratio"
    ]
    assert shares == ["0", "3"]


def test_every_scrape_reads_anew(nvml: Nvml) -> None:
    watched = Gpu(nvml, 0, UUID)
    samples(watched)
    nvml.computing = 100
    assert samples(watched)["triptych_gpu_utilization_ratio"][1] == 1.0


def test_a_slice_of_a_device_has_memory_and_no_utilisation(nvml: Nvml, caplog: pytest.LogCaptureFixture) -> None:
    nvml.uuid = f"MIG-{UUID}"
    nvml.computing = NotSupportedError("Not Supported")
    found = samples(Gpu(nvml, 0, UUID))
    assert found["triptych_gpu_info"][0]["uuid"] == nvml.uuid
    assert "triptych_gpu_utilization_ratio" not in found
    assert "triptych_gpu_memory_used_bytes" in found
    assert not caplog.records


def test_a_device_that_is_lost_is_said_once_and_the_rest_is_served(
    nvml: Nvml, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Gpu(nvml, 0, UUID)
    nvml.computing = nvml.memory = NVMLError("GPU is lost")
    with caplog.at_level(logging.WARNING):
        assert samples(watched).keys() == {"triptych_gpu_info"}
        samples(watched)
    assert [record.__dict__["reason"] for record in caplog.records] == ["GPU is lost"]


def test_a_device_that_the_driver_does_not_know(nvml: Nvml) -> None:
    with pytest.raises(GpuError, match=r"GPU-0000.*Not Found; MIG-0000.*Not Found"):
        Gpu(nvml, 0, UUID.replace("5ca1ab1e", "00000000"))


@pytest.fixture
def real() -> Any:
    return pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed: it comes with onnxruntime-gpu")


def test_the_real_library_has_all_that_is_asked_of_it(real: Any) -> None:
    assert [name for name in vars(Nvml) if name.startswith(("nvml", "NVML")) and not hasattr(real, name)] == []
    assert issubclass(real.NVMLError_NotSupported, real.NVMLError)
    assert callable(real.nvmlInit)


def test_without_a_driver_there_are_no_metrics_and_the_log_says_why(
    real: Any, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        real.nvmlInit()
    except real.NVMLError:
        assert gpu.gpus([0]) is None
        (record,) = caplog.records
        assert record.message == "no GPU metrics"
        assert "not found" in record.__dict__["reason"].lower()
    else:
        pytest.skip("there is a driver")

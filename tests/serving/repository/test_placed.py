"""A package on several devices, with a driver that is played: its memory, and what is said of its nodes."""

import logging
import threading
from typing import Any

import numpy as np
import pytest

from serving.engine import device as devices
from serving.engine.batcher import DEPTH
from serving.engine.cuda import Driver
from serving.engine.device import CPU, CUDA, CudaOptions, Device
from serving.engine.placement import Node, Placement
from serving.engine.session import Session
from serving.package.manifest import Golden, Tolerance
from serving.repository import gpu_load, placed, verify
from serving.repository.disk import LoadError, Package
from tests.serving.engine.played import library, played
from tests.serving.packages import DOUBLE, manifest

__all__ = ["library", "played"]

GPU = devices._cuda_device(0, CudaOptions())
GOLDEN = Golden(dict.fromkeys((CPU, CUDA), Tolerance(1e-6, 1e-6)), manifest().golden.inputs, manifest().golden.outputs)
PACKAGE = Package(manifest(golden=GOLDEN), DOUBLE, "")

PLACEMENT = Placement(
    [
        Node("split", "StringSplit", CPU, frozenset({"string"})),
        Node("dense", "Gemm", CUDA, frozenset({"float"})),
        Node("lost", "MatMul", CPU, frozenset({"float"})),
    ]
)


def test_each_device_has_a_session_of_its_own() -> None:
    found = placed.load(PACKAGE, [Device(CPU), Device(CPU)], 16)
    assert len({runner.session for runner in found.runners}) == 2
    assert found.batch_rows == 16
    assert found.gpu_memory == {}
    assert placed.described(found.gpu_memory) == ""


def test_what_a_model_takes_of_gpus_is_what_it_takes_of_what_is_free(
    library: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The session computes on the CPU here; memory and placement are a GPU's."""
    real, free = verify.load, iter([1000, 900, 2000, 1950])

    def load(package: Any, device: Device, max_batch_rows: int) -> verify.Loaded:
        return real(package, Device(CPU), max_batch_rows)._replace(placement=PLACEMENT)

    def find() -> Driver:
        monkeypatch.setenv("PLAYED_FREE_MIB", str(next(free)))
        return Driver(library)

    monkeypatch.setenv("PLAYED_COUNT", "2")
    monkeypatch.setattr(Driver, "find", find)
    monkeypatch.setattr(verify, "load", load)
    caplog.set_level(logging.INFO)
    gpus = [devices._cuda_device(index, CudaOptions()) for index in range(2)]
    found = placed.load(PACKAGE, gpus, 16)
    assert found.gpu_memory == {0: 100 << 20, 1: 50 << 20}
    assert placed.described(found.gpu_memory) == "GPU memory: cuda:0 104.9 MB, cuda:1 52.4 MB"
    said = {record.message: vars(record) for record in caplog.records}
    assert said["nodes placed"]["on_device"] == 1
    assert said["nodes placed"]["on_cpu"] == {"text": {"StringSplit": 1}}
    assert said["nodes run on the CPU that could run on the GPU"]["nodes"] == {"MatMul": 1}


def test_a_model_of_which_nothing_runs_on_the_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(DOUBLE, Device(CPU), profiled=True)
    session.run(["y"], {"x": np.ones((1, 2), np.float32)})
    session.provider = CUDA
    with pytest.raises(LoadError, match="none of its nodes runs on CUDAExecutionProvider; --device cpu can serve it"):
        gpu_load.placement(session)


def test_the_last_of_the_warm_up_is_as_many_batches_at_once_as_will_be(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(DEPTH)

    class OnGpu(Session):
        def __init__(self, model: bytes, device: Device, *, profiled: bool = False) -> None:
            super().__init__(model, Device(CPU))
            self.provider = CUDA

        def run(self, outputs: list[str], feed: Any, options: Any = None) -> Any:
            if threading.current_thread() is not threading.main_thread():
                assert len(feed["x"]) == 16
                together.wait(30)
                if failing:
                    raise RuntimeError("Available memory of 12 is smaller than requested bytes of 256")
            return super().run(outputs, feed, options)

    monkeypatch.setattr(verify, "Session", OnGpu)
    failing = False
    assert verify.load(PACKAGE, GPU, 16).batch_rows == 16
    failing = True
    with pytest.raises(LoadError, match=f"it can't compute {DEPTH} batches of 16 rows at once: Available") as caught:
        verify.load(PACKAGE, GPU, 16)
    assert caught.value.lasting, "the limit is too small, and stays so"


def test_no_memory_on_a_gpu_is_no_fault_of_the_package(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA failure 2: out of memory")

    monkeypatch.setattr(Driver, "find", lambda: Driver(library))
    monkeypatch.setenv("PLAYED_FREE_MIB", "5")
    monkeypatch.setattr(verify, "Session", full)
    with pytest.raises(LoadError, match="there is no memory for it on cuda:0, where 5 of 4096 MiB are free") as caught:
        verify.load(PACKAGE, GPU, 4)
    assert not caught.value.lasting

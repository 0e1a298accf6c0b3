"""What the driver says, from one that is played."""

import ctypes
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from serving.engine import cuda
from serving.engine.cuda import CudaError, Driver, Memory
from tests.serving.engine.played import library, played

__all__ = ["library", "played"]


def test_devices_version_and_memory(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYED_COUNT", "2")
    monkeypatch.setenv("PLAYED_VERSION", "13020")
    monkeypatch.setenv("PLAYED_FREE_MIB", "700")
    driver = Driver(library)
    assert driver.count == 2
    assert driver.version == (13, 2)
    assert driver.memory(1) == Memory(700 << 20, 4096 << 20)
    assert driver.uuid(0) == "10101010-1010-1010-1010-101010101010"
    assert driver.uuid(1) == "11111111-1111-1111-1111-111111111111"
    with pytest.raises(CudaError, match=r"names a device that is not there \(CUDA error 101\)"):
        driver.uuid(2)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (100, "no device is visible: CUDA_VISIBLE_DEVICES, or the container, hides it (CUDA_ERROR_NO_DEVICE, 100)"),
        (
            803,
            "the library and the kernel module are of different versions: the driver was renewed without a restart "
            "(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, 803)",
        ),
        (999, "CUDA error 999"),
    ],
)
def test_a_driver_that_finds_nothing_says_why(
    library: Any, monkeypatch: pytest.MonkeyPatch, status: int, reason: str
) -> None:
    monkeypatch.setenv("PLAYED_INIT", str(status))
    with pytest.raises(CudaError) as caught:
        Driver(library)
    assert str(caught.value) == f"the NVIDIA driver finds no usable device: {reason}"


def test_a_driver_that_never_starts_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    functions = dict.fromkeys(cuda._FUNCTIONS, lambda *_: 0) | {"cuInit": lambda _: go.wait(60)}
    monkeypatch.setattr(cuda, "PATIENCE_SECONDS", 0.01)
    with pytest.raises(CudaError, match=r"did not start within 0.01 s \(cuInit\): does nvidia-smi answer"):
        Driver(SimpleNamespace(**functions))
    go.set()


def test_a_driver_that_lacks_functions_is_named(library: Any) -> None:
    functions = {name: getattr(library, name) for name in cuda._FUNCTIONS if name != "cuMemGetInfo_v2"}
    with pytest.raises(CudaError, match=r"the NVIDIA driver is not whole: libcuda.so.1 has no cuMemGetInfo_v2"):
        Driver(SimpleNamespace(**functions))


def test_memory_that_can_not_be_asked_for_is_an_error(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYED_CONTEXT", "2")
    with pytest.raises(CudaError, match="CUDA error 2"):
        Driver(library).memory(0)


def test_no_driver_is_told_from_one_that_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(words: str) -> Any:
        def cdll(_: str) -> None:
            raise OSError(words)

        return cdll

    missing = "libcuda.so.1: cannot open shared object file: No such file or directory"
    for words, reason in (
        (missing, "no NVIDIA driver (libcuda.so.1 is not found)"),
        ("libcuda.so.1: file too short", "the NVIDIA driver can't be loaded: libcuda.so.1: file too short"),
    ):
        monkeypatch.setattr(ctypes, "CDLL", load(words))
        with pytest.raises(CudaError) as caught:
            cuda.Driver.find()
        assert str(caught.value) == reason

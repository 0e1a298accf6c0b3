"""Where a model runs: what was asked for, or an error, or a fall-back that is told."""

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from serving.engine import device as devices
from serving.engine.cuda import Driver, Memory
from serving.engine.device import CPU, CUDA, CudaOptions, Device, DeviceError, choose, cuda_problem, out_of_memory
from tests.serving.engine.played import library, played

__all__ = ["library", "played"]

without_gpu = pytest.mark.skipif(cuda_problem(0) is None, reason="needs a machine without a GPU")
with_gpu = pytest.mark.skipif(cuda_problem(0) is not None, reason="needs a GPU")


def test_cpu_is_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    [device] = choose("cpu")
    assert device == Device(CPU)
    assert device.providers == [(CPU, {})]
    assert (device.name, device.index, device.memory()) == ("cpu", None, None)
    assert caplog.records == []


@pytest.mark.parametrize(
    "name", ["", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:x", "cuda:0,cpu", "cuda:0,", "auto:0", " cpu", "cpu\n"]
)
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        choose(name)
    assert str(caught.value) == f"device {name!r}: expected auto, cpu, cuda, cuda:I or cuda:I,cuda:J…"


def test_a_device_is_named_once() -> None:
    with pytest.raises(DeviceError, match=r"device 'cuda:1,cuda:0,cuda:1': the same one twice"):
        choose("cuda:1,cuda:0,cuda:1")


@without_gpu
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_cuda_that_can_not_be_had_is_refused_with_the_reason(name: str) -> None:
    problem = cuda_problem(0)
    assert problem
    with pytest.raises(DeviceError) as caught:
        choose(name)
    assert str(caught.value) == f"device {name} can't be had: {problem}; --device cpu runs without a GPU"


@without_gpu
def test_auto_falls_back_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert choose("auto") == (Device(CPU),)
    [record] = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage() == "no GPU: using the CPU"
    assert vars(record)["reason"] == cuda_problem(0)


@without_gpu
def test_the_reason_tells_a_missing_build_from_a_missing_driver() -> None:
    problem = cuda_problem(0)
    assert problem is not None
    if CUDA in ort.get_available_providers():
        assert "driver" in problem
    else:
        assert "built without CUDA" in problem


@with_gpu
@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_a_gpu_is_taken_with_full_precision(name: str) -> None:
    [device] = choose(name)
    assert device.provider == CUDA
    assert device.options["use_tf32"] == 0
    assert [provider for provider, _ in device.providers] == [CUDA, CPU]


@with_gpu
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(DeviceError, match="so there is no cuda:99"):
        choose("cuda:99")


def test_text_operators_always_find_the_cpu_behind_a_gpu() -> None:
    assert Device(CUDA, {"device_id": 1}).providers == [(CUDA, {"device_id": 1}), (CPU, {})]


def test_what_is_for_gpus_is_not_ignored_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    choose("cpu", CudaOptions(tf32=True))
    [record] = caplog.records
    assert record.getMessage() == "of GPUs, and of no effect on the CPU"
    assert vars(record)["tf32"] is True


def test_options_are_those_that_suit_a_server_of_small_graphs() -> None:
    device = devices._cuda_device(1, CudaOptions())
    assert (device.name, device.index) == ("cuda:1", 1)
    assert device.options == {
        "device_id": 1,
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": 0,
    }
    chosen = devices._cuda_device(0, CudaOptions(memory_limit=10**9, tf32=True)).options
    assert chosen["use_tf32"] == 1
    assert chosen["gpu_mem_limit"] == 10**9


@pytest.mark.parametrize(
    "words",
    [
        "CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc",
        "Failed to allocate memory for requested buffer of size 40004",
        "Available memory of 12 is smaller than requested bytes of 256",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
        "CUBLAS failure 1: CUBLAS_STATUS_NOT_INITIALIZED",
        "CUDNN failure 4001: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "std::bad_alloc",
    ],
)
def test_what_is_said_when_there_is_no_memory(words: str) -> None:
    assert out_of_memory(RuntimeError(words))
    assert not out_of_memory(RuntimeError("CUDA failure 700: an illegal memory access was encountered"))


def test_a_full_gpu_is_refused_with_what_is_left(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")

    monkeypatch.setattr(Driver, "find", lambda: Driver(library))
    monkeypatch.setenv("PLAYED_FREE_MIB", "3")
    monkeypatch.setattr(ort, "InferenceSession", full)
    device = devices._cuda_device(0, CudaOptions())
    assert device.memory() == Memory(3 << 20, 4096 << 20)
    found = devices.problem(device)
    assert found is not None
    assert found.passing, "no reason to give the device up while it serves"
    assert found.words == "no memory is left on cuda:0 (3 of 4096 MiB): another process has it (nvidia-smi lists them)"


def test_a_limit_that_is_too_small_is_not_blamed_on_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def limited(*_: Any, **__: Any) -> None:
        raise RuntimeError("Available memory of 4 is smaller than requested bytes of 256")

    monkeypatch.setattr(ort, "InferenceSession", limited)
    found = devices.problem(devices._cuda_device(0, CudaOptions(memory_limit=4)))
    assert found is not None
    assert not found.passing
    assert found.words == "4 bytes (--gpu-memory-limit) are too few for anything"


def test_what_cuda_says_is_told_without_where_in_the_source(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError(
            "cuda_call.cc:154 std::conditional_t<THRW, void> CudaCall [with ERRTYPE = E] CUDA failure 36: API call "
            "is not supported in the installed CUDA driver ; GPU=-1 ; hostname=h ; file=f ; expr=cudaSetDevice(id); \n"
        )

    monkeypatch.setattr(ort, "InferenceSession", fails)
    assert devices.problem(devices._cuda_device(0, CudaOptions())) == devices.Problem(
        "ONNX Runtime's CUDA provider does not run: "
        "CUDA failure 36: API call is not supported in the installed CUDA driver"
    )


def refused(played: Path, wanted: str, environment: Mapping[str, str]) -> str:
    """What a server says that does not start."""
    found = subprocess.run(
        [sys.executable, "-m", "serving", "serve", "--device", wanted],
        env={"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(played), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 1
    assert found.stdout == ""
    words = found.stderr.removeprefix("triptych: device ").removesuffix("; --device cpu runs without a GPU\n")
    assert len(found.stderr) - len(words) > 50, found.stderr
    return words


@pytest.mark.parametrize(
    ("wanted", "environment", "reason"),
    [
        ("cuda", {"PLAYED_INIT": "100"}, "cuda can't be had: the NVIDIA driver finds no usable device: no device is "),
        ("cuda", {"PLAYED_VERSION": "12080"}, "cuda can't be had: the NVIDIA driver is too old: it has CUDA 12.8, "),
        ("cuda:0,cuda:2", {"PLAYED_COUNT": "2"}, "cuda:2 can't be had: the NVIDIA driver shows 2 device(s), so there "),
    ],
    ids=["hidden", "old", "absent"],
)
@without_gpu
@pytest.mark.skipif(CUDA not in ort.get_available_providers(), reason="needs onnxruntime-gpu")
def test_a_server_whose_device_can_not_be_had_says_why(
    played: Path, wanted: str, environment: dict[str, str], reason: str
) -> None:
    assert refused(played, wanted, environment).startswith(reason)


@without_gpu
@pytest.mark.skipif(CUDA not in ort.get_available_providers(), reason="needs onnxruntime-gpu")
def test_what_cuda_itself_lacks_is_named(played: Path) -> None:
    """Its libraries where they are not installed, or else a driver that is only played."""
    words = refused(played, "cuda", {})
    assert "cuda can't be had: ONNX Runtime's CUDA provider does not " in words
    assert "libcublasLt.so.13" in words or "CUDA failure" in words
    assert "[" not in words.partition("(")[0], "ONNX Runtime's own log is not among it"

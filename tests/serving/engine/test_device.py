"""Where a model runs: what was asked for, or an error, or a fall-back that is told."""

import logging

import onnxruntime as ort
import pytest

from serving.engine.device import CPU, CUDA, Device, DeviceError, choose, cuda_problem

without_gpu = pytest.mark.skipif(cuda_problem(0) is None, reason="needs a machine without a GPU")
with_gpu = pytest.mark.skipif(cuda_problem(0) is not None, reason="needs a GPU")


def test_cpu_is_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    assert choose("cpu") == Device(CPU)
    assert choose("cpu").providers == [(CPU, {})]
    assert caplog.records == []


@pytest.mark.parametrize(
    "name", ["", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:x", "cuda:0,cuda:1", "auto:0", " cpu", "cpu\n"]
)
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        choose(name)
    assert str(caught.value) == f"device {name!r}: expected auto, cpu, cuda or cuda:I"


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
    assert choose("auto") == Device(CPU)
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
    device = choose(name)
    assert device.provider == CUDA
    assert device.options["use_tf32"] == 0
    assert [provider for provider, _ in device.providers] == [CUDA, CPU]


@with_gpu
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(DeviceError, match="so there is no cuda:99"):
        choose("cuda:99")


def test_text_operators_always_find_the_cpu_behind_a_gpu() -> None:
    assert Device(CUDA, {"device_id": 1}).providers == [(CUDA, {"device_id": 1}), (CPU, {})]

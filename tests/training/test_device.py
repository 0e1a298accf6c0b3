"""A GPU that can't be had is refused with the reason, in a moment and without TensorFlow."""

import ctypes
import dataclasses
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from training import device
from training.best import BEST
from training.device import DRIVER, LIBRARIES, indices, problem
from training.errors import TrainingError
from training.models import RECIPES
from training.options import Options, changed, refuse_contradictions
from training.placement import check, devices, settle

from .conftest import REPOSITORY

HOUSE = RECIPES["house_price"]


class Driver:
    """What an NVIDIA driver says: CUDA Driver API."""

    def __init__(self, status: int = 0, version: int = 13_000, gpus: int = 1) -> None:
        self._status, self._version, self._gpus = status, version, gpus

    def cuInit(self, flags: int) -> int:
        assert flags == 0
        return self._status

    def cuDriverGetVersion(self, number: Any) -> int:
        ctypes.cast(number, ctypes.POINTER(ctypes.c_int))[0] = self._version
        return 0

    def cuDeviceGetCount(self, number: Any) -> int:
        ctypes.cast(number, ctypes.POINTER(ctypes.c_int))[0] = self._gpus
        return 0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes this machine one with a driver and with some of CUDA's libraries, as far as `problem` looks."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda _: None)

    def made(driver: Driver | None, libraries: tuple[str, ...] = LIBRARIES, wheels: tuple[str, ...] = ()) -> None:
        def load(name: str) -> Any:
            if name == DRIVER and driver is not None:
                return driver
            if name in libraries:
                return object()
            raise OSError(f"{name}: cannot open shared object file")

        monkeypatch.setattr(device, "load", load)
        monkeypatch.setattr(device, "_installed", lambda name: name in wheels)

    return made


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("auto", ()), ("cpu", ()), ("cuda", ()), ("cuda:0", (0,)), ("cuda:12", (12,)), ("cuda:1,cuda:0", (1, 0))],
)
def test_what_may_be_asked_for(wanted: str, expected: tuple[int, ...]) -> None:
    assert indices(wanted) == expected


@pytest.mark.parametrize("wanted", ["", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:0,", "cuda:0,1", "cuda,cpu", "cpu\n"])
def test_what_may_not(wanted: str) -> None:
    with pytest.raises(TrainingError, match="expected auto, cpu, cuda, cuda:I, or several as cuda:I,cuda:J"):
        indices(wanted)


def test_a_gpu_named_twice() -> None:
    with pytest.raises(TrainingError, match="names a GPU twice"):
        indices("cuda:1,cuda:1")


def test_nothing_is_wrong(machine: Any) -> None:
    machine(Driver(gpus=2))
    assert problem(()) is None
    assert problem((1, 0)) is None


@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        (None, r"no NVIDIA driver \(libcuda\.so\.1 is not found\)"),
        (Driver(status=100), r"finds no usable GPU \(cuInit returned 100\)"),
        (Driver(version=11_080), r"too old: it has CUDA 11\.8, and TensorFlow needs 12\.0 or newer"),
        (Driver(gpus=2), r"shows 2 GPU\(s\): there is no cuda:2"),
    ],
    ids=["no driver", "no device", "too old", "no such index"],
)
def test_what_the_driver_says(driver: Driver | None, reason: str, machine: Any) -> None:
    machine(driver)
    found = problem((2,))
    assert found is not None
    assert re.search(reason, found), found


@pytest.mark.parametrize("hidden", ["", "-1", " "])
def test_gpus_that_are_hidden_are_told_from_gpus_that_are_not_there(
    hidden: str, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(Driver())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert problem(()) == f"CUDA_VISIBLE_DEVICES={hidden!r} hides every GPU from this process"


def test_some_gpus_are_hidden(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(Driver(gpus=1))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert problem((0,)) is None
    assert "shows 1 GPU(s), and CUDA_VISIBLE_DEVICES is '3': there is no cuda:3" in str(problem((3,)))


def test_libraries_that_are_not_installed_are_named(machine: Any) -> None:
    machine(Driver(), libraries=tuple(name for name in LIBRARIES if "cudnn" not in name and "fft" not in name))
    found = str(problem(()))
    assert "are not installed (libcudnn.so.9, libcufft.so.11): install the extra [train-cuda]" in found


def test_libraries_are_found_in_nvidias_wheels(machine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(Driver(), libraries=())
    for name in LIBRARIES:
        path = tmp_path / "nvidia" / name.partition(".")[0] / "lib" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    monkeypatch.undo()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert device._missing() is None


def test_two_cudnns_in_one_environment(machine: Any) -> None:
    machine(Driver(), wheels=("nvidia-cudnn-cu12", "nvidia-cudnn-cu13"))
    assert "have overwritten each other's files: install the extra [train-cuda] in an environment" in str(problem(()))
    machine(Driver(), wheels=("nvidia-cudnn-cu12",))
    assert problem(()) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(device="cuda:0,cuda:1"), "several GPUs share batches with --distribute mirrored: add it"),
        (Options(device="cpu", distribute="mirrored"), "and --device cpu is one device"),
        (Options(device="cuda:1", distribute="mirrored"), "and --device cuda:1 is one device"),
        (Options(tf32=True), "--tf32 is how a GPU computes in float32"),
        (Options(device="cuda", tf32=True, precision="float16"), "--tf32 is how a GPU computes in float32"),
        (Options(device="gpu"), "--device 'gpu': expected auto"),
    ],
)
def test_what_contradicts_itself_is_refused(options: Options, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        refuse_contradictions(options)


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(device="cuda:1", precision="bfloat16"),
        Options(device="cuda", tf32=True),
        Options(device="cuda:0,cuda:1", distribute="mirrored"),
        Options(device="cuda", distribute="mirrored"),
        Options(distribute="mirrored"),
        Options(device="cpu", distribute="multi-worker"),
    ],
)
def test_what_goes_together(options: Options) -> None:
    refuse_contradictions(options)


def test_the_default_is_the_cpu_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    settled = settle(Options(), HOUSE, said.append)
    assert (settled.device, changed(settled), said) == ("cpu", {}, [])
    assert Options(distribute="mirrored").computes_on == "auto"
    assert changed(Options(device="cuda:0")) == {"device": "cuda:0"}


def test_auto_falls_back_and_says_why(machine: Any) -> None:
    machine(None)
    said: list[str] = []
    settled = settle(Options(device="auto", tf32=True), HOUSE, said.append)
    assert (settled.device, settled.tf32, changed(settled)) == ("cpu", False, {})
    assert said == ["no GPU: training on the CPU, no NVIDIA driver (libcuda.so.1 is not found)"]


def test_a_sparse_network_stays_on_the_cpu(machine: Any) -> None:
    machine(Driver())
    said: list[str] = []
    assert settle(Options(device="auto"), BEST["topic"], said.append).device == "cpu"
    assert "no deterministic product of a sparse and a dense matrix" in said[0]
    with pytest.raises(TrainingError, match="topic, recipe best: TensorFlow has no deterministic product"):
        check(Options(device="cuda"), BEST["topic"])
    check(Options(device="cuda"), RECIPES["topic"])


@dataclasses.dataclass
class Shown:
    """What TensorFlow was told to do with the GPUs of a machine that has some."""

    visible: list[Any] = dataclasses.field(default_factory=list)
    grows: list[Any] = dataclasses.field(default_factory=list)
    tf32: bool | None = None


@pytest.fixture
def gpus(machine: Any, monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Two GPUs, as far as TensorFlow's configuration looks; the second is an old one."""
    machine(Driver(gpus=3))
    there = [tf.config.PhysicalDevice(f"/physical_device:GPU:{index}", "GPU") for index in range(2)]
    details = [
        {"device_name": "NVIDIA H200", "compute_capability": (9, 0)},
        {"device_name": "Tesla T4", "compute_capability": (7, 5)},
    ]
    shown = Shown()
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: there)
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda gpus, _: setattr(shown, "visible", gpus))
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda _: shown.visible)
    experimental = tf.config.experimental
    monkeypatch.setattr(experimental, "get_device_details", lambda gpu: details[there.index(gpu)])
    monkeypatch.setattr(experimental, "set_memory_growth", lambda gpu, on: shown.grows.append((gpu, on)))
    monkeypatch.setattr(
        experimental, "enable_tensor_float_32_execution", lambda enabled: setattr(shown, "tf32", enabled)
    )
    return shown


@pytest.mark.parametrize(
    ("asked", "settled", "models"),
    [
        (Options(device="cuda"), "cuda:0", ["NVIDIA H200"]),
        (Options(device="auto"), "cuda:0", ["NVIDIA H200"]),
        (Options(device="cuda:1", tf32=True), "cuda:1", ["Tesla T4"]),
        (Options(distribute="mirrored"), "cuda:0,cuda:1", ["NVIDIA H200", "Tesla T4"]),
        (Options(device="cuda:1,cuda:0", distribute="mirrored"), "cuda:1,cuda:0", ["Tesla T4", "NVIDIA H200"]),
    ],
)
def test_tensorflow_is_shown_the_gpus_that_were_chosen(
    asked: Options, settled: str, models: list[str], gpus: Shown
) -> None:
    said: list[str] = []
    options = settle(asked, HOUSE, said.append)
    assert (options.device, changed(options)["device"], said) == (settled, settled, [])
    assert gpus.grows == [(gpu, True) for gpu in gpus.visible]
    assert gpus.tf32 is asked.tf32
    assert [(found.name, found.model) for found in devices(options)] == list(
        zip(settled.split(","), models, strict=True)
    )


def test_what_the_driver_shows_and_tensorflow_does_not_take(gpus: Shown) -> None:
    with pytest.raises(TrainingError, match=r"cuda:2 can't be had: .* TensorFlow takes 2 GPU\(s\) all the same"):
        settle(Options(device="cuda:2"), HOUSE, print)
    assert gpus.visible == []


def test_bfloat16_on_a_gpu_without_it(gpus: Shown) -> None:
    settle(Options(device="cuda", precision="bfloat16"), HOUSE, print)
    with pytest.raises(TrainingError, match=r"needs compute capability 8\.0, and Tesla T4 has 7\.5"):
        settle(Options(device="cuda:1", precision="bfloat16"), HOUSE, print)


@pytest.mark.skipif(problem(()) is None, reason="needs a machine without a GPU")
@pytest.mark.parametrize(
    "command", [("fit", "house_price"), ("tune", "house_price"), ("experiments", "house_price", "--all")]
)
def test_a_command_refuses_at_once(command: tuple[str, ...], tmp_path: Path) -> None:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "training", *command, "--device", "cuda", "--data", tmp_path / "none"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert time.perf_counter() - started < 10, "it is under a second on an idle machine; TensorFlow alone takes ten"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: --device cuda can't be had: CUDA_VISIBLE_DEVICES='' hides every GPU from this process; "
        "--device cpu trains without a GPU\n"
    )

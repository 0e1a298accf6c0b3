"""The check of a GPU as a command: what it says where there is none, and its rehearsal on the CPU."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpu.check import driver, libraries, venv
from gpu.check.__main__ import main
from gpu.check.driver import NoGpuError
from tests.serving.engine.played import played
from tests.serving.packages import copy, edit

__all__ = ["played"]

ROOT = Path(__file__).parents[2]
LIMIT = 5.0
"""It takes a tenth of a second, on a machine with nothing else to do."""


def have_gpu() -> bool:
    try:
        driver.look()
    except NoGpuError:
        return False
    return True


without_gpu = pytest.mark.skipif(have_gpu(), reason="there is a GPU here")


def check(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "gpu.check", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@without_gpu
def test_without_a_gpu_it_fails_at_once_and_says_what_to_do():
    started = time.monotonic()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make", "gpu-check"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert time.monotonic() - started < LIMIT
    assert done.returncode != 0
    assert "gpu-check: no NVIDIA driver (libcuda.so.1 is not found)" in done.stderr
    assert "--device cpu" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@without_gpu
def test_a_bare_python_is_enough_to_say_so(tmp_path):
    """Before anything is installed: no site-packages at all; and nothing is made or written."""
    command = [sys.executable, "-S", "-m", "gpu.check", "--wheels", str(tmp_path), "--venv", str(tmp_path / "venv")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no NVIDIA driver" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_python_that_lacks_packages_is_told_which(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(venv, "MODULES", ("numpy", "nowhere", "nothing"))
    out = tmp_path / "out"
    assert main(["--prepared", "--device", "cpu", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "has no nowhere, nothing: give a folder of wheels" in said
    assert "pip download" in said
    assert not out.exists()


@pytest.mark.skipif(not libraries.missing(), reason="CUDA's libraries are here")
def test_a_driver_without_cuda_libraries_is_told_to_bring_them(played, tmp_path):
    """Before a server or a session is tried, and with the wheels that would do named."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(played)}
    command = [sys.executable, "-m", "gpu.check"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "CUDA libraries are missing (lib" in done.stderr
    assert "'.[serve,cuda]'" in done.stderr


def test_a_device_that_the_driver_does_not_show_is_not_checked(played):
    environment = {**os.environ, "LD_LIBRARY_PATH": str(played)}
    command = [sys.executable, "-S", "-m", "gpu.check", "--device", "cuda:3"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the NVIDIA driver shows 1 device(s), so there is no cuda:3" in done.stderr


def test_what_a_driver_says_of_its_devices(played):
    environment = {**os.environ, "LD_LIBRARY_PATH": str(played), "PLAYED_COUNT": "2"}
    code = "from gpu.check import driver; print(driver.look())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "Gpu(index=1, name='Played', compute_capability='9.0', memory_bytes=4294967296)" in done.stdout, done.stderr
    assert "cuda=(13, 0)" in done.stdout


def test_steps_and_devices_that_are_none_are_refused():
    for arguments in (("--only", "sok"), ("--skip", "load,sok"), ("--device", "cuda:0,cuda:1")):
        done = check(*arguments)
        assert done.returncode == 2
        assert "error:" in done.stderr


def test_a_rehearsal_runs_the_same_steps_and_claims_nothing(tmp_path):
    copy(tmp_path / "models")
    steps = ("environment", "placement", "serving", "soak", "kill")
    done = check(
        *("--device", "cpu", "--models", tmp_path / "models", "--out", tmp_path / "out", "--soak-seconds", "0.5"),
        *("--only", ",".join([*steps, "devices", "benchmark"])),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("Rehearsal on the CPU: proves nothing about a GPU.")
    told = json.loads((tmp_path / "out/report.json").read_text())
    assert told["rehearsal"] is True
    assert told["verdict"].startswith("Rehearsal on the CPU: proves nothing about a GPU. passed")
    verdicts = {step["name"]: step["verdict"] for step in told["steps"]}
    assert verdicts == dict.fromkeys(steps, "passed") | {"devices": "skipped", "benchmark": "skipped"}
    figures = {step["name"]: step["figures"] for step in told["steps"]}
    assert figures["soak"]["requests"] > 0
    assert figures["kill"]["accepted calls lost"] == 0
    unasked = [assertion for step in told["steps"] for assertion in step["unasked"]]
    assert any("CUDA" in assertion for assertion in unasked)
    page = (tmp_path / "out/report.md").read_text()
    assert "**Rehearsal on the CPU: proves nothing about a GPU." in page
    assert all(f"- not asked on the CPU: {assertion}" in page for assertion in unasked)


def test_a_package_that_is_wrong_fails_it(tmp_path):
    folder = copy(tmp_path / "models")
    edit(folder, lambda manifest: manifest["golden"]["outputs"]["price"][0].__setitem__(0, 99.0))
    done = check("--device", "cpu", "--only", "verified", "--models", tmp_path / "models", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "FAILED: 1 failed" in done.stdout
    [step] = json.loads((tmp_path / "out/report.json").read_text())["steps"]
    assert "python -m serving check ended with 1" in step["reasons"][0]
    assert "of its tolerance from its golden outputs" in step["reasons"][1]

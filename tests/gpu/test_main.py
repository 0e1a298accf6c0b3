"""The check of a GPU as a command: what it says where there is none, and its rehearsal on the CPU."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from gpu.check import driver, libraries, venv
from gpu.check.__main__ import main
from gpu.check.driver import NoGpuError
from gpu.check.options import parse
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
    outer = ("MAKE", "ARGS", "WHEELS")  # of the `make` that may run this
    environment = {name: value for name, value in os.environ.items() if not name.startswith(outer)}
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
    assert "has no nowhere, nothing: where there is internet, `make serve` makes an environment" in said
    assert "give a folder of wheels" in said
    assert "pip download" in said
    assert not out.exists()


def test_a_python_that_lacks_what_the_benchmark_needs_is_told_so_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(venv, "FOR_BENCHMARK", ("nowhere",))
    out = tmp_path / "out"
    for asked in (["--only", "benchmark"], ["--with-benchmark"]):
        assert main(["--prepared", "--device", "cpu", "--out", str(out), *asked]) == 2
        assert "the benchmark needs nowhere, too" in capsys.readouterr().err
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


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--only", "sok"), "no step 'sok': there are environment, "),
        (("--skip", "load,sok"), "no step 'sok'"),
        (("--device", "cuda:0,cuda:1"), "argument --device: 'cuda:0,cuda:1': expected"),
        (("--only", "load", "--skip", "load"), "NOTHING CHECKED: --only and --skip leave no step"),
        (("--models", "/missing"), "--models /missing: there are no packages"),
        (("--out", __file__), "not a folder"),
        (("--soak-seconds", "-1"), "argument --soak-seconds: '-1': expected seconds, more than 0"),
        (("--load-seconds", "nan"), "'nan': expected seconds"),
        (("--load-seconds", "soon"), "'soon': expected seconds"),
    ],
)
def test_what_can_not_be_done_is_refused_before_anything_begins(arguments, reason, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    usage, error = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: python -m gpu.check [OPTION …]")
    assert reason in error


def test_the_benchmark_runs_only_when_it_is_asked_for():
    for asked in (["--only", "benchmark"], ["--with-benchmark"], ["--only", "load", "--with-benchmark"]):
        assert "benchmark" in parse(asked).steps
    for other in ([], ["--with-benchmark", "--skip", "benchmark"]):
        assert "benchmark" not in parse(other).steps


def test_a_run_in_which_nothing_was_checked_is_no_pass(tmp_path):
    done = check("--device", "cpu", "--only", "devices", "--out", tmp_path)
    assert done.returncode == 2
    assert "NOTHING CHECKED: 1 skipped" in done.stdout


def test_steps_run_one_at_a_time_share_a_report(tmp_path):
    told = {}
    for step in ("placement", "environment"):
        done = check("--device", "cpu", "--only", step, "--out", tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        told = json.loads((tmp_path / "report.json").read_text())
        assert max(len(line) for line in done.stdout.splitlines() if line.startswith("    ")) <= 120
    assert [step["name"] for step in told["steps"]] == ["environment", "placement"]
    assert "it keeps what was found before of placement" in done.stdout
    assert told["verdict"].endswith("passed: 2 passed")


def test_a_rehearsal_runs_the_same_steps_and_claims_nothing(tmp_path):
    copy(tmp_path / "models")
    steps = ("environment", "placement", "serving", "soak", "kill")
    done = check(
        *("--device", "cpu", "--models", tmp_path / "models", "--out", tmp_path / "out", "--soak-seconds", "0.5"),
        *("--only", ",".join([*steps, "devices"])),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("Rehearsal on the CPU: proves nothing about a GPU.")
    told = json.loads((tmp_path / "out/report.json").read_text())
    assert told["rehearsal"] is True
    assert told["verdict"].startswith("Rehearsal on the CPU: proves nothing about a GPU. passed")
    verdicts = {step["name"]: step["verdict"] for step in told["steps"]}
    assert verdicts == dict.fromkeys(steps, "passed") | {"devices": "skipped"}
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_its_servers_end_with_it_however_it_ends(tmp_path, number):
    copy(tmp_path / "models")
    log = tmp_path / "out" / "soak.log"
    command = [sys.executable, "-m", "gpu.check", "--device", "cpu", "--only", "soak", "--soak-seconds", "100"]
    with subprocess.Popen(
        [*command, "--models", tmp_path / "models", "--out", tmp_path / "out"], cwd=ROOT, stdout=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 60
        while not (log.exists() and '"event": "serving"' in log.read_text()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        servers = psutil.Process(process.pid).children()
        assert servers
        process.send_signal(number)
        assert process.wait(60) in (128 + number, -number)
    _, alive = psutil.wait_procs(servers, 30)
    assert not alive


def test_a_place_that_can_not_be_written_to_is_no_failed_step(tmp_path):
    done = check("--device", "cpu", "--only", "environment", "--out", "/proc/nowhere")
    assert done.returncode == 2
    assert done.stderr == "gpu-check: --out /proc/nowhere: No such file or directory\n"

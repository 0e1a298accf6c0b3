"""A virtual environment for the check, made of a folder of wheels and of what is on the machine already."""

import re
import shutil
import site
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from gpu.check import libraries

CHECKOUT = Path(__file__).parents[2]
DEFAULT = CHECKOUT / ".venv-gpu"

MODULES = ("grpc", "msgspec", "numpy", "onnx", "onnxruntime", "prometheus_client", "structlog", "tritonclient")
"""Without one of these nothing can be served."""

FOR_BENCHMARK = ("psutil", "rich")
"""What `python -m benchmarks.gpu` needs besides."""

VERSION = ".".join(map(str, sys.version_info[:2]))
"""Of this Python, which wheels are for."""

GATHER = (
    f"pip download --python-version {VERSION} --only-binary=:all: --constraint constraints.txt --dest wheels "
    "'.[serve,cuda]' gathers them where there is internet, and `psutil rich` at its end those of the benchmark "
    "(docs/gpu-check.md)"
)


class VenvError(Exception):
    """It can't be made; the message says why and what to do."""


def requirements(device: str, wheels: Path, benchmark: bool = False) -> list[str]:
    """What must be installed to check `device`, and for the benchmark, as `pyproject.toml` has it.

    NVIDIA's libraries are among them only where the machine has none. A rehearsal takes either ONNX Runtime.
    """
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    if device == "cpu":
        runtime = "gpu" if list(wheels.glob("onnxruntime_gpu-*.whl")) else "cpu"
    else:
        runtime = "cuda" if libraries.missing() else "gpu"
    return [
        *project["dependencies"],
        *extras["serve"],
        *extras[runtime],
        *(_bound(name, extras) for name in FOR_BENCHMARK if benchmark),
    ]


def make(folder: Path, wheels: Path, wanted: list[str]) -> Path:
    """Make or mend the environment; returns its Python.

    Raises:
        VenvError: there is no such folder, Python can't make environments, or wheels are missing.
    """
    if not list(wheels.glob("*.whl")):
        raise VenvError(f"{wheels} holds no wheels; {GATHER}")
    python = folder / "bin/python"
    if not _fits(folder, wanted):
        shutil.rmtree(folder, ignore_errors=True)
        # A pip that this Python has is seen from inside as well, and need not be unpacked once more.
        options = ["--system-site-packages", *(["--without-pip"] if find_spec("pip") else [])]
        done = _run(sys.executable, "-m", "venv", *options, str(folder))
        if done.returncode:
            raise VenvError(
                f"{sys.executable} can't make a virtual environment (on Debian: apt-get install python3-venv): "
                f"{(done.stdout + done.stderr).strip()}"
            )
        _see_what_we_see(folder)
    lacking = _run(str(python), "-m", "gpu.check.wheels", str(wheels), *wanted)
    if lacking.returncode:
        raise VenvError(f"{wheels} can't be read:\n{lacking.stderr.strip()}")
    if lines := lacking.stdout.split("\n"):
        _refuse(wheels, [line for line in lines if line])
    done = _run(
        *(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--no-index", "--find-links", str(wheels), *wanted),
    )
    if done.returncode:
        raise VenvError(f"pip can't install from {wheels}:\n{done.stderr.strip()}")
    return python


def lacking(modules: Iterable[str] | None = None) -> list[str]:
    """Modules, by default those without which nothing can be checked, that this Python has not."""
    return [name for name in modules or MODULES if find_spec(name) is None]


def _bound(name: str, extras: dict[str, list[str]]) -> str:
    """A package with the versions that an extra wants of it."""
    return next(one for extra in extras.values() for one in extra if re.match(rf"{name}\b", one))


def _refuse(wheels: Path, lacking: list[str]) -> None:
    if lacking:
        listed = "\n  ".join(lacking)
        raise VenvError(
            f"for Python {VERSION}, {wheels} lacks a wheel of {len(lacking)} requirement(s), and what they need in "
            f"turn is not counted:\n  {listed}\n{GATHER}"
        )


def _fits(folder: Path, wanted: list[str]) -> bool:
    """It is of this Python, and not of the other ONNX Runtime: the two share a folder."""
    packages = folder / f"lib/python{VERSION}/site-packages"
    other = "onnxruntime" if any(one.startswith("onnxruntime-gpu") for one in wanted) else "onnxruntime_gpu"
    return (folder / "bin/python").exists() and packages.is_dir() and not list(packages.glob(f"{other}-*.dist-info"))


def _see_what_we_see(folder: Path) -> None:
    """Where this Python is itself one of a virtual environment, what is in there counts as well."""
    if sys.prefix != sys.base_prefix:
        for packages in folder.glob("lib/python*/site-packages"):
            (packages / "outer.pth").write_text("\n".join(site.getsitepackages()) + "\n")


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)

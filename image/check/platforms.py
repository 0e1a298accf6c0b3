"""Whether there is a wheel of every dependency for every kind of machine that the image is for."""

import json
import sys
import tomllib
from pathlib import Path

from image.check.commands import run

PLATFORMS = {
    "x86_64": ("cpu", "cuda"),
    "aarch64": ("cpu",),  # onnxruntime-gpu has no wheels for it
}
GLIBC = ("2_28", "2_27", "2_17")
"""Those of bookworm (2.36) and older that wheels are built for."""


def resolve(checkout: Path, folder: Path, machine: str, device: str) -> str:
    """Resolve the image's dependencies for a machine, wheels only, without loading them.

    Raises:
        CheckError: there is no such set.
    """
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = folder / "requirements.txt"
    requirements.write_text("\n".join([*project["dependencies"], *extras["serve"], *extras[device]]))
    report = folder / "report.json"
    tags = [f"manylinux_{version}_{machine}" for version in GLIBC] + [f"manylinux2014_{machine}"]
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-input"),
        *("--only-binary", ":all:", "--implementation", "cp", "--python-version", "3.11"),
        *(f"--platform={tag}" for tag in tags),
        *("--target", folder / "nowhere", "--report", report),
        *("--constraint", checkout / "constraints.txt", "--requirement", requirements),
    )
    wheels = [each["download_info"]["url"].rpartition("/")[2] for each in json.loads(report.read_text())["install"]]
    built = sum(machine in wheel for wheel in wheels)
    return f"[{device}] on {machine}: {len(wheels)} wheels, {built} of them built for it"

"""A virtual environment for each peer, made on first use from its `requirements.txt`, in a folder that git ignores."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.servers import ServerFailed

FOLDER = Path(__file__).parent
_ENVIRONMENTS = FOLDER / ".venvs"
_MADE_FROM = "made-from.txt"
"""A copy of the requirements inside an environment that is complete."""
_SECONDS = 1200.0


def python(name: str) -> Path:
    """The interpreter of a peer's environment."""
    return _ENVIRONMENTS / name / "bin" / "python"


def version(name: str, package: str) -> str:
    """The version of a package that a peer's requirements pin."""
    for line in _requirements(name).splitlines():
        found, _, pinned = line.partition("==")
        if found.partition("[")[0].strip().lower() == package:
            return pinned.split()[0].rstrip(";")
    raise ServerFailed(f"{name}/requirements.txt does not pin {package}")


def is_made(name: str) -> bool:
    """Is the environment there, and made from the requirements as they are now?"""
    wanted, made_from = _requirements(name), _ENVIRONMENTS / name / _MADE_FROM
    return made_from.exists() and made_from.read_text() == wanted


def make(name: str) -> None:
    """Make a peer's environment, in place of one that is there.

    Raises:
        ServerFailed: it can't be made; the message has the installer's last words.
    """
    folder, requirements = _ENVIRONMENTS / name, FOLDER / name / "requirements.txt"
    _ENVIRONMENTS.mkdir(exist_ok=True)
    if uv := shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"):
        _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
        _run(uv, "pip", "install", "--quiet", "--python", str(python(name)), "--requirement", str(requirements))
    else:
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        pip = (str(python(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _run(*pip, "--requirement", str(requirements))
    (folder / _MADE_FROM).write_text(_requirements(name))


def _requirements(name: str) -> str:
    try:
        return (FOLDER / name / "requirements.txt").read_text()
    except FileNotFoundError:
        raise ServerFailed(f"there is no {name}/requirements.txt") from None


def _run(*command: str) -> None:
    # Copies, not links into a cache: peers that shared a library's file would share its memory, too.
    environment = {**os.environ, "UV_LINK_MODE": "copy"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ServerFailed(f"not installed after {_SECONDS:.0f} s") from None
    if done.returncode:
        last = [line.strip() for line in done.stderr.splitlines() if line.strip()][-3:]
        raise ServerFailed(f"not installed: {' / '.join(last)}")

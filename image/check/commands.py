"""How the check runs other programs."""

import subprocess
from collections.abc import Sequence
from pathlib import Path


class CheckError(Exception):
    """The image is not what it should be, or could not be made."""


def run(*command: str | Path, cwd: Path | None = None, log: Path | None = None) -> str:
    """What a command prints; with a `log`, what it prints goes there instead.

    Raises:
        CheckError: it failed. The message ends with the last it said.
    """
    done = _run(command, cwd)
    if log is not None:
        log.write_text(done.stdout + done.stderr)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise CheckError(f"{' '.join(map(str, command))}\nended with {done.returncode}:\n{said}")
    return "" if log else done.stdout


def _run(command: Sequence[str | Path], cwd: Path | None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise CheckError(f"{command[0]} is not here: apt-get install buildah debootstrap runc") from error

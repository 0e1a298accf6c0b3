"""Other people's HTTP clients, each run as a process of its own, as an application would."""

import subprocess
import sys

from tests.end_to_end.server import ROOT, ServerProcess
from tests.interop.conftest import FOLDER


def run(script: str, kind: str, server: ServerProcess) -> None:
    """Do what `kind` says of `script`, which ends well or tells what was not as expected."""
    address = server.http.rpartition("/")[2]
    command = [sys.executable, str(FOLDER / f"{script}.py"), address, server.ca or "-", kind]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr + server.output
    assert done.stdout == "done\n"

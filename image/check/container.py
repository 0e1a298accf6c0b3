"""The image as Kubernetes would run it under the restricted Pod Security Standard, by runc.

A root file system that can't be written to, user 65532, no capability, no new privilege, a small /tmp. The network is
this machine's own, so that clients outside can call.
"""

import json
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from image.check.commands import CheckError

READY_SECONDS = 120.0
EXIT_SECONDS = 60.0
POLL_SECONDS = 0.05


class Container:
    """One container, from its start to its exit."""

    def __init__(
        self, name: str, folder: Path, root: Path, config: Mapping[str, Any], environment: Mapping[str, str]
    ) -> None:
        self._name = name
        self._runc = ("runc", "--root", str(folder / "runc"))
        self.log = folder / f"{name}.log"
        bundle = folder / "bundle"
        bundle.mkdir(exist_ok=True)
        (bundle / "config.json").write_text(json.dumps(_specification(root, config, environment)))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*self._runc, "run", "--bundle", bundle, name], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait_for(self, event: str) -> dict[str, Any]:
        """The first line of the log that tells of this event.

        Raises:
            CheckError: it does not come.
        """
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            for line in self.log.read_text().splitlines():
                if line.startswith("{") and (told := json.loads(line))["event"] == event:
                    return dict(told)
            if self._process.poll() is not None:
                break
            time.sleep(POLL_SECONDS)
        raise CheckError(f"the container never said {event!r}:\n{self.log.read_text()}")

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside the server."""
        return subprocess.run([*self._runc, "exec", self._name, *command], capture_output=True, text=True, check=False)

    def python(self, code: str) -> str:
        """What a few lines of Python print there.

        Raises:
            CheckError: they fail.
        """
        done = self.execute("python", "-c", code)
        if done.returncode:
            raise CheckError(f"in the container: {code}\n{done.stderr}")
        return done.stdout.strip()

    def stop(self) -> int:
        """Send SIGTERM; returns the exit code."""
        subprocess.run([*self._runc, "kill", self._name, str(int(signal.SIGTERM))], check=True)
        return self._process.wait(EXIT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            subprocess.run([*self._runc, "kill", self._name, "KILL"], check=False)
            self._process.wait(EXIT_SECONDS)


def _specification(root: Path, config: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """The OCI runtime specification's config.json."""
    user, group = (int(part) for part in config["User"].split(":"))
    settings = {**dict(each.split("=", 1) for each in config["Env"]), **environment}
    nothing: dict[str, list[str]] = {
        kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")
    }
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": user, "gid": group},
            "args": [*config["Entrypoint"], *config["Cmd"]],
            "env": [f"{name}={value}" for name, value in settings.items()],
            "cwd": config["WorkingDir"],
            "noNewPrivileges": True,
            "capabilities": nothing,
        },
        "root": {"path": str(root), "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            _memory("/dev", "mode=755", "size=64k"),
            _memory("/dev/shm", "mode=1777", "size=64m", "noexec"),
            _memory("/tmp", "mode=1777", "size=64m", "noexec"),
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
    }


def _memory(folder: str, *options: str) -> dict[str, Any]:
    return {"destination": folder, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", *options]}

"""A real server as a real process: started, asked, signalled and waited for by the tests."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from serving.client import Tls
from tests.serving.certificates import Certificates
from tests.serving.packages import first_versions

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"
READY_SECONDS = 60.0
EXIT_SECONDS = 60.0


class ServerProcess:
    """`python -m serving serve` on ports of its own, or on those given.

    Serves version 1 of each shipped model unless it is given other models: half the time that all of them take. On the
    CPU unless told otherwise, also where there is a GPU: what is tested here is not the device.
    """

    def __init__(
        self,
        *flags: str,
        models: Path | None = None,
        grpc: str = "127.0.0.1:0",
        certificates: Certificates | None = None,
        module: str = "serving",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.ca = None if certificates is None else certificates.ca
        if certificates is not None:
            own = certificates.server
            flags = (*flags, "--tls-certificate", own.certificate, "--tls-key", own.key)
        self.lines: list[dict[str, Any]] = []
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-W", "error", "-m", module, "serve", "--log-format", "json"),
                *(
                    "--models",
                    str(models or first_versions()),
                    "--grpc-address",
                    grpc,
                    "--metrics-address",
                    "127.0.0.1:0",
                ),
                *("--http-address", "127.0.0.1:0", "--device", "cpu", *flags),
            ],
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if not k.startswith("TRIPTYCH_")} | dict(environment or {}),
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                event = json.loads(line)
            except ValueError:
                event = {"event": line.rstrip("\n")}
            self.lines.append(event)
            self._events.put(event)
        self._events.put(None)

    def wait_for(self, name: str, timeout: float = READY_SECONDS) -> dict[str, Any]:
        """The first event of that name from here on."""
        while (event := self._events.get(timeout=timeout)) is not None:
            if event["event"] == name:
                return event
        raise AssertionError(f"the server ended without {name!r}: {self.output}")

    def wait_imported(self, module: str) -> None:
        """Until the interpreter says so, which it does under PYTHONPROFILEIMPORTTIME."""
        while (event := self._events.get(timeout=READY_SECONDS)) is not None:
            if event["event"].startswith("import time:") and event["event"].rpartition("|")[2].strip() == module:
                return
        raise AssertionError(f"the server ended without {module!r}")

    def wait_ready(self) -> Self:
        event = self.wait_for("serving")
        self.address = event["grpc"]
        self.port = int(self.address.rpartition(":")[2])
        self.http = event["http"]
        self.metrics = event["metrics"]
        return self

    @property
    def tls(self) -> Tls | None:
        """What the Python client needs to reach it."""
        return None if self.ca is None else Tls(self.ca)

    def channel(self, options: Any = None) -> Any:
        """grpcio's own."""
        if self.tls is None:
            return grpc.insecure_channel(self.address, options)
        return grpc.secure_channel(self.address, self.tls.credentials(), options)

    @property
    def output(self) -> str:
        return "\n".join(line["event"] if len(line) == 1 else json.dumps(line) for line in self.lines)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self) -> int:
        code = self.process.wait(EXIT_SECONDS)
        self._reader.join(EXIT_SECONDS)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(EXIT_SECONDS)
        assert self.process.stderr is not None
        self.process.stderr.close()

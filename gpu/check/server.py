"""A real server as a real process, its log kept beside the report."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

from gpu.check.finding import StepFailed
from gpu.check.venv import CHECKOUT

READY_SECONDS = 180.0
"""The first start on a GPU may compile kernels for it."""
EXIT_SECONDS = 60.0
POLL_SECONDS = 0.02
PAGE_SECONDS = 10.0

Sample = tuple[str, dict[str, str], float]
"""Name, labels and value."""


def command(*flags: str) -> list[str]:
    """How a server is started here."""
    return [sys.executable, "-m", "serving", "serve", "--log-format", "json", *flags]


def settings_free(environment: Mapping[str, str]) -> dict[str, str]:
    """Without variables that would configure a server."""
    return {name: value for name, value in environment.items() if not name.startswith("TRIPTYCH_")}


_ENDS_WITH_PARENT = (
    f"import ctypes, os, sys; ctypes.CDLL(None).prctl(1, {signal.SIGTERM:d}, 0, 0, 0); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
"""Runs Python in its place, told to stop when who started it is killed (prctl(2), PR_SET_PDEATHSIG): it would keep the
GPU's memory. Not between fork and exec here, where gRPC's threads are."""


class Server:
    """`python -m serving serve` on ports of its own, or on the gRPC port given; killed, if need be, when left."""

    def __init__(self, device: str, models: Path, log: Path, *flags: str, grpc: str = "127.0.0.1:0") -> None:
        self.log = log
        addresses = ("--grpc-address", grpc, "--http-address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0")
        started = command("--device", device, "--models", str(models), *addresses, *flags)
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _ENDS_WITH_PARENT, *started[1:]],
                cwd=CHECKOUT,
                env=settings_free(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        self.address = self.metrics_url = ""

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of its log that tell of this event, so far."""
        lines = self.log.read_text("utf-8", "replace").splitlines()
        told = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [event for event in told if event.get("event") == name]

    def wait_ready(self) -> Self:
        """Until it serves every model.

        Raises:
            StepFailed: it ends, or takes too long.
        """
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if told := self.events("serving"):
                self.address, self.metrics_url = told[0]["grpc"], told[0]["metrics"]
                return self
            if self.process.poll() is not None:
                raise StepFailed(f"the server ended with {self.process.returncode}: {self.last_words()}")
            time.sleep(POLL_SECONDS)
        raise StepFailed(f"the server did not serve within {READY_SECONDS:g} s: {self.last_words()}")

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-5:])

    def metrics(self) -> list[Sample]:
        """What `/metrics` says."""
        with urllib.request.urlopen(self.metrics_url, timeout=PAGE_SECONDS) as page:
            text = page.read().decode()
        return [
            (sample.name, dict(sample.labels), float(sample.value))
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]

    def values(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each sample of one metric."""
        return [(labels, value) for found, labels, value in self.metrics() if found == name]

    def resident_bytes(self) -> int:
        """Memory of the process."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        """As a machine without memory left does it."""
        self.process.kill()
        self.process.wait(EXIT_SECONDS)

    def stop(self) -> int:
        """Ask it to stop, as Kubernetes does; returns the exit code.

        Raises:
            StepFailed: it does not end.
        """
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise StepFailed(f"the server did not end within {EXIT_SECONDS:g} s of SIGTERM") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill()

"""The processes that are measured: the real server, and the floor it is compared with."""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from benchmarks.machine import pinned

REPOSITORY = Path(__file__).parents[1]

_SERVE = (
    *("-m", "serving", "serve", "--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"),
    *("--metrics-address", "127.0.0.1:0", "--log-format", "json"),
)
_START_SECONDS = 60.0
_STOP_SECONDS = 15.0


class ServerFailed(Exception):  # noqa: N818 - reads better where it is raised
    """A server did not start, or was not as it should be; the message has its last words."""


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    process: psutil.Process
    address: str
    metrics_url: str = ""
    ready_seconds: float = 0.0
    """From the start of the process until it said that it serves."""
    started: float = 0.0
    """By `time.monotonic`."""
    http_address: str = ""

    def cpu_seconds(self) -> float:
        """CPU time so far, user and system."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def resident_bytes(self) -> int:
        """Resident memory."""
        return int(self.process.memory_info().rss)

    def metrics_text(self) -> str:
        """What `/metrics` says."""
        return _get(self.metrics_url)

    def is_ready(self) -> bool:
        """What `/health/ready` says."""
        try:
            return bool(_get(self.metrics_url.replace("/metrics", "/health/ready")))
        except urllib.error.HTTPError:
            return False


@contextmanager
def real_server(
    core: int | None = None, transport: str | None = None, *flags: str, every_version: bool = False
) -> Iterator[Server]:
    """The server as anyone would start it, on `core`; None: with its default transport.

    It serves version 1 of each model in `models/`, the book's, whose cost in the session is least, so that figures of
    the server's own speed stay comparable; or every version; or what `flags` say.

    Raises:
        ServerFailed: it does not start.
    """
    started = time.monotonic()
    chosen = () if transport is None else ("--transport", transport)
    with (
        _first_versions() as models,
        _process((*_SERVE, *chosen, *_models(models, flags, every_version)), core) as process,
    ):
        lines = _Lines(process.stderr)
        event = lines.find("serving")
        if event is None:
            raise ServerFailed(f"the server did not start: {lines.last_words()}")
        ready = time.monotonic() - started
        yield Server(
            psutil.Process(process.pid),
            event["grpc"],
            event["metrics"],
            ready,
            started,
            event["http"].partition("//")[2],
        )


def _models(first: Path, flags: tuple[str, ...], every_version: bool) -> tuple[str, ...]:
    return flags if every_version or "--models" in flags else ("--models", str(first), *flags)


@contextmanager
def _first_versions() -> Iterator[Path]:
    """A folder with version 1 of each model."""
    with tempfile.TemporaryDirectory() as folder:
        for package in (REPOSITORY / "models").glob("*/1"):
            shutil.copytree(package, Path(folder) / package.parent.name / package.name)
        yield Path(folder)


@contextmanager
def floor_server(
    replies: Mapping[str, bytes], core: int | None = None, interpreter: Path | None = None
) -> Iterator[Server]:
    """A grpc.aio server that answers each method with a constant; in another environment, where one is given.

    Raises:
        ServerFailed: it does not start.
    """
    with _process(("-m", "benchmarks.floor"), core, interpreter) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        replies64 = {method: base64.b64encode(reply).decode() for method, reply in replies.items()}
        process.stdin.write(json.dumps(replies64) + "\n")
        process.stdin.flush()
        _Lines(process.stderr)
        address = process.stdout.readline().strip()
        if not address:
            raise ServerFailed("the floor server did not start")
        yield Server(psutil.Process(process.pid), address)


@contextmanager
def _process(
    arguments: tuple[str, ...], core: int | None, interpreter: Path | None = None
) -> Iterator["subprocess.Popen[str]"]:
    with pinned(core):
        process = subprocess.Popen(
            [str(interpreter or sys.executable), *arguments],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


class _Lines:
    """Reads a process's log, so that it never has to wait for a reader."""

    def __init__(self, stream: IO[str] | None) -> None:
        assert stream is not None
        self._stream = stream
        self._last: deque[str] = deque(maxlen=5)
        self._event: dict[str, str] | None = None
        self._wanted = ""
        self._found = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def find(self, event: str) -> dict[str, str] | None:
        """The fields of the line about `event`, or None where it does not come."""
        self._wanted = event
        for line in list(self._last):
            self._look(line)
        self._found.wait(_START_SECONDS)
        return self._event

    def last_words(self) -> str:
        return " / ".join(self._last) or "it said nothing"

    def _read(self) -> None:
        with self._stream:
            for line in self._stream:
                self._last.append(line.strip())
                self._look(line)
        self._found.set()

    def _look(self, line: str) -> None:
        if self._wanted and line.startswith("{"):
            fields = json.loads(line)
            if fields.get("event") == self._wanted:
                self._event = fields
                self._found.set()


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())

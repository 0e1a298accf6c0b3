"""Servers whose trouble is made on purpose, and those who call them."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.monitoring.prometheus import Prometheus, free_port
from benchmarks.servers import REPOSITORY, ServerFailed

_START_SECONDS = 60.0
_PAUSE_SECONDS = 0.02


class Served:
    """A server that can be killed and started again, on the ports that it had."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.models = folder / "models"
        self._log = folder / "log"
        self.ports = {name: free_port() for name in ("grpc", "http", "metrics")}
        self.flags: tuple[str, ...] = flags
        self.prefix: tuple[str, ...] = ()
        """What starts it: a command before its own."""
        self.module = "serving"
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Of gRPC."""
        return f"127.0.0.1:{self.ports['grpc']}"

    @property
    def metrics(self) -> str:
        """`HOST:PORT`, to be scraped."""
        return f"127.0.0.1:{self.ports['metrics']}"

    def start(self) -> None:
        """Start it and wait until it serves.

        Raises:
            ServerFailed: it does not.
        """
        addresses = (f"--{name}-address=127.0.0.1:{port}" for name, port in self.ports.items())
        arguments = (
            *(*self.prefix, sys.executable, "-m", self.module, "serve", "--models", str(self.models)),
            *(*addresses, "--log-format", "json", *self.flags),
        )
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TRIPTYCH_")}
        environment |= self.environment
        begin = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            process = self.process = subprocess.Popen(arguments, cwd=REPOSITORY, env=environment, stderr=log)
        wait_for(lambda: self._says("serving", begin) or process.poll() is not None, _START_SECONDS)
        if not self._says("serving", begin):
            raise ServerFailed(f"the server did not start: {self._log.read_text('utf-8')[-800:]}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Signal it, and wait for its end."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(_START_SECONDS)

    def restart(self, *flags: str) -> None:
        """The same server with other flags."""
        self.stop()
        self.flags = flags
        self.start()

    def publish(self, model: str, version: int = 1, source: int = 1) -> Path:
        """Copy a shipped package beside its place, and rename it."""
        (self.models / model).mkdir(parents=True, exist_ok=True)
        hidden = self.models / model / f".{version}"
        shutil.copytree(REPOSITORY / "models" / model / str(source), hidden)
        manifest = json.loads((hidden / "model.json").read_text("utf-8"))
        (hidden / "model.json").write_text(json.dumps({**manifest, "version": version}), encoding="utf-8")
        return hidden.rename(self.models / model / str(version))

    def _says(self, event: str, begin: int) -> bool:
        with self._log.open("rb") as log:
            log.seek(begin)
            return f'"{event}"'.encode() in log.read()


class Stage:
    """All servers and callers of a run, which end with it."""

    def __init__(self, watcher: Prometheus, ending: ExitStack) -> None:
        self._watcher = watcher
        self._ending = ending
        self.servers: list[Served] = []

    def folder(self) -> Path:
        """A new one."""
        return Path(self._ending.enter_context(tempfile.TemporaryDirectory()))

    def at_the_end(self, work: Callable[[], object]) -> None:
        """Do this when the servers that are yet to come are gone."""
        self._ending.callback(work)

    def server(self, namespace: str, *flags: str, models: tuple[str, ...] = ("house_price",)) -> Served:
        """One that is not started yet and will be watched; its alerts are told from others' by their namespace."""
        served = Served(self.folder(), "--device", "cpu", "--model-poll-seconds", "0.2", *flags)
        for model in models:
            served.publish(model)
        self._ending.callback(served.stop, signal.SIGKILL)
        self._watcher.watch({served.metrics: {"namespace": namespace}})
        self.servers.append(served)
        return served

    def call(self, work: Callable[[], Any], callers: int = 1) -> Callable[[], None]:
        """Have `work` done again and again, by so many threads, whatever becomes of it; returns what ends that."""
        over = threading.Event()

        def go_on() -> None:
            while not over.wait(_PAUSE_SECONDS):
                with contextlib.suppress(Exception):
                    work()

        threads = [threading.Thread(target=go_on, daemon=True) for _ in range(callers)]
        for thread in threads:
            thread.start()

        def end() -> None:
            over.set()
            for thread in threads:
                thread.join(_START_SECONDS)

        self._ending.callback(end)
        return end


@contextmanager
def stage(watcher: Prometheus) -> Iterator[Stage]:
    """An empty one."""
    with ExitStack() as ending:
        yield Stage(watcher, ending)


def wait_for(condition: Callable[[], object], seconds: float) -> bool:
    """Whether it came true in time."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.1)):
        if condition():
            return True
        pause.wait(0.1)
    return False

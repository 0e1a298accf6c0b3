"""The machine that was measured: what to say of it, which cores to use, and how busy others keep it."""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

_CAN_PIN = hasattr(os, "sched_setaffinity")
_LIBRARIES = ("triptych", "grpcio", "protobuf", "onnxruntime", "onnxruntime-gpu", "numpy")


def describe() -> dict[str, Any]:
    """Hardware and versions, without the names of hosts or folders."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(usable_cores()),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "libraries": versions,
    }


def summary(machine: dict[str, Any]) -> str:
    """`describe` in one line."""
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    return (
        f"{machine['cpu']}, {machine['usable_cores']} cores, {machine['memory_gib']:.0f} GiB, {machine['system']} "
        f"{machine['architecture']}; Python {machine['python']}, {libraries}"
    )


def usable_cores() -> list[int]:
    """The cores that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if _CAN_PIN else list(range(os.cpu_count() or 1))


@dataclass(frozen=True)
class Cores:
    """Where server and load run. None: wherever the system puts them."""

    server: int | None
    load: int | None

    @classmethod
    def choose(cls) -> "Cores":
        """One core each, where there are two and they can be chosen."""
        cores = usable_cores()
        return cls(cores[0], cores[1]) if _CAN_PIN and len(cores) > 1 else cls(None, None)

    def __str__(self) -> str:
        if self.server is None:
            return "server and load generator were not pinned: they shared the cores as the system saw fit"
        return "the server had one core to itself and the load generator another"


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Run on one core only. What is started inside inherits that, all its threads included."""
    if core is None or not _CAN_PIN:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Others:
    """How many cores were kept busy by anyone but the processes measured, since this was made."""

    def __init__(self) -> None:
        self._busy = _busy_seconds()
        self._started = time.monotonic()

    def cores(self, own_seconds: float) -> float:
        """Busy cores, less `own_seconds` of CPU time of the processes measured."""
        elapsed = time.monotonic() - self._started
        return max(0.0, round((_busy_seconds() - self._busy - own_seconds) / elapsed, 2))


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # The kernel counts a guest's time as user time already.
    counted_twice = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - counted_twice)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())

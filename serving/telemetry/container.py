"""How much memory the process may have, as the kernel keeps it: what resident memory is to be compared with."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

NAME = "triptych_memory_limit_bytes"

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")

_NO_LIMIT = 2**60
"""Bytes; version 1 writes the greatest multiple of a page instead of saying that there is none."""


class MemoryLimit(Collector):
    """The limit as a metric, read at every scrape since it can change under a running container; none, no metric."""

    def collect(self) -> Iterator[Metric]:
        limit = memory_limit()
        if limit is not None:
            yield GaugeMetricFamily(NAME, "Most memory that the container may have, where there is a limit.", limit)


def memory_limit(cgroups: Path = _CGROUPS, own: Path = _OWN) -> int | None:
    """Bytes after which the kernel kills this process or one beside it: the least limit of its control groups.

    Versions 1 and 2 (Linux kernel, admin-guide/cgroup-v1/memory and cgroup-v2). A container often sees its own group
    as the root, whatever the path that it is told, so the root counts, too.
    """
    limits: list[int] = []
    for line in _lines(own):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            limits += _limits(cgroups, path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(cgroups / "memory", path, "memory.limit_in_bytes")
    return min(limits, default=None)


def _limits(root: Path, path: str, file: str) -> Iterator[int]:
    """Of a group and of those that it lies in."""
    group = root / path.strip("/")
    for folder in (group, *group.parents):
        for line in _lines(folder / file):
            if line.isdecimal() and int(line) < _NO_LIMIT:
                yield int(line)
        if folder == root:
            return


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8").splitlines()
    except OSError:
        return []  # no such group here, or no control groups at all

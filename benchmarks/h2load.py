"""h2load, nghttp2's load generator, run on a core of its own; and what it must not be believed without a check.

h2load counts any answer with HTTP status 200 as a success, and every gRPC answer has that, errors included. So
what it counted is held against the bytes that a known good reply has, and against the server's own count of calls
that it answered with OK.
"""

import math
import re
import resource
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import Others, pinned
from benchmarks.servers import ServerFailed
from benchmarks.stats import percentile, ratio

IN_FLIGHT = {1: (1, 1), 16: (4, 4), 64: (8, 8)}
"""Connections, and streams on each."""

PREFIX_BYTES = 5
"""Of a gRPC message: one for compression, four for its length."""

_GRACE_SECONDS = 20.0
_GRPC_HEADERS = ("te: trailers", "content-type: application/grpc")
_JSON_HEADERS = ("content-type: application/json",)
_COUNTS = re.compile(
    r"requests: \d+ total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout"
)
_DATA = re.compile(r"\((\d+)\) data$", re.MULTILINE)
_SPEED = re.compile(r"finished in [\d.]+\w+, ([\d.]+) req/s")


@dataclass(frozen=True)
class Shot:
    """What h2load sends, and by how many streams at once."""

    address: str
    method: str
    message: bytes
    connections: int
    streams: int
    """In flight on each connection."""
    json: bool = False
    """The message is JSON, posted over HTTP/1.1, and not gRPC's."""
    headers: tuple[str, ...] = ()
    """More of them."""


@dataclass(frozen=True)
class Counted:
    """What h2load said."""

    started: int
    done: int
    bad: int
    """Failed, errored or timed out."""
    per_second: float
    data_bytes: int
    p50_ms: float
    p99_ms: float
    cpu_seconds: float
    """CPU time of h2load itself."""


def missing() -> str | None:
    """Why h2load can't be used here, or None."""
    return None if shutil.which("h2load") else "h2load is not installed (Debian: apt install nghttp2-client)"


def warm_up(shot: Shot, core: int | None, requests: int) -> None:
    """Send so many requests, and forget them."""
    with tempfile.TemporaryDirectory() as folder:
        _h2load(shot, core, Path(folder), ("-n", str(max(requests, shot.connections * shot.streams))), _GRACE_SECONDS)


def shoot(shot: Shot, core: int | None, seconds: int) -> Counted:
    """A closed loop for so many seconds, whole ones, since h2load takes no others.

    Raises:
        ServerFailed: h2load did not get through.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "requests.tsv"  # h2load appends to one that is there
        cpu = _children_seconds()
        said = _h2load(shot, core, Path(folder), ("-D", str(seconds), f"--log-file={log}"), seconds + _GRACE_SECONDS)
        cpu = _children_seconds() - cpu
        return parse(said, log.read_text(), cpu)


def timeline(shot: Shot, core: int | None, seconds: int) -> tuple[Counted, list[tuple[float, float]]]:
    """`shoot`, and of each request when it began, by `time.time`, and the seconds that it took.

    Raises:
        ServerFailed: h2load did not get through.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "requests.tsv"
        said = _h2load(shot, core, Path(folder), ("-D", str(seconds), f"--log-file={log}"), seconds + _GRACE_SECONDS)
        lines = [line.split("\t") for line in log.read_text().splitlines()]
        return parse(said, log.read_text()), [(int(began) / 1e6, int(took) / 1e6) for began, _, took in lines]


def measure(
    shot: Shot, core: int | None, seconds: int, cpu_seconds: Callable[[], float]
) -> tuple[Counted, dict[str, Any]]:
    """`shoot`, and the figures of a server whose CPU time so far is `cpu_seconds`.

    Raises:
        ServerFailed: h2load did not get through.
    """
    others, cpu = Others(), cpu_seconds()
    counted = shoot(shot, core, seconds)
    cpu = cpu_seconds() - cpu
    return counted, {
        "requests": counted.done,
        "per_second": counted.per_second,
        "p50_ms": counted.p50_ms,
        "p99_ms": counted.p99_ms,
        "cpu_us": ratio(cpu * 1e6, counted.done),
        "server_cores": cpu / seconds,
        "client_cores": counted.cpu_seconds / seconds,
        "other_cores": others.cores(cpu + counted.cpu_seconds),
    }


def steady(shot: Shot, core: int | None, seconds: int, per_second: int, *, latencies: bool = False) -> Counted:
    """So many a second, in h2load's small bursts, for long.

    Of a single request nothing is kept, and no latency known, unless `latencies` asks for a line of log for each.

    Raises:
        ServerFailed: h2load did not get through.
    """
    pace = ("-D", str(seconds), f"--rps={max(per_second // shot.connections, 1)}")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "requests.tsv"
        if latencies:
            pace = (*pace, f"--log-file={log}")
        said = _h2load(shot, core, Path(folder), pace, seconds + _GRACE_SECONDS)
        return parse(said, log.read_text() if latencies else None)


def parse(said: str, log: str | None, cpu_seconds: float = 0.0) -> Counted:
    """What h2load printed, and logged if it did.

    Raises:
        ServerFailed: it counted nothing.
    """
    counts, data, speed = _COUNTS.search(said), _DATA.search(said), _SPEED.search(said)
    if counts is None or data is None or speed is None or not int(counts[2]):
        raise ServerFailed(f"h2load got no answers: {' / '.join(said.splitlines()[-6:])}")
    started, done, succeeded, *_ = (int(count) for count in counts.groups())
    if log is None:
        nothing = math.nan
        return Counted(started, done, done - succeeded, float(speed[1]), int(data[1]), nothing, nothing, cpu_seconds)
    rows = np.fromstring(log, sep="\t").reshape(-1, 3)  # start, HTTP status, microseconds
    if len(rows) < done:
        raise ServerFailed(f"h2load logged {len(rows)} of {done} requests")
    latencies = np.sort(rows[:, 2]).tolist()
    bad = done - succeeded + int((rows[:, 1] != 200).sum())
    return Counted(
        *(started, done, bad, float(speed[1]), int(data[1])),
        *(percentile(latencies, 50) / 1e3, percentile(latencies, 99) / 1e3, cpu_seconds),
    )


def check(counted: Counted, reply: bytes, answered_ok: float | None) -> None:
    """Is what h2load counted what the server did?

    Args:
        counted: what h2load said.
        reply: a known good reply, whose length every other must have.
        answered_ok: calls that the server counted as OK meanwhile; None where it does not count.

    Raises:
        ServerFailed: it is not, and the figures mean nothing.
    """
    check_sizes(counted, len(reply) + PREFIX_BYTES)
    if answered_ok is not None and answered_ok < counted.done:
        raise ServerFailed(f"h2load counted {counted.done} answers, the server answered {answered_ok:.0f} with OK")


def check_sizes(counted: Counted, each: int, slack: int = 0) -> None:
    """Did all requests succeed, and have all replies so many bytes of data, give or take `slack`?

    Raises:
        ServerFailed: not all.
    """
    if counted.bad:
        raise ServerFailed(f"{counted.bad} of {counted.done} requests failed")
    # What was under way when the time was over may have had its data, and not yet its end.
    if not counted.done * (each - slack) <= counted.data_bytes <= counted.started * (each + slack):
        raise ServerFailed(
            f"{counted.done} replies have {counted.data_bytes} bytes of data, {each} each were expected: "
            "h2load counts errors of gRPC as successes"
        )


def _h2load(shot: Shot, core: int | None, folder: Path, length: tuple[str, ...], timeout: float) -> str:
    body = folder / "body"
    body.write_bytes(shot.message if shot.json else framed(shot.message))
    sent = (*(_JSON_HEADERS if shot.json else _GRPC_HEADERS), *shot.headers)
    headers = [part for header in sent for part in ("-H", header)]
    command = [
        *("h2load", *(("--h1",) if shot.json else ()), *length, "-c", str(shot.connections), "-m", str(shot.streams)),
        *("-d", str(body), *headers),
        f"http://{shot.address}{shot.method}",
    ]
    with pinned(core):
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise ServerFailed(f"h2load ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def framed(message: bytes) -> bytes:
    """A message as gRPC puts it into DATA frames, not compressed."""
    return struct.pack(">BI", 0, len(message)) + message


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime

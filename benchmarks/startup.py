"""From the start of the process to the first answer, and the memory of a server that waits."""

import subprocess
import sys
import time
from typing import Any

import grpc
import psutil

from benchmarks.payloads import houses
from benchmarks.servers import REPOSITORY, ServerFailed, floor_server, real_server
from benchmarks.session import Session
from benchmarks.stats import median
from benchmarks.tables import Cell, Table

NAME = "startup"

_SETTLE_SECONDS = 1.0
_TIMEOUT = 10.0

# What the server would need whatever it did; its own modules come on top.
_LIBRARIES = "asyncio, google.protobuf, grpc.aio, msgspec, numpy, onnxruntime, prometheus_client, structlog"

_PYTHONS = {
    "Python alone": "",
    "Python and the server's libraries": f"import {_LIBRARIES}",
    "Python and the server's own modules": "import serving.logs, serving.server",
}
_FLOOR = "the floor: grpc.aio, nothing else"
_SERVER = "the server, three models ready"


def run(session: Session) -> dict[str, Any]:
    """Start everything several times."""
    rounds = int(session.pick(5, 1))
    raw: list[dict[str, Any]] = []
    with session.reporter.benchmark(NAME, rounds):
        for number in range(rounds):
            measured = {name: _python(code) for name, code in _PYTHONS.items()}
            measured[_FLOOR] = _floor()
            measured[_SERVER] = _server()
            raw.append(measured)
            session.reporter.step(
                f"start {number + 1} of {rounds}: ready after {measured[_SERVER]['ready_seconds']:.2f} s"
            )
    keys = ("ready_seconds", "first_answer_seconds", "rss_mib", "uss_mib")
    summary = {
        name: {key: median(measured[name][key] for measured in raw) for key in keys if key in raw[0][name]}
        for name in raw[0]
    }
    return {"settings": {"rounds": rounds}, "summary": summary, "rounds": raw}


def tables(record: dict[str, Any]) -> list[Table]:
    """Time and memory, line by line from nothing to the server."""
    rows: list[list[Cell]] = [
        [name, one["ready_seconds"], one.get("first_answer_seconds"), one["rss_mib"], one["uss_mib"]]
        for name, one in record["summary"].items()
    ]
    note = (
        f"Medians of {record['settings']['rounds']} starts, not pinned to a core. Ready: the server said that it "
        "serves, and its readiness probe agreed (a bare Python: its imports are done). First answer: of a prediction, "
        "connecting included. RSS: resident memory; USS: the part of it that no other process shares."
    )
    return [Table("Start and idle memory", ("", "ready, s", "first answer, s", "RSS, MiB", "USS, MiB"), rows, note)]


def _server() -> dict[str, float]:
    payload = houses()
    with real_server(every_version=True) as server:
        with grpc.insecure_channel(server.address) as channel:
            channel.unary_unary(payload.method)(payload.messages[0], timeout=_TIMEOUT, wait_for_ready=True)
        first_answer = time.monotonic() - server.started
        if not server.is_ready():
            raise ServerFailed("the server serves, but is not ready: a model in models/ could not be verified")
        time.sleep(_SETTLE_SECONDS)
        return {
            "ready_seconds": server.ready_seconds,
            "first_answer_seconds": first_answer,
            **_memory(server.process),
        }


def _floor() -> dict[str, float]:
    started = time.monotonic()
    with floor_server({}) as server:
        ready = time.monotonic() - started
        return {"ready_seconds": ready, **_memory(server.process)}


def _python(code: str) -> dict[str, float]:
    program = f"{code}\nimport sys\nprint(flush=True)\nsys.stdin.read()"
    started = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise ServerFailed(f"Python could not run: {code}")
        ready = time.monotonic() - started
        memory = _memory(psutil.Process(process.pid))
        process.communicate()
    return {"ready_seconds": ready, **memory}


def _memory(process: psutil.Process) -> dict[str, float]:
    memory = process.memory_full_info()
    return {"rss_mib": memory.rss / 2**20, "uss_mib": memory.uss / 2**20}

"""Where the microseconds of a request go: the server's stack, sampled by py-spy while it is under load."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import h2load
from benchmarks.generator import Generator, Job, generator
from benchmarks.h2load import IN_FLIGHT, Shot
from benchmarks.payloads import Payload, houses, reviews
from benchmarks.servers import Server, ServerFailed, real_server
from benchmarks.session import Session
from benchmarks.stats import ratio
from benchmarks.tables import Cell, Table
from benchmarks.transports import TIMEOUTS, TRANSPORTS

NAME = "profiles"

SAMPLES_PER_SECOND = 250

LOOP = "event loop, sockets, kernel, grpc's core"
REST = "other"

STAGES = (
    ("header blocks", ("transport/native/fields.py", "transport/native/head.py", "hpack/")),
    ("frames, streams, windows", ("serving/transport/native/",)),
    ("grpc.aio", ("grpc/", "serving/transport/grpcio.py", "grpc_library")),
    ("request to rows, outputs to reply", ("serving/api/tasks.py", "serving/package/", "google/protobuf")),
    (
        "deadline, version, counting",
        ("serving/api/", "serving/telemetry/metrics.py", "serving/telemetry/instruments.py", "models.py"),
    ),
    ("ONNX Runtime", ("serving/engine/session.py", "onnxruntime/")),
    ("batching", ("serving/engine/",)),
    (LOOP, ("asyncio/", "uvloop/")),
)
"""What a function's file says about what it is for; the first that fits."""

_FILE = re.compile(r"\((.*?)(?::\d+)?\)$")


@dataclass(frozen=True)
class _Load:
    """One kind of load on one transport."""

    title: str
    transport: str
    payload: Payload
    in_flight: int
    """0: clients that use grpcio, with many deadlines."""


def missing() -> str | None:
    """Why no profile can be taken here, or None."""
    if reason := h2load.missing():
        return reason
    return None if _py_spy() else "py-spy is not installed (it comes with the extra dev)"


def _py_spy() -> str | None:
    """Where it is: beside this interpreter, or on the path."""
    return shutil.which("py-spy", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))


def run(session: Session) -> dict[str, Any]:
    """CPU time a request first, undisturbed; then the shares of the stages in it."""
    if reason := missing():
        session.reporter.step(f"skipped: {reason}")
        return {"settings": {"skipped": reason}, "summary": {}, "rounds": []}
    seconds = int(session.pick(5, 1))
    house, review = houses(), reviews(session.data)
    grpcio, native = TRANSPORTS
    loads = [
        _Load("native, house, 1 in flight", native, house, 1),
        _Load("native, house, 64", native, house, 64),
        _Load("native, house, real clients", native, house, 0),
        _Load("native, sentiment, 64", native, review, 64),
        _Load("grpcio, house, 64", grpcio, house, 64),
    ]
    found: list[dict[str, Any]] = []
    with ExitStack() as stack:
        stack.enter_context(session.reporter.benchmark(NAME, len(loads)))
        servers = {name: stack.enter_context(real_server(session.cores.server, name)) for name in TRANSPORTS}
        clients = [stack.enter_context(generator(session.cores.load)) for _ in range(2)]
        for load in loads:
            server = servers[load.transport]
            before = server.process.cpu_times()
            requests = _drive(session, server, load, clients, seconds)
            after = server.process.cpu_times()
            system = after.system - before.system
            used = after.user - before.user + system
            shares = _sampled(session, server, load, clients, seconds)
            found.append(
                {
                    "load": load.title,
                    "cpu_us": ratio(used * 1e6, requests),
                    "kernel_us": ratio(system * 1e6, requests),
                    "samples": sum(shares.values()),
                    "shares": {stage: count / sum(shares.values()) for stage, count in shares.items()},
                }
            )
            session.reporter.step(f"{load.title}: {found[-1]['cpu_us']:.1f} µs a request")
    return {"settings": {"seconds": seconds}, "summary": {"loads": found}, "rounds": found}


def _drive(session: Session, server: Server, load: _Load, clients: list[Generator], seconds: int) -> int:
    """Load for so long; returns the requests answered."""
    payload = load.payload
    if load.in_flight:
        shot = Shot(server.address, payload.method, payload.messages[0], *IN_FLIGHT[load.in_flight])
        return h2load.shoot(shot, session.cores.load, seconds).done
    job = Job(server.address, payload.method, payload.messages, 16, seconds, 4, timeouts=TIMEOUTS["many"])
    for client in clients:
        client.start(job)
    return sum(len(client.result().spans) for client in clients)


def _sampled(session: Session, server: Server, load: _Load, clients: list[Generator], seconds: int) -> "Counter[str]":
    """Samples of the event loop's thread by stage."""
    with tempfile.TemporaryDirectory() as folder:
        stacks = Path(folder) / "stacks"
        command = [
            str(_py_spy()),
            "record",
            "--format",
            "raw",
            "--rate",
            str(SAMPLES_PER_SECOND),
            "--output",
            str(stacks),
        ]
        command += ["--duration", str(max(seconds - 1, 1)), "--pid", str(server.process.pid)]
        spy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        _drive(session, server, load, clients, seconds)
        _, said = spy.communicate(timeout=60)
        if spy.returncode or not stacks.exists():
            raise ServerFailed(f"py-spy ended with {spy.returncode}: {said.strip()[-300:]}")
        return stages(stacks.read_text())


def stages(stacks: str) -> "Counter[str]":
    """Samples by stage, of stacks as py-spy writes them: frames from the outside in, and how often they were seen."""
    found: Counter[str] = Counter()
    for line in stacks.splitlines():
        frames, _, count = line.rpartition(" ")
        # Other threads wait, or are grpc's own: the loop's is the one that runs the server.
        if "asyncio/runners.py" in frames:
            found[_stage(frames.split(";"))] += int(count)
    return found


def _stage(frames: list[str]) -> str:
    for frame in reversed(frames):
        file = _FILE.search(frame)
        for stage, parts in STAGES:
            if file is not None and any(part in file[1] for part in parts):
                return stage
    return REST


def tables(record: dict[str, Any]) -> list[Table]:
    """Microseconds by stage and load."""
    settings, summary = record["settings"], record["summary"]
    if not summary:
        return [Table("Where the time goes", ("",), [[f"skipped: {settings['skipped']}"]])]
    loads = summary["loads"]
    names = [*(stage for stage, _ in STAGES), REST]
    rows: list[list[Cell]] = [
        [name, *(one["shares"].get(name, 0.0) * one["cpu_us"] for one in loads)]
        for name in names
        if any(one["shares"].get(name, 0.0) > 0 for one in loads)
    ]
    rows.append(["**all**", *(one["cpu_us"] for one in loads)])
    rows.append(["of it in the kernel", *(one["kernel_us"] for one in loads)])
    note = (
        f"CPU microseconds a request. The sums are the process's own CPU time over {settings['seconds']} s of load; "
        f"the shares are py-spy's, {SAMPLES_PER_SECOND} samples a second of the event loop's thread, by the innermost "
        "function that belongs to a stage, with all that it calls elsewhere. Where the server is not busy all the "
        "time (1 in flight, real clients) waiting for sockets counts as the loop's. On `grpcio` the threads of grpc's "
        "core are in the sums, and so in all shares."
    )
    return [Table("Where the time goes", ("µs", *(one["load"] for one in loads)), rows, note, labels=1)]

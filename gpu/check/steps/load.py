"""Throughput and latency on the device and on the CPU, by turns; and the share of what the device could do."""

import os
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from benchmarks.gpu import inprocess, inputs, through
from benchmarks.gpu.inputs import Inputs
from benchmarks.gpu.through import Figures, LoadFailed
from gpu.check.context import Context
from gpu.check.finding import Finding, StepFailed, Table
from gpu.check.server import Server
from serving.repository import disk

TYPED = ("sentiment", "topic", "house_price")
"""Models that the typed API asks."""

SHAPES = ((1, 1), (64, 1), (1024, 1), (64, 64))
"""Requests in flight, and rows of each."""
ROUNDS = 3
MESSAGES = 50
BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
CEILING_SECONDS = 0.1
"""Share of a measurement's time for each size of batch in process."""


class Load(NamedTuple):
    """The medians of one server's rounds at one shape."""

    rows_per_second: float
    p50_ms: float
    p99_ms: float
    utilization: float | None
    """Of the GPU, the highest seen."""


def run(context: Context, found: Finding) -> None:
    """Both servers, by turns, for each model and shape."""
    subjects = _subjects(context.models)
    if not subjects:
        raise StepFailed(f"none of {', '.join(TYPED)} is in {context.models}")
    clients = max(1, min(3, (os.cpu_count() or 2) - 1))
    rows: list[list[str | float]] = []
    shares: list[list[str | float]] = []
    with (
        Server(context.device, context.models, context.out / "load.log") as ours,
        Server("cpu", context.models, context.out / "load-cpu.log") as theirs,
    ):
        servers = [ours.wait_ready(), theirs.wait_ready()]
        for name, subject in subjects.items():
            best = 0.0
            for shape in SHAPES:
                here, there = _by_turns(servers, subject, shape, context.load_seconds, clients)
                rows.append(_line(name, shape, here, there))
                best = max(best, here.rows_per_second)
            ceiling, batch = _ceiling(subject, context)
            shares.append([name, ceiling, batch, best, best / ceiling])
    note = f"Medians of {ROUNDS} rounds, by turns, {clients} client process(es); every model at its newest version."
    columns = ("model", "in flight", "rows each", "rows/s", "CPU's", "×", "p50 ms", "CPU's", "p99 ms", "CPU's", "GPU")
    found.figures["seconds of each measurement"] = context.load_seconds
    found.tables.append(Table(columns, rows, note))
    reached = ("model", "rows/s in process", "at batch", "rows/s through gRPC", "share")
    found.tables.append(Table(reached, shares, "The ceiling is one session on the device, without a server around it."))
    if found.on_cuda("the GPU was seen at work under load"):
        found.expect(any(line[-1] not in ("–", "0%") for line in rows), "the GPU's utilisation was never above 0")


def _subjects(models: Path) -> dict[str, Inputs]:
    """The newest version of each model of the typed API, which is what answers."""
    scanned = disk.scan(models)
    return {name: inputs.load(max(scanned[name].items())[1]) for name in TYPED if name in scanned}


def _by_turns(
    servers: Iterable[Server], subject: Inputs, shape: tuple[int, int], seconds: float, clients: int
) -> list[Load]:
    """Each server in each round."""
    in_flight, rows = shape
    messages = [subject.message(rows, number * rows) for number in range(MESSAGES)]
    figures: dict[Server, list[Figures]] = {server: [] for server in servers}
    for _ in range(ROUNDS):
        for server, seen in figures.items():
            try:
                measured = through.measure(
                    server.address, subject.method, messages, in_flight, seconds, server.metrics_url, clients
                )
            except LoadFailed as error:
                raise StepFailed(f"{subject.manifest.name}, {in_flight} in flight: {error}") from error
            seen.append(measured)
    return [median(seen, rows) for seen in figures.values()]


def median(seen: list[Figures], rows: int) -> Load:
    """Of the rounds; the GPU's utilisation is the highest, which NVML shows late."""
    busy = [one.gpu_utilization for one in seen if one.gpu_utilization is not None]
    return Load(
        rows * statistics.median(one.per_second for one in seen),
        statistics.median(one.p50_ms for one in seen),
        statistics.median(one.p99_ms for one in seen),
        max(busy, default=None),
    )


def _line(name: str, shape: tuple[int, int], here: Load, there: Load) -> list[str | float]:
    ratio = here.rows_per_second / there.rows_per_second
    times = (here.p50_ms, there.p50_ms, here.p99_ms, there.p99_ms)
    busy = "–" if here.utilization is None else f"{here.utilization:.0%}"
    return [name, *shape, here.rows_per_second, there.rows_per_second, ratio, *times, busy]


def _ceiling(subject: Inputs, context: Context) -> tuple[float, int]:
    """Rows a second of one session on the device, at the batch where they are most, and that batch."""
    here = inprocess.device(context.device)
    seconds = context.load_seconds * CEILING_SECONDS
    speeds = {rows: rows / inprocess.measure(subject.model, subject.feed, here, rows, seconds) for rows in BATCHES}
    best = max(speeds, key=lambda rows: speeds[rows])
    return speeds[best], best

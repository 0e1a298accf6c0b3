"""Throughput, latency and CPU time of the server under load, beside a server that does nothing."""

from contextlib import ExitStack
from dataclasses import asdict
from itertools import product
from typing import Any

import grpc

from benchmarks.generator import Generator, Job, Result, generator
from benchmarks.machine import Others
from benchmarks.payloads import Payload, houses, reviews
from benchmarks.scrape import batching, parse, provider
from benchmarks.servers import Server, ServerFailed, floor_server, real_server
from benchmarks.session import Session
from benchmarks.stats import median, percentile, ratio
from benchmarks.tables import Cell, Table

NAME = "load"

CALLERS = (1, 16, 64)

# As many connections as callers of one service instance might have, each with several calls in flight.
_CONNECTIONS = {1: 1, 16: 4, 64: 8}

_TIMEOUT = 10.0
_BOTH = ("server", "floor")
_SATURATED = 0.9
"""Share of a core beyond which the load generator, not the server, sets the pace."""


def run(session: Session) -> dict[str, Any]:
    """Closed loops, the server and the floor taking turns."""
    rounds = int(session.pick(3, 1))
    seconds = session.pick(2.5, 0.4)
    warm_up = session.pick(0.3, 0.1)
    payloads = [houses(), reviews(session.data)]
    cells = list(product(payloads, (16,) if session.quick else CALLERS))
    raw: list[dict[str, Any]] = []
    with ExitStack() as stack:
        stack.enter_context(session.reporter.benchmark(NAME, rounds * len(cells)))
        real = stack.enter_context(real_server(session.cores.server))
        replies = {payload.method: answer(real, payload) for payload in payloads}
        floor = stack.enter_context(floor_server(replies, session.cores.server))
        load = stack.enter_context(generator(session.cores.load))
        device = provider(parse(real.metrics_text()))
        for number in range(rounds):
            for payload, callers in cells:
                cell: dict[str, Any] = {"round": number + 1, "what": payload.what, "callers": callers}
                for name, server in (("floor", floor), ("server", real)):
                    job = Job(server.address, payload.method, payload.messages, callers, warm_up, _CONNECTIONS[callers])
                    load.run(job)
                    job = Job(**{**vars(job), "seconds": seconds})
                    cell[name] = _measure(server, load, job, payload.model)
                raw.append(cell)
                session.reporter.step(
                    f"round {number + 1} of {rounds}, {payload.what}, {callers} in flight: "
                    f"{cell['server']['per_second']:,.0f}/s, the floor {cell['floor']['per_second']:,.0f}/s"
                )
    settings = {
        "rounds": rounds,
        "seconds": seconds,
        "connections": {str(callers): _CONNECTIONS[callers] for _, callers in cells},
        "provider": device,
        "cores": str(session.cores),
        "request_bytes": {
            payload.what: round(sum(map(len, payload.messages)) / len(payload.messages)) for payload in payloads
        },
    }
    return {"settings": settings, "summary": _summary(raw), "rounds": raw}


def answer(server: Server, payload: Payload) -> bytes:
    """The server's answer to the first request, for the floor to repeat."""
    with grpc.insecure_channel(server.address) as channel:
        reply = channel.unary_unary(payload.method)(payload.messages[0], timeout=_TIMEOUT, wait_for_ready=True)
    return bytes(reply)


def tables(record: dict[str, Any]) -> list[Table]:
    """What callers see, what it costs, and how requests were batched."""
    summary, settings = record["summary"], record["settings"]
    return [_seen(summary, settings), _costs(summary), _batches(summary, settings)]


def _seen(summary: list[dict[str, Any]], settings: dict[str, Any]) -> Table:
    columns = ("", "callers", "req/s", "floor", "× floor", "p50 ms", "p99 ms", "floor p50", "floor p99")
    rows: list[list[Cell]] = []
    for one in summary:
        server, floor = one["server"], one["floor"]
        rows.append(
            [
                *(one["what"], str(one["callers"]), server["per_second"], floor["per_second"], one["speed_ratio"]),
                *(server["p50_ms"], server["p99_ms"], floor["p50_ms"], floor["p99_ms"]),
            ]
        )
    failed = sum(one[name]["errors"] for one in summary for name in _BOTH)
    note = (
        f"Closed loop, medians of {settings['rounds']} rounds of {settings['seconds']:g} s, server and floor by turns; "
        f"{settings['cores']}. The floor is a grpc.aio server that takes and gives the same bytes and does nothing. "
        f"{failed or 'No'} calls failed."
    )
    return Table("What callers see", columns, rows, note, labels=2)


def _costs(summary: list[dict[str, Any]]) -> Table:
    columns = (
        "",
        "callers",
        "CPU µs/req",
        "floor",
        "× floor",
        "server core",
        "floor core",
        "load core",
        "floor's load",
    )
    rows: list[list[Cell]] = []
    for one in summary:
        server, floor = one["server"], one["floor"]
        shares = (server["server_cores"], floor["server_cores"], server["client_cores"], floor["client_cores"])
        rows.append(
            [
                *(one["what"], str(one["callers"]), server["cpu_us"], floor["cpu_us"], one["cpu_ratio"]),
                *(f"{share:.0%}" for share in shares),
            ]
        )
    full = [one for one in summary if max(one[name]["client_cores"] for name in _BOTH) >= _SATURATED]
    limit = (
        "Where the load generator's core is (nearly) full, requests a second and latencies are its limit, not the "
        "server's: there, read the CPU time of a request instead."
        if full
        else "The load generator's core was never full: with 16 callers and more the pace is the server's."
    )
    note = f"CPU time of the server's process, user and system, over the requests answered. {limit}"
    return Table("What a request costs", columns, rows, note, labels=2)


def _batches(summary: list[dict[str, Any]], settings: dict[str, Any]) -> Table:
    columns = ("", "callers", "batches", "rows/batch", "queue µs", "execution µs", "inside µs")
    rows: list[list[Cell]] = []
    for one in summary:
        server = one["server"]
        reasons = ", ".join(f"{reason} {count:,.0f}" for reason, count in server["reasons"].items())
        times = (server["queue_us"], server["execution_us"], server["inside_us"])
        rows.append([one["what"], str(one["callers"]), reasons, server["mean_rows"], *times])
    note = (
        f"Provider {settings['provider']}. Batches of a round by why they left; means of the server's own metrics. "
        "Queue: of a request; execution: of a batch; inside: from a request's arrival in its handler to its answer. "
        "The rest of what a caller waits is transport, and the queue before it."
    )
    return Table("Natural batching under that load", columns, rows, note, labels=3)


def _measure(server: Server, load: Generator, job: Job, model: str) -> dict[str, Any]:
    others = Others()
    before = parse(server.metrics_text()) if server.metrics_url else {}
    cpu = server.cpu_seconds()
    result = load.run(job)
    cpu = server.cpu_seconds() - cpu
    return {
        **figures(result),
        "cpu_us": ratio(cpu * 1e6, len(result.spans)),
        "server_cores": cpu / result.seconds,
        "other_cores": others.cores(cpu + result.cpu_seconds),
        "batching": asdict(batching(before, parse(server.metrics_text()), model)) if server.metrics_url else {},
    }


def figures(result: Result) -> dict[str, Any]:
    """What the load generator saw."""
    if not result.spans:
        raise ServerFailed(f"no call was answered: {result.errors}")
    latencies = result.latencies
    return {
        "requests": len(result.spans),
        "per_second": result.per_second,
        "p50_ms": percentile(latencies, 50) * 1e3,
        "p99_ms": percentile(latencies, 99) * 1e3,
        "client_cores": result.cpu_seconds / result.seconds,
        "errors": result.errors,
    }


def _summary(raw: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians over the rounds; ratios are those of the two neighbours in one round."""
    summary = []
    for what, callers in dict.fromkeys((cell["what"], cell["callers"]) for cell in raw):
        cells = [cell for cell in raw if (cell["what"], cell["callers"]) == (what, callers)]
        one: dict[str, Any] = {"what": what, "callers": callers}
        for name in _BOTH:
            keys = ("per_second", "p50_ms", "p99_ms", "cpu_us", "server_cores", "client_cores", "other_cores")
            one[name] = {key: median(cell[name][key] for cell in cells) for key in keys}
            one[name]["errors"] = sum(sum(cell[name]["errors"].values()) for cell in cells)
        runs = [cell["server"]["batching"] for cell in cells]
        reasons = sorted({reason for run in runs for reason in run["reasons"]})
        one["server"] |= {
            "mean_rows": median(run["mean_rows"] for run in runs),
            "reasons": {reason: median(run["reasons"].get(reason, 0) for run in runs) for reason in reasons},
            "queue_us": median(run["mean_queue_seconds"] for run in runs) * 1e6,
            "execution_us": median(run["mean_execution_seconds"] for run in runs) * 1e6,
            "inside_us": median(run["mean_request_seconds"] for run in runs) * 1e6,
        }
        for ratio_name, key in (("speed_ratio", "per_second"), ("cpu_ratio", "cpu_us")):
            one[ratio_name] = median(ratio(cell["server"][key], cell["floor"][key]) for cell in cells)
        summary.append(one)
    return summary

"""More than the server can do: how many answers still come in time."""

from contextlib import ExitStack
from typing import Any

from benchmarks import h2load, openloop
from benchmarks.h2load import IN_FLIGHT, PREFIX_BYTES, Shot
from benchmarks.load import answer
from benchmarks.openloop import Orders
from benchmarks.payloads import reviews
from benchmarks.servers import real_server
from benchmarks.session import Session
from benchmarks.stats import median
from benchmarks.tables import Cell, Table
from benchmarks.transports import TRANSPORTS

NAME = "overload"

SHARES = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Of each transport's own maximum under h2load."""

TIMEOUT_MS = 100
CONNECTIONS = 32


def run(session: Session) -> dict[str, Any]:
    """Reviews at a fixed rate, each with a deadline, whatever becomes of those before."""
    if reason := h2load.missing():
        session.reporter.step(f"skipped: {reason}")
        return {"settings": {"skipped": reason}, "summary": {}, "rounds": []}
    rounds, seconds = int(session.pick(3, 1)), session.pick(2.0, 1.0)
    payload = reviews(session.data)
    raw: list[dict[str, Any]] = []
    with ExitStack() as stack:
        stack.enter_context(session.reporter.benchmark(NAME, rounds * len(TRANSPORTS)))
        servers = {name: stack.enter_context(real_server(session.cores.server, name)) for name in TRANSPORTS}
        reply = len(answer(servers["grpcio"], payload)) + PREFIX_BYTES
        maxima = {}
        for name, server in servers.items():
            shot = Shot(server.address, payload.method, payload.messages[0], *IN_FLIGHT[64])
            h2load.warm_up(shot, session.cores.load, 500)
            maxima[name] = h2load.shoot(shot, session.cores.load, int(session.pick(2, 1))).per_second
        for number in range(rounds):
            for name, server in servers.items():
                for share in (2.0,) if session.quick else SHARES:
                    orders = Orders(
                        *(server.address, payload.method, payload.messages[0].hex(), reply),
                        *(share * maxima[name], seconds, CONNECTIONS, TIMEOUT_MS),
                    )
                    found = openloop.undisturbed(orders, session.cores.load, server.cpu_seconds)
                    raw.append({"round": number + 1, "server": name, "share": share, "rate": orders.rate, **found})
                session.reporter.step(f"round {number + 1}, {name}")
    cells = [
        {"server": name, "share": share, "rate": share * maxima[name]}
        | {
            key: median(one[key] for one in raw if (one["server"], one["share"]) == (name, share))
            for key in ("in_time_per_second", "p50_ms", "p99_ms", "lag_p99_ms")
        }
        for name, share in dict.fromkeys((one["server"], one["share"]) for one in raw)
    ]
    settings = {"rounds": rounds, "seconds": seconds, "cores": str(session.cores), "what": payload.what}
    return {"settings": settings, "summary": {"maxima": maxima, "cells": cells}, "rounds": raw}


def tables(record: dict[str, Any]) -> list[Table]:
    """What came in time, of what was asked and of what could have."""
    settings, summary = record["settings"], record["summary"]
    if not summary:
        return [Table("Overload", ("",), [[f"skipped: {settings['skipped']}"]])]
    rows: list[list[Cell]] = [
        [
            *(one["server"], f"{one['share']:.0%}", one["rate"], one["in_time_per_second"]),
            f"{one['in_time_per_second'] / summary['maxima'][one['server']]:.0%}",
            *(one["p50_ms"], one["p99_ms"], one["lag_p99_ms"]),
        ]
        for one in summary["cells"]
    ]
    note = (
        f"{settings['what'].capitalize()}, open loop on {CONNECTIONS} connections, each request with a deadline of "
        f"{TIMEOUT_MS} ms, medians of {settings['rounds']} runs of {settings['seconds']:.0f} s; {settings['cores']}. "
        "The load is a share of each transport's own maximum under h2load with 64 in flight, which fewer connections "
        "and larger batches make higher than what so many connections can get. In time: answered, not refused, within "
        f"{TIMEOUT_MS} ms from when the request was due. The percentiles are of answers and refusals alike. A client "
        "of this kind never gives up: a real one cancels what is too late, and asks more slowly."
    )
    columns = ("server", "load", "due/s", "in time/s", "of the maximum", "p50 ms", "p99 ms", "lag ms")
    return [Table("More than can be done", columns, rows, note, labels=2)]

"""What so many requests a second need: counts what a request takes on the wire, and reckons from other results."""

from typing import Any

from benchmarks.payloads import houses, reviews
from benchmarks.scaling import tables as arithmetic
from benchmarks.scaling.sizes import BENCHMARKS, PAGE, Assumptions, Measured, measured, records
from benchmarks.scaling.wire import count
from benchmarks.servers import real_server
from benchmarks.session import Session
from benchmarks.tables import Table

NAME = "scaling"

__all__ = ["NAME", "PAGE", "run", "tables"]


def run(session: Session) -> dict[str, Any]:
    """Count bytes, series and memory; nothing is timed, so that a busy machine does not matter."""
    calls, connections = int(session.pick(500, 50)), int(session.pick(1_000, 100))
    with session.reporter.benchmark(NAME, 1), real_server(every_version=True) as server:
        found = count(server, [houses(), reviews(session.data)], calls, connections)
        session.reporter.step(
            f"{found['scrape']['series']} series, {found['connection_bytes']:,.0f} bytes a connection"
        )
    return {"settings": {"calls": calls, "connections": connections}, "summary": found, "rounds": [found]}


def base(record: dict[str, Any]) -> Measured:
    """What was counted, and the results of others."""
    return measured(records(BENCHMARKS), record["summary"])


def tables(record: dict[str, Any]) -> list[Table]:
    """Everything that is arithmetic."""
    of, given = base(record), Assumptions()
    return [
        arithmetic.cost(of, given),
        arithmetic.assumed(given),
        arithmetic.sizes(of, given),
        arithmetic.breaks(of, given),
        arithmetic.gpus(of, given),
    ]

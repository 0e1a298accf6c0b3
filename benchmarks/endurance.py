"""Half an hour of everything at once, at three fifths of a core: do memory and latency stay where they began?"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import h2load
from benchmarks.h2load import Counted, Shot
from benchmarks.protocols import questions, reply_bytes
from benchmarks.scrape import parse
from benchmarks.servers import Server, ServerFailed, real_server
from benchmarks.session import Session
from benchmarks.stats import median, ratio
from benchmarks.tables import Cell, Table

NAME = "endurance"

UTILISATION = 0.6
"""Of the server's core."""
_CONNECTIONS = 4
_START_PER_SECOND = 2000
_ROUNDS = 4
"""In which the rate is found: the more come at once, the less each costs."""
_CALIBRATION_SECONDS = 8
_WARM_MINUTES = 2
"""Left out of what is compared: memory still settles then."""
_SPAN = 5
"""Minutes that a line of the table is the median of."""

SHARES = {
    ("house price", "typed, gRPC"): 0.40,
    ("house price", "OIP, gRPC"): 0.15,
    ("house price", "typed, HTTP"): 0.05,
    ("sentiment", "typed, gRPC"): 0.25,
    ("sentiment", "OIP, gRPC"): 0.10,
    ("sentiment", "OIP, HTTP"): 0.05,
}
"""Of all requests."""
_HTTP_CONNECTIONS = 8


@dataclass(frozen=True)
class Stream:
    """Requests of one kind."""

    name: str
    shot: Shot
    share: float
    reply_bytes: int


def run(session: Session) -> dict[str, Any]:
    """Find the rate, then hold it."""
    if reason := h2load.missing():
        session.reporter.step(f"skipped: {reason}")
        return {"settings": {"skipped": reason}, "summary": {}, "rounds": []}
    minutes, seconds = int(session.pick(30, 2)), int(session.pick(60, 10))
    raw: list[dict[str, Any]] = []
    with ExitStack() as stack:
        server = stack.enter_context(real_server(session.cores.server, None, every_version=True))
        asked = questions(server, session)
        streams = [
            Stream(", ".join(key), _connected(asked[key]), share, reply_bytes(asked[key]))
            for key, share in SHARES.items()
        ]
        stack.enter_context(session.reporter.benchmark(NAME, _ROUNDS + minutes))
        per_second = _calibrate(session, server, streams)
        before = parse(server.metrics_text())
        for number in range(minutes):
            found = _minute(session, server, streams, per_second, seconds)
            raw.append({"minute": number + 1, **found})
            session.reporter.step(
                f"minute {number + 1}: {found['per_second']:,.0f}/s, {found['server_cores']:.2f} of a core, "
                f"{found['resident_mib']:.0f} MiB, p99 {found['p99_ms'][streams[0].name]:.2f} ms"
            )
        errors = _errors(before, parse(server.metrics_text()))
    settings = {
        "minutes": minutes,
        "seconds": seconds,
        "utilisation": UTILISATION,
        "aimed_per_second": per_second,
        "shares": {stream.name: stream.share for stream in streams},
        "cores": str(session.cores),
    }
    return {"settings": settings, "summary": _summary(raw, errors), "rounds": raw}


def tables(record: dict[str, Any]) -> list[Table]:
    """What it was like, every few minutes; and the end beside the beginning."""
    if not record["summary"]:
        return []
    settings, summary, raw = record["settings"], record["summary"], record["rounds"]
    names = list(settings["shares"])
    columns = ("minutes", "req/s", "core", "MiB", *(f"p99 ms, {name}" for name in names))
    rows: list[list[Cell]] = []
    for first in range(0, len(raw), _SPAN):
        span = raw[first : first + _SPAN]
        rows.append(
            [
                f"{span[0]['minute']}–{span[-1]['minute']}",
                *(median(one[key] for one in span) for key in ("per_second", "server_cores", "resident_mib")),
                *(median(one["p99_ms"][name] for one in span) for name in names),
            ]
        )
    rows.append(
        [
            "end × beginning",
            *(summary[key] for key in ("per_second_ratio", "server_cores_ratio", "resident_ratio")),
            *(summary["p99_ratio"][name] for name in names),
        ]
    )
    failed = summary["failed"]
    note = (
        f"{settings['minutes']} periods of {settings['seconds']} s, medians; one h2load for each kind, all at once, at "
        f"a rate found beforehand to take {settings['utilisation']:.0%} of the server's core; {settings['cores']}; all "
        f"versions of all models are loaded, the highest answers. Last line: the last third's median by the first's, "
        f"without the first {_WARM_MINUTES} periods. {summary['requests']:,.0f} requests, {failed:,.0f} that failed or "
        f"were answered otherwise than expected, {summary['errors']:,.0f} that the server counted as anything but OK."
    )
    return [Table("Half an hour of mixed load", columns, rows, note)]


def _connected(shot: Shot) -> Shot:
    connections, streams = (_HTTP_CONNECTIONS, 1) if shot.json else (_CONNECTIONS, 16)
    return replace(shot, connections=connections, streams=streams)


def _calibrate(session: Session, server: Server, streams: list[Stream]) -> int:
    """Requests a second that keep the server as busy as wanted."""
    per_second = _START_PER_SECOND
    for _ in range(_ROUNDS):
        found = _minute(session, server, streams, per_second, _CALIBRATION_SECONDS)
        per_second = int(found["per_second"] * UTILISATION / found["server_cores"])
        session.reporter.step(f"{found['per_second']:,.0f}/s take {found['server_cores']:.2f} of a core")
    return per_second


def _minute(session: Session, server: Server, streams: list[Stream], per_second: int, seconds: int) -> dict[str, Any]:
    cpu = server.cpu_seconds()

    def one(stream: Stream) -> Counted:
        rate = int(per_second * stream.share)
        return h2load.steady(stream.shot, session.cores.load, seconds, rate, latencies=True)

    with ThreadPoolExecutor(len(streams)) as pool:
        counted = list(pool.map(one, streams))
    cpu = server.cpu_seconds() - cpu
    wrong = 0
    for stream, found in zip(streams, counted, strict=True):
        try:
            # HTTP's answers may differ by some digits.
            h2load.check_sizes(found, stream.reply_bytes, slack=24 if stream.shot.json else 0)
        except ServerFailed as error:
            session.reporter.step(f"{stream.name}: {error}")
            wrong += max(found.bad, 1)
    return {
        "per_second": sum(found.done for found in counted) / seconds,
        "requests": sum(found.done for found in counted),
        "failed": wrong,
        "server_cores": cpu / seconds,
        "resident_mib": server.resident_bytes() / 2**20,
        "p50_ms": {stream.name: found.p50_ms for stream, found in zip(streams, counted, strict=True)},
        "p99_ms": {stream.name: found.p99_ms for stream, found in zip(streams, counted, strict=True)},
    }


def _errors(before: dict[Any, float], after: dict[Any, float]) -> float:
    """Requests that the server counted as anything but OK."""
    return sum(
        value - before.get((name, labels), 0.0)
        for (name, labels), value in after.items()
        if name == "triptych_requests_total" and dict(labels)["code"] != "OK"
    )


def _summary(raw: list[dict[str, Any]], errors: float) -> dict[str, Any]:
    steady = raw[_WARM_MINUTES:] or raw
    third = max(len(steady) // 3, 1)
    first, last = steady[:third], steady[-third:]

    def change(key: str) -> float:
        return ratio(median(one[key] for one in last), median(one[key] for one in first))

    names = list(raw[0]["p99_ms"])
    return {
        "requests": sum(one["requests"] for one in raw),
        "failed": sum(one["failed"] for one in raw),
        "errors": errors,
        "per_second_ratio": change("per_second"),
        "server_cores_ratio": change("server_cores"),
        "resident_ratio": change("resident_mib"),
        "p99_ratio": {
            name: ratio(median(one["p99_ms"][name] for one in last), median(one["p99_ms"][name] for one in first))
            for name in names
        },
    }

"""What one caller's very long text does to the callers of short ones beside it."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks.generator import Generator, Job, Result, generator
from benchmarks.load import answer, figures
from benchmarks.machine import Others
from benchmarks.payloads import BLANKS, LONG_WORDS, SERVICE, Payload, long_review, review, short_reviews, usual_reviews
from benchmarks.servers import Server, floor_server, real_server
from benchmarks.session import Session
from benchmarks.stats import median, overlapping, percentile, ratio
from benchmarks.tables import Cell, Table

NAME = "neighbours"

_CALLERS = 63
_CONNECTIONS = 8
_METHOD = SERVICE + "PredictSentiment"

PACED = 500.0
"""Short reviews a second of all callers together, well below what the server can do."""

_SAMPLE_SECONDS = 0.02

_NOTHING = "nothing"
_WORDS = f"{LONG_WORDS:,} words"
_SPACES = f"{BLANKS / 1e6:g} MB of blanks"
_SERVER, _FLOOR = "server", "floor"
_KEY = ("server", "pace", "text", "rate")
_LEAD_SECONDS = 0.15
"""The neighbours are there before the long texts come."""


def run(session: Session) -> dict[str, Any]:
    """Rounds of all the variants in turn."""
    rounds = int(session.pick(3, 1))
    seconds = session.pick(3.0, 0.7)
    texts, what = usual_reviews(session.data)
    shorts = [review(text) for text in short_reviews(texts)]
    longs = {_WORDS: review(long_review(texts)), _SPACES: review(" " * BLANKS)}
    company = ((_NOTHING, None), (_WORDS, 1.0), (_SPACES, 1.0), (_WORDS, None), (_SPACES, None))
    # (server, neighbours' calls a second, long text, long texts a second), None: one after the other.
    variants: list[tuple[str, float | None, str, float | None]] = [
        *((_SERVER, PACED, text, rate) for text, rate in company),
        *((_FLOOR, PACED, text, rate) for text, rate in company if text != _WORDS),
        *((_SERVER, None, text, rate) for text, rate in company),
    ]
    raw: list[dict[str, Any]] = []
    with ExitStack() as stack:
        stack.enter_context(session.reporter.benchmark(NAME, rounds * len(variants)))
        server = stack.enter_context(real_server(session.cores.server))
        reply = answer(server, Payload("sentiment", _METHOD, shorts, what))
        floor = stack.enter_context(floor_server({_METHOD: reply}, session.cores.server))
        addresses = {_SERVER: server.address, _FLOOR: floor.address}
        neighbours = stack.enter_context(generator(session.cores.load))
        stranger = stack.enter_context(generator(session.cores.load))
        for address in addresses.values():
            neighbours.run(Job(address, _METHOD, shorts, _CALLERS, session.pick(0.5, 0.2), _CONNECTIONS))
        for number in range(rounds):
            for kind, pace, text, rate in variants:
                address = addresses[kind]
                short = Job(address, _METHOD, shorts, _CALLERS, seconds, _CONNECTIONS, pace)
                long = None
                if text in longs:
                    long = Job(address, _METHOD, [longs[text]], 1, seconds - 2 * _LEAD_SECONDS, 1, rate)
                cell = {"round": number + 1, "server": kind, "pace": pace, "text": text, "rate": rate}
                cell |= _measure(server if kind == _SERVER else floor, neighbours, stranger, short, long)
                raw.append(cell)
                session.reporter.step(
                    f"round {number + 1} of {rounds}, {kind}, beside {text}: {cell['per_second']:,.0f}/s, "
                    f"p50 {cell['p50_ms']:.1f} ms, p99 {cell['p99_ms']:.1f} ms"
                )
        time.sleep(session.pick(2.0, 0.2))
        after = server.resident_bytes() / 2**20
    settings = {"rounds": rounds, "seconds": seconds, "callers": _CALLERS, "reviews": what, "cores": str(session.cores)}
    return {
        "settings": settings,
        "summary": {"variants": _summary(raw), "rss_before_mib": raw[0]["rss_before_mib"], "rss_after_mib": after},
        "rounds": raw,
    }


def tables(record: dict[str, Any]) -> list[Table]:
    """One table for neighbours that leave the server time, one for those that do not."""
    settings, summary = record["settings"], record["summary"]
    return [
        _table(f"Neighbours at a steady {PACED:g} a second", summary, PACED, _paced_note(settings)),
        _table("Neighbours in a closed loop", summary, None, _closed_note(summary)),
    ]


def _table(title: str, summary: dict[str, Any], pace: float | None, note: str) -> Table:
    columns = (
        *("server", "beside", "long texts", "req/s", "p50 ms", "p99 ms", "× p50", "× p99", "met p50", "met p99"),
        *("core", "RSS max, MiB"),
    )
    rows: list[list[Cell]] = []
    for one in summary["variants"]:
        if one["pace"] == pace:
            often = "–" if one["text"] == _NOTHING else ("1 a second" if one["rate"] else "back to back")
            rows.append(
                [
                    *(one["server"], one["text"], often, one["per_second"], one["p50_ms"], one["p99_ms"]),
                    *(one["p50_ratio"], one["p99_ratio"], one["met_p50_ms"], one["met_p99_ms"]),
                    *(f"{one['server_cores']:.0%}", one["rss_max_mib"]),
                ]
            )
    return Table(title, columns, rows, note, labels=3)


def _paced_note(settings: dict[str, Any]) -> str:
    return (
        f"{settings['callers']} callers with the first words of {settings['reviews']} reviews, beside one caller with "
        f"a very long text; medians of {settings['rounds']} rounds of {settings['seconds']:g} s, {settings['cores']}. "
        "× is against the row without a long text, of the same server in the same round. *Met*: only those short calls "
        "that were under way together with a long one. One long text a second hardly takes CPU time from anybody: "
        "what the calls that met it lost is the price of sharing batches and an event loop with it. Back to back, the "
        "long caller also takes its share of the one core, as any other load would. The floor does nothing with a "
        "text: its rows are what receiving 1 MB, and sending it from the core that all callers share, costs by itself."
    )


def _closed_note(summary: dict[str, Any]) -> str:
    return (
        "Each neighbour sends as soon as it has its answer, so that the server's core is always full and latency is "
        "mostly the queue of the neighbours themselves. The server's resident memory was "
        f"{summary['rss_before_mib']:.0f} MiB before all this and {summary['rss_after_mib']:.0f} MiB after it."
    )


def _measure(
    server: Server, neighbours: Generator, stranger: Generator, short: Job, long: Job | None
) -> dict[str, Any]:
    before = server.resident_bytes() / 2**20
    others = Others()
    cpu = server.cpu_seconds()
    with _peak(server) as peak:
        neighbours.start(short)
        long_result = Result([], short.seconds, 0.0)
        if long is not None:
            time.sleep(_LEAD_SECONDS)
            long_result = stranger.run(long)
        result = neighbours.result()
    cpu = server.cpu_seconds() - cpu
    met = [end - start for start, end in overlapping(result.spans, long_result.spans)]
    seen = figures(result)
    return {
        **seen,
        "max_ms": max(result.latencies) * 1e3,
        "met_ms": [round(seconds * 1e3, 3) for seconds in met] if long is not None and long.rate else [],
        "met_p50_ms": percentile(met, 50) * 1e3,
        "met_p99_ms": percentile(met, 99) * 1e3,
        "long_requests": len(long_result.spans),
        "long_errors": long_result.errors,
        "long_p50_ms": percentile(long_result.latencies, 50) * 1e3,
        "server_cores": cpu / result.seconds,
        "client_cores": (result.cpu_seconds + long_result.cpu_seconds) / result.seconds,
        "other_cores": others.cores(cpu + result.cpu_seconds + long_result.cpu_seconds),
        "rss_before_mib": before,
        "rss_max_mib": max(peak) / 2**20,
    }


@contextmanager
def _peak(server: Server) -> Iterator[list[int]]:
    """Resident bytes, sampled all the while."""
    samples = [server.resident_bytes()]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(_SAMPLE_SECONDS):
            samples.append(server.resident_bytes())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def _summary(raw: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians over the rounds; the calls that met a long text, few in a round, are taken together."""
    alone = {(cell["round"], cell["server"], cell["pace"]): cell for cell in raw if cell["text"] == _NOTHING}
    summary = []
    for key in dict.fromkeys(tuple(cell[part] for part in _KEY) for cell in raw):
        cells = [cell for cell in raw if tuple(cell[part] for part in _KEY) == key]
        one: dict[str, Any] = dict(zip(_KEY, key, strict=True))
        names = ("per_second", "p50_ms", "p99_ms", "max_ms", "met_p50_ms", "met_p99_ms", "long_p50_ms")
        for name in (*names, "server_cores", "client_cores", "other_cores"):
            one[name] = median(cell[name] for cell in cells)
        together = [latency for cell in cells for latency in cell["met_ms"]]
        if together:
            one["met_p50_ms"], one["met_p99_ms"] = percentile(together, 50), percentile(together, 99)
        one["rss_max_mib"] = max(cell["rss_max_mib"] for cell in cells)
        one["errors"] = sum(sum({**cell["errors"], **cell["long_errors"]}.values()) for cell in cells)
        for name in ("p50", "p99"):
            one[f"{name}_ratio"] = median(
                ratio(cell[f"{name}_ms"], alone[cell["round"], cell["server"], cell["pace"]][f"{name}_ms"])
                for cell in cells
            )
        summary.append(one)
    return summary

"""The tables of the peers benchmark, the targets it is held against, and its two pictures."""

from typing import Any

from benchmarks.peers.registry import BY_NAME, FLOORS, GRPC, OURS
from benchmarks.plot import Bars, Line, bar_chart, log_chart
from benchmarks.results import PAGE
from benchmarks.stats import ratio
from benchmarks.tables import Cell, Table

BARS, CURVES = "peers.svg", "peers-latency.svg"

_FULL = 64
_HALF = 0.5

# What it is to reach: work, against, its first word in `what`, how the peer's name begins, at least, aim.
_TARGETS = (
    ("house price, 64 in flight", "Triton", "house", "triton", 2.5, 3.0),
    ("house price, 64 in flight", "mosec", "house", "mosec", 1.5, 2.0),
    ("sentiment from raw text, 64 in flight", "best peer", "sentiment", "", 2.0, 4.0),
)


def tables(record: dict[str, Any]) -> list[Table]:
    """Targets, speed, what the servers are, and latency against load."""
    settings, summary = record["settings"], record["summary"]
    if not summary:
        return [Table("Peers", ("",), [[f"skipped: {settings['skipped']}"]])]
    made = [_targets(summary), _seen(record), _servers(summary)]
    if summary["failed"]:
        made.append(_failed(summary))
    return [*made, _open_loop(summary)] if summary["open_loop"] else made


def draw(record: dict[str, Any]) -> None:
    """Throughput as bars, and latency against load as lines, beside the page."""
    summary = record["summary"]
    if not summary:
        return
    titles = {name: one["title"] for name, one in summary["servers"].items()}
    full = [cell for cell in summary["cells"] if cell["in_flight"] == _FULL]
    groups = [
        Bars(title, name == OURS, [cell[name].get("per_second") for cell in full]) for name, title in titles.items()
    ]
    caption = f"requests a second, {_FULL} in flight, one server core; longer is better"
    names = [cell["what"].partition(",")[0] for cell in full]
    (PAGE.parent / BARS).write_text(bar_chart("Throughput beside other servers", caption, names, groups))
    if curve := summary["open_loop"]:
        servers = dict.fromkeys(one["server"] for one in curve)
        lines = [
            Line(
                f"{titles[name]} {key}",
                "native" if name == OURS else "other",
                key == "p99",
                [(one["share"] * 100, one[f"{key}_ms"]) for one in curve if one["server"] == name],
            )
            for name in servers
            for key in ("p50", "p99")
        ]
        maxima = {name: one["rate"] / one["share"] for name in servers for one in curve if one["server"] == name}
        ends = ", ".join(f"{titles[name]} {maximum:,.0f}/s" for name, maximum in maxima.items())
        caption = f"arrivals, % of each one's own maximum ({ends})"
        (PAGE.parent / CURVES).write_text(log_chart("Latency against load, house price, ms", caption, lines))


def _targets(summary: dict[str, Any]) -> Table:
    rows: list[list[Cell]] = []
    for work, against, word, peer, least, aim in _TARGETS:
        name, reached = _times(summary, word, peer)
        title = _title(summary, name) if name else against
        title = title if title.startswith(against) else f"{against}: {title}"
        rows.append([work, title, f"{least:g}×", f"{aim:g}×", _shown(reached), _judge(reached, least, aim)])
    at_half = _at_half(summary)
    verdict = _judge(None if at_half is None else -at_half, -1.0, -0.5)
    rows.append(["p99 at half of its own maximum load", "Triton", "< 1×", "≤ 0.5×", _shown(at_half), verdict])
    note = (
        "What is asked of the `native` transport, and what this run reached: requests a second of this server over "
        "the other's, side by side in one round; the last row is a ratio of latencies, less is better."
    )
    return Table("Beside other servers: targets", ("work", "against", "at least", "aim", "reached", ""), rows, note, 2)


def _times(summary: dict[str, Any], word: str, begins: str) -> tuple[str, float | None]:
    """The fastest of the peers of such a name, and how many times its speed this server's is."""
    for cell in summary["cells"]:
        if cell["what"].startswith(word) and cell["in_flight"] == _FULL:
            peers = {name: cell[name] for name in _others(summary) if "ours_ratio" in cell[name]}
            named = (name for name in peers if name.startswith(begins))
            if best := max(named, key=lambda name: peers[name]["per_second"], default=None):
                return best, peers[best]["ours_ratio"]
    return "", None


def _at_half(summary: dict[str, Any]) -> float | None:
    found = {one["server"]: one["p99_ms"] for one in summary["open_loop"] if one["share"] == _HALF}
    return ratio(found[OURS], found["triton"]) if {OURS, "triton"} <= set(found) else None


def _judge(reached: float | None, least: float, aim: float) -> str:
    if reached is None:
        return "not measured"
    if reached >= aim:
        return "aim reached"
    return "reached" if reached >= least else "**missed**"


def _shown(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}×"


def _seen(record: dict[str, Any]) -> Table:
    settings, summary = record["settings"], record["summary"]
    rows: list[list[Cell]] = []
    for cell in summary["cells"]:
        for name, server in summary["servers"].items():
            one = cell[name]
            labels = [cell["what"], str(cell["in_flight"]), server["title"]]
            if "failed" in one:
                rows.append([*labels, f"failed: {one['failed']}", *[None] * 7])
                continue
            rows.append(
                [
                    *(*labels, one["per_second"], one["floor_ratio"], one["ours_ratio"] if name != OURS else None),
                    *(one["p50_ms"], one["p99_ms"], one["cpu_us"]),
                    *(f"{one['server_cores']:.0%}", f"{one['client_cores']:.0%}"),
                ]
            )
    note = (
        f"h2load, closed loop, medians of {settings['rounds']} rounds of {settings['seconds']} s; "
        f"{settings['cores']}, all processes of a server included; every round visits every server, and all but the "
        "one under load are stopped meanwhile. Over gRPC, 16 in flight are 4 connections with 4 streams each, 64 are 8 "
        "with 8; over HTTP/1.1, as many connections as are in flight, kept alive, one request on each. Before it was "
        "measured each server answered 64 different requests rightly, many at once; here every reply had HTTP status "
        "200 and the length of a known good one. × floor: of a grpc.aio server that takes and gives this server's "
        "bytes and does nothing. Triptych ×: how many times as many requests a second Triptych answered. CPU: of all "
        "of a server's processes."
    )
    columns = (
        *("", "in flight", "server", "req/s", "× floor", "Triptych ×"),
        *("p50 ms", "p99 ms", "CPU µs/req", "core", "h2load"),
    )
    return Table("Beside other servers, under h2load", columns, rows, note, labels=3)


def _servers(summary: dict[str, Any]) -> Table:
    rows: list[list[Cell]] = [
        [
            *(one["title"], one["version"] or "–", one["protocol"]),
            *(one["ready_seconds"], one["processes"], one["rss_mib"], one["pss_mib"]),
        ]
        for one in summary["servers"].values()
    ]
    note = (
        f"{GRPC}: the typed API for Triptych and the floor, else the Open Inference Protocol. Each as it is best for "
        "this work on one core, batching on where it has any; its `benchmarks/peers/*/serve.py` says what was tried. "
        "Ready: from the start of the process to a right answer for each model, on the server's core; Triptych loads a "
        "third model, and verifies all three. Memory after the last round, over all processes: RSS counts what they "
        "share once for each, PSS once. Triton's version is that of nvidia-pytriton, which bundles tritonserver 2.51."
    )
    columns = ("server", "version", "protocol", "ready, s", "processes", "RSS, MiB", "PSS, MiB")
    return Table("The servers", columns, rows, note, labels=3)


def _failed(summary: dict[str, Any]) -> Table:
    rows = [
        [BY_NAME[name].title if name in BY_NAME else name, f"failed: {reason}"]
        for name, reason in summary["failed"].items()
    ]
    return Table("Servers that could not be measured", ("server", "why"), rows, labels=2)


def _open_loop(summary: dict[str, Any]) -> Table:
    rows: list[list[Cell]] = [
        [
            *(_title(summary, one["server"]), f"{one['share']:.0%}", one["rate"], one["per_second"]),
            *(one["p50_ms"], one["p95_ms"], one["p99_ms"], one["lag_p99_ms"]),
            *(one["due"] - one["answered"], one["errors"]),
        ]
        for one in sorted(summary["open_loop"], key=lambda one: (one["server"], one["share"]))
    ]
    note = (
        "House price, 1 row, open loop, medians of as many runs as above: Poisson arrivals at a fixed rate on 8 "
        "connections, whatever became of the requests before; latency counts from when a request was due. The share is "
        "of each server's own maximum at 64 in flight. Lag: how late requests left, 99th percentile. Runs that other "
        "processes of the machine disturbed were made again, as under [Transports](#transports)."
    )
    columns = ("server", "load", "due/s", "answered/s", "p50 ms", "p95 ms", "p99 ms", "lag ms", "unanswered", "errors")
    return Table("Latency against load, beside Triton", columns, rows, note, labels=2)


def _others(summary: dict[str, Any]) -> list[str]:
    return [name for name in summary["servers"] if name not in (OURS, *FLOORS)]


def _title(summary: dict[str, Any], name: str) -> str:
    found = summary["servers"].get(name)
    return str(found["title"]) if found else name

"""The tables of the transports benchmark, the targets they are held against, and the picture of its open loop."""

from typing import Any

from benchmarks.openloop import ATTEMPTS, DISTURBED
from benchmarks.plot import Line, log_chart
from benchmarks.results import PAGE
from benchmarks.tables import Cell, Table

FLOOR = "floor"
SERVERS = (FLOOR, "grpcio", "native")

PICTURE = "latency.svg"

_SPEED, _LATENCY, _CPU, _ROWS = "per_second_ratio", "p50_ms_ratio", "cpu_us_ratio", "mean_rows"
_ECHO = "grpc.aio echo"

# Work, model, in flight (0: real clients), server, figure, against, at least, aim, in which direction.
_TARGETS = (
    ("house price, 64 in flight", "house", 64, "native", _SPEED, _ECHO, 7.0, 10.0, "×"),
    ("house price, 16 in flight", "house", 16, "native", _SPEED, _ECHO, 4.5, 6.0, "×"),
    ("house price, 1 in flight, p50 latency", "house", 1, "native", _LATENCY, _ECHO, 1.0, 0.7, "≤"),
    ("house price, real clients with one deadline, server CPU", "house", 0, "native", _CPU, _ECHO, 1 / 5, 1 / 8, "≤"),
    ("the same, deadlines all different", "house", 0, "native", _CPU, _ECHO, 1 / 5, 1 / 8, "≤"),
    ("sentiment from raw text, 64 in flight", "sentiment", 64, "native", _SPEED, _ECHO, 3.0, 5.0, "×"),
    ("house price, `grpcio` transport, 64 in flight", "house", 64, "grpcio", _SPEED, _ECHO, 0.7, 0.85, "×"),
    ("house price, mean batch rows at 64 in flight", "house", 64, "native", _ROWS, "", 4.0, 4.0, ""),
)

# What takes other people's servers to measure.
_ELSEWHERE = (
    ("house price, 64 in flight", "Triton", "2.5×", "3×"),
    ("house price, 64 in flight", "mosec", "1.5×", "2×"),
    ("sentiment from raw text, 64 in flight", "best peer", "2×", "4×"),
    ("p99 at half of its own maximum load", "Triton", "lower", "half"),
)


def tables(record: dict[str, Any]) -> list[Table]:
    """Targets, speed, costs, the ceiling, and latency against load."""
    settings, summary = record["settings"], record["summary"]
    if not summary:
        return [Table("Transports", ("",), [[f"skipped: {settings['skipped']}"]])]
    return [_targets(summary), _seen(record), _clients(record), _ceiling(summary), _open_loop(summary)]


def draw(record: dict[str, Any]) -> None:
    """The open loop as a picture beside the page."""
    curve = [one for one in record["summary"].get("open_loop", []) if one["what"].startswith("house")]
    lines = [
        Line(
            f"{name} {key}",
            name,
            key == "p99",
            [(one["share"] * 100, one[f"{key}_ms"]) for one in curve if one["server"] == name],
        )
        for name in SERVERS[1:]
        for key in ("p50", "p99")
    ]
    maxima = {name: one["rate"] / one["share"] for name in SERVERS[1:] for one in curve if one["server"] == name}
    ends = ", ".join(f"{name} {maximum:,.0f}/s" for name, maximum in maxima.items())
    caption = f"arrivals, % of each one's own maximum ({ends})"
    (PAGE.parent / PICTURE).write_text(log_chart("Latency against load, house price, ms", caption, lines))


def _targets(summary: dict[str, Any]) -> Table:
    rows: list[list[Cell]] = []
    for work, model, in_flight, server, figure, against, least, aim, sign in _TARGETS:
        deadlines = "" if in_flight else "many" if "different" in work else "one"
        cell = _cell(summary, model, in_flight, deadlines)
        reached = cell[server][figure] if cell else None
        ok = _judge(reached, least, aim, sign)
        rows.append([work, against, _bound(least, sign), _bound(aim, sign), _shown(reached, sign), ok])
    rows += [[work, against, least, aim, None, "see [Peers](#peers)"] for work, against, least, aim in _ELSEWHERE]
    note = (
        f"What is asked of the `native` transport (one row: of `grpcio`), and what this run reached. {_ECHO}: the "
        "floor, of the same grpcio version as the server, the same bytes. Where a ratio is of time or CPU, less is "
        "better (≤)."
    )
    return Table("Targets", ("work", "against", "at least", "aim", "reached", ""), rows, note, labels=2)


def _judge(reached: float | None, least: float, aim: float, sign: str) -> str:
    if reached is None:
        return "not measured"
    way = -1 if sign == "≤" else 1
    if way * reached >= way * aim:
        return "aim reached"
    return "reached" if way * reached >= way * least else "**missed**"


def _bound(value: float, sign: str) -> str:
    if sign == "≤":
        return f"≤ {value:.3g}×"
    return f"{value:g}×" if sign else f"> {value:g}"


def _shown(value: float | None, sign: str) -> str | None:
    return None if value is None else f"{value:.2f}{'×' if sign else ''}"


def _seen(record: dict[str, Any]) -> Table:
    settings, summary = record["settings"], record["summary"]
    columns = (
        "",
        "in flight",
        "server",
        "req/s",
        "× floor",
        "p50 ms",
        "p99 ms",
        "CPU µs/req",
        "rows/batch",
        "core",
        "h2load",
    )
    rows: list[list[Cell]] = []
    for cell in summary["cells"]:
        if not cell["in_flight"]:
            continue
        for name in SERVERS:
            one = cell[name]
            rows.append(
                [
                    *(cell["what"], str(cell["in_flight"]), name, one["per_second"], one["per_second_ratio"]),
                    *(one["p50_ms"], one["p99_ms"], one["cpu_us"], one.get("mean_rows")),
                    *(f"{one['server_cores']:.0%}", f"{one['client_cores']:.0%}"),
                ]
            )
    memory = "; ".join(
        f"{name} {one['rss_mib']:.0f} MiB"
        + (f", ready in {one['ready_seconds']:.2f} s" if one["ready_seconds"] else "")
        for name, one in summary["servers"].items()
    )
    note = (
        f"h2load, closed loop, medians of {settings['rounds']} rounds of {settings['seconds']} s, the three servers by "
        f"turns; {settings['cores']}. 16 in flight are 4 connections with 4 streams each, 64 are 8 with 8. Every reply "
        "had the bytes of a known good one, and the server counted as many OK answers as h2load. One and the same "
        "request each time, as h2load sends it: a real client's header blocks change, see the next table. Resident "
        f"memory at the end: {memory}."
    )
    return Table("Transports under h2load", columns, rows, note, labels=3)


def _clients(record: dict[str, Any]) -> Table:
    clients, summary = record["settings"]["clients"], record["summary"]
    rows: list[list[Cell]] = []
    for deadlines in ("one", "many"):
        cell = _cell(summary, "house", 0, deadlines)
        for name in SERVERS:
            one = cell[name]
            shares = (f"{one['server_cores']:.0%}", f"{one['client_cores']:.0%}")
            costs = (one["per_second"], one["cpu_us"], one["cpu_us_ratio"])
            rows.append([deadlines, name, *costs, *shares, int(one["errors"])])
    note = (
        f"House price, 1 row; {clients['processes']} processes that share one core, grpc.aio, {clients['callers']} "
        f"callers on {clients['connections']} connections each, a deadline on every call. One: always 10 s. Many: 97 "
        "of 0.2 to 5 s in turn, as where a deadline is what is left of somebody else's, so that `grpc-timeout` changes "
        "from call to call. The clients may set the pace; what counts is the server's CPU time."
    )
    columns = ("deadlines", "server", "req/s", "CPU µs/req", "× floor", "server core", "clients' core", "failed")
    return Table("Real clients with deadlines", columns, rows, note, labels=2)


def _ceiling(summary: dict[str, Any]) -> Table:
    rows: list[list[Cell]] = [
        [what, size, one["graph_rows_per_second"], one["engine_rows_per_second"]]
        for what, sizes in summary["ceiling"].items()
        for size, one in sizes.items()
    ]
    note = (
        "In this process, on the server's core, one thread, no server. Graph: ONNX Runtime alone. Engine: with "
        "building the batch's arrays, as the server does it. Real reviews one after the other, where the table above "
        "sends one."
    )
    return Table(
        "The ceiling: the model in process", ("", "batch", "graph, rows/s", "engine, rows/s"), rows, note, labels=1
    )


def _open_loop(summary: dict[str, Any]) -> Table:
    rows: list[list[Cell]] = [
        [
            *(one["what"], one["server"], f"{one['share']:.0%}", one["rate"], one["per_second"]),
            *(
                one["p50_ms"],
                one["p95_ms"],
                one["p99_ms"],
                one["lag_p99_ms"],
                one["due"] - one["answered"],
                one["errors"],
            ),
        ]
        for one in sorted(summary["open_loop"], key=lambda one: (one["what"], one["server"], one["share"]))
    ]
    note = (
        "Open loop, medians of as many runs of 1 s as above: Poisson arrivals at a fixed rate on 8 connections, "
        "whatever became of the requests before; latency counts from when a request was due. The share is of each "
        "server's own maximum at 64 in flight. Lag: how late requests left, 99th percentile, because the load "
        "generator was not quick enough, or the server's limit of streams was reached. A run during which other "
        f"processes of the machine took more than {DISTURBED:.0%} of a core was made again, up to {ATTEMPTS} times "
        "in all, and the least disturbed one counts: one time slice of another process on the server's core is a tail "
        "of tens of milliseconds."
    )
    columns = (
        *("", "server", "load", "due/s", "answered/s", "p50 ms", "p95 ms", "p99 ms", "lag ms", "unanswered", "errors"),
    )
    return Table("Latency against load", columns, rows, note, labels=3)


def _cell(summary: dict[str, Any], model: str, in_flight: int, deadlines: str = "") -> dict[str, Any]:
    """The cell of a model, or nothing where it was not measured."""
    for cell in summary["cells"]:
        if cell["what"].startswith(model) and (cell["in_flight"], cell["deadlines"]) == (in_flight, deadlines):
            return dict(cell)
    return {}

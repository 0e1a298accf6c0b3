"""Both transports of the server, beside a grpc.aio server that does nothing and the models without any server."""

from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from typing import Any

from benchmarks import ceiling, h2load, openloop
from benchmarks.generator import Generator, Job, generator
from benchmarks.h2load import IN_FLIGHT, PREFIX_BYTES, Shot
from benchmarks.load import answer
from benchmarks.machine import Others
from benchmarks.openloop import SHARES, Orders
from benchmarks.payloads import Payload, houses, reviews
from benchmarks.scrape import batching, parse
from benchmarks.servers import Server, floor_server, real_server
from benchmarks.session import Session
from benchmarks.stats import median, ratio
from benchmarks.transports_tables import FLOOR, SERVERS, draw, tables

__all__ = ["NAME", "draw", "run", "tables"]

NAME = "transports"

TRANSPORTS = ("grpcio", "native")

_WARM_UP_REQUESTS = 500
_CLIENTS = 2
_CALLERS, _CONNECTIONS = 16, 4
"""Of each real client."""

TIMEOUTS = {
    "one": (10.0,),
    "many": tuple(round(0.2 * 25 ** (number * 40 % 97 / 96), 4) for number in range(97)),
}
"""Seconds that each real client's calls may take, in turn: always the same, or what is left of somebody else's."""


_KEY = ("what", "in_flight", "deadlines")
_RATIOS = ("per_second", "p50_ms", "p99_ms", "cpu_us")


@dataclass(frozen=True)
class _Bench:
    """What runs while this benchmark does."""

    session: Session
    servers: dict[str, Server]
    replies: dict[str, bytes]
    clients: list[Generator]

    def cell(self, name: str, payload: Payload, in_flight: int, seconds: int) -> dict[str, Any]:
        """One server under h2load."""
        server, core = self.servers[name], self.session.cores.load
        shot = Shot(server.address, payload.method, payload.messages[0], *IN_FLIGHT[in_flight])
        h2load.warm_up(shot, core, _WARM_UP_REQUESTS)
        before = _scrape(server)
        counted, found = h2load.measure(shot, core, seconds, server.cpu_seconds)
        after = _scrape(server)
        answered = _answered(after, payload.model) - _answered(before, payload.model) if before else None
        h2load.check(counted, self.replies[payload.method], answered)
        return {**found, "mean_rows": batching(before, after, payload.model).mean_rows} if before else found

    def real_clients(self, name: str, payload: Payload, deadlines: str, seconds: float) -> dict[str, Any]:
        """One server under processes that use grpcio, each call with a deadline."""
        server = self.servers[name]
        job = Job(
            server.address,
            payload.method,
            payload.messages,
            _CALLERS,
            seconds,
            _CONNECTIONS,
            timeouts=TIMEOUTS[deadlines],
        )
        others, cpu = Others(), server.cpu_seconds()
        for client in self.clients:
            client.start(job)
        results = [client.result() for client in self.clients]
        cpu = server.cpu_seconds() - cpu
        requests = sum(len(result.spans) for result in results)
        return {
            "requests": requests,
            "errors": sum(sum(result.errors.values()) for result in results),
            "per_second": sum(result.per_second for result in results),
            "cpu_us": ratio(cpu * 1e6, requests),
            "server_cores": cpu / seconds,
            "client_cores": sum(result.cpu_seconds for result in results) / seconds,
            "other_cores": others.cores(cpu + sum(result.cpu_seconds for result in results)),
        }

    def open_loop(self, name: str, payload: Payload, rate: float, seconds: float) -> dict[str, Any]:
        """One server at a fixed rate of arrivals."""
        server = self.servers[name]
        reply = len(self.replies[payload.method]) + PREFIX_BYTES
        orders = Orders(server.address, payload.method, payload.messages[0].hex(), reply, rate, seconds)
        return openloop.undisturbed(orders, self.session.cores.load, server.cpu_seconds)


def run(session: Session) -> dict[str, Any]:
    """Everything in turns: the floor and both transports next to one another in every round."""
    if reason := h2load.missing():
        session.reporter.step(f"skipped: {reason}")
        return {"settings": {"skipped": reason}, "summary": {}, "rounds": []}
    rounds, seconds = int(session.pick(3, 1)), int(session.pick(2, 1))
    payloads = [houses(), reviews(session.data)]
    cells = list(product(payloads, (64,) if session.quick else IN_FLIGHT))
    raw: list[dict[str, Any]] = []
    ceilings: list[dict[str, Any]] = []
    with ExitStack() as stack:
        stack.enter_context(session.reporter.benchmark(NAME, rounds * (len(cells) + len(TIMEOUTS) + 1)))
        bench = _bench(session, stack, payloads)
        for number in range(rounds):
            for payload, in_flight in cells:
                cell: dict[str, Any] = {
                    "round": number + 1,
                    "what": payload.what,
                    "in_flight": in_flight,
                    "deadlines": "",
                }
                raw.append(cell | {name: bench.cell(name, payload, in_flight, seconds) for name in SERVERS})
                _tell(session, raw[-1])
            for deadlines in TIMEOUTS:
                cell = {"round": number + 1, "what": payloads[0].what, "in_flight": 0, "deadlines": deadlines}
                length = session.pick(1.5, 0.5)
                found = {name: bench.real_clients(name, payloads[0], deadlines, length) for name in SERVERS}
                raw.append(cell | found)
                _tell(session, raw[-1])
            core, length = session.cores.server, session.pick(0.25, 0.05)
            ceilings.append({payload.what: ceiling.measure(payload, core, length) for payload in payloads})
        summary = _summary(raw, ceilings)
        summary["open_loop"] = [
            row for payload in payloads for row in _open_loop(session, bench, payload, summary["cells"], rounds)
        ]
        summary["servers"] = {
            name: {"ready_seconds": server.ready_seconds or None, "rss_mib": server.resident_bytes() / 2**20}
            for name, server in bench.servers.items()
        }
    settings = {
        "rounds": rounds,
        "seconds": seconds,
        "clients": {"processes": _CLIENTS, "callers": _CALLERS, "connections": _CONNECTIONS},
        "cores": str(session.cores),
        "request_bytes": {payload.what: len(payload.messages[0]) for payload in payloads},
    }
    return {"settings": settings, "summary": summary, "rounds": raw}


def _bench(session: Session, stack: ExitStack, payloads: list[Payload]) -> _Bench:
    servers = {name: stack.enter_context(real_server(session.cores.server, name)) for name in TRANSPORTS}
    replies = {payload.method: answer(servers["grpcio"], payload) for payload in payloads}
    servers = {FLOOR: stack.enter_context(floor_server(replies, session.cores.server)), **servers}
    clients = [stack.enter_context(generator(session.cores.load)) for _ in range(_CLIENTS)]
    return _Bench(session, servers, replies, clients)


def _open_loop(
    session: Session, bench: _Bench, payload: Payload, cells: list[dict[str, Any]], rounds: int
) -> list[dict[str, Any]]:
    """The servers by turns at each share of their own maximum; medians of the rounds."""
    [fullest] = [cell for cell in cells if (cell["what"], cell["in_flight"]) == (payload.what, max(IN_FLIGHT))]
    points = list(product((0.5,) if session.quick else SHARES, SERVERS))
    found: list[list[dict[str, Any]]] = []
    for number in range(rounds):
        found.append([])
        for share, name in points:
            rate = share * fullest[name]["per_second"]
            found[-1].append(bench.open_loop(name, payload, rate, session.pick(1.0, 0.5)))
        again = sum(one["attempts"] - 1 for one in found[-1])
        session.reporter.step(f"round {number + 1}, {payload.what}, open loop: {len(points)} rates, {again} again")
    return [
        {"what": payload.what, "server": name, "share": share, "rate": share * fullest[name]["per_second"]}
        | {figure: median(one[figure] for one in runs) for figure in runs[0]}
        for (share, name), *runs in zip(points, *found, strict=True)
    ]


def _summary(raw: list[dict[str, Any]], ceilings: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds; ratios are those of neighbours in one round."""
    cells = []
    for key in dict.fromkeys(_key(cell) for cell in raw):
        same = [cell for cell in raw if _key(cell) == key]
        one: dict[str, Any] = dict(zip(_KEY, key, strict=True))
        for name in SERVERS:
            figures = [figure for figure in same[0][name] if figure != "other_cores"]
            one[name] = {figure: median(cell[name][figure] for cell in same) for figure in figures}
            for figure in (figure for figure in _RATIOS if figure in figures):
                one[name][f"{figure}_ratio"] = median(ratio(cell[name][figure], cell[FLOOR][figure]) for cell in same)
        cells.append(one)
    rows = {
        what: {
            size: {key: median(one[what][size][key] for one in ceilings) for key in found}
            for size, found in ceilings[0][what].items()
        }
        for what in ceilings[0]
    }
    return {"cells": cells, "ceiling": rows}


def _key(cell: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(cell[name] for name in _KEY)


def _scrape(server: Server) -> dict[Any, float]:
    return parse(server.metrics_text()) if server.metrics_url else {}


def _answered(samples: dict[Any, float], model: str) -> float:
    """Calls to a model that were answered with OK."""
    wanted = {("code", "OK"), ("model", model)}
    return sum(
        value for (name, labels), value in samples.items() if name == "triptych_requests_total" and wanted <= {*labels}
    )


def _tell(session: Session, cell: dict[str, Any]) -> None:
    speeds = ", ".join(f"{name} {cell[name]['per_second']:,.0f}/s" for name in SERVERS)
    how = f"{cell['in_flight']} in flight" if cell["in_flight"] else f"real clients, deadlines: {cell['deadlines']}"
    session.reporter.step(f"round {cell['round']}, {cell['what']}, {how}: {speeds}")

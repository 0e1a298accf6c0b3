"""This server beside those of others: every round visits each of them, and only the one under load is awake."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

from benchmarks import h2load, openloop
from benchmarks.h2load import IN_FLIGHT, PREFIX_BYTES, Shot
from benchmarks.openloop import SHARES, Orders
from benchmarks.peers import environments
from benchmarks.peers.asking import Exam, examine, exams, good_reply, knows
from benchmarks.peers.bench_tables import draw, tables
from benchmarks.peers.processes import Tree, started
from benchmarks.peers.registry import BY_NAME, FLOOR, FLOORS, GRPC, OLD_FLOOR, OURS, OWN, PEERS, Peer
from benchmarks.servers import ServerFailed, floor_server, real_server
from benchmarks.session import Session
from benchmarks.stats import median, ratio

__all__ = ["NAME", "draw", "run", "tables"]

NAME = "peers"

OPEN_LOOP = (OURS, "triton")

_TRANSPORT = "native"
_WARM_UP_REQUESTS = 200
_SETTLE_SECONDS = 0.2
"""From being woken up to being asked: timers that ran out meanwhile go off first."""
_PATIENCE = 3
"""Cells that a server may fail before it is left out."""

_OWN_PEER = Peer(OURS, "Triptych", "triptych", GRPC, OWN)
_FLOOR_PEERS = {
    FLOOR: Peer(FLOOR, "grpc.aio echo", "grpcio", GRPC, OWN),
    OLD_FLOOR: Peer(OLD_FLOOR, "grpc.aio echo, grpcio 1.75.0", "grpcio", GRPC, OWN),
}


@dataclass
class _Contender:
    """A server that runs; asleep unless it is its turn."""

    peer: Peer
    address: str
    tree: Tree
    ready_seconds: float
    replies: dict[str, bytes] = field(default_factory=dict)
    """Known good ones, by model."""
    failed: list[str] = field(default_factory=list)

    @contextmanager
    def awake(self) -> Iterator[None]:
        self.tree.resume()
        time.sleep(_SETTLE_SECONDS)
        try:
            yield
        finally:
            self.tree.pause()


@dataclass(frozen=True)
class _Bench:
    """What runs while this benchmark does."""

    session: Session
    contenders: dict[str, _Contender]

    def cell(self, contender: _Contender, exam: Exam, in_flight: int, seconds: int) -> dict[str, Any]:
        """One server under h2load, or why it could not be measured."""
        if len(contender.failed) >= _PATIENCE:
            return {"failed": contender.failed[-1]}
        try:
            with contender.awake():
                return self._measured(contender, exam, in_flight, seconds)
        except (ServerFailed, subprocess.TimeoutExpired) as error:
            if contender.peer.name in (OURS, *FLOORS):
                raise
            reason = str(error) if isinstance(error, ServerFailed) else "h2load did not come to an end"
            contender.failed.append(reason)
            return {"failed": reason}

    def _measured(self, contender: _Contender, exam: Exam, in_flight: int, seconds: int) -> dict[str, Any]:
        peer, core, asks = contender.peer, self.session.cores.load, contender.peer.asks[exam.model]
        body = asks.body(exam.questions[0])
        # Over HTTP/1.1 a connection has one request at a time.
        at_once = IN_FLIGHT[in_flight] if peer.protocol == GRPC else (in_flight, 1)
        shot = Shot(contender.address, asks.path, body, *at_once, json=peer.protocol != GRPC)
        h2load.warm_up(shot, core, _WARM_UP_REQUESTS)
        counted, found = h2load.measure(shot, core, seconds, contender.tree.cpu_seconds)
        each = len(contender.replies[exam.model]) + (PREFIX_BYTES if peer.protocol == GRPC else 0)
        h2load.check_sizes(counted, each, asks.slack)
        if peer.name not in FLOORS:
            good_reply(peer.protocol, contender.address, asks, exam)  # as right as before all that
        return found

    def open_loop(self, contender: _Contender, exam: Exam, rate: float, seconds: float) -> dict[str, Any]:
        """One server at a fixed rate of arrivals; nothing where it does not get through."""
        asks, reply = contender.peer.asks[exam.model], len(contender.replies[exam.model]) + PREFIX_BYTES
        body = asks.body(exam.questions[0]).hex()
        orders = Orders(contender.address, asks.path, body, reply, rate, seconds)
        try:
            with contender.awake():
                return openloop.undisturbed(orders, self.session.cores.load, contender.tree.cpu_seconds)
        except (ServerFailed, subprocess.TimeoutExpired) as error:
            self.session.reporter.console.print(f"{NAME}: {contender.peer.title}, open loop: {error}", highlight=False)
            return {}


def run(session: Session) -> dict[str, Any]:
    """Everything in turns; a server that can't be had or does not work is reported, and the others go on."""
    if reason := h2load.missing():
        session.reporter.step(f"skipped: {reason}")
        return {"settings": {"skipped": reason}, "summary": {}, "rounds": []}
    peers = [BY_NAME[name] for name in session.peers] or list(PEERS)
    rounds, seconds = int(session.pick(3, 1)), int(session.pick(2, 1))
    both = exams(session.data)
    cells = list(product(both, (64,) if session.quick else IN_FLIGHT))
    raw: list[dict[str, Any]] = []
    with ExitStack() as stack:
        stack.enter_context(session.reporter.benchmark(NAME, 2 * len(peers) + 3 + rounds * (len(cells) + 1)))
        failures = _environments(session, [_FLOOR_PEERS[OLD_FLOOR], *peers])
        bench = _Bench(session, {})
        _start(bench, stack, [peer for peer in peers if peer.name not in failures], both, failures)
        for number in range(rounds):
            for exam, in_flight in cells:
                cell: dict[str, Any] = {"round": number + 1, "what": exam.what, "in_flight": in_flight}
                found = {name: bench.cell(one, exam, in_flight, seconds) for name, one in bench.contenders.items()}
                raw.append(cell | found)
                _tell(session, raw[-1], list(found))
        summary = _summary(raw, list(bench.contenders))
        summary["open_loop"] = _open_loop(bench, both[0], summary["cells"], rounds)
        summary["servers"] = {name: _described(one) for name, one in bench.contenders.items()}
    summary["failed"] = failures
    settings = {
        "rounds": rounds,
        "seconds": seconds,
        "cores": str(session.cores),
        "request_bytes": {
            name: {exam.what: len(one.peer.asks[exam.model].body(exam.questions[0])) for exam in both}
            for name, one in bench.contenders.items()
        },
    }
    return {"settings": settings, "summary": summary, "rounds": raw}


def _environments(session: Session, peers: list[Peer]) -> dict[str, str]:
    """Make those that are not there; why some can't be made."""
    failures: dict[str, str] = {}
    made = False
    for peer in peers:
        try:
            if environments.is_made(peer.folder):
                session.reporter.step(f"environment of {peer.title}: there")
                continue
            begun = time.monotonic()
            session.reporter.console.print(f"{NAME}: installing {peer.title}, once …", highlight=False)
            environments.make(peer.folder)
            made = True
            session.reporter.step(f"environment of {peer.title}: made in {time.monotonic() - begun:.0f} s")
        except ServerFailed as error:
            failures[peer.name] = str(error)
            session.reporter.step(f"environment of {peer.title}: {error}")
    if made:
        os.sync()  # else gigabytes go to the disk while servers start
    return failures


def _start(bench: _Bench, stack: ExitStack, peers: list[Peer], both: list[Exam], failures: dict[str, str]) -> None:
    """All servers one after the other, each examined while the others sleep."""
    reporter, core = bench.session.reporter, bench.session.cores.server
    server = stack.enter_context(real_server(core, _TRANSPORT))
    stack.callback(_wake, bench.contenders)
    if not knows(_OWN_PEER, both, server.address):
        raise ServerFailed("this server gives wrong answers")
    ready_seconds = time.monotonic() - server.started
    ours = _Contender(_OWN_PEER, server.address, Tree(server.process.pid), ready_seconds)
    _admit(bench, ours, both)
    floor_replies = {OWN[model].path: reply for model, reply in ours.replies.items()}
    for name in FLOORS:
        if name in failures:
            continue
        interpreter = environments.python(name) if name == OLD_FLOOR else None
        floor = stack.enter_context(floor_server(floor_replies, core, interpreter))
        stack.callback(_wake, bench.contenders)
        tree = Tree(floor.process.pid)
        bench.contenders[name] = _Contender(_FLOOR_PEERS[name], floor.address, tree, 0.0, ours.replies)
        tree.pause()
    for peer in peers:
        try:
            running = stack.enter_context(started(peer, core, partial(knows, peer, both)))
            _admit(bench, _Contender(peer, running.address, running.tree, running.ready_seconds), both)
            reporter.step(f"{peer.title}: ready in {running.ready_seconds:.1f} s, and right with many callers")
        except ServerFailed as error:
            failures[peer.name] = str(error)
            reporter.step(f"{peer.title}: {error}")


def _admit(bench: _Bench, contender: _Contender, both: list[Exam]) -> None:
    """Let it take part once it has answered everything rightly; it sleeps from then on."""
    try:
        if not contender.tree.keeps_to(bench.session.cores.server):
            raise ServerFailed("it does not keep to the core that it was given")
        for exam in both:
            examine(contender.peer, contender.address, exam)
            asks = contender.peer.asks[exam.model]
            contender.replies[exam.model] = good_reply(contender.peer.protocol, contender.address, asks, exam)
    finally:
        contender.tree.pause()
    bench.contenders[contender.peer.name] = contender


def _wake(contenders: dict[str, _Contender]) -> None:
    """What sleeps can't be ended in peace."""
    for one in contenders.values():
        one.tree.resume()


def _open_loop(bench: _Bench, exam: Exam, cells: list[dict[str, Any]], rounds: int) -> list[dict[str, Any]]:
    """By turns at each share of their own maximum; medians of the rounds."""
    [fullest] = [cell for cell in cells if (cell["what"], cell["in_flight"]) == (exam.what, max(IN_FLIGHT))]
    names = [name for name in OPEN_LOOP if "per_second" in fullest.get(name, {})]
    points = list(product((0.5,) if bench.session.quick else SHARES, names))
    found: list[list[dict[str, Any]]] = []
    for number in range(rounds):
        found.append([])
        for share, name in points:
            rate = share * fullest[name]["per_second"]
            found[-1].append(bench.open_loop(bench.contenders[name], exam, rate, bench.session.pick(1.5, 0.5)))
        bench.session.reporter.step(f"round {number + 1}, open loop: {len(points)} rates")
    return [
        {"server": name, "share": share, "rate": share * fullest[name]["per_second"]}
        | {figure: median(one[figure] for one in runs) for figure in runs[0]}
        for (share, name), *runs in zip(points, *found, strict=True)
        if all(runs)
    ]


def _summary(raw: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """Medians over the rounds; ratios are those of neighbours in one round."""
    cells = []
    for what, in_flight in dict.fromkeys((cell["what"], cell["in_flight"]) for cell in raw):
        same = [cell for cell in raw if (cell["what"], cell["in_flight"]) == (what, in_flight)]
        one: dict[str, Any] = {"what": what, "in_flight": in_flight}
        for name in names:
            if failed := [cell[name]["failed"] for cell in same if "failed" in cell[name]]:
                one[name] = {"failed": failed[0]}
                continue
            figures = [figure for figure in same[0][name] if figure != "other_cores"]
            one[name] = {figure: median(cell[name][figure] for cell in same) for figure in figures}
            for key, over, under in (("floor_ratio", name, FLOOR), ("ours_ratio", OURS, name)):
                one[name][key] = median(ratio(cell[over]["per_second"], cell[under]["per_second"]) for cell in same)
        cells.append(one)
    return {"cells": cells}


def _described(contender: _Contender) -> dict[str, Any]:
    resident, proportional = contender.tree.memory_bytes()
    peer, others = contender.peer, contender.peer.name not in (OURS, FLOOR)  # whose version is this environment's
    return {
        "title": peer.title,
        "protocol": peer.protocol,
        "version": environments.version(peer.folder, peer.package) if others else None,
        "processes": len(contender.tree.members()),
        "ready_seconds": contender.ready_seconds or None,
        "rss_mib": resident / 2**20,
        "pss_mib": proportional / 2**20,
    }


def _tell(session: Session, cell: dict[str, Any], names: list[str]) -> None:
    speeds = ", ".join(
        f"{name} failed" if "failed" in cell[name] else f"{name} {cell[name]['per_second']:,.0f}/s" for name in names
    )
    session.reporter.step(f"round {cell['round']}, {cell['what']}, {cell['in_flight']} in flight: {speeds}")

"""What a new version costs those who ask meanwhile, and what is left of one that is gone."""

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import tritonclient.grpc as triton

from benchmarks import h2load
from benchmarks.h2load import IN_FLIGHT, Shot
from benchmarks.payloads import Payload, houses, reviews
from benchmarks.servers import REPOSITORY, Server, ServerFailed, real_server
from benchmarks.session import Session
from benchmarks.stats import median, percentile, ratio
from benchmarks.tables import Cell, Table

NAME = "lifecycle"

CYCLES = 200
_POLL = ("--model-poll-seconds", "0.2")
_LEAD_SECONDS = 3.0
"""Of calls before the new version comes."""
_SWAP_SECONDS = 30.0
_TRIAL_SECONDS = 6.0
"""After which what was loaded at the start has been tried out."""
_SETTLE_SECONDS = 4.0
_MEMORY_MODEL = "sentiment"
"""The largest."""


def run(session: Session) -> dict[str, Any]:
    """Swaps under load, then loads and unloads without any."""
    if reason := h2load.missing():
        session.reporter.step(f"skipped: {reason}")
        return {"settings": {"skipped": reason}, "summary": {}, "rounds": []}
    rounds, cycles = int(session.pick(3, 1)), int(session.pick(CYCLES, 5))
    payloads = [houses(), reviews(session.data)]
    raw: list[dict[str, Any]] = []
    with session.reporter.benchmark(NAME, rounds * len(payloads) + 2):
        for number in range(rounds):
            for payload in payloads:
                found = _swap(session, payload)
                raw.append({"round": number + 1, "what": payload.what, **found})
                session.reporter.step(
                    f"round {number + 1}, {payload.what}: p99 {found['before_p99_ms']:.2f} ms before, "
                    f"{found['during_p99_ms']:.2f} ms during the swap of {found['swap_seconds']:.1f} s"
                )
        watching = _watching(session, rounds)
        session.reporter.step(f"watching: {watching['ratio']:.3f} of the speed without")
        memory = _memory(cycles)
        session.reporter.step(f"{cycles} cycles: {memory['first_mib']:.0f} MiB before, {memory['last_mib']:.0f} after")
    settings = {"rounds": rounds, "cycles": cycles, "cores": str(session.cores), "model": _MEMORY_MODEL}
    return {
        "settings": settings,
        "summary": {"swaps": _summary(raw), "watching": watching, "memory": memory},
        "rounds": raw,
    }


def tables(record: dict[str, Any]) -> list[Table]:
    """One for the swaps, one for the memory."""
    if not record["summary"]:
        return []
    settings, memory = record["settings"], record["summary"]["memory"]
    columns = (
        "",
        "req/s before",
        "during",
        "p50 ms before",
        "during",
        "p99 ms before",
        "during",
        "× p99",
        "swap, s",
        "failed",
    )
    rows: list[list[Cell]] = [
        [
            *(one["what"], one["before_per_second"], one["during_per_second"], one["before_p50_ms"]),
            *(one["during_p50_ms"], one["before_p99_ms"], one["during_p99_ms"], one["p99_ratio"]),
            *(one["swap_seconds"], one["failed"]),
        ]
        for one in record["summary"]["swaps"]
    ]
    note = (
        f"h2load, 64 in flight over 8 connections; medians of {settings['rounds']} rounds; {settings['cores']}. "
        "The swap lasts from the moment at which a new version's folder is renamed into place until the old one, whose "
        "folder is removed as soon as the new one answers, is not routed to any more: found, tried out in a process of "
        "its own, verified, swapped in. The server's one core does all of that beside answering."
    )
    watching = record["summary"]["watching"]
    watched: list[list[Cell]] = [
        [watching["watched per_second"], watching["not watched per_second"], watching["ratio"]]
    ]
    watching_note = (
        "House prices, 64 in flight: a server that looks at its models folder every 50 ms, twenty times as often as by "
        "default, beside one that never does, in turns."
    )
    cells: list[list[Cell]] = [
        [settings["model"], settings["cycles"], *(memory[k] for k in ("first_mib", "last_mib", "max_mib"))]
    ]
    memory_note = (
        "Resident memory of a server whose model is unloaded and loaded by request, over and over: before the first "
        "cycle, some seconds after the last, and the largest after any."
    )
    return [
        Table("A new version under load", columns, rows, note),
        Table("Watching the folder", ("req/s watched", "not watched", "×"), watched, watching_note, labels=0),
        Table("Loading and unloading", ("model", "cycles", "first, MiB", "last, MiB", "max, MiB"), cells, memory_note),
    ]


def _swap(session: Session, payload: Payload) -> dict[str, Any]:
    with (
        _models(payload.model) as models,
        real_server(session.cores.server, None, "--models", str(models), *_POLL) as server,
    ):
        shot = replace(_shot(server, payload), connections=IN_FLIGHT[64][0], streams=IN_FLIGHT[64][1])
        h2load.warm_up(shot, session.cores.load, 2000)
        time.sleep(_TRIAL_SECONDS)
        marks: dict[str, float] = {}
        failure: list[Exception] = []

        def change() -> None:
            try:
                time.sleep(_LEAD_SECONDS)
                marks["begin"] = time.time()
                _publish(models, payload.model, 2)
                with triton.InferenceServerClient(server.address) as client:
                    _wait(lambda: _served(client, payload.model) == {"1", "2"})
                    marks["swapped"] = time.time()
                    shutil.rmtree(models / payload.model / "1")
                    _wait(lambda: _served(client, payload.model) == {"2"})
                    marks["end"] = time.time()
            except Exception as error:  # noqa: BLE001 - for who waits to see
                failure.append(error)

        thread = threading.Thread(target=change)
        thread.start()
        counted, requests = h2load.timeline(shot, session.cores.load, int(_LEAD_SECONDS + session.pick(9, 7)))
        thread.join()
    if failure:
        raise failure[0]
    begin, end = marks["begin"], marks["end"]
    before = [took for began, took in requests if begin - _LEAD_SECONDS + 0.5 <= began < begin - 0.1]
    during = [took for began, took in requests if begin <= began + took and began < end]
    return {
        "failed": counted.bad,
        "swap_seconds": end - begin,
        "before_per_second": len(before) / (_LEAD_SECONDS - 0.6),
        "during_per_second": len(during) / (end - begin),
        **{f"before_p{p}_ms": percentile(before, p) * 1e3 for p in (50, 99)},
        **{f"during_p{p}_ms": percentile(during, p) * 1e3 for p in (50, 99)},
        "during_max_ms": max(during) * 1e3,
    }


def _summary(raw: list[dict[str, Any]]) -> list[dict[str, Any]]:
    summary = []
    for what in dict.fromkeys(cell["what"] for cell in raw):
        same = [cell for cell in raw if cell["what"] == what]
        one: dict[str, Any] = {
            key: median(cell[key] for cell in same) for key in same[0] if key not in ("round", "what")
        }
        one["p99_ratio"] = median(ratio(cell["during_p99_ms"], cell["before_p99_ms"]) for cell in same)
        summary.append({**one, "what": what, "failed": sum(cell["failed"] for cell in same)})
    return summary


def _memory(cycles: int) -> dict[str, Any]:
    """Resident memory after each cycle of one model's life."""
    flags = ("--model-control", "explicit", "--load-models", _MEMORY_MODEL)
    samples: list[float] = []
    with real_server(None, None, *flags) as server, triton.InferenceServerClient(server.address) as client:
        time.sleep(_TRIAL_SECONDS)
        first = server.resident_bytes() / 2**20
        for _ in range(cycles):
            client.unload_model(_MEMORY_MODEL)
            client.load_model(_MEMORY_MODEL)
            samples.append(server.resident_bytes() / 2**20)
        time.sleep(_SETTLE_SECONDS)
        last = server.resident_bytes() / 2**20
    return {"first_mib": first, "last_mib": last, "max_mib": max(samples), "samples_mib": samples}


def _watching(session: Session, rounds: int) -> dict[str, Any]:
    """The same calls to a server that looks at its folder twenty times a second and to one that never does."""
    payload = houses()
    flags = {"watched": ("--model-poll-seconds", "0.05"), "not watched": ("--model-control", "none")}
    speeds: dict[str, list[float]] = {name: [] for name in flags}
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(real_server(session.cores.server, None, *each)) for name, each in flags.items()
        }
        time.sleep(_TRIAL_SECONDS)
        for _ in range(2 * rounds):
            for name, server in servers.items():
                shot = replace(_shot(server, payload), connections=IN_FLIGHT[64][0], streams=IN_FLIGHT[64][1])
                h2load.warm_up(shot, session.cores.load, 500)
                speeds[name].append(h2load.shoot(shot, session.cores.load, int(session.pick(2, 1))).per_second)
    pairs = zip(speeds["watched"], speeds["not watched"], strict=True)
    return {
        **{f"{name} per_second": median(found) for name, found in speeds.items()},
        "ratio": median(ratio(watched, not_watched) for watched, not_watched in pairs),
    }


def _shot(server: Server, payload: Payload) -> Shot:
    return Shot(server.address, payload.method, payload.messages[0], 1, 1)


def _served(client: Any, model: str) -> set[str]:
    """Of two versions, those that are served: asked so often, this must cost next to nothing."""
    return {version for version in ("1", "2") if client.is_model_ready(model, version)}


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SWAP_SECONDS
    while not until():
        if time.monotonic() > deadline:
            raise ServerFailed("the new version was not served in time")
        time.sleep(0.05)


@contextmanager
def _models(model: str) -> Iterator[Path]:
    """A folder with version 1 of one model."""
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        _publish(models, model, 1)
        yield models


def _publish(models: Path, model: str, version: int) -> None:
    """Copy the shipped package beside its place, and rename it: whoever looks sees all of it or nothing."""
    (models / model).mkdir(exist_ok=True)
    hidden = models / model / f".{version}"
    shutil.copytree(REPOSITORY / "models" / model / "1", hidden)
    manifest = json.loads((hidden / "model.json").read_text())
    (hidden / "model.json").write_text(json.dumps({**manifest, "version": version}))
    hidden.rename(models / model / str(version))

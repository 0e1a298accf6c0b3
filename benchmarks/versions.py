"""What a better model costs: each version beside the first of its model, the same inputs through the same runtime."""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.datasets import DataMissing, house_test, raw_texts
from benchmarks.machine import Others, pinned
from benchmarks.payloads import manifest, versions
from benchmarks.servers import REPOSITORY, ServerFailed
from benchmarks.session import Session
from benchmarks.stats import median, ratio
from benchmarks.tables import Cell, Table
from serving.engine import device
from serving.engine.session import Feed
from serving.engine.session import Session as Graph
from serving.package.manifest import TextRules
from serving.package.text import Normaliser, flatten

NAME = "versions"

BATCHES = (1, 8, 64, 256)
TIMES = 5
"""A version may cost so many times the first one."""
PACKAGE_MB = 30
"""So large may its package be."""

_FILES: dict[str, Literal["imdb", "reuters"]] = {"sentiment": "imdb", "topic": "reuters"}
_MODELS = (*_FILES, "house_price")
_FEEDS = 64
"""Batches of one size, at most; they come round again and again."""

_LOAD = """
import json, sys, time, psutil
from serving.engine import device
from serving.engine.session import Session
model, cpu, process = open(sys.argv[1], "rb").read(), device.choose("cpu"), psutil.Process()
before, started = process.memory_info().rss, time.perf_counter()
session = Session(model, cpu)
seconds, grown = time.perf_counter() - started, process.memory_info().rss - before
print(json.dumps({"load_seconds": seconds, "load_mib": grown / 2**20}))
"""


def run(session: Session) -> dict[str, Any]:
    """Rounds of every model, batch size and version in turn."""
    rounds = int(session.pick(7, 2))
    seconds = session.pick(1.0, 0.15)
    compared = {model: versions(model) for model in _MODELS}
    cpu = device.choose("cpu")
    raw: list[dict[str, Any]] = []
    inputs = {model: _rows(model, session) for model in _MODELS}
    with session.reporter.benchmark(NAME, rounds), pinned(session.cores.server):
        graphs = {
            (model, version): Graph(_model(model, version).read_bytes(), cpu)
            for model, numbers in compared.items()
            for version in numbers
        }
        for number in range(rounds):
            others, started = Others(), time.process_time()
            cells = []
            for model, (rows, _) in inputs.items():
                feed = _feed(model)
                for batch in BATCHES:
                    its = {version: graphs[model, version] for version in compared[model]}
                    cells.append({"model": model, "batch": batch, **_measure(its, feed, rows, batch, seconds)})
            busy = others.cores(time.process_time() - started)
            loads = [
                {"model": model, "version": version, **_load(model, version)}
                for model, numbers in compared.items()
                for version in numbers
            ]
            raw.append({"cells": cells, "loads": loads, "other_cores": busy})
            session.reporter.step(f"round {number + 1} of {rounds}: {_worst(summarised(raw[-1:])['rows'])}")
    settings = {
        "rounds": rounds,
        "seconds": seconds,
        "inputs": {model: what for model, (_, what) in inputs.items()},
        "pinned": session.cores.server is not None,
    }
    return {"settings": settings, "summary": summarised(raw), "rounds": raw}


def summarised(raw: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds, and the ratio to the first version with its lowest and its highest round.

    Args:
        raw: the rounds; each cell of one has the median microseconds a row of each version.
    """
    rows, packages = [], []
    for position, cell in enumerate(raw[0]["cells"]):
        cells = [one["cells"][position] for one in raw]
        first, *later = sorted(cell["us"], key=int)
        for version in later:
            times = [ratio(one["us"][version], one["us"][first]) for one in cells]
            rows.append(
                {
                    "model": cell["model"],
                    "batch": cell["batch"],
                    "first": int(first),
                    "version": int(version),
                    "first_us": median(one["us"][first] for one in cells),
                    "us": median(one["us"][version] for one in cells),
                    "prepare_us": median(one["prepare_us"] for one in cells),
                    "times": median(times),
                    "lowest": min(times),
                    "highest": max(times),
                }
            )
    for position, load in enumerate(raw[0]["loads"]):
        loads = [one["loads"][position] for one in raw]
        packages.append({**load, **{name: median(one[name] for one in loads) for name in ("load_seconds", "load_mib")}})
    return {"rows": rows, "packages": packages}


def tables(record: dict[str, Any]) -> list[Table]:
    """Cost a row, and what a package takes on disk and in memory."""
    settings, summary = record["settings"], record["summary"]
    rows: list[list[Cell]] = [
        [
            *(one["model"], f"{one['version']} against {one['first']}", one["batch"], one["first_us"], one["us"]),
            *(one["times"], f"{one['lowest']:.2f} – {one['highest']:.2f}", one["prepare_us"] or None),
        ]
        for one in summary["rows"]
    ]
    us = ("first, µs a row", "later, µs a row")
    columns = ("model", "versions", "batch", *us, "×", "over rounds", "text rules, µs")
    packages: list[list[Cell]] = [
        [
            *(one["model"], one["version"], one["model_bytes"] / 1e6, one["package_bytes"] / 1e6),
            *(f"{one['load_seconds']:.3f}", one["load_mib"]),
        ]
        for one in summary["packages"]
    ]
    what = "; ".join(f"{model}: {inputs}" for model, inputs in settings["inputs"].items())
    cost = (
        "Median microseconds a row of runs of the graph, called from Python in one process"
        f"{', pinned to one core' if settings['pinned'] else ''}: ONNX Runtime on the CPU with the server's own "
        f"settings, one thread. The versions take turns batch by batch on the same inputs ({what}). × is the ratio of "
        f"their medians in a round: the median of {settings['rounds']} rounds, then the lowest and the highest. *Text "
        "rules*: normalising the raw text and laying it out flat, which the server does before the graph; it is the "
        f"same for all versions and not in the figures beside it. Asked for: at most {TIMES} times; "
        f"{_worst(summary['rows'])}"
    )
    size = (
        "The package is all its files. Load: making the session from bytes in memory, in a new process; memory: what "
        "its resident memory grew by meanwhile, the runtime's own start included. Asked for: packages of at most "
        f"{PACKAGE_MB} MB."
    )
    return [
        Table("What a row costs, version by version", columns, rows, cost, labels=2),
        Table(
            "What a version takes",
            ("model", "version", "model.onnx, MB", "package, MB", "load, s", "memory, MiB"),
            packages,
            size,
            labels=2,
        ),
    ]


def _worst(rows: Sequence[dict[str, Any]]) -> str:
    """The largest ratio, in words."""
    if not rows:
        return "no model has two versions."
    one = max(rows, key=lambda row: row["times"])
    return f"the most is {one['times']:.2f}, {one['model']} in batches of {one['batch']}."


def _model(model: str, version: int) -> Path:
    return REPOSITORY / "models" / model / str(version) / "model.onnx"


def _rows(model: str, session: Session) -> tuple[Sequence[Any], str]:
    """Real inputs as a client sends them, and what they are: test samples, else the package's own examples."""
    try:
        if session.data is None:
            raise DataMissing
        if model in _FILES:
            return [sample.text for sample in raw_texts(session.data, _FILES[model])], "raw test texts"
        return house_test(session.data)[0].astype(np.float32), "test rows"
    except DataMissing:
        [examples] = manifest(model)["golden"]["inputs"].values()
        if model in _FILES:
            return [text for text in examples if text.strip()], "the package's own examples"
        return np.array(examples, dtype=np.float32), "the package's own examples"  # an absent feature is NaN


def _feed(model: str) -> Callable[[Sequence[Any]], Feed]:
    """What turns rows into the graph's inputs, as the server does."""
    [given] = manifest(model)["inputs"]
    if "text" not in given:
        return lambda rows: {given["name"]: np.stack(rows)}
    normalise = Normaliser(TextRules(**given["text"]))
    return lambda rows: flatten(given["name"], [normalise(text) for text in rows])


def batched(rows: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """Batches of `size` rows, for as long as there are rows that none had; rows come again to fill the last one."""
    for start in range(0, len(rows), size):
        yield [rows[position % len(rows)] for position in range(start, start + size)]


def _measure(
    graphs: dict[int, Graph], feed: Callable[[Sequence[Any]], Feed], rows: Sequence[Any], batch: int, seconds: float
) -> dict[str, Any]:
    """Median microseconds a row of each version, all of them in turn on each batch, for about so many seconds."""
    feeds: list[Feed] = []
    prepare = []
    for some in itertools.islice(batched(rows, batch), _FEEDS):
        started = time.perf_counter()
        feeds.append(feed(some))
        prepare.append(time.perf_counter() - started)
    outputs = {version: list(graph.outputs) for version, graph in graphs.items()}
    taken: dict[int, list[float]] = {version: [] for version in graphs}
    for version, graph in graphs.items():
        graph.run(outputs[version], feeds[0])
    end = time.perf_counter() + seconds
    order = list(graphs)
    for given in itertools.cycle(feeds):
        if time.perf_counter() >= end and min(map(len, taken.values())) >= len(feeds):
            break
        order.reverse()  # whoever is second finds the text in the cache
        for version in order:
            started = time.perf_counter()
            graphs[version].run(outputs[version], given)
            taken[version].append(time.perf_counter() - started)
    is_text = any(value.dtype == object for value in feeds[0].values())
    return {
        "runs": len(taken[order[0]]),
        "us": {str(version): median(values) * 1e6 / batch for version, values in taken.items()},
        "prepare_us": median(prepare) * 1e6 / batch if is_text else 0.0,
    }


def _load(model: str, version: int) -> dict[str, Any]:
    """Sizes on disk, and the time and the memory that a session takes in a new process."""
    path = _model(model, version)
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(path)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServerFailed(f"{model} version {version} could not be loaded: {done.stderr.strip()[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return {
        "model_bytes": path.stat().st_size,
        "package_bytes": sum(file.stat().st_size for file in path.parent.iterdir()),
        **found,
    }

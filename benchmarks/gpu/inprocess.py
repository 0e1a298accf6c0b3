"""Runs of a graph in this process, device against device in turns; and on all cores at once, as workers run.

As a program: one of the processes that keep a core busy, told on standard input what to run and when.
"""

import pickle
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from typing import Any

from benchmarks.gpu.inputs import ROOT
from serving.engine import device as devices
from serving.engine.device import Device
from serving.engine.session import Feed, Session

Run = Callable[[int], Any]
"""The n-th run; n counts from 0."""

_FEEDS = 32
_ROWS = 256
"""So many batches of one size, at most, while they have no more rows than that together."""
_WARM = 2
"""Runs before any counts: on a GPU the first of a size allocates, and looks for a kernel."""
_LEAST = 3


def device(name: str) -> Device:
    """The device `cpu`, or `cuda:I`.

    Raises:
        DeviceError: it can't be had; the message says why.
    """
    [found] = devices.choose(name)
    return found


def batches(feed_of: Callable[[int, int], Feed], rows: int) -> list[Feed]:
    """Different batches of so many rows, since what a text costs depends on the text."""
    return [feed_of(rows, number * rows) for number in range(max(1, min(_FEEDS, _ROWS // rows)))]


def plain(session: Session, feeds: list[Feed]) -> Run:
    """Runs as the server makes them, of one batch after the other."""
    outputs = list(session.outputs)
    return lambda number: session.run(outputs, feeds[number % len(feeds)])


def interleaved(runs: Mapping[str, Run], seconds: float, least: int = _LEAST) -> dict[str, list[float]]:
    """Seconds of each run of each, in turns, A, B, A, B …, for about `seconds` each, `least` times at the least."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(_WARM):
        for run in runs.values():
            run(number)
    end = time.perf_counter() + seconds * len(runs)
    for number in count():
        if number >= least and time.perf_counter() >= end:
            return taken
        for name, run in runs.items():
            started = time.perf_counter()
            run(number)
            taken[name].append(time.perf_counter() - started)
    raise AssertionError


def measure(
    model: bytes, feed_of: Callable[[int, int], Feed], device: Device, rows: int, seconds: float = 0.3
) -> float:
    """Median seconds of a run of `rows` rows on `device`, copies there and back included.

    Args:
        model: a serialised graph.
        feed_of: its inputs for so many rows, beginning with the one at the second argument.
        device: as `device` gives it.
        rows: of each run.
        seconds: to measure for, about.
    """
    run = plain(Session(model, device), batches(feed_of, rows))
    return statistics.median(interleaved({"": run}, seconds)[""])


@contextmanager
def all_cores(processes: int) -> Iterator["AllCores"]:
    """So many processes, which wait for work."""
    with ExitStack() as stack:
        yield AllCores([stack.enter_context(_worker()) for _ in range(processes)])


class AllCores:
    """Processes on the CPU, each with a session of one thread: so the server uses cores, with `--workers`."""

    def __init__(self, workers: "list[subprocess.Popen[bytes]]") -> None:
        self._workers = workers

    def measure(self, model: bytes, feeds: Mapping[int, list[Feed]], seconds: float = 0.3) -> dict[int, float]:
        """Rows a second of all together, by rows of a batch.

        Raises:
            RuntimeError: a process failed.
        """
        self._tell((model, dict(feeds), seconds))
        return {rows: sum(self._tell(rows)) for rows in feeds}

    def _tell(self, what: Any) -> list[float]:
        """All of them the same, and what they answer."""
        message = pickle.dumps(what)
        try:
            for worker in self._workers:
                assert worker.stdin is not None
                worker.stdin.write(message)
                worker.stdin.flush()
            return [pickle.load(worker.stdout) for worker in self._workers if worker.stdout is not None]
        except (EOFError, BrokenPipeError):
            raise RuntimeError("a process that was to keep a core busy ended") from None


def _worker() -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "benchmarks.gpu.inprocess"]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _work() -> None:
    """Load each graph that comes; then run its batches, each size when told to, and say how many rows a second."""
    told, said = sys.stdin.buffer, sys.stdout.buffer

    def say(rate: float) -> None:
        said.write(pickle.dumps(rate))
        said.flush()

    with suppress(EOFError):
        while True:
            model, feeds, seconds = pickle.load(told)
            session = Session(model, device("cpu"))
            say(0.0)
            for _ in feeds:
                rows = pickle.load(told)
                say(_rate(session, feeds[rows], rows, seconds))


def _rate(session: Session, feeds: list[Feed], rows: int, seconds: float) -> float:
    run = plain(session, feeds)
    for number in range(_WARM):
        run(number)
    runs, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        run(runs)
        runs += 1
    return runs * rows / passed


if __name__ == "__main__":
    _work()

"""The load generator: a process of its own with many callers, so that it takes no time from whoever measures."""

import asyncio
import gc
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import grpc
import grpc.aio

from benchmarks.machine import pinned

_TIMEOUT = 10.0
"""Seconds a call may take: the default of the project's own client."""

_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # else all channels to one address are one connection
    ("grpc.max_receive_message_length", -1),
)


@dataclass(frozen=True)
class Job:
    """What the callers do."""

    address: str
    method: str
    messages: list[bytes]
    """Sent in turn."""
    callers: int
    seconds: float
    connections: int = 1
    rate: float | None = None
    """Calls a second of all callers together, evenly spaced. None: a caller's next call follows its last answer."""
    timeouts: tuple[float, ...] = (_TIMEOUT,)
    """Seconds that a call may take, given in turn."""


@dataclass(frozen=True)
class Result:
    """What came of it."""

    spans: list[tuple[float, float]]
    """Start and end of each call that was answered, by `time.monotonic`, which processes have in common."""
    seconds: float
    cpu_seconds: float
    """CPU time of the load generator."""
    errors: dict[str, int] = field(default_factory=dict)
    """Calls that failed, by status."""

    @property
    def latencies(self) -> list[float]:
        """Seconds of each call."""
        return [end - start for start, end in self.spans]

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.spans) / self.seconds


class Generator:
    """The load generator as its parent sees it."""

    def __init__(self, connection: "Connection[Any, Any]", process: Any) -> None:
        self._connection = connection
        self._process = process

    def start(self, job: Job) -> None:
        """Begin a job."""
        self._connection.send(job)

    def result(self) -> Result:
        """Wait for its end."""
        result = self._connection.recv()
        if not isinstance(result, Result):
            raise RuntimeError(f"the load generator failed: {result}")
        return result

    def run(self, job: Job) -> Result:
        """Both."""
        self.start(job)
        return self.result()


@contextmanager
def generator(core: int | None = None) -> Iterator[Generator]:
    """A load generator on `core`."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    with pinned(core):
        process.start()
    theirs.close()
    try:
        yield Generator(ours, process)
    finally:
        ours.close()
        process.join(2)
        if process.is_alive():
            process.kill()
            process.join()


def _work(connection: "Connection[Any, Any]") -> None:
    gc.freeze()
    while True:
        try:
            job = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            connection.send(asyncio.run(_run(job)))
        except KeyboardInterrupt:
            return
        except Exception as error:  # noqa: BLE001 - the parent must hear of it, whatever it is
            connection.send(repr(error))


async def _run(job: Job) -> Result:
    channels = [grpc.aio.insecure_channel(job.address, options=_OPTIONS) for _ in range(job.connections)]
    try:
        await asyncio.gather(*(asyncio.wait_for(channel.channel_ready(), _TIMEOUT) for channel in channels))
        spans: list[tuple[float, float]] = []
        errors: Counter[str] = Counter()
        started, cpu = time.monotonic(), time.process_time()
        await asyncio.gather(
            *(
                _call(job, number, channels[number % len(channels)], started, spans, errors)
                for number in range(job.callers)
            )
        )
        return Result(spans, time.monotonic() - started, time.process_time() - cpu, dict(errors))
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))


async def _call(
    job: Job, number: int, channel: Any, started: float, spans: list[tuple[float, float]], errors: Counter[str]
) -> None:
    """One caller, until the time is over."""
    call = channel.unary_unary(job.method)
    messages = job.messages
    position = number * len(messages) // job.callers
    end = started + job.seconds
    turn = number  # of all callers' calls: counted, since seconds that are added up come to more or less than they are
    while (begin := time.monotonic()) < end:
        if job.rate:
            if turn / job.rate >= job.seconds:
                return
            due = started + turn / job.rate
            if begin < due:
                # A clock that wakes us late is our own fault, not the server's: the call begins when it is sent.
                await asyncio.sleep(due - begin)
                begin = time.monotonic()
            else:
                begin = due
            turn += job.callers
        message, timeout = messages[position % len(messages)], job.timeouts[position % len(job.timeouts)]
        position += 1
        try:
            await call(message, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            errors[error.code().name] += 1
        else:
            spans.append((begin, time.monotonic()))

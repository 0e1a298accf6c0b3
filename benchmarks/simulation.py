"""Batching policies on a stage without wall time: a clock that jumps from event to event, and one executor.

`this policy` is the server's own batcher, not a copy. The others are what the field notes say of other servers,
reduced to when a batch leaves and what is in it.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.arrivals import MAX_ROWS, Arrival
from serving.engine.batcher import Batch, Batcher, Execution, Limits
from serving.engine.cost import CostModel
from serving.engine.request import Outputs, Request
from serving.status import StatusError


@dataclass(frozen=True)
class Cost:
    """What a batch costs: seconds = `batch` + `row` · rows."""

    batch: float
    row: float

    def seconds(self, rows: int) -> float:
        """Of a batch."""
        return self.batch + self.row * rows

    @property
    def rows_per_second(self) -> float:
        """Of full batches."""
        return MAX_ROWS / self.seconds(MAX_ROWS)


@dataclass
class Outcome:
    """What became of a trace."""

    latencies: list[float] = field(default_factory=list)
    """Of the requests that were answered, in time or not."""
    in_time: int = 0
    rows: int = 0
    batches: int = 0
    end: float = 0.0
    """When the last batch was through."""


class Stage:
    """A clock, timers, and an executor that runs one batch after the other."""

    def __init__(self, cost: Cost) -> None:
        self.now = 0.0
        self.outcome = Outcome()
        self._cost = cost
        self._free = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._computing = 0
        """Batches begun and not through."""

    def call_soon(self, callback: Callable[[], None]) -> None:
        """At this very time, after what is due already."""
        self.call_later(0.0, callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        """After that many seconds."""
        heapq.heappush(self._events, (self.now + delay, next(self._order), callback))

    def compute(self, rows: int, done: Callable[[float, float], None]) -> None:
        """Run a batch once those before it are through; `done` gets its start, and how long it took."""
        seconds = self._cost.seconds(rows)
        started = max(self.now, self._free)
        self._free = started + seconds
        self.outcome.batches += 1
        self.outcome.rows += rows
        self.outcome.end = self._free
        self._computing += 1

        def ended() -> None:
            self._computing -= 1
            done(started, seconds)

        heapq.heappush(self._events, (self._free, next(self._order), ended))

    def is_idle(self) -> bool:
        """Is all that was begun through?"""
        return not self._computing

    def answered(self, arrival: Arrival) -> None:
        """A request has its answer, now."""
        self.outcome.latencies.append(self.now - arrival.at)
        self.outcome.in_time += self.now <= arrival.deadline

    def play(self, trace: Sequence[Arrival], submit: Callable[[Arrival], None]) -> Outcome:
        """Let everything arrive, and run until nothing is left to do."""
        for arrival in trace:
            self._run_until(arrival.at)
            self.now = arrival.at
            submit(arrival)
        self._run_until(math.inf)
        return self.outcome

    def _run_until(self, time: float) -> None:
        while self._events and self._events[0][0] <= time:
            self.now, _, callback = heapq.heappop(self._events)
            callback()


def this_policy(trace: Sequence[Arrival], cost: Cost, row_bytes: int, max_delay: float = 0.0) -> Outcome:
    """The server's batcher; it learns what batches cost from those that ran."""
    stage = Stage(cost)

    def execute(batch: Batch, expected: float, done: Callable[[Batch, Execution], None]) -> None:
        stage.compute(batch.rows, lambda started, seconds: done(batch, Execution([], started, seconds)))

    limits = Limits(max_batch_rows=MAX_ROWS, max_delay=max_delay)
    batcher = Batcher(limits, stage, lambda: stage.now, execute, _Silent(), CostModel(), stage.is_idle)

    def submit(arrival: Arrival) -> None:
        def done(_: Request, answer: Outputs | StatusError) -> None:
            if not isinstance(answer, StatusError):
                stage.answered(arrival)

        size = arrival.rows * row_bytes
        try:
            batcher.submit(Request([()], arrival.rows, size, arrival.at, done, arrival.deadline))
        except StatusError:
            return  # refused: as good as late, and the caller knows at once

    return stage.play(trace, submit)


class _Silent:
    """No metrics."""

    def pulled(self, request: Request, waited: float) -> None:
        return

    def ran(self, batch: Batch, execution: Execution) -> None:
        return


def window(
    trace: Sequence[Arrival], cost: Cost, delay: float, preferred: Sequence[int] = (), *, splits: bool = True
) -> Outcome:
    """First come, first served, unbounded, deaf to deadlines: a batch leaves an executor that is free...

    ...when it is full, when its oldest request has waited `delay`, or when it has one of the `preferred` sizes. With
    preferred sizes and without splitting that is Triton's dynamic batcher.
    """
    return _Window(Stage(cost), delay, preferred, splits).play(trace)


class _Window:
    def __init__(self, stage: Stage, delay: float, preferred: Sequence[int], splits: bool) -> None:
        self._stage = stage
        self._delay = delay
        self._preferred = sorted(preferred)
        self._splits = splits
        self._queue: deque[list[Any]] = deque()
        """Requests, each with its rows that still wait."""
        self._rows = 0
        self._busy = False
        self._wake = math.inf

    def play(self, trace: Sequence[Arrival]) -> Outcome:
        return self._stage.play(trace, self._submit)

    def _submit(self, arrival: Arrival) -> None:
        self._queue.append([arrival, arrival.rows])
        self._rows += arrival.rows
        self._look()

    def _look(self) -> None:
        if self._busy or not self._queue:
            return
        now, leave = self._stage.now, self._queue[0][0].at + self._delay
        if now >= leave:
            self._start(MAX_ROWS)
        elif self._preferred:
            self._look_for_preferred(leave)
        elif self._rows >= MAX_ROWS:
            self._start(MAX_ROWS)
        else:
            self._wake_at(leave)

    def _look_for_preferred(self, leave: float) -> None:
        rows, best = 0, 0
        for _, waiting in self._queue:
            if rows + waiting > MAX_ROWS or rows >= self._preferred[-1]:
                best = best or rows  # it can't grow any more
                break
            rows += waiting
            if rows in self._preferred:
                best = rows
        if best or rows >= self._preferred[-1]:
            self._start(best or rows)
        else:
            self._wake_at(leave)

    def _start(self, limit: int) -> None:
        """Take requests up to `limit` rows, whole ones unless they may be split."""
        rows, whole = 0, []
        while self._queue and rows < limit:
            head = self._queue[0]
            if rows + head[1] > limit:
                if self._splits:
                    head[1] -= limit - rows
                    rows = limit
                break
            rows += head[1]
            whole.append(self._queue.popleft()[0])
        self._rows -= rows
        self._busy = True

        def done(started: float, seconds: float) -> None:
            for arrival in whole:
                self._stage.answered(arrival)
            self._busy = False
            self._look()

        self._stage.compute(rows, done)

    def _wake_at(self, when: float) -> None:
        def wake() -> None:
            self._wake = math.inf
            self._look()

        if when < self._wake:
            self._wake = when
            self._stage.call_later(max(when - self._stage.now, 0.0), wake)

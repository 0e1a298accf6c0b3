"""A stage for the batcher: a clock, a loop and an executor that move only when a test says so."""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from serving.engine.batcher import Batch, Batcher, Execution, Limits
from serving.engine.cost import CostModel
from serving.engine.request import Outputs, Request
from serving.status import Code, StatusError


@dataclass
class Caller:
    """One request and what its caller got."""

    request: Request
    rows: list[int]
    answers: list[Outputs | StatusError] = field(default_factory=list)
    refused: StatusError | None = None
    cancelled: bool = False

    @property
    def code(self) -> Code | None:
        if self.refused is not None:
            return self.refused.code
        if not self.answers:
            return None
        return self.answers[0].code if isinstance(self.answers[0], StatusError) else Code.OK


class Stage:
    """Runs a `Batcher` by hand. The model that it stands for returns each row's own number."""

    def __init__(self, limits: Limits, seconds_per_row: float = 0.001, cost: CostModel | None = None) -> None:
        self.now = 100.0
        self.seconds_per_row = seconds_per_row
        self.held: list[tuple[Batch, Callable[[Batch, Execution], None]]] = []
        self.batches: list[tuple[float, Batch]] = []
        self.waited: list[float] = []
        self.idle = False
        self._soon: list[Callable[[], None]] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._timer_numbers = itertools.count()
        self.batcher = Batcher(
            limits,
            self,
            lambda: self.now,
            self._execute,
            self,
            cost or CostModel(),
            idle=lambda: len(self.held) < limits.instances,
        )

    # What the batcher needs of a loop, an executor and an observer.

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        assert delay >= 0
        heapq.heappush(self._timers, (self.now + delay, next(self._timer_numbers), callback))

    def pulled(self, request: Request, waited: float) -> None:
        self.waited.append(waited)

    def ran(self, batch: Batch, execution: Execution) -> None:
        assert execution.seconds >= 0

    def _execute(self, batch: Batch, expected: float, done: Callable[[Batch, Execution], None]) -> None:
        self.batches.append((self.now, batch))
        self.held.append((batch, done))

    # What a test does.

    def submit(self, rows: int = 1, timeout: float | None = None, priority: int = 0, size: int | None = None) -> Caller:
        numbers = [next(self._numbers) for _ in range(rows)]
        caller: Caller

        def done(request: Request, answer: Outputs | StatusError) -> None:
            assert request is caller.request
            caller.answers.append(answer)

        request = Request(
            [numbers],
            rows,
            8 * rows if size is None else size,
            self.now,
            done,
            *(() if timeout is None else (self.now + timeout,)),
            priority=priority,
        )
        caller = Caller(request, numbers)
        try:
            self.batcher.submit(request)
        except StatusError as error:
            caller.refused = error
        return caller

    def cancel(self, caller: Caller) -> None:
        caller.cancelled = True
        self.batcher.cancel(caller.request)

    def turn(self) -> None:
        """Turn the loop until nothing is ready."""
        while self._soon:
            self.turn_once()

    def turn_once(self) -> None:
        """Turn the loop once: what is made ready meanwhile waits for its next turn."""
        ready, self._soon = self._soon, []
        for callback in ready:
            callback()

    def advance(self, seconds: float) -> None:
        """Let time pass, timers going off on the way."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            self.now, _, callback = heapq.heappop(self._timers)
            callback()
            self.turn()
        self.now = end

    def release(self, error: StatusError | None = None) -> Batch:
        """Let the oldest held batch finish, well or with an error."""
        batch, done = self.held.pop(0)
        seconds = batch.rows * self.seconds_per_row
        started, self.now = self.now, self.now + seconds
        numbers: list[Any] = [n for request, start, stop in batch.pieces for n in request.inputs[0][start:stop]]
        assert len(numbers) == batch.rows
        done(batch, Execution(error or [np.array(numbers)], started, seconds))
        self.turn()
        return batch

    def finish(self) -> None:
        """Drain, and let everything through."""

        def idle() -> None:
            assert not self.idle
            self.idle = True

        self.batcher.drain(idle)
        self.turn()
        while self.held:
            self.release()
        self.turn()

"""Dynamic batching: requests wait in a queue until the executor pulls, and leave as full as they can.

There is no window to tune. The executor pulls whenever it is free, so that low load pays no delay;
while it runs, the queue forms the next batch, so that high load fills batches. Clock, scheduling and
execution are given from outside, and nothing here is asynchronous: every step can be replayed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from serving.engine.cost import CostModel, Pace
from serving.engine.queue import Piece, Queue
from serving.engine.request import Outputs, Request
from serving.status import Code, StatusError

MAX_SETTLE_SECONDS = 0.004
"""How long rows wait at the most for the loop to have no more requests, where it is asked."""

SAFE_SHARE = 0.85
"""Of the time until a request's deadline, within which its answer must be expected for it to be taken: the caller's
clock began earlier, the answer has a way to go, and under overload all that is taken comes at the last moment."""

DEPTH = 2
"""Batches in the pipe of an instance: one that computes and, once a full one has gathered, the next being built."""


@dataclass(frozen=True)
class Limits:
    """Bounds of one batcher."""

    max_batch_rows: int = 256
    max_queue_rows: int = 8192
    max_queue_bytes: int = 256 * 1024 * 1024
    max_delay: float = 0.0
    """Seconds for which a batch that is not full may wait for more rows although the executor is free."""
    instances: int = 1
    """Sessions of the same graph, on a device each, that compute at the same time."""
    settle_turns: int = 0
    """Turns of the loop without a new request after which one that ran dry is believed to be so.

    Requests that are there already, but that the transport hands over one in a turn, then share a batch: what a
    batch costs by itself delays those behind it more than waiting for them does. No time is lost where there
    is nothing to wait for: turns of an idle loop take a few microseconds.
    """


@dataclass(eq=False, slots=True)
class Batch:
    """Rows that run together."""

    pieces: list[Piece]
    rows: int
    size: int
    """Bytes: the share of each request's that its rows are."""
    reason: str
    """Why it left when it did: full, idle, delay, deadline or drain."""


class Execution(NamedTuple):
    """How a batch went."""

    result: Outputs | StatusError
    started: float
    seconds: float


class Executor(Protocol):
    """Runs batches; calls `done` once for each, from the batcher's own thread."""

    def __call__(self, batch: Batch, expected: float, done: Callable[[Batch, Execution], None]) -> None:
        """Start `batch`, which is expected to take that many seconds."""


class Scheduler(Protocol):
    """The part of an event loop that a batcher needs."""

    def call_soon(self, callback: Callable[[], None]) -> Any:
        """Call back in the next turn of the loop."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        """Call back after that many seconds."""


class Observer(Protocol):
    """What the batcher tells the metrics."""

    def pulled(self, request: Request, waited: float) -> None:
        """A request's first rows left the queue after so many seconds."""

    def ran(self, batch: Batch, execution: Execution) -> None:
        """A batch is through."""


class Batcher:
    """The queue of one model version and the policy by which its rows leave."""

    def __init__(
        self,
        limits: Limits,
        scheduler: Scheduler,
        clock: Callable[[], float],
        execute: Executor,
        observer: Observer,
        cost: CostModel,
        idle: Callable[[], bool],
    ) -> None:
        """`idle` says whether an instance has nothing in its pipe."""
        self._limits = limits
        self._scheduler = scheduler
        self._clock = clock
        self._execute = execute
        self._observer = observer
        self._cost = cost
        self._queue = Queue()
        self._alone: list[Piece] = []
        """What is left of a batch that failed, to be run piece by piece."""
        self._running: set[Batch] = set()
        self._instance_is_idle = idle
        self._since = 0.0
        """When the rows that wait began to: since the queue was empty, or the last batch left."""
        self._grown = 0
        """Rows that waited when last there were more than before, ..."""
        self._turns = 0
        """... and turns of the loop since."""
        self._pace = Pace()
        self._wake = math.inf
        """When the timer of a delayed batch goes off."""
        self._scheduled = False
        self._idle: Callable[[], None] | None = None
        """Called once everything is answered, when draining."""

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        return self._queue.rows

    @property
    def busy(self) -> bool:
        """Is anything waiting or running?"""
        return bool(self._queue.rows or self._running or self._alone)

    def submit(self, request: Request) -> None:
        """Queue a request.

        Raises:
            StatusError: INVALID_ARGUMENT if it could never fit, RESOURCE_EXHAUSTED if it can't now.
        """
        self._admit(request)
        if not self._queue.rows:
            self._since = request.arrival
        self._queue.push(request)
        self._schedule()

    def check(self, arrival: float, deadline: float) -> None:
        """See whether there is room for a request at all, before anything is done for it.

        Raises:
            StatusError: RESOURCE_EXHAUSTED, if even the smallest would be refused.
        """
        if self._queue.rows >= self._limits.max_batch_rows:
            self._admit(Request((), 1, 0, arrival, _nobody, deadline))

    def cancel(self, request: Request) -> None:
        """The caller is gone: its waiting rows are never computed, the others never notice."""
        self._queue.discard(request)
        if self._idle is not None:
            self._schedule()

    def drain(self, idle: Callable[[], None]) -> None:
        """Wait for no more rows: what is queued leaves as soon as the executor is free, then `idle` is called."""
        self._idle = idle
        self._schedule()

    def _admit(self, request: Request) -> None:
        limits, queue = self._limits, self._queue
        if request.rows > limits.max_queue_rows:
            raise StatusError(
                Code.INVALID_ARGUMENT,
                f"{request.rows} instances in one request; this server takes {limits.max_queue_rows} at the most",
                reason="invalid",
            )
        if self._full(request):
            # Rows that can't be answered in time any more must not keep out those that can.
            for late in queue.expired(request.arrival):
                queue.discard(late, _expired())
        if self._full(request):
            raise StatusError(
                Code.RESOURCE_EXHAUSTED,
                f"the queue is full: {queue.rows} of {limits.max_queue_rows} rows "
                f"and {queue.size} of {limits.max_queue_bytes} bytes wait",
                reason="queue_full",
                retry_after=self._wait(queue.rows, queue.size),
            )
        if request.deadline < math.inf and self.busy:
            # An idle executor always accepts, so that an estimate gone wrong meets reality again.
            room = (request.deadline - request.arrival) * SAFE_SHARE
            if self._wait(queue.rows + request.rows, queue.size + request.size) <= room:
                return  # in time even as the last of all
            share = queue.share_ahead(request.priority, request.due)
            wait = self._wait(math.ceil(queue.rows * share) + request.rows, int(queue.size * share) + request.size)
            if wait > room:
                raise StatusError(
                    Code.RESOURCE_EXHAUSTED,
                    f"the answer would take {wait * 1e3:.1f} ms, and the deadline is in "
                    f"{(request.deadline - request.arrival) * 1e3:.1f} ms",
                    reason="too_late",
                    retry_after=wait,
                )

    def _full(self, request: Request) -> bool:
        limits, queue = self._limits, self._queue
        return bool(queue.rows) and (
            queue.rows + request.rows > limits.max_queue_rows or queue.size + request.size > limits.max_queue_bytes
        )

    def _wait(self, rows: int, size: int) -> float:
        """Predicted seconds until `rows` rows of `size` bytes, and what runs before them, are through."""
        batches = -(-rows // self._limits.max_batch_rows)
        each = self._cost.predict(size // max(batches, 1))
        work = batches * each + sum(self._cost.predict(batch.size) for batch in self._running)
        # Instances share batches out; none makes a batch shorter.
        return max(each, work / self._limits.instances) * self._pace.stretch

    def _schedule(self) -> None:
        # Not at once: requests that arrive in the same turn of the loop leave together.
        if not self._scheduled:
            self._scheduled = True
            self._scheduler.call_soon(self._pull)

    def _pull(self) -> None:
        self._scheduled = False
        if self._idle is not None and not self.busy:
            self._idle()
            return
        now = self._clock()
        while self._alone and self._alone[-1][0].finished:
            self._alone.pop()
        if self._alone:
            if self._instance_is_idle():
                self._start([self._alone.pop()], "idle")
                self._schedule()
            return
        reason = self._reason(now)
        if reason is None:
            return
        pieces, expired = self._queue.take(self._limits.max_batch_rows, now)
        self._since = now
        for request, start, _ in pieces:
            if start == 0:
                self._observer.pulled(request, now - request.arrival)
        for request in expired:
            request.finish(_expired())
        if pieces:
            if reason == "full" and sum(stop - start for _, start, stop in pieces) < self._limits.max_batch_rows:
                reason = "idle"  # it would have been full, but for those that expired
            self._start(pieces, reason)
        if expired or self._queue.rows:
            self._schedule()

    def _reason(self, now: float) -> str | None:
        """Why a batch should leave now, or None if it should not."""
        rows = self._queue.rows
        if not rows or len(self._running) >= DEPTH * self._limits.instances:
            return None
        if rows >= self._limits.max_batch_rows:
            return "full"
        if not self._instance_is_idle():
            return None
        if self._idle is not None:
            return "drain"
        leave = self._since + self._limits.max_delay
        if self._limits.max_delay == 0.0:
            return "idle" if not self._limits.settle_turns or self._settled(rows, now) else None
        if now >= leave:
            return "delay"
        head = self._queue.head()
        assert head is not None  # noqa: S101 - there are rows
        latest = head.due - self._cost.predict(self._queue.size)
        if now >= latest:
            return "deadline"
        self._wake_at(min(leave, latest), now)
        return None

    def _settled(self, rows: int, now: float) -> bool:
        """Has the loop turned often enough without a new request? If not, looks again in its next turn."""
        self._turns = self._turns + 1 if rows == self._grown else 0
        self._grown = rows
        if self._turns >= self._limits.settle_turns or now - self._since > MAX_SETTLE_SECONDS:
            self._grown = self._turns = 0
            return True
        self._schedule()
        return False

    def _wake_at(self, when: float, now: float) -> None:
        def wake() -> None:
            self._wake = math.inf
            self._schedule()

        if when < self._wake:
            self._wake = when
            self._scheduler.call_later(when - now, wake)

    def _start(self, pieces: list[Piece], reason: str) -> None:
        rows = size = 0
        for request, start, stop in pieces:
            rows += stop - start
            size += request.size * (stop - start) // request.rows
        batch = Batch(pieces, rows, size, reason)
        self._running.add(batch)
        self._execute(batch, self._cost.predict(size), self._done)

    def _done(self, batch: Batch, execution: Execution) -> None:
        self._running.discard(batch)
        self._observer.ran(batch, execution)
        # One that failed took its time, too: the next must not seem to have taken both.
        seconds = execution.seconds / self._limits.instances
        self._pace.observe(self._clock(), seconds, waiting=bool(self._queue.rows))
        result = execution.result
        if not isinstance(result, StatusError):
            self._cost.observe(batch.size, execution.seconds)
            offset = 0
            for request, start, stop in batch.pieces:
                rows = stop - start
                request.deliver(start, stop, [column[offset : offset + rows] for column in result])
                offset += rows
        elif len(batch.pieces) > 1:
            # Whoever is at fault, the others are not: each gets a batch of its own.
            self._alone += [piece for piece in reversed(batch.pieces) if not piece[0].finished]
        else:
            self._queue.discard(batch.pieces[0][0], result)
        self._schedule()


def _nobody(request: Request, result: Outputs | StatusError) -> None:
    """Waits for the answer."""


def _expired() -> StatusError:
    return StatusError(Code.DEADLINE_EXCEEDED, "the deadline passed while the request waited", reason="expired")

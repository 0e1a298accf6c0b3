"""The engine of one model version: its sessions, its batcher, and where its batches run."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Barrier

from serving.engine.assemble import Assembler
from serving.engine.batcher import DEPTH, Batch, Batcher, Execution, Limits, Observer
from serving.engine.cost import CostModel
from serving.engine.device import out_of_memory
from serving.engine.request import Outputs, Request
from serving.engine.runs import Run, Runs
from serving.engine.session import Session, ValuesError
from serving.package.manifest import Manifest
from serving.status import Code, StatusError, fault, invalid

log = logging.getLogger(__name__)

INLINE_SECONDS = 0.0005
"""Batches expected to be shorter run on the event loop itself: handing them to a thread would cost as much.

Half of the millisecond by which the loop may be late, since an expectation can be off.
"""


FAILURES = 3
"""Batches that fail in a row, after which the session itself is doubted."""

MAX_WORDS_CHARACTERS = 300
"""Of ONNX Runtime's own words in a message to a client."""


class Runner:
    """Computes batches of one model: the same way when it is verified and when it serves."""

    def __init__(self, manifest: Manifest, session: Session) -> None:
        self.manifest = manifest
        self.session = session
        self._assemble = Assembler(manifest.inputs)
        self._outputs = [spec.name for spec in manifest.outputs]

    def __call__(self, batch: Batch, run: Run | None = None) -> Outputs:
        """Outputs of the batch's rows, in the manifest's order."""
        outputs = self.session.run(self._outputs, self._assemble(batch.pieces), run and run.options)
        for name, column in zip(self._outputs, outputs, strict=True):
            # Rows are handed to their callers by position: a graph that breaks the axis would cross them.
            if column.shape[:1] != (batch.rows,):
                raise RuntimeError(f"output {name} has shape {column.shape} for a batch of {batch.rows} rows")
        return outputs


@dataclass(slots=True)
class _Instance:
    """A session on a device of its own."""

    runner: Runner
    batches: int = 0
    """In its pipe."""
    at: int = 0
    """When it was given a batch last or, while it has one, was through with another, by the engine's count."""
    failures: int = 0
    """Batches in a row that failed for what is not in them, as far as is known."""


def _rank(instance: _Instance) -> tuple[int, int]:
    """The least busy is first: of those without a batch the one that has had none for longest, and of others the one
    that was through with one last, since one that hangs never is.
    """
    return instance.batches, -instance.at if instance.batches else instance.at


class Engine:
    """Answers requests for one model version, from the event loop that it is given."""

    def __init__(
        self,
        runners: Sequence[Runner],
        limits: Limits,
        observer: Observer,
        loop: asyncio.AbstractEventLoop,
        cost: CostModel,
        runs: Runs | None = None,
    ) -> None:
        """One of `runners` for each device; `runs` is where it shows which of its batches are under way."""
        self.max_rows = limits.max_queue_rows
        """Rows of one request that could ever fit."""
        self.doubted: Callable[[], None] = _nothing
        """Called, on whatever thread, when so many batches in a row failed that it may not be for what is in them."""
        self._runs = runs or Runs()
        self._count = 0
        """Batches that were given to an instance, and that one was through with."""
        self._instances = [_Instance(runner) for runner in runners]
        manifest = runners[0].manifest
        self._name = f"{manifest.name} version {manifest.version}"
        self._loop = loop
        threads = DEPTH * len(runners)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=manifest.name)
        # Now: a thread that finds no memory to begin with leaves who starts it waiting, and that would be the loop.
        together = Barrier(threads)
        for _ in range(threads):
            self._pool.submit(together.wait)
        limits = replace(limits, instances=len(runners))
        self._batcher = Batcher(limits, loop, time.monotonic, self._execute, observer, cost, self._has_idle_instance)

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        return self._batcher.queued_rows

    def submit(self, request: Request) -> None:
        """Queue a request; raises what `Batcher.submit` raises."""
        self._batcher.submit(request)

    def check(self, arrival: float, deadline: float) -> None:
        """Raises what `Batcher.check` raises."""
        self._batcher.check(arrival, deadline)

    def cancel(self, request: Request) -> None:
        """The caller is gone."""
        self._batcher.cancel(request)

    async def close(self) -> None:
        """Run what is queued, then let go of the threads and of the model."""
        idle = asyncio.Event()
        self._batcher.drain(idle.set)
        await idle.wait()
        self._pool.shutdown()
        # Engine and batcher hold each other; the weights need not wait for the collector to find that out.
        self._instances.clear()
        self.doubted = _nothing

    def _has_idle_instance(self) -> bool:
        for instance in self._instances:  # noqa: SIM110 - asked before every batch, and `any` takes six times as long
            if not instance.batches:
                return True
        return False

    def _execute(self, batch: Batch, expected: float, done: Callable[[Batch, Execution], None]) -> None:
        instances = self._instances
        instance = instances[0] if len(instances) == 1 else min(instances, key=_rank)
        self._count = instance.at = self._count + 1
        if expected <= INLINE_SECONDS:
            done(batch, self._run(batch, instance))
            return
        instance.batches += 1

        def finish(execution: Execution) -> None:
            instance.batches -= 1
            self._count = instance.at = self._count + 1
            done(batch, execution)

        def work() -> None:
            execution = self._run(batch, instance)
            self._loop.call_soon_threadsafe(finish, execution)

        self._pool.submit(work)

    def _run(self, batch: Batch, instance: _Instance) -> Execution:
        run = self._runs.begin(self._name)
        result: Outputs | StatusError
        try:
            result = instance.runner(batch, run)
            instance.failures = 0
        except ValuesError as error:
            result = invalid(f"{self._name} can't compute these values: {_words(error)}")
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers must be answered
            if out_of_memory(error):
                result = no_memory(self._name)
            else:
                result = fault(f"execution of {self._name}", error)
                if not run.dropped:
                    self._failed(instance)
        finally:
            self._runs.ended(run)
        return Execution(result, run.started, time.monotonic() - run.started)

    def _failed(self, instance: _Instance) -> None:
        # By instance: one whose device is lost is free at once, gets the next batch, and others succeed in between.
        instance.failures += 1
        if instance.failures >= FAILURES:
            instance.failures = 0
            self.doubted()


def _words(error: ValuesError) -> str:
    """What ONNX Runtime says, in one line of bounded length, and without its preamble."""
    return " ".join(str(error).rpartition("Status Message: ")[2].split())[:MAX_WORDS_CHARACTERS]


def no_memory(name: str) -> StatusError:
    """RESOURCE_EXHAUSTED: what a batch needs is not there now, and may be later, or for a smaller one."""
    log.error("out of memory", extra={"where": f"execution of {name}"})
    return StatusError(Code.RESOURCE_EXHAUSTED, f"there is no memory for what {name} needs to compute this")


def _nothing() -> None:
    """Nobody wants to know."""


def alone(request: Request) -> Batch:
    """A batch of one whole request."""
    return Batch([(request, 0, request.rows)], request.rows, request.size, "idle")

"""The engine of one model version: its session, its batcher, and where its batches run."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from serving.engine.assemble import Assembler
from serving.engine.batcher import DEPTH, Batch, Batcher, Execution, Limits, Observer
from serving.engine.cost import CostModel
from serving.engine.request import Outputs, Request
from serving.engine.session import Session, ValuesError
from serving.package.manifest import Manifest
from serving.status import StatusError, fault, invalid

INLINE_SECONDS = 0.0005
"""Batches expected to be shorter run on the event loop itself: handing them to a thread would cost as much.

Half of the millisecond by which the loop may be late, since an expectation can be off.
"""


MAX_WORDS_CHARACTERS = 300
"""Of ONNX Runtime's own words in a message to a client."""


class Runner:
    """Computes batches of one model: the same way when it is verified and when it serves."""

    def __init__(self, manifest: Manifest, session: Session) -> None:
        self.manifest = manifest
        self.session = session
        self._assemble = Assembler(manifest.inputs)
        self._outputs = [spec.name for spec in manifest.outputs]

    def __call__(self, batch: Batch) -> Outputs:
        """Outputs of the batch's rows, in the manifest's order."""
        outputs = self.session.run(self._outputs, self._assemble(batch.pieces))
        for name, column in zip(self._outputs, outputs, strict=True):
            # Rows are handed to their callers by position: a graph that breaks the axis would cross them.
            if column.shape[:1] != (batch.rows,):
                raise RuntimeError(f"output {name} has shape {column.shape} for a batch of {batch.rows} rows")
        return outputs


class Engine:
    """Answers requests for one model version, from the event loop that it is given."""

    def __init__(
        self,
        runner: Runner,
        limits: Limits,
        observer: Observer,
        loop: asyncio.AbstractEventLoop,
        cost: CostModel,
    ) -> None:
        self.max_rows = limits.max_queue_rows
        """Rows of one request that could ever fit."""
        self._runner: Runner | None = runner
        self._name = f"{runner.manifest.name} version {runner.manifest.version}"
        self._loop = loop
        self._pool = ThreadPoolExecutor(DEPTH, thread_name_prefix=runner.manifest.name)
        self._batcher = Batcher(limits, loop, time.monotonic, self._execute, observer, cost)

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
        self._runner = None

    def _execute(self, batch: Batch, expected: float, done: Callable[[Batch, Execution], None]) -> None:
        if expected <= INLINE_SECONDS:
            done(batch, self._run(batch))
            return

        def work() -> None:
            execution = self._run(batch)
            self._loop.call_soon_threadsafe(done, batch, execution)

        self._pool.submit(work)

    def _run(self, batch: Batch) -> Execution:
        started = time.monotonic()
        result: Outputs | StatusError
        try:
            assert self._runner is not None  # noqa: S101 - nothing runs in one that is closed
            result = self._runner(batch)
        except ValuesError as error:
            result = invalid(f"{self._name} can't compute these values: {_words(error)}")
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers must be answered
            result = fault(f"execution of {self._name}", error)
        return Execution(result, started, time.monotonic() - started)


def _words(error: ValuesError) -> str:
    """What ONNX Runtime says, in one line of bounded length, and without its preamble."""
    return " ".join(str(error).rpartition("Status Message: ")[2].split())[:MAX_WORDS_CHARACTERS]


def alone(request: Request) -> Batch:
    """A batch of one whole request."""
    return Batch([(request, 0, request.rows)], request.rows, request.size, "idle")

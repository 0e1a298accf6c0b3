"""The metrics of one served version, and of one comparison, bound to their labels before the first request."""

from dataclasses import dataclass
from typing import NamedTuple

from serving.engine.batcher import Batch, Execution
from serving.engine.request import Request
from serving.telemetry.instruments import Histogram, Value


@dataclass(slots=True)
class BatchTally:
    """Batches of one size."""

    count: int = 0
    seconds: float = 0.0
    last: float = 0.0
    """When the last one began, on the monotonic clock."""


class VersionMetrics(NamedTuple):
    """The metrics of one served version, bound."""

    queue: Histogram
    execution: Histogram
    rows: Histogram
    batches: dict[str, Value]
    in_flight: Value
    known_words: Histogram
    by_rows: dict[int, BatchTally]
    """Batches by their exact number of rows."""

    def pulled(self, request: Request, waited: float) -> None:
        """A request's first rows left the queue."""
        self.queue.observe(waited)

    def ran(self, batch: Batch, execution: Execution) -> None:
        """A batch is through."""
        self.execution.observe(execution.seconds)
        self.rows.observe(batch.rows)
        self.batches[batch.reason].inc()
        tally = self.by_rows.get(batch.rows)
        if tally is None:
            tally = self.by_rows[batch.rows] = BatchTally()
        tally.count += 1
        tally.seconds += execution.seconds
        tally.last = execution.started


class ShadowMetrics(NamedTuple):
    """Rows by how a candidate's answer compares, and by how much."""

    agreed: Value
    differed: Value
    failed: Value
    dropped: Value
    difference: Histogram
